"""Tasks and what becomes of them: answered as in one process, or refused with a code, and told in the log."""

from __future__ import annotations

import errno
import os
import shutil
import time

import numpy as np
import pytest

from atoll import wire
from atoll.memory import Store
from atoll.messages import Rule as When
from atoll.shards import Shard
from atoll.silo import errors
from atoll.silo.client import Closed
from atoll.silo.keys import Key
from atoll.silo.node import log as log_module
from atoll.silo.node.answering import Answerer
from atoll.silo.node.check import Me
from atoll.silo.node.log import entries, verify
from atoll.silo.node.requests import approve, open_requests
from atoll.silo.tasks import Blob, blob_of, signed_text
from atoll.specs import Spec
from atoll.trees import Tree
from atoll.views import arrange, chosen
from atoll.worker import allow, execute
from silo.node.fakes import COORDINATOR, Desk, Driver, csv, node

ME = Me("b", COORDINATOR.fingerprint)


class Bench:
    """A node that has joined, somebody who asks it, and time that can be moved."""

    def __init__(self, tmp_path, *, data=(), rules=None, operations=("*",), **limits):
        self.alice = Driver("alice")
        rules = [self.alice.rule(*operations, **limits)] if rules is None else rules
        self.folder = node(tmp_path, data, rules)
        self.file = tmp_path / "iris.csv"
        self.later = 0.0
        self.open()

    def open(self):
        self.answerer = Answerer(self.folder, ME, lambda: time.time() + self.later)

    def restart(self):
        self.answerer.log.close()
        self.open()

    def ask(self, op="null.ping", fetch=None, **more):
        return self.hand(self.alice.ask(op, **more), fetch)

    def hand(self, assignment, fetch=None):
        return self.answerer.answer(assignment, fetch)

    def tree(self, *args, **more) -> Tree:
        answer = self.ask(*args, **more)
        assert answer.refusal is None, answer.refusal
        return wire.decode(b"".join(answer.frames), Tree)

    def told(self, task, **changes):
        return self.alice.assign(task._replace(**changes))

    def asked(self, op, **more):
        return self.alice.assign(self.alice.task(self.alice.exchange(op, **more)))

    def refused(self, answer):
        assert answer.frames is None
        assert answer.refusal.code in errors.codes
        entry = next(entries(self.folder.log))
        assert (entry["event"], entry["code"]) == ("refused", answer.refusal.code)
        assert verify(self.folder.log)
        return answer.refusal


@pytest.fixture
def bench(tmp_path):
    found = Bench(tmp_path)
    yield found
    found.answerer.log.close()


def shard(n=10):
    rng = np.random.default_rng(7)
    X = rng.normal(size=(n, 2)).round(3)
    y = np.array(["uv"[i % 2] for i in range(n)], dtype=object)
    return Shard.of("b", X, y, feature_names=("width", "height"), ids=np.arange(10, 10 + n))


class TestAnswers:
    @pytest.mark.parametrize(
        ("op", "settings"),
        [
            ("describe.schema", {"classes": True}),
            ("null.ping", {}),
            ("null.count", {}),
            ("statistics.extrema", {}),
        ],
    )
    def test_are_those_of_one_process(self, bench, op, settings):
        x = bench.alice.exchange(op, settings=settings)
        want = execute(x, 1, shard(), Store(), allow)
        answer = bench.hand(bench.alice.assign(bench.alice.task(x)))
        assert b"".join(answer.frames) == wire.encode(want)

    def test_rows_are_counted_first(self, bench):
        assert bench.tree("describe.rows")["rows"].tolist() == [10]

    def test_ids_begin_where_the_driver_counts(self, bench):
        x = bench.alice.exchange("null.ping", view=[chosen(np.array([10, 13, 25]))])
        assert bench.hand(bench.alice.assign(bench.alice.task(x))).refusal is None
        assert next(entries(bench.folder.log))["rows"] == 2

    def test_what_is_for_this_node_alone(self, bench):
        desk, own = Desk(), wire.encode({"theta": np.arange(2.0)})
        desk.blobs[blob_of(own)] = own
        x = bench.alice.exchange("null.ping")
        task = bench.alice.task(x, each={1: blob_of(own)})
        assert bench.hand(bench.alice.assign(task), desk.download).refusal is None

    def test_a_task_that_is_fetched(self, bench):
        desk = Desk()
        answer = bench.hand(bench.alice.ask("null.ping", inline=False, desk=desk), desk.download)
        assert answer.refusal is None

    @pytest.mark.parametrize(
        "error",
        [
            kind("x")
            for kind in (errors.Unreachable, errors.Rate, errors.Internal, errors.Truncated, errors.Clock, Closed)
        ],
    )
    def test_a_coordinator_that_is_away_is_no_refusal(self, bench, error):
        def fetch(_):
            raise error

        with pytest.raises(type(error)):
            bench.hand(bench.alice.ask("null.ping", inline=False), fetch)

    def test_what_left_is_in_the_log(self, bench):
        answer = bench.ask("null.ping")
        entry = next(entries(bench.folder.log))
        whole = b"".join(answer.frames)
        assert (entry["event"], entry["op"], entry["data"]) == ("answered", "null.ping", "iris")
        assert (entry["bytes"], entry["sha256"]) == (len(whole), blob_of(whole).digest)
        assert (entry["who"], entry["key"]) == ("alice", bench.alice.key.fingerprint)
        assert entry["rows"] == 10


class TestMemory:
    def asked(self, bench, number, base):
        return bench.tree("null.count", number=number, base=(base,) * 3)["times"].tolist()

    def test_is_kept_between_rounds_and_restarts(self, bench):
        assert self.asked(bench, 0, -1) == [1]
        assert self.asked(bench, 1, 0) == [2]
        bench.restart()
        assert self.asked(bench, 2, 1) == [3]
        assert self.asked(bench, 3, 1) == [3], "the round before was not accepted"

    def test_another_owner_has_a_run_of_the_same_name(self, tmp_path):
        bench = Bench(tmp_path, rules=[])
        bob = Driver("bob")
        from atoll.silo.node.requests import add_rule

        for driver in (bench.alice, bob):
            add_rule(bench.folder, driver.rule())
        assert self.asked(bench, 0, -1) == [1]
        answer = bench.hand(bob.ask("null.count", number=1, base=(0,) * 3))
        assert wire.decode(b"".join(answer.frames), Tree)["times"].tolist() == [1]


class TestAgain:
    def test_the_same_task_has_the_same_answer_and_counts_once(self, tmp_path):
        bench = Bench(tmp_path, rounds_per_day=2)
        a = bench.alice.ask("null.count", base=(-1,) * 3)
        first = b"".join(bench.hand(a).frames)
        bench.restart()
        assert b"".join(bench.hand(a).frames) == first
        assert next(entries(bench.folder.log))["again"] is True
        assert bench.ask().refusal is None
        assert bench.refused(bench.ask()).code == "quota"
        assert b"".join(bench.hand(a).frames) == first

    def test_for_another_exchange_it_is_a_replay(self, bench):
        a = bench.alice.ask("null.ping")
        assert bench.hand(a).refusal is None
        bench.restart()
        assert bench.refused(bench.hand(change(a, exchange="another"))).code == "replayed"


def change(assignment, **fields):
    return type(assignment)(**{**{f: getattr(assignment, f) for f in assignment.__struct_fields__}, **fields})


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


MALLORY = Driver("mallory")
AGE = arrange(["width", "age"])


def resigned(a, driver):
    return change(a, key=driver.key.public, signature=driver.key.sign(signed_text(a.task)))


def bare(a):
    return bytes.fromhex(a.task.digest)


def swollen(data):
    return data[:16] + (1 << 44).to_bytes(8, "little") + data[24:]


BAD = {
    "a bit of the task is flipped": ("digest", lambda b, t, a: change(a, inline=flipped(a.inline, len(a.inline) // 2))),
    "the task is cut short": ("digest", lambda b, t, a: change(a, inline=a.inline[:-1])),
    "the task is empty": ("digest", lambda b, t, a: change(a, inline=b"")),
    "another size is announced": ("digest", lambda b, t, a: change(a, task=Blob(a.task.digest, 5), inline=a.inline)),
    "another task is signed": ("bad-signature", lambda b, t, a: change(a, signature=b.alice.key.sign(b"other"))),
    "a flipped bit of the signature": ("bad-signature", lambda b, t, a: change(a, signature=flipped(a.signature, 3))),
    "no signature": ("bad-signature", lambda b, t, a: change(a, signature=b"")),
    "a long signature": ("bad-signature", lambda b, t, a: change(a, signature=a.signature * 2)),
    "no key": ("bad-signature", lambda b, t, a: change(a, key=b"")),
    "a key of another length": ("bad-signature", lambda b, t, a: change(a, key=a.key + b"x")),
    "signed by somebody else": ("bad-signature", lambda b, t, a: resigned(a, MALLORY)),
    "signed as something else": ("bad-signature", lambda b, t, a: change(a, signature=b.alice.key.sign(bare(a)))),
    "handed on in another name": ("bad-signature", lambda b, t, a: change(a, owner="bob")),
    "another key is named": ("bad-signature", lambda b, t, a: b.told(t, key=MALLORY.key.fingerprint)),
    "another federation": ("wrong-federation", lambda b, t, a: b.told(t, federation=Key.make().fingerprint)),
    "expired": ("expired-task", lambda b, t, a: b.told(t, expires=t.issued - 1)),
    "a week old, says it lives longer": ("expired-task", lambda b, t, a: b.told(t, issued=t.issued - 8e5, expires=9e9)),
    "from the future": ("clock", lambda b, t, a: b.told(t, issued=t.issued + 3600, expires=t.issued + 7200)),
    "without a time": ("malformed", lambda b, t, a: b.told(t, expires=float("nan"))),
    "without an end": ("malformed", lambda b, t, a: b.told(t, expires=float("inf"))),
    "another run": ("wrong-run", lambda b, t, a: change(a, run="other")),
    "another round": ("wrong-round", lambda b, t, a: change(a, number=a.number + 1)),
    "another node's position": ("wrong-round", lambda b, t, a: change(a, position=0)),
    "a position that is not there": ("wrong-round", lambda b, t, a: change(a, position=3)),
    "a negative position": ("wrong-round", lambda b, t, a: change(a, position=-2)),
    "a federation without this node": ("wrong-round", lambda b, t, a: b.told(t, nodes=("a", "x", "c"))),
    "a cohort beyond the nodes": ("malformed", lambda b, t, a: b.told(t, nodes=("a", "b"), starts=(0, 10))),
    "two nodes of one name": ("malformed", lambda b, t, a: b.told(t, nodes=("b", "b", "c"))),
    "rows for fewer nodes": ("malformed", lambda b, t, a: b.told(t, starts=(0, 10))),
    "rows that run backwards": ("malformed", lambda b, t, a: b.told(t, starts=(0, 20, 10))),
    "fewer rows than there are": ("data-changed", lambda b, t, a: b.told(t, starts=(0, 10, 19))),
    "more rows than there are": ("data-changed", lambda b, t, a: b.told(t, starts=(0, 10, 21))),
    "arrays that were not signed": ("digest", lambda b, t, a: change(a, each=Blob("0" * 64, 10))),
    "arrays that were left out": ("digest", lambda b, t, a: change(b.told(t, each={1: Blob("0" * 64, 1)}), each=None)),
    "another data set": ("not-approved", lambda b, t, a: b.told(t, data="wine")),
    "somebody without a rule": ("not-approved", lambda b, t, a: MALLORY.ask("null.ping")),
    "no task at all": ("malformed", lambda b, t, a: raw(b, b"{}" * 100)),
    "an exchange instead of a task": ("malformed", lambda b, t, a: raw(b, wire.encode(t.exchange))),
    "a task with bytes left over": ("malformed", lambda b, t, a: raw(b, wire.encode(t) + b"\0")),
    "a task that claims terabytes": ("malformed", lambda b, t, a: raw(b, swollen(wire.encode(t)))),
    "an operation that is not installed": ("unsupported", lambda b, t, a: b.asked("no.such")),
    "a way to add that is not installed": ("unsupported", lambda b, t, a: b.asked("null.ping", combine=Spec("Magic"))),
    "a view that is not installed": ("unsupported", lambda b, t, a: b.asked("null.ping", view=[Spec("magic")])),
    "a column that is not there": ("column-missing", lambda b, t, a: b.asked("null.ping", view=[AGE])),
}  # fmt: skip


def raw(bench, data):
    key, blob = bench.alice.key, blob_of(data)
    task = bench.alice.ask("null.ping")
    return change(task, task=blob, signature=key.sign(signed_text(blob)), inline=data)


@pytest.mark.parametrize("case", BAD)
def test_a_bad_task_is_refused(bench, case):
    code, make = BAD[case]
    x = bench.alice.exchange("null.ping")
    task = bench.alice.task(x)
    answer = bench.hand(make(bench, task, bench.alice.assign(task)))
    assert bench.refused(answer).code == code
    assert bench.ask().refusal is None, "the node goes on"


class TestPolicy:
    def test_denied_by_default_and_kept_for_the_owner(self, tmp_path):
        bench = Bench(tmp_path, rules=[])
        for _ in range(3):
            assert bench.refused(bench.ask("describe.schema", settings={"classes": True})).code == "not-approved"
        bench.refused(bench.ask("null.ping"))
        (request,) = open_requests(bench.folder)
        assert (request.who, request.key, request.data) == ("alice", bench.alice.key.fingerprint, "iris")
        assert request.purposes == ["KNeighborsClassifier"]
        wish = request.operations["describe.schema"]
        assert wish.times == 3
        assert "number of rows" in wish.discloses
        assert (wish.nodes, request.operations["null.ping"].nodes) == (1, 3)
        assert request.operations["null.ping"].bytes == 8
        assert wish.bytes == 0
        approve(bench.folder, request.id)
        assert bench.ask("null.ping").refusal is None
        assert open_requests(bench.folder) == []

    def test_a_change_counts_for_the_next_question(self, bench):
        assert bench.ask().refusal is None
        text = bench.folder.policy.read_text()
        bench.folder.policy.write_text(text.replace('"*"', '"describe.*"'))
        assert bench.refused(bench.ask()).code == "not-approved"
        bench.folder.policy.write_text("[[allow")
        answer = bench.refused(bench.ask())
        assert answer.code == "not-approved"
        assert str(bench.folder.path) not in answer.reason
        bench.folder.policy.unlink()
        assert bench.refused(bench.ask()).code == "not-approved"
        bench.folder.policy.write_text(text)
        assert bench.ask().refusal is None
        told = [e for e in entries(bench.folder.log) if e["event"] == "policy"]
        assert len(told) == 5
        assert [bool(e["broken"]) for e in told[::-1]] == [False, False, True, True, False]

    def test_somebody_with_the_same_name_and_another_key(self, bench):
        impostor = Driver("alice")
        assert bench.refused(bench.hand(impostor.ask("null.ping"))).code == "not-approved"

    def test_few_rows(self, tmp_path):
        bench = Bench(tmp_path, min_rows=3)
        assert bench.ask().refusal is None
        assert bench.ask(view=[chosen(np.array([10, 11, 12]))]).refusal is None
        refusal = bench.refused(bench.ask(view=[chosen(np.array([10, 11]))]))
        assert refusal.code == "too-few-rows"
        assert "2" not in refusal.reason.replace("at least 3", ""), "how many there are is not told"
        assert bench.ask(view=[chosen(np.array([99]))]).refusal is None, "no rows, nothing told"

    @pytest.mark.parametrize(
        ("more", "well"),
        [
            ({}, True),
            ({"rule": When(quorum=0.5)}, False),
            ({"cohort": (0, 1)}, False),
            ({"rule": When(quorum=0.67)}, True),
            ({"combine": Spec("Each")}, False),
        ],
    )
    def test_few_nodes(self, tmp_path, more, well):
        bench = Bench(tmp_path, min_nodes=3)
        answer = bench.ask(**more)
        if well:
            assert answer.refusal is None
        else:
            assert bench.refused(answer).code == "too-few-nodes"

    def test_rounds_a_day(self, tmp_path):
        bench = Bench(tmp_path, rounds_per_day=3)
        for _ in range(3):
            assert bench.ask().refusal is None
        assert bench.refused(bench.ask()).code == "quota"
        bench.restart()
        assert bench.refused(bench.ask()).code == "quota"
        bench.later = 86400.0
        task = bench.alice.task(bench.alice.exchange("null.ping"))
        late = task._replace(issued=task.issued + 86400, expires=task.expires + 86400)
        assert bench.hand(bench.alice.assign(late)).refusal is None

    def test_bytes_a_day(self, tmp_path):
        bench = Bench(tmp_path, bytes_per_day=200)
        size = sum(part.nbytes for part in bench.ask().frames)
        assert 67 < size < 200
        asked = 1
        while bench.ask().refusal is None:
            asked += 1
        assert asked == 200 // size
        assert bench.refused(bench.ask()).code == "quota"

    def test_columns(self, tmp_path):
        bench = Bench(tmp_path, columns=("width", "species"))
        told = bench.tree("describe.schema", settings={"classes": True})
        assert told["names"].tolist() == ["width"]
        assert told["text"].tolist() == ["u", "v"]
        refusal = bench.refused(bench.ask(view=[arrange(["width", "height"])]))
        assert refusal.code == "column-missing"
        assert "'height'" in refusal.reason
        assert "serves" in refusal.reason

    def test_targets_are_columns(self, tmp_path):
        bench = Bench(tmp_path, columns=("width", "height"))
        assert bench.tree("describe.schema", settings={"classes": True})["target"].tolist() == [""]

    def test_a_column_of_the_policy_that_is_not_there(self, tmp_path):
        bench = Bench(tmp_path, columns=("width", "hight"))
        refusal = bench.refused(bench.ask())
        assert refusal.code == "column-missing"
        assert "did you mean 'height'" in refusal.reason

    def test_the_first_rule_that_fits_counts(self, tmp_path):
        alice = Driver("alice")
        bench = Bench(tmp_path, rules=[])
        bench.alice = alice
        from atoll.silo.node.requests import add_rule

        add_rule(bench.folder, alice.rule("null.*", min_nodes=100))
        add_rule(bench.folder, alice.rule("*", min_rows=100))
        add_rule(bench.folder, alice.rule("null.ping", columns=("width",)))
        assert bench.ask().refusal is None
        assert next(entries(bench.folder.log))["rule"]["columns"] == ["width"]
        assert bench.refused(bench.ask("null.count")).code == "too-few-rows"

    def test_a_large_task_of_a_stranger_is_not_fetched(self, bench):
        def fetch(blob):
            raise AssertionError("fetched")

        stranger = Driver("mallory")
        blob = Blob("1" * 64, 1 << 30)
        a = change(stranger.ask("null.ping"), task=blob, signature=stranger.key.sign(signed_text(blob)), inline=None)
        assert bench.refused(bench.hand(a, fetch)).code == "not-approved"


class TestRows:
    def test_a_file_that_changed_is_refused_until_the_driver_connects_anew(self, bench):
        assert bench.tree("describe.rows")["rows"].tolist() == [10]
        assert bench.ask(run="one").refusal is None
        csv(bench.file, shift=1.0)
        refusal = bench.refused(bench.ask(run="one"))
        assert refusal.code == "data-changed"
        assert "another one" in refusal.reason
        assert bench.refused(bench.ask(run="two")).code == "data-changed"
        assert bench.tree("describe.rows", run="attach-2")["rows"].tolist() == [10]
        assert bench.ask(run="three").refusal is None
        refusal = bench.refused(bench.ask(run="one"))
        assert refusal.code == "data-changed"
        assert "began with other rows" in refusal.reason

    def test_a_file_that_changed_while_the_node_was_down(self, bench):
        bench.tree("describe.rows")
        assert bench.ask(run="one").refusal is None
        csv(bench.file, shift=1.0)
        bench.restart()
        assert bench.refused(bench.ask(run="one")).code == "data-changed"
        assert bench.refused(bench.ask(run="two")).code == "data-changed"
        bench.tree("describe.rows", run="attach-2")
        assert bench.ask(run="two").refusal is None

    def test_a_file_that_was_only_touched(self, bench):
        bench.tree("describe.rows")
        os.utime(bench.file, (1, 1))
        assert bench.ask().refusal is None
        whole = bench.file.read_bytes()
        bench.file.unlink()
        bench.file.write_bytes(whole)
        assert bench.ask().refusal is None

    def test_old_rows_that_come_back(self, bench):
        bench.tree("describe.rows")
        assert bench.ask(run="one").refusal is None
        kept = bench.file.with_suffix(".kept")
        shutil.copy(bench.file, kept)
        csv(bench.file, shift=1.0)
        assert bench.ask(run="one").refusal.code == "data-changed"
        shutil.copy(kept, bench.file)
        assert bench.ask(run="one").refusal is None

    def test_a_file_that_is_gone(self, bench):
        bench.tree("describe.rows")
        bench.file.unlink()
        assert bench.refused(bench.ask()).code == "data-changed"
        assert bench.refused(bench.ask("describe.rows", run="attach-2")).code == "not-found"
        csv(bench.file)
        assert bench.ask().refusal is None

    def test_a_file_that_is_not_there_from_the_start(self, bench):
        bench.file.unlink()
        refusal = bench.refused(bench.ask("describe.rows"))
        assert refusal.code == "failed"
        assert "no such file" in refusal.reason
        assert str(bench.file.parent) not in refusal.reason

    def test_a_column_that_is_missing_is_named(self, tmp_path):
        bench = Bench(tmp_path, data=[f"iris={csv(tmp_path / 'iris.csv')}:specie"])
        refusal = bench.refused(bench.ask("describe.rows"))
        assert refusal.code == "column-missing"
        assert "'specie'" in refusal.reason
        assert "did you mean 'species'" in refusal.reason
        assert str(tmp_path) not in refusal.reason

    def test_a_data_set_that_is_not_offered(self, bench):
        task = bench.alice.task(bench.alice.exchange("null.ping"), data="wine")
        text = bench.folder.policy.read_text()
        bench.folder.policy.write_text(text.replace('data = "iris"', 'data = "*"'))
        assert bench.refused(bench.hand(bench.alice.assign(task))).code == "not-found"

    def test_more_rows_in_the_file(self, bench):
        csv(bench.file, n=12)
        assert bench.tree("describe.rows")["rows"].tolist() == [12]
        assert bench.refused(bench.ask(starts=(0, 10, 20))).code == "data-changed"
        assert bench.ask(starts=(0, 10, 22)).refusal is None


class TestFailures:
    def test_what_scikit_learn_refuses_is_told_as_it_says_it(self, tmp_path):
        bench = Bench(tmp_path)
        bench.file.write_text("width,height,species\n1,,u\n2,3,v\n")
        bench.tree("describe.rows")
        refusal = bench.refused(
            bench.ask("describe.schema", starts=(0, 10, 12), settings={"classes": True, "ensure_all_finite": True})
        )
        assert refusal.code == "failed"
        assert refusal.reason.startswith("InvalidData: ")
        assert "column 'height'" in refusal.reason

    def test_other_errors_tell_their_kind_only(self, bench):
        refusal = bench.refused(bench.ask("null.sleep", settings={"seconds": "soon"}))
        assert refusal.code == "failed"
        assert refusal.reason.startswith("TypeError: ")
        assert "soon" not in refusal.reason
        assert "at:" not in refusal.reason

    def test_an_answer_that_breaks_the_contract_does_not_leave(self, bench):
        x = bench.alice.exchange("null.ping")
        from dataclasses import replace

        lied = replace(x, op="describe.rows", number=x.number)
        refusal = bench.refused(bench.hand(bench.alice.assign(bench.alice.task(lied))))
        assert refusal.code == "failed"
        assert "WireError" in refusal.reason

    def test_a_full_disk_lets_nothing_leave(self, bench, monkeypatch):
        def full(file, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(log_module, "_write", full)
            answer = bench.ask("null.ping")
            assert answer.frames is None
            assert answer.refusal.code == "disk-full"
        assert bench.ask("null.ping").refusal is None
        assert verify(bench.folder.log)

    @pytest.mark.parametrize("kind", [MemoryError, SystemExit, RecursionError, OSError])
    def test_whatever_happens_is_an_answer(self, bench, monkeypatch, kind):
        def much(*_, **__):
            raise kind("/a/secret/path")

        monkeypatch.setattr("atoll.worker.Bound.answer", much)
        refusal = bench.refused(bench.ask())
        assert refusal.code == "failed"
        assert "secret" not in refusal.reason
