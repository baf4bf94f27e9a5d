"""A network that delays, drips, cuts, repeats and reorders changes nothing: runs end with the bits of a sound one."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

from atoll import Federated, Federation
from atoll.algorithms import scaffold, sgd
from atoll.silo.node.log import entries
from silo.faults.silos import NAMES, Silos, rows, silos, together
from silo.proxy import Faults, Repeats

QUERIES = rows("bay")[0][:20]


def fitted(federation: Federation) -> dict[str, Any]:
    """Three estimators, and what came of them."""
    with warnings.catch_warnings(action="ignore"):  # it does not converge, and columns have names in files only
        line = Federated(LogisticRegression(max_iter=4, tol=1e-12)).fit(federation)
        near = Federated(KNeighborsClassifier(n_neighbors=3)).fit(federation)
        votes = near.predict_proba(QUERIES)
        net = MLPClassifier((4,), random_state=0)  # nodes keep a variate each, which moves on with accepted rounds only
        kept = Federated(net, method=scaffold(), local=sgd(lr=0.05, batch_size=10), rounds=3).fit(federation)
    return {
        "coef": line.coef_, "intercept": line.intercept_, "votes": votes, "weights": np.concatenate(kept.coefs_, None),
        "accepted": [row.answered for row in (*line.run_.rows, *near.run_.rows, *kept.run_.rows)],
    }  # fmt: skip


@pytest.fixture(scope="module")
def sound() -> dict[str, Any]:
    return fitted(together())


def same(network: Silos, sound: dict[str, Any]) -> None:
    found = fitted(network.connect())
    assert found["accepted"] == sound["accepted"]
    for name in ("coef", "intercept", "votes", "weights"):
        assert found[name].tobytes() == sound[name].tobytes(), name
    for folder in network.folders.values():
        answered = [(e["run"], e["number"]) for e in entries(folder.log) if e["event"] == "answered"]
        assert len(set(answered)) >= len(sound["accepted"])


@pytest.mark.parametrize(
    ("faults", "counted"),
    [
        (Faults(latency=(0.0, 0.03)), "delayed"),
        (Faults(rate=150_000), "dripped"),
        (Faults(cut=(1000, 12_000)), "cut"),
        (Faults(cut=(900, 12_000), way="up"), "cut"),
        (Faults(cut=(1500, 12_000), way="down"), "cut"),
        (Faults(cut=(0, 8000), share=0.7), "cut"),
        (Faults(latency=(0.0, 0.02), rate=300_000, cut=(1000, 12_000), share=0.7), "cut"),
    ],
    ids=["latency", "drip", "loss", "reset in a request", "reset in an answer", "reset at once", "all"],
)
def test_bytes(tmp_path: Path, sound: dict[str, Any], faults: Faults, counted: str) -> None:
    with silos(tmp_path, faults, seed=11) as network:
        same(network, sound)
        assert network.failures(counted) >= 4


@pytest.mark.parametrize(
    ("repeats", "refused"),
    [
        (Repeats(told="first"), True),
        (Repeats(share=0.1, told="second"), True),
        (Repeats(share=0.3, told="neither"), True),
        (Repeats(share=0.5, told="first", late=(0.1, 0.5)), True),
        (Repeats(share=0.0, shuffled=(0.0, 0.05)), False),
        (Repeats(share=0.3, told="neither", late=(0.0, 0.1), shuffled=(0.0, 0.03)), True),
    ],
    ids=["twice", "the second answer", "no answer", "late copies", "reordered", "all"],
)
def test_requests(tmp_path: Path, sound: dict[str, Any], repeats: Repeats, refused: bool) -> None:
    with silos(tmp_path, repeats, seed=12) as network:
        same(network, sound)
        assert network.failures("requests") >= 100
        assert network.failures("copies") == network.failures("copy 401")
        assert (network.failures("copy 401") >= 4) == refused


def test_the_oracle_is_not_blind(sound: dict[str, Any]) -> None:
    """A node that was left out, or counted twice, would show."""
    twice = [rows(name) for name in (*NAMES, NAMES[0])]
    for other in (together(*NAMES[:2]), Federation.from_shards(twice, [*NAMES, "x"])):
        assert not np.array_equal(fitted(other)["coef"], sound["coef"])
