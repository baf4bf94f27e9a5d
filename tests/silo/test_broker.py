"""The broker's rules, one by one: who may what, when an exchange ends, what is counted, and what is said to whom."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections import namedtuple

import numpy as np
import pytest
from msgspec import structs

from atoll import wire
from atoll.messages import Rule
from atoll.silo import errors
from atoll.silo.api import INLINE, Ack, DataSet, Hello, RunOpening
from atoll.silo.broker import LATE, Broker, store
from atoll.silo.keys import Key
from atoll.silo.tasks import Blob, blob_of, signed_text
from atoll.specs import Spec
from brokers import ALICE, Site, key, upload
from cases import same_bits

X = {"x": np.zeros(3)}
BIG = {"x": np.zeros(20_000)}


def ones(p, like=X):
    return {"x": np.full(like["x"].size, 1.0 + p)}


@pytest.fixture
def site(place):
    site = Site(place / "b", 4)
    site.open()
    yield site
    site.broker.close()


class TestMembers:
    def test_an_invitation_works_once_and_its_answer_may_be_lost(self, site):
        broker, new = site.broker, Key.make()
        broker.invite("new", "node", b"s" * 16, site.clock() + 60, "alice")
        joined = broker.join("new", "node", b"s" * 16, new.public)
        assert (joined.name, joined.role, joined.key) == ("new", "node", new.fingerprint)
        assert broker.join("new", "node", b"s" * 16, new.public) == joined
        assert broker.member_by_key(new.fingerprint) == joined
        with pytest.raises(errors.TokenUsed):
            broker.join("new", "node", b"s" * 16, Key.make().public)
        assert site.reopen().join("new", "node", b"s" * 16, new.public) == joined

    @pytest.mark.parametrize(
        ("name", "role", "secret", "after", "kind"),
        [
            ("new", "node", b"other", 0, errors.TokenUnknown),
            ("new", "node", b"s", 61, errors.TokenExpired),
            ("other", "node", b"s", 0, errors.TokenName),
            ("new", "researcher", b"s", 0, errors.TokenName),
        ],
    )
    def test_what_else_may_be_wrong_with_an_invitation(self, site, name, role, secret, after, kind):
        site.broker.invite("new", "node", b"s", site.clock() + 60, "alice")
        site.clock.now += after
        with pytest.raises(kind):
            site.broker.join(name, role, secret, Key.make().public)
        assert site.broker.member_by_name("new") is None

    def test_names_and_keys_are_taken_once(self, site):
        with pytest.raises(errors.Conflict):
            site.broker.invite("node-000", "node", b"s", site.clock() + 60, "alice")
        site.broker.invite("new", "node", b"s", site.clock() + 60, "alice")
        with pytest.raises(errors.Conflict):
            site.broker.join("new", "node", b"s", key(0).public)
        assert site.broker.join("new", "node", b"s", Key.make().public).name == "new"
        for name in ("", "a b", "../x", "-x", "x" * 65, "ä"):
            with pytest.raises(errors.Malformed):
                site.broker.invite(name, "node", b"t", site.clock() + 60, "alice")
        with pytest.raises(errors.Malformed):
            site.broker.invite("y", "king", b"t", site.clock() + 60, "alice")

    def test_a_revoked_member_is_out_and_may_be_invited_again(self, site):
        broker = site.broker
        broker.login("node-001", b"login", site.clock() + 60)
        broker.open_session(b"login", b"session", site.clock() + 60)
        assert broker.session(b"session").name == "node-001"
        x = site.question(X)
        site.ask(x)
        broker.revoke("node-001", "alice")
        assert broker.member_by_key(key(1).fingerprint).revoked == site.clock()
        assert broker.session(b"session") is None
        assert broker.state("alice", "run", 0).missing == (0, 2, 3)
        assert broker.answer("node-001", site.uids["run", 0], 1, wire.encode(ones(1))) == Ack(state="late")
        broker.revoke("node-001", "alice")
        with pytest.raises(errors.NotFound):
            broker.revoke("nobody", "alice")
        for p in (0, 2, 3):
            site.answer(x, p, ones(p))
        outcome, _ = site.outcome(x)
        assert outcome.refused == {1: "Revoked: node-001 is no member any more"}
        broker.invite("node-001", "node", b"again", site.clock() + 60, "alice")
        assert broker.join("node-001", "node", b"again", Key.make().public).revoked is None

    def test_what_a_revoked_researcher_asks_ends(self, site):
        x = site.question(X)
        site.ask(x)
        site.broker.revoke("alice", "admin")
        assert site.broker.runs()[0].state == "failed"
        assert site.broker.work("node-000").tasks == ()

    def test_logins_open_once_and_end(self, site):
        broker = site.broker
        broker.login("alice", b"a", site.clock() + 60)
        broker.login("alice", b"b", site.clock() + 60)
        broker.open_session(b"a", b"s", site.clock() + 100)
        with pytest.raises(errors.TokenUsed):
            broker.open_session(b"a", b"t", site.clock() + 100)
        with pytest.raises(errors.TokenUnknown):
            broker.open_session(b"c", b"t", site.clock() + 100)
        assert site.reopen().session(b"s").name == "alice"
        site.clock.now += 99
        with pytest.raises(errors.TokenExpired):
            site.broker.open_session(b"b", b"t", site.clock() + 100)
        assert site.broker.session(b"s") is not None
        site.broker.end_session(b"s")
        assert site.broker.session(b"s") is None

    def test_leases_are_kept(self, site):
        site.broker.lease("k", b"1")
        site.broker.lease("k", b"2")
        assert site.reopen().leases() == {"k": b"2"}


class TestNodes:
    def test_nodes_come_and_go(self, site):
        broker = site.broker
        hello = Hello(versions={"atoll": "1"}, data=(DataSet(name="iris", rows=3),))
        states = lambda: [n.state for n in site.broker.nodes()]  # noqa: E731
        assert states() == ["never seen"] * 4
        broker.hello("node-000", hello)
        assert broker.nodes()[0].data == hello.data
        broker.seen("node-001", 30)
        assert states()[:2] == ["here", "here"]
        assert broker.due() == site.clock() + 5
        site.clock.now += 6
        assert states()[:2] == ["away", "here"]
        broker.close_due()
        assert [e.who for e in broker.events() if e.kind == "away"] == ["node-000"]
        broker.away("node-001")
        assert states()[:2] == ["away", "away"]
        assert site.reopen().nodes()[0].versions == {"atoll": "1"}
        assert states()[:3] == ["away", "away", "never seen"]
        with pytest.raises(errors.NotFound):
            site.broker.hello("alice", hello)

    def test_a_lost_node_is_left_out_but_not_before(self, site):
        x = site.question(X)
        site.ask(x)
        for p in range(3):
            site.answer(x, p, ones(p))
        site.broker.seen("node-003", 5)
        assert site.broker.due() == site.clock() + 5
        site.clock.now += 64
        assert site.broker.close_due() == []
        assert site.broker.due() == site.clock() + 1
        site.reopen()  # nobody has been away for longer than the broker runs
        site.clock.now += 59
        assert site.broker.close_due() == []
        site.clock.now += 1
        assert site.broker.close_due() == [site.uids["run", 0]]
        outcome, merged = site.outcome(x)
        assert outcome.refused == {3: "Away: node-003 has not been heard of for 60 seconds"}
        assert merged["x"].tolist() == [6, 6, 6]
        assert site.answer(x, 3, ones(3)) == Ack(state="late")


class TestRuns:
    def test_a_run_goes_on_over_the_same_nodes_only(self, site):
        opening = RunOpening(purpose="p", data="iris", nodes=site.names)
        assert site.broker.open_run("alice", "run", opening).exchanges == 0
        site.ask(site.question(X))
        assert site.broker.open_run("alice", "run", opening).exchanges == 1
        for changed in ({"data": "wine"}, {"nodes": site.names[:2]}, {"nodes": site.names[::-1]}):
            other = RunOpening(**{"purpose": "p", "data": "iris", "nodes": site.names, **changed})
            with pytest.raises(errors.WrongRun):
                site.broker.open_run("alice", "run", other)
        with pytest.raises(errors.NotFound):
            site.broker.open_run("alice", "new", RunOpening(purpose="p", data="iris", nodes=("nobody",)))
        for name in ("", "../x", "a/b", "x" * 129):
            with pytest.raises(errors.Malformed):
                site.broker.open_run("alice", name, opening)
        with pytest.raises(errors.Malformed):
            site.broker.open_run("alice", "new", RunOpening(purpose="p", data="iris", nodes=()))

    @pytest.mark.parametrize("size", [10, INLINE + 1], ids=["inline", "file"])
    def test_the_last_state_is_kept(self, site, size):
        broker = site.broker
        assert broker.saved("alice", "run") is None
        for fill in b"abb":
            data = bytes([fill]) * size
            assert broker.save("alice", "run", data) == blob_of(data)
        broker = site.reopen()
        stored = broker.saved("alice", "run")
        assert stored.blob == blob_of(b"b" * size)
        found = broker.find("alice", stored.blob.digest)
        assert (found.inline or found.path.read_bytes()) == b"b" * size
        assert len(list(broker.folder.glob("blobs/*/*"))) == (size > INLINE)
        blob = upload(broker, "alice", b"c" * size)
        for _ in range(2):  # once more, since an answer may be lost
            assert broker.save("alice", "run", blob) == blob
        assert broker.saved("alice", "run").blob == blob
        assert len(list(broker.folder.glob("blobs/*/*"))) == 1
        for member, digest in (("node-000", blob.digest), ("alice", blob_of(b"b" * size).digest)):
            with pytest.raises(errors.NotFound):
                broker.find(member, digest)

    def test_what_rounds_came_to_is_kept(self, site):
        x, loss = site.question(X), {"loss": 0.25}
        site.ask(x)
        second = dataclasses.replace(x, number=1)
        site.broker.submit("alice", "run", structs.replace(site.submission(second), told={0: loss, 7: {"loss": 1.0}}))
        assert [seen.metrics for seen in site.broker.rounds("alice", "run")] == [loss, {}]
        site.broker.submit("alice", "run", structs.replace(site.submission(second), told={0: {"loss": 0.5}}))
        for told in ({1: loss}, {0: loss | {"accuracy": 1.0}}):
            site.broker.end_run("alice", "run", "done", told=told)
        found = site.reopen().rounds("alice", "run")
        assert [seen.metrics for seen in found] == [{"loss": 0.25, "accuracy": 1.0}, loss]
        assert [event.kind for event in site.broker.events()].count("done") == 1

    @pytest.mark.parametrize(
        "told",
        [
            {0: {"loss": float("nan")}}, {0: {"loss": float("inf")}}, {0: {"": 1.0}}, {0: {"x" * 65: 1.0}},
            {0: {f"m{i}": 1.0 for i in range(33)}}, {-1: {}}, {1 << 31: {}}, {i: {} for i in range(1001)},
        ],
        ids=["nan", "infinite", "nameless", "long", "many names", "negative", "too high", "many rounds"],
    )  # fmt: skip
    def test_metrics_that_cannot_be_kept_are_refused(self, site, told):
        x = site.question(X)
        with pytest.raises(errors.Malformed):
            site.broker.submit("alice", "run", structs.replace(site.submission(x), told=told))
        assert site.broker.rounds("alice", "run") == []
        with pytest.raises(errors.Malformed):
            site.broker.end_run("alice", "run", "done", told=told)
        assert site.broker.runs()[0].state == "running"

    def test_a_folder_of_the_first_version_is_brought_up_to_date(self, site):
        site.ask(site.question(X))
        site.broker.close()
        db = sqlite3.connect(site.folder / "broker.sqlite3")
        for column in ("metrics", "needed"):
            db.execute(f"ALTER TABLE exchanges DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 1")
        db.close()
        broker = site.reopen()
        broker.end_run("alice", "run", "done", told={0: {"loss": 2.0}})
        assert broker.rounds("alice", "run")[0].metrics == {"loss": 2.0}

    def test_an_ended_run_lets_go_and_can_be_taken_up(self, site):
        x = site.question(BIG)
        site.ask(x)
        site.answer(x, 0, ones(0, BIG))
        assert len(list(site.folder.glob("blobs/*/*"))) == 1
        site.broker.end_run("alice", "run", "failed", "the notebook died")
        assert not list(site.folder.glob("blobs/*/*"))
        assert site.broker.runs()[0].note == "the notebook died"
        assert site.answer(x, 1, ones(1, BIG)) == Ack(state="closed")
        with pytest.raises(errors.WrongRun):
            site.ask(x)
        with pytest.raises(errors.WrongRun):
            site.broker.state("alice", "run", 0)
        site.open()
        site.ask(x)
        for p in range(4):
            site.answer(x, p, ones(p, BIG))
        site.fold()
        assert site.outcome(x)[1]["x"][0] == 10
        site.broker.end_run("alice", "run", "done")
        site.broker.forget_run("alice", "run")
        assert site.broker.runs() == []
        assert not list(site.folder.glob("blobs/*/*"))

    @pytest.mark.parametrize("like", [X, BIG], ids=["inline", "file"])
    @pytest.mark.parametrize("ended", [True, False], ids=["failed", "killed"])
    def test_a_round_that_missed_its_quorum_is_asked_again_when_the_run_goes_on(self, site, like, ended):
        met, missed = (site.question(like, number=i, rule=Rule(quorum=0.75)) for i in range(2))
        for x, n in ((met, 3), (missed, 2)):
            site.ask(x)
            for p in range(4):
                if p < n:
                    site.answer(x, p, ones(p, like))
                else:
                    site.broker.refuse(site.names[p], site.uids["run", x.number], p, "not-approved", "Refused: no")
            site.fold()
        kept, uid = site.outcome(met), site.uids["run", 1]
        assert site.outcome(missed)[0].accepted == (0, 1)
        assert site.ask(missed).state == "closed", "asked again by the same program, it is answered as before"
        if ended:
            site.broker.end_run("alice", "run", "failed", "NodeFailed")
        site.reopen()
        for _ in range(2):
            opening = RunOpening(purpose="a test", data="iris", nodes=site.names)
            assert site.broker.open_run("alice", "run", opening).exchanges == 1
        assert [event.kind for event in site.broker.events(-1, 100)].count("again") == 1
        assert len(list(site.folder.glob("blobs/*/*"))) == (like is BIG), "the sum of the round that was met"
        assert site.ask(missed).missing == (0, 1, 2, 3)
        assert site.uids["run", 1] != uid
        with pytest.raises(errors.NotFound):
            site.broker.answer(site.names[3], uid, 3, wire.encode(ones(3)))
        for p in range(4):
            site.answer(missed, p, ones(p, like))
        site.fold()
        assert site.outcome(missed)[1]["x"][0] == 10
        site.open()
        assert site.outcome(missed)[1]["x"][0] == 10
        assert site.ask(met).state == "closed"
        outcome, merged = site.outcome(met)
        assert outcome == kept[0]
        assert same_bits(merged, kept[1])

    @pytest.mark.parametrize(("quorum", "done"), [(0.25, False), (0.5, False), (1.0, True)])
    def test_what_met_its_quorum_and_what_is_done_stay_as_they_are(self, site, quorum, done):
        x = site.question(X, rule=Rule(quorum=quorum))
        site.ask(x)
        for p in range(4):
            if p < 2:
                site.answer(x, p, ones(p))
            else:
                site.broker.refuse(site.names[p], site.uids["run", 0], p, "not-approved", "Refused: no")
        before = site.broker.state("alice", "run", 0)
        site.broker.end_run("alice", "run", "done" if done else "failed", "it ended")
        site.open()
        assert site.broker.state("alice", "run", 0) == before

    def test_a_missed_round_that_the_program_went_on_from_stays(self, site):
        x, after = (site.question(X, number=i) for i in range(2))
        for question, n in ((x, 3), (after, 4)):
            site.ask(question)
            for p in range(4):
                if p < n:
                    site.answer(question, p, ones(p))
                else:
                    site.broker.refuse(site.names[p], site.uids["run", 0], p, "not-approved", "Refused: no")
        site.broker.end_run("alice", "run", "failed", "it ended")
        site.open()
        assert [site.ask(question).state for question in (x, after)] == ["closed", "closed"]

    def test_what_waits_for_nodes_that_are_away_is_said_to_wait(self, site):
        assert site.broker.runs()[0].state == "running"
        site.ask(site.question(X))
        assert site.broker.runs()[0].state == "waiting"
        site.broker.seen("node-002")
        assert site.broker.runs()[0].state == "running"


class TestQuestions:
    def test_the_same_question_is_asked_once(self, site):
        x = site.question(X)
        site.ask(x)
        assert site.ask(x).missing == (0, 1, 2, 3)
        assert len(site.broker.work("node-000").tasks) == 1
        with pytest.raises(errors.OtherQuestion):
            site.ask(dataclasses.replace(x, seed=1))
        for p in range(4):
            site.answer(x, p, ones(p))
        assert site.ask(x).state == "closed"
        assert site.reopen().work("node-000").tasks == ()

    def test_a_node_gets_what_was_signed(self, site):
        x = site.question(X, rule=Rule(deadline=9.0), payload={"q": np.arange(4.0)}, cohort=(2, 0))
        submission = site.submission(x)
        site.broker.submit("alice", "run", submission)
        site.clock.now += 2
        assert site.broker.work("node-001").tasks == ()
        (task,) = site.broker.work("node-002").tasks
        assert (task.owner, task.run, task.number, task.position, task.seconds) == ("alice", "run", 0, 0, 7.0)
        assert (task.task, task.signature, task.inline) == (submission.task, submission.signature, submission.inline)
        assert (task.key, task.each) == (ALICE.public, None)
        assert site.broker.work("node-002", {(task.exchange, 0)}).tasks == ()

    def test_large_tasks_and_what_is_for_one_position_are_blobs_for_those_asked(self, site):
        broker = site.broker
        own = upload(broker, "alice", wire.encode({"q": np.arange(3.0)}))
        x = site.question(X, payload={"q": np.arange(20_000.0)})
        data = site.task(x, each={1: own})
        task = upload(broker, "alice", data)
        submission = site.submission(x, data)
        broker.submit("alice", "run", altered(submission, inline=None))
        (found,) = broker.work("node-001").tasks
        assert (found.task, found.inline, found.each) == (task, None, own)
        assert broker.find("node-001", task.digest).path.read_bytes() == data
        assert broker.find("node-001", own.digest).kind == "each"
        for member, digest in (("node-000", own.digest), ("bob", task.digest)):
            with pytest.raises(errors.NotFound):
                broker.find(member, digest)
        site.reopen()
        for p in range(4):
            site.answer(x, p, ones(p))
        assert site.outcome(x)[1]["x"][0] == 10
        assert not list(site.folder.glob("blobs/*/*"))
        with pytest.raises(errors.NotFound):
            site.broker.find("node-001", task.digest)

    def test_what_may_be_wrong_with_a_task(self, site):
        good = site.question(X)
        mine = site.submission(good)
        wrong = [
            (errors.WrongRun, {}, dataclasses.replace(good, run="other")),
            (errors.BadSignature, {"requester": "bob"}, good),
            (errors.BadSignature, {"key": key(0).fingerprint}, good),
            (errors.WrongRun, {"data": "wine"}, good),
            (errors.WrongRun, {"nodes": site.names[:3]}, good),
            (errors.ExpiredTask, {"expires": site.clock()}, good),
            (errors.NotFound, {"each": {0: Blob("0" * 64, 3)}}, good),
            (errors.Malformed, {"each": {9: Blob("0" * 64, 3)}}, good),
            (errors.Malformed, {}, dataclasses.replace(good, cohort=(0, 0))),
            (errors.Malformed, {}, dataclasses.replace(good, cohort=(4,))),
            (errors.Malformed, {}, dataclasses.replace(good, cohort=(-1,))),
            (errors.Malformed, {}, dataclasses.replace(good, cohort=())),
            (errors.Malformed, {}, dataclasses.replace(good, combine=Spec("Nothing"))),
            (errors.Malformed, {}, dataclasses.replace(good, combine=Spec("Sum", {"k": 1}))),
            (errors.Malformed, {}, dataclasses.replace(good, transform=(Spec("nothing"),))),
            (errors.Malformed, {}, dataclasses.replace(good, plan=Spec("nothing"))),
            (errors.Malformed, {}, dataclasses.replace(good, rule=Rule(quorum=3.0))),
            (errors.Malformed, {}, dataclasses.replace(good, each={0: {"q": np.ones(1)}})),
            (errors.Unsupported, {}, dataclasses.replace(good, plan=Spec("gossip"))),
        ]
        for kind, changes, x in wrong:
            with pytest.raises(kind):
                site.broker.submit("alice", "run", site.submission(x, **changes))
        for kind, changes in [
            (errors.WrongRound, {"number": 1}),
            (errors.Digest, {"inline": mine.inline + b"x"}),
            (errors.BadSignature, {"signature": key(0).sign(signed_text(mine.task))}),
            (errors.BadSignature, {"signature": b""}),
            (errors.NotFound, {"inline": None}),
        ]:
            with pytest.raises(kind):
                site.broker.submit("alice", "run", altered(mine, **changes))
        for data in (b"", b"x", mine.inline[:-1], wire.encode(X)):
            with pytest.raises(errors.Malformed):
                site.broker.submit("alice", "run", site.submission(good, data))
        with pytest.raises(errors.WrongRun):
            site.broker.submit("bob", "run", mine)
        assert site.broker.rounds("alice", "run") == []
        assert site.ask(good).state == "open"

    def test_tasks_of_another_federation_are_refused(self, place):
        site = Site(place / "b", 1, federation="mine")
        site.open()
        with pytest.raises(errors.WrongFederation):
            site.ask(site.question(X))
        assert site.ask(site.question(X), federation="mine").state == "open"

    def test_other_reduce_plans_are_stars_and_said_to_be(self, site):
        x = site.question(X, plan=Spec("tree", {"fan_out": 3}))
        site.ask(x)
        for p in range(4):
            site.answer(x, p, ones(p))
        outcome, _ = site.outcome(x)
        assert "'tree' was carried out as a star" in outcome.notes[0]
        assert set(outcome.links) == {"0>-1", "1>-1", "2>-1", "3>-1"}

    def test_an_expired_question_waits_until_it_is_asked_again(self, site):
        x = site.question(X)
        site.ask(x)
        site.answer(x, 0, ones(0))
        old = site.uids["run", 0]
        assert site.broker.refuse("node-001", old, 1, "expired-task", "over") == Ack(state="closed")
        site.clock.now += 3601
        assert site.broker.work("node-001").tasks == ()
        assert site.ask(x).missing == (1, 2, 3)
        (task,) = site.broker.work("node-001").tasks
        assert task.exchange != old
        assert site.broker.work("node-000").tasks == ()
        for p in range(1, 4):
            site.answer(x, p, ones(p))
        assert site.outcome(x)[1]["x"][0] == 10


class TestAnswers:
    @pytest.mark.parametrize("like", [X, BIG], ids=["inline", "file"])
    def test_an_answer_counts_once(self, site, like):
        x = site.question(like)
        site.ask(x)
        for p in (3, 3, 0, 0, 2):
            site.answer(x, p, ones(p, like))
        assert site.answer(x, 3, ones(7, like)) == Ack(state="duplicate")
        assert site.reopen().state("alice", "run", 0).missing == (1,)
        assert site.answer(x, 1, ones(1, like)) == Ack(state="accepted")
        site.fold()
        assert site.answer(x, 1, ones(1, like)) == Ack(state="duplicate")
        outcome, merged = site.outcome(x)
        assert merged["x"][0] == 10
        assert outcome.accepted == (0, 1, 2, 3)
        assert [d.times for d in site.broker.disclosed()] == [1] * 4

    def test_whose_answer_it_is(self, site):
        x = site.question(X)
        site.ask(x)
        data, uid = wire.encode(ones(0)), site.uids["run", 0]
        with pytest.raises(errors.NotFound):
            site.broker.answer("node-000", "nothing", 0, data)
        for node, position in (("node-000", 1), ("node-000", 4), ("node-000", -1), ("node-000", 1 << 70), ("bob", 0)):
            with pytest.raises(errors.Forbidden):
                site.broker.answer(node, uid, position, data)
            with pytest.raises(errors.Forbidden):
                site.broker.refuse(node, uid, position, "failed", "x")
        with pytest.raises(errors.Digest):
            site.broker.answer("node-000", uid, 0, blob_of(data))
        upload(site.broker, "node-001", data)  # somebody else's bytes cannot be named
        with pytest.raises(errors.Digest):
            site.broker.answer("node-000", uid, 0, blob_of(data))
        assert site.broker.state("alice", "run", 0).missing == (0, 1, 2, 3)

    @pytest.mark.parametrize("like", [X, BIG], ids=["inline", "file"])
    @pytest.mark.parametrize("bad", ["nan", "shape", "weight", "bytes", "cut"])
    def test_a_node_that_breaks_the_contract_is_named_and_left_out(self, site, like, bad):
        x = site.question({**like, "weight": np.ones(1)})
        x = dataclasses.replace(x, expects=x.expects._replace(max_weight=2.0))
        site.ask(x)
        tree = {**ones(2, like), "weight": np.ones(1)}
        values = {
            "nan": {**tree, "x": np.where(tree["x"] > 9, 1, np.nan)}, "shape": {**tree, "x": tree["x"][1:]},
            "weight": {**tree, "weight": np.array([3.0])}, "bytes": b"\0" * 90_000, "cut": wire.encode(tree)[:-1],
        }  # fmt: skip
        with pytest.raises(errors.Contract) as raised:
            site.answer(x, 2, values[bad])
        assert site.answer(x, 2, tree) == Ack(state="closed")
        for p in (0, 1, 3):
            site.answer(x, p, {**ones(p, like), "weight": np.ones(1)})
        site.fold()
        outcome, merged = site.outcome(x)
        assert outcome.refused == {2: f"WireError: {raised.value}"}
        assert (merged["x"][0], merged["weight"].tolist()) == (7, [3])
        assert site.broker.events()[-2].who == "node-002"
        assert len(list(site.folder.glob("blobs/*/*"))) == (like is BIG)

    def test_everybody_may_refuse(self, site):
        x = site.question(X)
        site.ask(x)
        for p in range(4):
            site.broker.refuse(site.names[p], site.uids["run", 0], p, "not-approved", f"Refused: {p}")
        outcome, merged = site.outcome(x)
        assert (merged, outcome.accepted, outcome.refused[3]) == (None, (), "Refused: 3")

    @pytest.mark.parametrize("like", [X, BIG], ids=["inline", "file"])
    def test_a_deadline_counts_from_the_question_and_survives_a_restart(self, site, like):
        x = site.question(like, rule=Rule(deadline=30.0, quorum=0.5, late="next"))
        site.ask(x)
        site.clock.now += 10
        site.answer(x, 3, ones(3, like))
        site.answer(x, 1, ones(1, like))
        site.reopen()
        assert site.broker.due() == site.clock() + 20
        site.clock.now += 19
        assert site.broker.close_due() == []
        site.clock.now += 1
        site.broker.close_due()
        site.fold()
        outcome, merged = site.outcome(x)
        assert (outcome.refused, merged["x"][0], outcome.seconds) == ({0: LATE, 2: LATE}, 6, 30)
        assert site.answer(x, 0, ones(0, like)) == Ack(state="late")
        assert site.broker.due() is None

    def test_who_waits_has_no_deadline(self, site):
        x = site.question(X, rule=Rule(deadline=30.0, late="wait"))
        site.ask(x)
        site.broker.seen("node-000", 1000)
        site.clock.now += 31
        assert site.broker.close_due() == []
        assert site.broker.work("node-000").tasks[0].seconds is None

    @pytest.mark.parametrize("like", [{"x": np.zeros((0, 2))}, {"x": np.zeros((0, 20_000))}], ids=["inline", "file"])
    def test_answers_that_do_not_fit_those_left_of_them_are_left_out(self, site, like):
        x = site.question(like)
        site.ask(x)
        width = like["x"].shape[1]
        for p in (0, 1, 2, 3):
            site.answer(x, p, {"x": np.ones((2 + (p == 1), width))})
        site.fold()
        outcome, merged = site.outcome(x)
        assert (outcome.accepted, merged["x"].shape, merged["x"][0, 0]) == ((0, 2, 3), (2, width), 3)
        assert "do not fit together" in outcome.refused[1]

    def test_topics_tell_who_should_look_again(self, site):
        broker = site.broker
        broker.changes.clear()
        x = site.question(X, cohort=(1, 3))
        site.ask(x)
        assert broker.changes >= {"work:node-001", "work:node-003", "due"}
        assert "work:node-000" not in broker.changes
        uid = site.uids["run", 0]
        broker.changes.clear()
        with broker.batch():
            broker.answer("node-001", uid, 0, wire.encode(ones(0)))
            assert not broker.changes
        assert broker.changes == {f"progress:{uid}"}
        broker.answer("node-003", uid, 1, wire.encode(ones(1)))
        assert f"exchange:{uid}" in broker.changes


class TestStore:
    def test_one_call_that_fails_does_not_undo_the_others_of_its_batch(self, site):
        x = site.question(X)
        site.ask(x)
        uid = site.uids["run", 0]
        with site.broker.batch():
            site.broker.answer("node-000", uid, 0, wire.encode(ones(0)))
            with pytest.raises(errors.Contract):
                site.broker.answer("node-001", uid, 1, b"nothing")
            with pytest.raises(errors.Conflict):
                site.broker.add_member("new", "node", key(0).public)
            site.broker.answer("node-002", uid, 2, wire.encode(ones(2)))
        assert site.reopen().state("alice", "run", 0).missing == (3,)
        assert site.broker.member_by_name("new") is None

    def test_a_batch_that_fails_leaves_nothing(self, site):
        x = site.question(X)
        site.ask(x)

        def fails():
            with site.broker.batch():
                for p in range(4):
                    site.answer(x, p, ones(p))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fails()
        assert site.broker.state("alice", "run", 0).missing == (0, 1, 2, 3)
        for p in range(4):
            assert site.answer(x, p, ones(p)) == Ack(state="accepted")
        assert site.outcome(x)[1]["x"][0] == 10

    @pytest.mark.parametrize("batch", [False, True])
    def test_a_full_database_is_told_and_nothing_is_half_written(self, site, batch):
        x = site.question({"x": np.zeros(8_000)})
        site.ask(x)
        broker, uid = site.broker, site.uids["run", 0]
        (pages,) = broker._db.execute("PRAGMA page_count").fetchone()
        broker._db.execute(f"PRAGMA max_page_count = {pages + 4}")

        def together():
            with broker.batch():
                for p in range(4):
                    with pytest.raises(errors.DiskFull):
                        broker.answer(site.names[p], uid, p, wire.encode(ones(p, {"x": np.zeros(8_000)})))

        with pytest.raises(errors.DiskFull):
            together() if batch else site.answer(x, 0, ones(0, {"x": np.zeros(8_000)}))
        assert broker.state("alice", "run", 0).missing == (0, 1, 2, 3)
        broker._db.execute("PRAGMA max_page_count = 1000000")
        for p in range(4):
            assert site.answer(x, p, ones(p, {"x": np.zeros(8_000)})) == Ack(state="accepted")
        assert site.outcome(x)[1]["x"][0] == 10

    def test_an_older_folder_is_brought_up_to_date(self, site):
        x = site.question(X, rule=Rule(quorum=0.5))
        site.ask(x)
        for p in (0, 1, 2):
            site.answer(x, p, ones(p))
        site.broker.refuse(site.names[3], site.uids["run", 0], 3, "not-approved", "Refused: no")
        before = site.broker.state("alice", "run", 0)
        site.broker.close()
        with sqlite3.connect(site.folder / "broker.sqlite3") as db:
            for column in ("metrics", "needed"):
                db.execute(f"ALTER TABLE exchanges DROP COLUMN {column}")
            db.execute("PRAGMA user_version = 1")
        db.close()
        site.reopen()
        site.open()
        assert site.broker.state("alice", "run", 0) == before

    def test_a_newer_folder_and_a_broken_one_are_refused(self, place):
        site = Site(place / "b", 1)
        with pytest.raises(errors.Conflict, match="another coordinator"):
            Broker(site.folder)
        site.broker.close()
        db = sqlite3.connect(site.folder / "broker.sqlite3")
        db.execute("PRAGMA user_version = 99")
        db.close()
        with pytest.raises(errors.Version, match="newer"):
            Broker(site.folder)
        for left in site.folder.glob("broker.sqlite3*"):
            left.write_bytes(b"not a database at all" * 500)
        with pytest.raises(errors.SiloError, match="cannot be read"):
            Broker(site.folder)

    @pytest.mark.parametrize("gone", ["a part, while running", "a part, at the start", "the task"])
    def test_files_that_are_gone_end_one_exchange_only(self, site, gone):
        data = site.task(x := site.question(BIG, payload={"q": np.arange(20_000.0)}))
        upload(site.broker, "alice", data)
        site.broker.submit("alice", "run", altered(site.submission(x, data), inline=None))
        for p in range(4):
            site.answer(x, p, ones(p, BIG))
        path = {True: blob_of(data), False: blob_of(wire.encode(ones(2, BIG)))}[gone == "the task"]
        site.broker.path(path.digest).unlink()
        if gone != "a part, while running":
            site.reopen()
        site.fold()
        with pytest.raises(errors.WrongRun):
            site.broker.state("alice", "run", 0)
        assert site.broker.events(-1, 1)[0].kind == "broken"
        assert not list(site.folder.glob("blobs/*/*"))
        site.ask(other := site.question(X, number=1))
        for p in range(4):
            site.answer(other, p, ones(p))
        assert site.outcome(other)[1]["x"][0] == 10

    def test_a_sum_without_room_waits_for_it(self, site, monkeypatch):
        site.ask(x := site.question(BIG))
        for p in range(4):
            site.answer(x, p, ones(p, BIG))
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(store.shutil, "disk_usage", lambda path: usage(1, 1, 0))
        job = site.broker.next_fold().run()
        with pytest.raises(errors.DiskFull):
            site.broker.folded(job)
        monkeypatch.undo()
        assert site.broker.next_fold() is None
        assert site.broker.due() == site.clock() + 5
        site.clock.now += 5
        site.fold()
        assert site.outcome(x)[1]["x"][0] == 10

    def test_events_are_numbered_and_pruned(self, site):
        for i in range(5):
            site.broker.tell("note", "alice", f"{i}")
        last = site.broker.events(-1, 2)
        assert [e.what for e in last] == ["3", "4"]
        assert [e.what for e in site.broker.events(last[0].number)] == ["4"]
        site.broker.sweep()
        assert site.broker.events(last[0].number) == last[1:]

    def test_stats_count(self, site):
        x = site.question(X)
        site.ask(x)
        site.broker.seen("node-000")
        for p in range(4):
            site.answer(x, p, ones(p))
        found = site.broker.stats()
        assert (found["members"], found["nodes"], found["nodes_here"], found["answers"]) == (5, 4, 1, 4)
        assert (found["exchanges_closed"], found["answers_bytes"]) == (1, 96)


def altered(struct, **changes):
    """A message with some fields changed."""
    import msgspec

    return msgspec.structs.replace(struct, **changes)


def test_many_nodes_in_groups_have_the_bits_of_one_sum(place):
    site = Site(place / "b", 200)
    site.open()
    rng = np.random.default_rng(0)
    trees = [{"x": rng.normal(size=5)} for _ in range(200)]
    x = site.question(trees[0])
    site.ask(x)
    with site.broker.batch():
        for p in rng.permutation(200):
            site.answer(x, int(p), trees[p])
    from brokers import assembled

    assert same_bits(site.outcome(x)[1], assembled(x, dict(enumerate(trees)), {}).merged)
