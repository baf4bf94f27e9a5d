"""Clients of very unequal size: how busy the workers are kept.

    python benchmarks/uneven.py [rounds] [median,…]

Softmax regression 784 → 62 over 400 nodes whose numbers of rows are lognormal (σ = 1.5; medians of 20 and 50 rows), 100
a round in 2 workers. *Busy* is the processor time of the workers as a share of two cores for as long as the rounds
took, *even* what the average worker computed as a share of what the busiest did: the first counts everything that
workers wait for and whatever else the machine is doing, the second is how well blocks are packed. They are of two
trainings, as looking at every round is something that workers wait for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import atoll
from atoll import engines
from atoll.algorithms import fedavg, sgd

NODES, COHORT, WORKERS = 400, 100, 2


def sizes(median: int) -> np.ndarray:
    """Rows of each node."""
    drawn = np.random.default_rng(0).lognormal(np.log(median), 1.5, NODES)
    return np.maximum(1, np.rint(drawn)).astype(int)


def processor_seconds(pid: int) -> float:
    """What a process has computed so far, all its threads together, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def trained(sites: atoll.Federation, rounds: int, looks: Callable[[int], bool]) -> tuple[float, np.ndarray]:
    """Seconds from the first to the last look, and what each worker computed between two of them.

    After which rounds, of `rounds` and one more, a look is taken is up to `looks`.
    """
    seen: list[tuple[float, list[float]]] = []

    def look(so_far: Any) -> None:
        if looks(so_far.step):
            pids = engines.live("processes", WORKERS).pids()  # type: ignore[attr-defined]
            seen.append((time.perf_counter(), [processor_seconds(pid) for pid in pids]))

    torch.manual_seed(0)
    atoll.train(
        torch.nn.Linear(784, 62), torch.nn.CrossEntropyLoss(), sites, fedavg(), local=sgd(0.1, batch_size=10),
        rounds=rounds + 1, nodes_per_round=COHORT, callbacks=[look],
    )  # fmt: skip
    return seen[-1][0] - seen[0][0], np.diff([each for _, each in seen], axis=0)


def measured(median: int, rounds: int) -> None:
    """Print how busy workers are over nodes of so many rows."""
    rng, rows = np.random.default_rng(1), sizes(median)
    shards = [(rng.standard_normal((n, 784), dtype=np.float32), rng.integers(0, 62, n)) for n in rows]
    sites = atoll.Federation.from_shards(shards, engine="processes", n_workers=WORKERS, verbose=0)
    seconds, spent = trained(sites, rounds, lambda step: step in (1, rounds + 1))
    each = trained(sites, rounds, lambda step: True)[1]
    print(f"{COHORT} of {NODES} nodes of {rows.min()} to {rows.max()} rows, {rounds} rounds, {WORKERS} workers")
    print(f"  {seconds / rounds * 1e3:.1f} ms a round; processor time {spent.sum(0).round(2).tolist()} s")
    print(f"  busy {spent.sum() / seconds / WORKERS:.1%}, even {each.mean(1).sum() / each.max(1).sum():.1%}")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    for median in sys.argv[2].split(",") if len(sys.argv) > 2 else ("20", "50"):
        measured(int(median), rounds)


if __name__ == "__main__":
    main()
