"""Who cannot be reached: every run ends, by its deadline, as its rule says; and who comes back is counted once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB

from atoll import Federated, Federation
from atoll.combine import Each
from atoll.errors import QuorumNotMet, RoundFailed
from atoll.messages import Rule
from atoll.silo import api, durable
from atoll.silo.errors import Unreachable
from atoll.worker import LATE
from silo.faults.silos import Silos, eventually, silos, together
from silo.proxy import Faults, Proxy

SLACK = 20.0
"""Seconds after a deadline by which a run must have ended, on a machine that is busy with other things."""

OP = "describe.rows"
DEADLINE = 3.0


def ask(federation: Federation, times: int = 1) -> list[Any]:
    """Rounds of which every node's part is seen, with their records."""
    rounds = federation.rounds("test")
    with rounds.ending():
        found = [rounds.round(OP, combine=Each())["rows"].tolist() for _ in range(times)]
    return [found, rounds.run.rows]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What is done ends by then."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def network_of(network: Silos, node: str) -> Proxy:
    found = network.nodes[node]
    assert isinstance(found, Proxy)
    return found


LOST = [
    Faults(held="up"),
    Faults(held="down"),
    Faults(held="both"),
    Faults(rate=40.0),
    Faults(refused=True),
    Faults(cut=(0, 200)),
]
IDS = ["deaf up", "deaf down", "cut off", "drip", "nobody there", "always reset"]


@pytest.mark.parametrize("faults", LOST, ids=IDS)
def test_a_round_goes_on_without_a_node_by_its_deadline(tmp_path: Path, faults: Faults) -> None:
    with silos(tmp_path) as network:
        federation = network.connect(rule=Rule(deadline=DEADLINE, quorum=0.5))
        assert ask(federation)[0] == [[40, 50, 60]]
        if faults.cut:
            network_of(network, "cove").begin(faults)
        else:
            network_of(network, "cove").set(faults)
        with within(2 * DEADLINE + SLACK):
            found, records = ask(federation, 2)
        assert found == [[40, 60]] * 2
        for record in records:
            assert (record.asked, record.answered, record.refused) == (3, 2, {"cove": LATE})


@pytest.mark.parametrize("faults", LOST[:3], ids=IDS[:3])
def test_a_round_that_needs_everybody_fails_by_its_deadline(tmp_path: Path, faults: Faults) -> None:
    with silos(tmp_path) as network:
        federation = network.connect(rule=Rule(deadline=DEADLINE, quorum=1.0))
        ask(federation)
        network_of(network, "lagoon").set(faults)
        with within(DEADLINE + SLACK), pytest.raises(QuorumNotMet, match="lagoon"):
            ask(federation)
        runs = network.admin.ask("GET", "/v1/runs").read(list[api.RunStatus])
        assert runs[0].state == "failed"
        assert "QuorumNotMet" in runs[0].note


def test_nobody_answers(tmp_path: Path) -> None:
    with silos(tmp_path) as network:
        federation = network.connect(rule=Rule(deadline=DEADLINE, quorum=0.3))
        ask(federation)
        for node in network.nodes:
            network_of(network, node).set(Faults(held="down"))
        with within(DEADLINE + SLACK), pytest.raises(QuorumNotMet):
            ask(federation)


def test_a_node_that_comes_back_takes_part_again(tmp_path: Path) -> None:
    with silos(tmp_path) as network:
        federation = network.connect(rule=Rule(deadline=DEADLINE, quorum=0.5))
        ask(federation)
        with network_of(network, "bay").during(held="both"):
            assert ask(federation)[0] == [[50, 60]]
        eventually(lambda: ask(federation)[0] == [[40, 50, 60]])


def test_whoever_is_waited_for_is_counted_when_the_partition_ends(tmp_path: Path) -> None:
    with silos(tmp_path) as network:
        federation = network.connect(rule=Rule(deadline=0.5, quorum=1.0, late="wait"))
        ask(federation)
        proxy = network_of(network, "bay")
        proxy.set(Faults(held="up"))
        timer = threading.Timer(2.0, proxy.set, [Faults()])
        timer.start()
        found, records = ask(federation, 2)
        timer.join()
        assert found == [[40, 50, 60]] * 2
        assert [r.answered for r in records] == [3, 3]
        assert proxy.done["held"] >= 1


@pytest.mark.parametrize("quorum", [0.5, 1.0])
def test_a_node_that_is_gone_is_given_up_where_there_is_no_deadline(tmp_path: Path, quorum: float) -> None:
    with silos(tmp_path, lost_after=2.0) as network:
        federation = network.connect(rule=Rule(quorum=quorum))
        ask(federation)
        network_of(network, "cove").set(Faults(refused=True))
        with within(2.0 + SLACK):
            if quorum == 1.0:
                with pytest.raises(RoundFailed, match="cove"):
                    ask(federation)
            else:
                assert ask(federation)[0] == [[40, 60]]
        assert network.states()["cove"] == "away"


def test_a_dead_node_is_noticed(tmp_path: Path) -> None:
    with silos(tmp_path) as network:
        network_of(network, "cove").set(Faults(refused=True))
        eventually(lambda: network.states()["cove"] == "away", 15.0)
        network_of(network, "cove").set(Faults())
        eventually(lambda: network.states()["cove"] == "here", 15.0)


@pytest.mark.parametrize("held", ["up", "down", "both"])
@pytest.mark.parametrize("step", ["driver.submitted", "driver.run.opened"])
def test_a_driver_that_is_cut_off_goes_on_when_it_is_back(tmp_path: Path, held: str, step: str) -> None:
    """For two seconds, from a step on; what was asked meanwhile is answered once."""
    with silos(tmp_path) as network:
        federation = network.connect()
        ask(federation)
        driver = network.driver
        assert isinstance(driver, Proxy)
        left: list[threading.Timer] = []

        def cut_off(reached: str) -> None:
            if reached == step and not left:
                driver.set(Faults(held=held))  # type: ignore[arg-type]
                left.append(threading.Timer(2.0, driver.set, [Faults()]))
                left[0].start()

        ended = durable.watch(cut_off)
        try:
            found, records = ask(federation, 3)
        finally:
            ended()
            left[0].join()
        assert found == [[40, 50, 60]] * 3
        assert [r.number for r in records] == [0, 1, 2]
        assert driver.done["held"] >= 1


def test_everybody_is_cut_off_for_a_while(tmp_path: Path) -> None:
    with silos(tmp_path) as network:
        federation = network.connect()
        ask(federation)
        everybody = [network.driver, *network.nodes.values()]
        done = threading.Event()

        def storms() -> None:
            rng = np.random.default_rng(3)
            while not done.wait(0.2):
                proxy = everybody[rng.integers(len(everybody))]
                assert isinstance(proxy, Proxy)
                with proxy.during(refused=True):
                    done.wait(0.3)

        thread = threading.Thread(target=storms)
        thread.start()
        try:
            found, records = ask(federation, 15)
        finally:
            done.set()
            thread.join()
        assert found == [[40, 50, 60]] * 15
        assert [r.answered for r in records] == [3] * 15
        assert network.failures("cut", "refused") >= 3


def test_a_driver_without_a_network_gives_up_when_its_patience_ends(tmp_path: Path) -> None:
    with silos(tmp_path) as network:
        federation = network.connect(patience=3.0)
        ask(federation)
        assert isinstance(network.driver, Proxy)
        network.driver.set(Faults(refused=True))
        with within(3.0 + SLACK), pytest.raises(Unreachable, match="cannot be reached"):
            ask(federation)


def test_the_sum_without_a_node_is_the_sum_of_the_others(tmp_path: Path) -> None:
    """To the last bit, and in the places of a federation that never knew the node."""
    with silos(tmp_path) as network:
        federation = network.connect(rule=Rule(deadline=DEADLINE, quorum=0.5))
        ask(federation)
        network_of(network, "cove").set(Faults(held="both"))
        found = Federated(GaussianNB()).fit(federation)
        expected = Federated(GaussianNB()).fit(together("bay", "lagoon"))
        assert found.theta_.tobytes() == expected.theta_.tobytes()
        assert found.var_.tobytes() == expected.var_.tobytes()
        assert {name for row in found.run_.rows for name in row.refused} == {"cove"}
