"""Small versions of the experiments in `benchmarks/`: who is better than whom, as in the papers."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import atoll
from atoll.algorithms import fedavg, feddyn, fedprox, knn_per, scaffold, sgd
from atoll.datasets import fcube
from atoll.errors import InvalidData

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    """Imports a script of `benchmarks/` by name."""
    sys.path.insert(0, BENCHMARKS)
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(BENCHMARKS)
        for name in ("_pages", "digits_by_label", "heterogeneity"):
            sys.modules.pop(name, None)


@functools.cache
def curves(scripts: Any, of: str, share: float) -> dict[str, np.ndarray]:
    """Ten rounds over at most 40 rows a node."""
    script = scripts("heterogeneity")
    found: dict[str, np.ndarray] = script.curves(script.rows_of(script.DATA[of](), 40), share, 10)
    return found


def late(found: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean training loss over the second half of the rounds."""
    return {name: float(curve[len(curve) // 2 :, 0].mean()) for name, curve in found.items()}


def spread(curve: np.ndarray) -> float:
    """How far the training loss moves from round to round in the second half."""
    return float(np.abs(np.diff(curve[len(curve) // 2 :, 0])).mean())


class TestHeterogeneity:
    """Li et al., "Federated optimization in heterogeneous networks", MLSys 2020, figures 1 and 2."""

    def test_keeping_partial_work_beats_leaving_stragglers_out(self, scripts: Any) -> None:
        found = late(curves(scripts, "(1, 1)", 0.9))
        assert found["FedProx, μ = 0"] < found["FedAvg"]
        assert found["FedProx, μ = 1"] < found["FedAvg"]

    def test_a_pull_steadies_unlike_nodes(self, scripts: Any) -> None:
        found = curves(scripts, "(1, 1)", 0.0)
        assert spread(found["FedProx, μ = 1"]) < spread(found["FedAvg"])

    def test_a_pull_slows_nodes_that_are_alike(self, scripts: Any) -> None:
        found = late(curves(scripts, "IID", 0.0))
        assert found["FedAvg"] < found["FedProx, μ = 1"]

    def test_the_more_unlike_the_less_steady(self, scripts: Any) -> None:
        moves = [spread(curves(scripts, of, 0.0)["FedAvg"]) for of in ("IID", "(1, 1)")]
        assert moves[0] < moves[1]

    def test_the_more_unlike_the_less_gradients_agree(self, scripts: Any) -> None:
        unlike = [curves(scripts, of, 0.0)["FedAvg"][5:, 2].mean() for of in scripts("heterogeneity").DATA]
        assert np.diff(unlike).min() > 0, unlike

    def test_dissimilarity_is_the_spread_of_the_nodes_gradients(self, scripts: Any) -> None:
        """Figure 2, below: the mean over nodes, weighted by rows, of how far a gradient is from the mean one."""
        torch, script = pytest.importorskip("torch"), scripts("heterogeneity")
        rows = script.rows_of(script.DATA["(0, 0)"](), 30)
        net, gradients, counts = torch.nn.Linear(60, 10), [], []
        torch.nn.init.normal_(net.weight)
        for k in np.unique(rows.node):
            X, y = (torch.from_numpy(a[rows.node == k]) for a in (rows.X, rows.y))
            loss = torch.nn.functional.cross_entropy(net(X), y)
            gradients.append(np.concatenate([g.numpy().ravel() for g in torch.autograd.grad(loss, net.parameters())]))
            counts.append(len(y))
        p = np.array(counts) / sum(counts)
        expected = p @ np.sum((np.array(gradients) - p @ gradients) ** 2, axis=1)
        w = np.concatenate([a.detach().numpy().ravel() for a in net.parameters()])
        assert script.dissimilarity(w, rows) == pytest.approx(expected, rel=1e-4)

    def test_a_verdict_is_that_of_the_interval(self, scripts: Any) -> None:
        """Of 1, 2, 3 the interval is 2 ± 4.303 · 1/√3."""
        verdict = scripts("_pages").verdict
        assert verdict([1, 2, 3]) == "open: 2.0 ± 2.5"
        assert verdict([2, 2.1, 2.2]) == "yes: 2.10 ± 0.25"
        assert verdict([-2, -2.1, -2.2]) == "no: -2.10 ± 0.25"
        assert verdict([0.5]) == "0.5"

    @pytest.mark.thorough
    @pytest.mark.timeout(1800)
    @pytest.mark.parametrize("of", ["(0, 0)", "(0.5, 0.5)", "(1, 1)"])
    @pytest.mark.parametrize("share", [0.5, 0.9])
    def test_all_of_it(self, scripts: Any, of: str, share: float) -> None:
        script = scripts("heterogeneity")
        found = late(script.curves(script.rows_of(script.DATA[of](), 300), share, 30))
        assert min(found["FedProx, μ = 0"], found["FedProx, μ = 1"]) < found["FedAvg"]


class TestDigitsByLabel:
    def test_methods_that_correct_need_fewer_rounds(self, scripts: Any) -> None:
        script = scripts("digits_by_label")
        of = {a.spec.name: script.rounds_to(a, 0, 1) for a in (fedavg(), fedprox(mu=1.0), scaffold(), feddyn())}
        assert 2 * max(of["scaffold"], of["feddyn"]) < of["fedavg"] < script.MOST
        assert abs(np.log2(of["fedprox"] / of["fedavg"])) < 0.5, "a pull alone neither helps nor harms much"

    @pytest.mark.parametrize("kind", ["labels", "features"])
    def test_a_memory_of_their_own_helps_every_node(self, scripts: Any, kind: str) -> None:
        shared, own = scripts("digits_by_label").by_node(kind, 0)
        assert len(own) == 10
        assert (own > shared).all(), f"seed 0: {own} and {shared}"

    @pytest.mark.thorough
    @pytest.mark.timeout(1800)
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("epochs", [1, 5])
    def test_with_other_seeds(self, scripts: Any, seed: int, epochs: int) -> None:
        script = scripts("digits_by_label")
        most = script.rounds_to(fedavg(), seed, epochs)
        assert script.rounds_to(scaffold(), seed, epochs) < most
        assert script.rounds_to(feddyn(), seed, epochs) < most


class TestHeldOut:
    """Rows that no node trains on."""

    torch = pytest.importorskip("torch")

    def went(self, algorithm: Any = None, **settings: Any) -> Any:
        data = fcube(400)
        sites = atoll.Federation.simulate(data.X.astype(np.float32), data.y, partition=data.node, verbose=0)
        self.torch.manual_seed(0)
        net = self.torch.nn.Sequential(self.torch.nn.Linear(3, 4), self.torch.nn.Tanh(), self.torch.nn.Linear(4, 2))
        local = sgd(0.1, epochs=2, batch_size=10)
        return atoll.train(
            net, self.torch.nn.CrossEntropyLoss(), sites, algorithm, local=local, rounds=5, random_state=0, **settings
        )

    def test_rows_are_judged_apart(self) -> None:
        done = self.went(knn_per(k=3), held_out=np.arange(100))
        assert done.evaluate().rows == 300
        assert done.evaluate(held_out=True).rows == 100
        by_node = done.evaluate_by_node(own=True, held_out=True)
        assert sum(judged.rows for judged in by_node.values()) == 100
        whole = done.evaluate(own=True, held_out=True)
        right = sum(judged.accuracy * judged.rows for judged in by_node.values())
        assert whole.accuracy == pytest.approx(right / 100)

    def test_they_change_nothing_but_are_gone(self) -> None:
        data = fcube(400)
        kept = np.arange(100, 400)
        done = self.went(held_out=np.arange(100))
        sites = atoll.Federation.simulate(
            data.X[kept].astype(np.float32),
            data.y[kept],
            partition=data.node[kept],
            verbose=0,  # type: ignore[index]
        )
        self.torch.manual_seed(0)
        net = self.torch.nn.Sequential(self.torch.nn.Linear(3, 4), self.torch.nn.Tanh(), self.torch.nn.Linear(4, 2))
        other = atoll.train(
            net,
            self.torch.nn.CrossEntropyLoss(),
            sites,
            local=sgd(0.1, epochs=2, batch_size=10),
            rounds=5,
            random_state=0,
        )
        for a, b in zip(done.module.parameters(), other.module.parameters(), strict=True):
            assert self.torch.equal(a, b)

    @pytest.mark.parametrize(
        "rows", [[400], [-1], [], [0.5], np.arange(400)], ids=["beyond", "below", "no", "half", "all"]
    )
    def test_what_is_no_row_is_refused(self, rows: Any) -> None:
        with pytest.raises(InvalidData, match="held_out are numbers of rows"):
            self.went(held_out=rows)

    def test_without_any_there_is_nothing_to_judge(self) -> None:
        with pytest.raises(InvalidData, match="no rows were held out"):
            self.went().evaluate(held_out=True)
