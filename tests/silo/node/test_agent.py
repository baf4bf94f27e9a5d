"""The agent: always there, always the same answer, whatever the coordinator and the network do."""

from __future__ import annotations

import contextlib
import threading
import time

import numpy as np
import pytest

from atoll import wire
from atoll.silo import api, durable, errors
from atoll.silo.client import Closed
from atoll.silo.node import agent as module
from atoll.silo.node.agent import Agent, versions
from atoll.silo.node.log import entries, verify
from atoll.silo.node.sources import Source
from atoll.trees import Tree
from silo.node.fakes import Desk, Driver, node


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "_LONGEST", 0.2)


class Running:
    """An agent in threads of this process."""

    def __init__(self, folder, desk):
        self.said, self.error = [], None
        self.agent = Agent(folder, desk, say=self.said.append)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            self.agent.run()
        except BaseException as error:
            self.error = error

    def end(self):
        self.agent.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


@contextlib.contextmanager
def running(folder, desk):
    found = Running(folder, desk)
    try:
        yield found
    finally:
        found.end()


@pytest.fixture
def alice():
    return Driver("alice")


@pytest.fixture
def folder(tmp_path, alice):
    return node(tmp_path, allow=[alice.rule()])


class TestEnding:
    def test_a_task_that_goes_on_is_not_waited_for_longer_than_said(self, folder, alice):
        desk, goes_on = Desk(), threading.Event()
        agent = Agent(folder, desk, say=lambda line: None, grace=0.2)
        began = threading.Event()

        def answer(assignment, fetch):
            began.set()
            goes_on.wait(30)
            raise Closed("the coordinator is not asked any more")

        agent.answerer.answer = answer
        thread = threading.Thread(target=agent.run, daemon=True)
        thread.start()
        desk.put(alice.ask("null.ping"))
        assert began.wait(20)
        agent.stop()
        thread.join(20)
        assert not thread.is_alive()
        assert agent.busy
        goes_on.set()
        assert next(entries(folder.log))["event"] == "stopped"

    def test_an_agent_with_nothing_to_do_is_not_busy(self, folder):
        with running(folder, Desk()) as found:
            found.agent.stop()
            found.agent.stop()
        assert not found.agent.busy
        assert found.error is None


class TestWorking:
    def test_it_says_what_it_offers_and_runs_on(self, folder):
        desk = Desk()
        with running(folder, desk):
            wait(lambda: desk.hellos)
        (hello,) = desk.hellos
        assert [d.name for d in hello.data] == ["iris"]
        assert hello.data[0].rows is None, "rows are told only if the owner shows them"
        assert hello.versions == versions()
        assert {"atoll", "numpy", "python", "scikit-learn"} <= hello.versions.keys()

    def test_what_the_owner_shows(self, folder):
        from msgspec.structs import replace

        sources = folder.data()
        folder.write_data({"iris": replace(sources["iris"], show=True), "gone": Source(file="/no/x.csv", show=True)})
        desk = Desk()
        with running(folder, desk) as agent:
            wait(lambda: desk.hellos)
        shown, gone = desk.hellos[0].data
        assert (shown.rows, shown.columns) == (10, ("width", "height"))
        assert (gone.rows, gone.columns) == (None, None)
        assert any("cannot be read" in line for line in agent.said)
        told = next(e for e in entries(folder.log) if e["event"] == "hello")
        assert told["shown"]["iris"] == {"rows": 10, "columns": ["width", "height"]}

    def test_a_data_set_that_is_added_while_it_runs(self, folder):
        desk = Desk()
        with running(folder, desk):
            wait(lambda: desk.hellos)
            folder.write_data({**folder.data(), "more": Source(file="/no/x.csv")})
            wait(lambda: len(desk.hellos) == 2)
        assert [d.name for d in desk.hellos[1].data] == ["iris", "more"]

    def test_tasks_are_answered_in_order(self, folder, alice):
        desk = Desk()
        asked = [alice.ask("null.count", base=(i - 1,) * 3) for i in range(5)]
        desk.put(*asked)
        with running(folder, desk):
            found = [desk.answer(a)["times"].tolist() for a in asked]
        assert found == [[1], [2], [3], [4], [5]]
        assert set(desk.times.values()) == {1}

    def test_large_answers_are_uploaded(self, folder, alice, monkeypatch):
        monkeypatch.setattr(module, "DIRECT", 60)
        desk = Desk()
        a = alice.ask("null.ping")
        desk.put(a)
        with running(folder, desk):
            assert desk.answer(a)["nodes"].tolist() == [1]
        assert len(desk.blobs) == 1

    def test_large_tasks_lie_in_a_file_meanwhile(self, folder, alice, monkeypatch):
        monkeypatch.setattr(module, "_LARGE", 100)
        desk = Desk()
        a = alice.ask("null.ping", inline=False, desk=desk)
        desk.put(a)
        with running(folder, desk):
            assert desk.answer(a)["nodes"].tolist() == [1]
        assert not list((folder / "incoming").iterdir())

    def test_refusals_come_back_too(self, folder, alice):
        desk = Desk()
        a, b = Driver("mallory").ask("null.ping"), alice.ask("null.sleep", settings={"seconds": None})
        desk.put(a, b)
        with running(folder, desk):
            assert desk.answer(a).code == "not-approved"
            assert desk.answer(b).code == "failed"

    def test_a_task_that_is_gone_is_let_go(self, folder, alice):
        desk = Desk()
        gone, a = alice.ask("null.ping", inline=False), alice.ask("null.ping")
        desk.put(gone)
        with running(folder, desk):
            assert desk.answer(gone).code == "not-found"
            desk.put(a)
            desk.answer(a)


class TestFailing:
    def test_a_coordinator_that_is_away_is_waited_for(self, folder, alice):
        desk = Desk()
        desk.away = True
        with running(folder, desk) as agent:
            wait(lambda: agent.said)
            time.sleep(0.5)
            assert len(agent.said) == 1
            assert "no connection to https://coordinator:1" in agent.said[0]
            desk.away = False
            a = alice.ask("null.ping")
            desk.put(a)
            desk.answer(a)
            wait(lambda: len(agent.said) == 2)
            assert "again" in agent.said[1]

    @pytest.mark.parametrize("kind", [errors.Unavailable, errors.Rate, errors.Internal, errors.Unreachable])
    def test_an_answer_that_cannot_be_delivered_now_is_kept(self, folder, alice, kind):
        desk = Desk()
        a = alice.ask("null.ping")
        desk.refuse[a.exchange] = kind("busy")
        desk.put(a)
        with running(folder, desk):
            desk.answer(a)
        answered = [e for e in entries(folder.log) if e["event"] == "answered"]
        assert len(answered) == 1

    def test_an_answer_that_breaks_the_contract_does_not_stop_the_node(self, folder, alice):
        desk = Desk()
        a, b = alice.ask("null.ping"), alice.ask("null.ping")
        desk.refuse[a.exchange] = errors.Contract("not finite")
        desk.put(a, b)
        with running(folder, desk):
            desk.answer(b)
        assert any(e["event"] == "undelivered" and e["code"] == "contract" for e in entries(folder.log))

    def test_an_answer_that_is_refused_otherwise_is_not_sent_for_ever(self, folder, alice):
        desk = Desk()
        a, b = alice.ask("null.ping"), alice.ask("null.ping")
        desk.refuse[a.exchange] = errors.Conflict("no")
        desk.put(a, b)
        with running(folder, desk) as agent:
            desk.answer(b)
            time.sleep(1.0)
            assert desk.times[(a.exchange, a.position)] == 1
        assert any("not accepted" in line for line in agent.said)

    def test_an_answer_that_was_refused_otherwise_is_tried_again_after_a_pause(self, folder, alice, monkeypatch):
        monkeypatch.setattr("atoll.silo.node.agent._AGAIN", 0.2)
        desk = Desk()
        a, b = alice.ask("null.ping"), alice.ask("null.ping")
        desk.refuse[a.exchange] = errors.Digest("other bytes arrived")
        desk.put(a, b)
        with running(folder, desk):
            desk.answer(b)
            desk.answer(a)
        assert any(e["event"] == "undelivered" and e["code"] == "digest" for e in entries(folder.log))

    @pytest.mark.parametrize("state", ["late", "closed"])
    def test_what_did_not_count_is_told_in_the_log(self, folder, alice, state):
        desk = Desk()
        desk.acks = api.Ack(state=state)
        a = alice.ask("null.ping")
        desk.put(a)
        with running(folder, desk):
            desk.answer(a)
            wait(lambda: any(e["event"] == "uncounted" and e["state"] == state for e in entries(folder.log)))

    @pytest.mark.parametrize("kind", [errors.Revoked, errors.Unauthenticated, errors.Version, errors.WrongCertificate])
    def test_what_will_not_change_ends_it_with_the_reason(self, folder, kind):
        desk = Desk()
        with running(folder, desk) as agent:
            wait(lambda: desk.hellos)
            desk.error = kind("no more")
            agent.thread.join(20)
            assert isinstance(agent.error, kind)
        assert next(entries(folder.log))["event"] == "stopped"

    @pytest.mark.parametrize(
        "kind", [errors.Clock, errors.StaleEpoch, errors.Malformed, errors.BadSignature, errors.Internal]
    )
    def test_what_may_change_does_not(self, folder, alice, kind):
        desk = Desk()
        with running(folder, desk) as agent:
            wait(lambda: desk.hellos)
            desk.error = kind("strange")
            wait(lambda: agent.said)
            desk.error = None
            a = alice.ask("null.ping")
            desk.put(a)
            desk.answer(a)

    def test_a_node_toml_that_is_broken_while_it_runs(self, folder, alice):
        desk = Desk()
        with running(folder, desk) as agent:
            wait(lambda: desk.hellos)
            text = (folder / "node.toml").read_text()
            (folder / "node.toml").write_text("[data.iris")
            a = alice.ask("null.ping")
            desk.put(a)
            assert desk.answer(a).code == "malformed"
            (folder / "node.toml").write_text(text)
            b = alice.ask("null.ping")
            desk.put(b)
            assert isinstance(desk.answer(b), dict)
            assert agent.thread.is_alive()


class TestRestarting:
    def test_a_kill_at_every_step_gives_the_same_answer_and_a_sound_log(self, tmp_path, alice):
        steps = self.steps(tmp_path / "dry", alice, None)
        assert len(set(steps)) >= 8, steps
        want = None
        for at in range(len(steps)):
            (tmp_path / str(at)).mkdir()
            found = self.steps(tmp_path / str(at), alice, at)
            want = want or found
            assert found == want, steps[at]

    def steps(self, tmp_path, alice, kill_at):
        """Run three rounds of a task with memory; a kill at a step is a process that stops there and begins anew."""
        tmp_path.mkdir(exist_ok=True)
        folder = node(tmp_path, allow=[alice.rule()])
        steps, dead = [], threading.Event()

        class Killed(BaseException):
            pass

        def watch(step):
            steps.append(step)
            if len(steps) - 1 == kill_at:
                dead.set()
                raise Killed

        desk = Desk()
        driver = Driver("alice", alice.key)
        asked = [driver.ask("describe.rows")]
        asked += [driver.ask("null.count", base=(i - 1 if i > 1 else -1,) * 3) for i in range(1, 4)]
        stop = durable.watch(watch)
        try:
            found = []
            for a in asked:
                desk.put(a)
                while (a.exchange, a.position) not in desk.answers:
                    running_one = Running(folder, desk)
                    wait(lambda a=a: (a.exchange, a.position) in desk.answers or dead.is_set(), 20)
                    running_one.end()
                    if dead.is_set():
                        dead.clear()
                        desk.closed = False
                    desk.closed = False
                found.append({k: v.tolist() for k, v in desk.answers[(a.exchange, a.position)].items()})
        finally:
            stop()
        assert verify(folder.log)
        answered = {(e["task"], e["sha256"]) for e in entries(folder.log) if e["event"] == "answered"}
        assert len(answered) == 4
        return steps if kill_at is None else found

    def test_two_agents_do_not_answer_for_one_node(self, folder):
        with folder.running(), pytest.raises(errors.Conflict, match="runs already"), folder.running():
            pass
        assert folder.runs() is None


def test_answers_are_bit_equal_through_the_agent(folder, alice):
    desk = Desk()
    a = alice.ask("statistics.extrema")
    desk.put(a)
    with running(folder, desk):
        first = wire.encode(desk.answer(a))
    assert wire.encode(wire.decode(first, Tree)) == first
    assert np.isfinite(wire.decode(first, Tree)["max"]).all()


def wait(until, seconds=20.0):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
