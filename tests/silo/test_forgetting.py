"""Runs that are deleted: by whom, in which state, and that nothing of them is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from atoll import wire
from atoll.silo import api
from brokers import Site as Silo
from brokers import upload as brought
from silo.serving import Caller, admin, joined, numbers, open_run, running, submission, submit, upload


class Site(NamedTuple):
    folder: Path
    federation: str
    admin: Caller
    ada: Caller
    bob: Caller
    node: Caller

    def asked(self, name: str, *, answered: bool = True) -> None:
        """A run of ada's with one question."""
        open_run(self.ada, ("bay",), name).read(api.Opened)
        submit(self.ada, submission(self.ada, self.federation, ("bay",), name=name), name).read(api.State)
        if answered:
            (task,) = self.node.ask("GET", "/v1/work").read(api.Work).tasks
            self.node.ask("POST", f"/v1/answers/{task.exchange}/0", wire.encode(numbers())).read(api.Ack)

    def runs(self) -> list[str]:
        return [run.name for run in self.admin.ask("GET", "/v1/runs").read(list[api.RunStatus])]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running(tmp_path / "c") as coordinator:
        by = admin(coordinator)
        people = joined(by, "ada", "researcher"), joined(by, "bob", "researcher"), joined(by, "bay")
        yield Site(tmp_path / "c", coordinator.folder.key.fingerprint, by, *people)


def test_a_run_that_has_ended_is_deleted_with_its_sums_and_its_state(site: Site) -> None:
    site.asked("july")
    site.ada.ask("PUT", "/v1/runs/july/state", api.Named(blob=upload(site.ada, bytes(100_000))),
                 headers={"Atoll-Body": "named"}).read(api.Named)  # fmt: skip
    assert list(site.folder.glob("blobs/*/*"))
    site.ada.ask("POST", "/v1/runs/july/end", api.Ending(state="done")).read(api.Done)
    site.ada.ask("DELETE", "/v1/runs/july").read(api.Done)
    assert site.runs() == []
    assert not list(site.folder.glob("blobs/*/*"))
    assert site.ada.ask("GET", "/v1/runs/july/exchanges/0").code == "not-found"
    assert site.ada.ask("DELETE", "/v1/runs/july").code == "not-found"
    assert open_run(site.ada, ("bay",), "july").read(api.Opened).exchanges == 0, "the name is free again"


def test_a_run_that_is_open_is_deleted_only_where_that_is_said(site: Site) -> None:
    site.asked("open", answered=False)
    assert site.ada.ask("DELETE", "/v1/runs/open").code == "wrong-run"
    assert site.ada.ask("DELETE", "/v1/runs/open?running=no").code == "wrong-run"
    assert site.ada.ask("DELETE", "/v1/runs/open?running=perhaps").code == "malformed"
    (task,) = site.node.ask("GET", "/v1/work").read(api.Work).tasks
    site.ada.ask("DELETE", "/v1/runs/open?running=yes").read(api.Done)
    assert site.runs() == []
    assert site.node.ask("GET", "/v1/work").read(api.Work).tasks == ()
    late = site.node.ask("POST", f"/v1/answers/{task.exchange}/0", wire.encode(numbers()))
    assert late.code == "not-found", "nobody waits for it any more"


def test_only_its_owner_and_admins_delete_a_run(site: Site) -> None:
    site.asked("july")
    site.ada.ask("POST", "/v1/runs/july/end", api.Ending(state="done")).read(api.Done)
    assert site.bob.ask("DELETE", "/v1/runs/july").code == "not-found"
    assert site.bob.ask("DELETE", "/v1/runs/july?owner=ada").code == "forbidden"
    assert site.node.ask("DELETE", "/v1/runs/july?owner=ada").code == "forbidden"
    assert site.runs() == ["july"]
    site.admin.ask("DELETE", "/v1/runs/july?owner=ada").read(api.Done)
    assert site.runs() == []
    with site.admin.stream("/v1/events?after=0") as stream:
        told = next(line for line in iter(stream.readline, b"") if b"a run of ada" in line)
    assert b'"kind":"forgotten","who":"admin"' in told


def test_what_a_node_computes_while_a_run_is_deleted_is_in_no_sum(site: Site) -> None:
    """The name is given to another run, with another question under the same number."""
    site.asked("july", answered=False)
    (old,) = site.node.ask("GET", "/v1/work").read(api.Work).tasks
    site.ada.ask("DELETE", "/v1/runs/july?running=yes").read(api.Done)
    site.asked("july", answered=False)
    stale = site.node.ask("POST", f"/v1/answers/{old.exchange}/0", wire.encode(numbers(9.0, 9.0, 9.0)))
    assert stale.code == "not-found"
    (new,) = site.node.ask("GET", "/v1/work").read(api.Work).tasks
    site.node.ask("POST", f"/v1/answers/{new.exchange}/0", wire.encode(numbers(1.0, 2.0, 3.0))).read(api.Ack)
    state = site.ada.ask("GET", "/v1/runs/july/exchanges/0").read(api.State)
    assert state.inline is not None
    np.testing.assert_array_equal(wire.decode(state.inline, dict[str, np.ndarray])["total"], [1.0, 2.0, 3.0])


def test_what_a_driver_brings_again_is_not_kept_for_a_day(tmp_path: Path) -> None:
    site = Silo(tmp_path / "b", 2)
    site.open()
    own = [bytes([i]) * 3000 for i in range(2)]

    def ask() -> None:
        each = {i: brought(site.broker, "alice", data) for i, data in enumerate(own)}
        site.ask(question, each=each)

    question = site.question({"x": np.zeros(3)})
    ask()
    assert left(site) == {"task"}
    ask()
    assert left(site) == {"task"}, "brought again while it is open, it is held by the question alone"
    for position in range(2):
        site.answer(question, position, {"x": np.ones(3)})
    assert left(site) == set()
    ask()
    assert left(site) == set(), "brought again for what is answered, it goes at once"
    assert not list((tmp_path / "b").glob("blobs/*/*"))
    other = brought(site.broker, "alice", b"for the next question")
    site.ask(question)
    assert site.broker.has("alice", other)
    site.broker.close()


def left(site: Silo) -> set[str]:
    """What blobs are kept for."""
    return {kind for (kind,) in site.broker._all("SELECT DISTINCT kind FROM refs")}
