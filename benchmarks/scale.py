"""A hundred thousand nodes: what each costs in a round, and how much memory a training takes.

    python benchmarks/scale.py [nodes] [rounds]

Softmax regression 784 → 62, 10 rows a node, 1,000 nodes a round in 2 workers; all rows lie in one .npy file and are
mapped. The same is done with 1,000 nodes, and the costs of a node are compared. Memory is that of driver and workers
together without the pages of the mapped file, which the system takes back when it wants them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import atoll
from atoll import engines
from atoll.algorithms import fedavg, sgd
from atoll.combine import Sum

ROWS, COHORT, WORKERS = 10, 1_000, 2


class Cost(NamedTuple):
    """Seconds until the first round is over, of a node in a round, of a null node; MB after every round."""

    before: float
    node: float
    null: float
    megabytes: list[float]


def held(pids: Sequence[int]) -> float:
    """MB that processes hold by themselves; memory that they share is counted once."""
    found = {"RssAnon": 0, "RssShmem": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "RssAnon":
                found[name] += int(value.split()[0])
            elif name == "RssShmem":
                found[name] = max(found[name], int(value.split()[0]))
    return sum(found.values()) / 1024


def written(path: Path, n: int) -> np.ndarray:
    """A file of n rows, mapped."""
    rng, chunk = np.random.default_rng(0), 10_000
    X = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, 784))
    for start in range(0, n, chunk):
        X[start : start + chunk] = rng.standard_normal((min(chunk, n - start), 784), dtype=np.float32)
    X.flush()
    del X
    mapped: np.ndarray = np.load(path, mmap_mode="r")
    return mapped


def measured(X: np.ndarray, nodes: int, rounds: int) -> Cost:
    """Train over so many nodes."""
    y = np.random.default_rng(1).integers(0, 62, nodes * ROWS)
    start = time.perf_counter()
    cuts = [slice(i * ROWS, (i + 1) * ROWS) for i in range(nodes)]
    sites = atoll.Federation.from_shards(
        [(X[cut], y[cut]) for cut in cuts], names=[f"n{i:06d}" for i in range(nodes)],
        engine="processes", n_workers=WORKERS, verbose=0,
    )  # fmt: skip
    ends: list[float] = []
    megabytes: list[float] = []

    def look(trained: Any) -> None:
        ends.append(time.perf_counter())
        pids = engines.live("processes", WORKERS).pids()  # type: ignore[attr-defined]
        megabytes.append(held([os.getpid(), *pids]))

    torch.manual_seed(0)
    atoll.train(
        torch.nn.Linear(784, 62), torch.nn.CrossEntropyLoss(), sites, fedavg(), local=sgd(0.1, batch_size=10),
        rounds=rounds + 1, nodes_per_round=min(COHORT, nodes), callbacks=[look],
    )  # fmt: skip
    null = sites.rounds("null")
    null.meet(classes=False)
    null.round("null.ping", combine=Sum())
    again = time.perf_counter()
    null.round("null.ping", combine=Sum())
    asked = time.perf_counter() - again
    node = float(np.median(np.diff(ends))) / min(COHORT, nodes)
    return Cost(ends[0] - start, node, asked / nodes, megabytes)


def main() -> None:
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    with tempfile.TemporaryDirectory() as folder:
        X = written(Path(folder) / "rows.npy", nodes * ROWS)
        costs = {n: measured(X, n, rounds) for n in (1_000, nodes)}
    for n, cost in costs.items():
        print(f"{n} nodes of {ROWS} rows, {min(COHORT, n)} a round, {rounds} rounds, {WORKERS} workers")
        print(f"  {cost.before:.1f} s until the first round was over, then {cost.node * 1e6:.1f} µs a node")
        print(f"  a null node {cost.null * 1e6:.2f} µs")
        print(f"  {cost.megabytes[0]:.0f} MB after the first round, {cost.megabytes[-1]:.0f} MB after the last")
    print(f"a node costs {costs[nodes].node / costs[1_000].node:.2f} times as much among {nodes}")


if __name__ == "__main__":
    main()
