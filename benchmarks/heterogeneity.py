"""What unequal nodes and stragglers do to FedAvg, and what FedProx does about it: figures 1 and 2 of its paper.

    python benchmarks/heterogeneity.py [rounds] [most rows of a node] [seeds] [page]

Softmax regression on Synthetic IID, (0, 0), (0.5, 0.5) and (1, 1): 30 nodes, of which 10 take part in a round, rate
0.01, batches of 10, 20 epochs. In each round 0, 50 or 90 % of those have time for a part of their steps only, how
large is drawn: FedAvg leaves them out, FedProx keeps what they did. A seed draws rows, cohorts, stragglers and orders
of rows, and all methods see the same. Then every ordering that the figures show is held against these numbers: it holds
where the 95 % interval of the difference over seeds is on its side of zero, and is reversed where it is on the other.

0 rows of a node are all of them, which takes ten times as long. With `page` the first tables are written into
docs/experiments.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logsumexp, softmax

import atoll
from _pages import interval, put, table, verdict
from atoll.algorithms import Algorithm, fedavg, fedprox, sgd
from atoll.clock import Pace, stragglers
from atoll.datasets import Dataset, synthetic, synthetic_iid
from atoll.training import Trained
from atoll.trees import Array

DATA: dict[str, Callable[..., Dataset]] = {
    "IID": synthetic_iid,
    "(0, 0)": lambda **settings: synthetic(0.0, 0.0, **settings),
    "(0.5, 0.5)": lambda **settings: synthetic(0.5, 0.5, **settings),
    "(1, 1)": lambda **settings: synthetic(1.0, 1.0, **settings),
}
FEDAVG, MU_0, MU_1 = "FedAvg", "FedProx, μ = 0", "FedProx, μ = 1"
METHODS = {FEDAVG: fedavg(), MU_0: fedprox(mu=0.0), MU_1: fedprox(mu=1.0)}
SHARES = (0.0, 0.5, 0.9)


class Rows(NamedTuple):
    """Rows for training, and a tenth of every node's for testing.

    Attributes
    ----------
    X, y, node : ndarray
        For training.
    X_test, y_test : ndarray
        The others.
    """

    X: Array
    y: Array
    node: Array
    X_test: Array
    y_test: Array


def rows_of(data: Dataset, most: int | None = None, seed: int = 0) -> Rows:
    """Keep at most so many rows of every node, and leave a tenth of them out."""
    rng, train, test = np.random.default_rng(seed), list[Array](), list[Array]()
    assert data.node is not None
    for k in np.unique(data.node):
        own = rng.permutation(np.flatnonzero(data.node == k))[:most]
        cut = round(0.9 * len(own))
        train.append(own[:cut])
        test.append(own[cut:])
    a, b, X = np.sort(np.concatenate(train)), np.sort(np.concatenate(test)), data.X.astype(np.float32)
    return Rows(X[a], data.y[a], data.node[a], X[b], data.y[b])  # type: ignore[index]


def scores_of(w: Array, X: Array) -> Array:
    """What softmax regression with parameters as `torch.nn.Linear` has them says of rows, shape (n, classes)."""
    n_classes = w.size // (X.shape[1] + 1)
    said: Array = X @ w[:-n_classes].reshape(n_classes, -1).T + w[-n_classes:]
    return said


def judged(w: Array, X: Array, y: Array) -> tuple[float, float]:
    """Mean loss and accuracy of softmax regression with parameters as `torch.nn.Linear` has them."""
    scores = scores_of(w, X)
    loss = logsumexp(scores, axis=1) - scores[np.arange(len(y)), y]
    return float(loss.mean()), float((scores.argmax(axis=1) == y).mean())


def dissimilarity(w: Array, rows: Rows) -> float:
    """How unlike the gradients of nodes are: ``Σ pₖ ‖∇Fₖ(w) − ∇f(w)‖²``, nodes weighted by rows (figure 2, bottom)."""
    slope = softmax(scores_of(w, rows.X), axis=1)
    slope[np.arange(len(rows.y)), rows.y] -= 1
    X = np.column_stack([rows.X, np.ones(len(rows.X), rows.X.dtype)])
    of_node = {k: X[rows.node == k].T @ slope[rows.node == k] for k in np.unique(rows.node)}
    n, whole = len(X), np.sum(list(of_node.values()), axis=0) / len(X)
    sizes = {k: int((rows.node == k).sum()) for k in of_node}
    return float(sum(sizes[k] / n * np.sum((g / sizes[k] - whole) ** 2) for k, g in of_node.items()))


def curve(
    rows: Rows,
    algorithm: Algorithm,
    pace: Pace | None,
    rounds: int,
    *,
    epochs: int = 20,
    cohort: int = 10,
    seed: int = 0,
) -> Array:
    """Training loss, test accuracy and dissimilarity after every round, shape (rounds, 3)."""
    sites = atoll.Federation.simulate(rows.X, rows.y, partition=rows.node, verbose=0)
    net = torch.nn.Linear(rows.X.shape[1], int(rows.y.max()) + 1)
    torch.nn.init.zeros_(net.weight)
    torch.nn.init.zeros_(net.bias)
    seen: list[tuple[float, float, float]] = []

    def follow(trained: Trained) -> None:
        w = trained.model.w
        loss, accuracy = judged(w, rows.X, rows.y)[0], judged(w, rows.X_test, rows.y_test)[1]
        seen.append((loss, accuracy, dissimilarity(w, rows)))

    atoll.train(
        net, torch.nn.CrossEntropyLoss(), sites, algorithm, local=sgd(0.01, epochs=epochs, batch_size=10),
        rounds=rounds, nodes_per_round=cohort, random_state=seed, pace=pace, callbacks=[follow], way="implicit",
        block=cohort,
    )  # fmt: skip
    return np.array(seen)


def curves(rows: Rows, share: float, rounds: int, **settings: int) -> dict[str, Array]:
    """One curve per method where that share of a cohort is late."""
    found = {}
    for name, algorithm in METHODS.items():
        if not share and name == MU_0:
            continue  # the same as FedAvg
        pace = stragglers(share, partial=name != FEDAVG) if share else None
        found[name] = curve(rows, algorithm, pace, rounds, **settings)
    return found


class Summary(NamedTuple):
    """Of the second half of the rounds.

    Attributes
    ----------
    loss, accuracy, unlike : float
        Mean training loss, test accuracy, and dissimilarity of the nodes' gradients.
    moves : float
        How much the loss changes from round to round: the mean.
    """

    loss: float
    accuracy: float
    unlike: float
    moves: float


def summary(curve: Array) -> Summary:
    """What a curve comes to."""
    half = curve[len(curve) // 2 :]
    loss, accuracy, unlike = half.mean(axis=0)
    return Summary(float(loss), float(accuracy), float(unlike), float(np.abs(np.diff(half[:, 0])).mean()))


def measured(task: tuple[str, float, int, int | None, int]) -> dict[str, Summary]:
    """The summaries of all methods on one data set, for one share and one seed."""
    of, share, rounds, most, seed = task
    rows = rows_of(DATA[of](random_state=seed), most, seed)
    found = {name: summary(c) for name, c in curves(rows, share, rounds, seed=seed).items()}
    found.setdefault(MU_0, found[FEDAVG])
    return found


Found = Mapping[tuple[str, float, str], Sequence[Summary]]
"""Summaries by data set, share and method, one per seed."""


def over(tasks: Sequence[tuple[str, float, int, int | None, int]], processes: int = 2) -> Found:
    """What tasks measure, side by side in processes."""
    found: dict[tuple[str, float, str], list[Summary]] = {}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for (of, share, *_, seed), methods in zip(tasks, pool.map(measured, tasks), strict=True):
            losses = (f"{method} {told.loss:.2f}" for method, told in methods.items())
            print(of, f"{share:.0%}", f"seed {seed}", *losses, sep="\t", flush=True)
            for method, told in methods.items():
                found.setdefault((of, share, method), []).append(told)
    return found


def line(found: Found, of: str, share: float) -> list[str]:
    """A line of the table."""
    told = [found[of, share, method] for method in METHODS]
    losses = [f"{interval([s.loss for s in seeds], 2)} ({np.mean([s.moves for s in seeds]):.2f})" for seeds in told]
    return [of, f"{share:.0%}", *losses, *(f"{np.mean([s.accuracy for s in seeds]):.0%}" for seeds in told)]


def compared(found: Found, name: str, less: tuple[str, float, str], more: tuple[str, float, str]) -> str:
    """By how much a measure is greater in the second case than in the first, and whether that is told apart from 0."""
    pairs = zip(found[less], found[more], strict=True)
    return verdict([getattr(b, name) - getattr(a, name) for a, b in pairs])


STEPS = [*pairwise(DATA), ("IID", "(1, 1)")]
"""Data sets whose nodes are less and more unlike."""


def between(found: Found) -> list[list[str]]:
    """Orderings of the data sets, none late: the more unlike nodes are, the worse FedAvg converges."""
    names = {"unlike": "gradients of nodes are less alike", "moves": "the loss is less steady"}
    return [
        [told, *(compared(found, name, (a, 0.0, FEDAVG), (b, 0.0, FEDAVG)) for a, b in STEPS)]
        for name, told in names.items()
    ]


def within(found: Found) -> list[list[str]]:
    """Orderings of the methods on each data set, where some are late."""
    lines = []
    for share in SHARES[1:]:
        late, kept = f"{share:.0%} late", "has a higher loss than what keeps partial work"
        cells = [compared(found, "loss", (of, share, MU_0), (of, share, FEDAVG)) for of in DATA]
        lines.append([f"{late}: FedAvg {kept}, μ = 0", *cells])
        cells = [compared(found, "loss", (of, share, MU_1), (of, share, FEDAVG)) for of in DATA]
        lines.append([f"{late}: FedAvg {kept}, μ = 1", *cells])
        cells = [compared(found, "moves", (of, share, MU_1), (of, share, MU_0)) for of in DATA]
        lines.append([f"{late}: the loss is less steady with μ = 0 than with μ = 1", *cells])
    return lines


PULLED = {"loss": "the loss", "moves": "how much it changes from round to round", "unlike": "the dissimilarity"}
"""What the pull is to lower, by name of the measure."""


def pulled(found: Found) -> list[list[str]]:
    """What the pull does on each data set, none late: each measure without and with it, and whether it is lower."""
    lines = []
    for name, what in PULLED.items():
        for method in (FEDAVG, MU_1):
            told = [interval([getattr(s, name) for s in found[of, 0.0, method]], 2) for of in DATA]
            lines.append([f"{what}, {'μ = 1' if method == MU_1 else 'μ = 0'}", *told])
        cells = [compared(found, name, (of, 0.0, MU_1), (of, 0.0, FEDAVG)) for of in DATA]
        lines.append([f"{what} is lower with μ = 1", *cells])
    return lines


def show(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Print a table; returns it in Markdown."""
    print(f"\n{title}", *("\t".join(each) for each in [header, *lines]), sep="\n", flush=True)
    return table(header, lines)


def main() -> None:
    numbers = [int(a) for a in sys.argv[1:] if a.isdigit()]
    rounds, most, seeds = (*numbers, *(5, 100, 2)[len(numbers) :])
    tasks = [(of, share, rounds, most or None, seed) for of in DATA for share in SHARES for seed in range(seeds)]
    found = over(tasks)
    header = ["data", "late", *(f"loss, {m}" for m in METHODS), *(f"accuracy, {m}" for m in METHODS)]
    levels = show("levels", header, [line(found, of, share) for of in DATA for share in SHARES])
    steps = ["FedAvg, none late", *(f"from {a} to {b}" for a, b in STEPS)]
    across = show("data sets", steps, between(found))
    inside = show("methods", ["ordering", *DATA], within(found))
    pull = show("the pull", ["none late", *DATA], pulled(found))
    if "page" in sys.argv:
        told = f"{rounds} rounds, at most {most} rows of a node, {seeds} seeds."
        put("heterogeneity", f"{levels}\n\n{told} In brackets: how much the loss changes from round to round.")
        put("orderings", f"{across}\n\n{inside}\n\n{pull}")


if __name__ == "__main__":
    main()
