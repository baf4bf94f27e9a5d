"""A round that does nothing over 1,000 nodes: what the machinery costs.

Claims: under 20 ms in 2 workers (20 µs a node), under 5 µs a node in process. The plain loop, one Python call and one
addition a node, is the unit.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np

from _turns import report, take_turns
from atoll import Federation
from atoll.combine import Sum

NODES = 1_000


def opened(engine: str, n_workers: int | None) -> Callable[[], object]:
    X = np.random.default_rng(0).random((3 * NODES, 2))
    federation = Federation.simulate(X, n_nodes=NODES, engine=engine, n_workers=n_workers)
    rounds = federation.rounds("null")
    rounds.meet(classes=False)
    return lambda: (federation, rounds.round("null.ping", combine=Sum()))


def plain() -> int:
    total, one = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
    for _ in range(NODES):
        total = total + one
    return int(total[0])


def main() -> None:
    programs = {
        "plain loop": plain,
        "in process": opened("inprocess", None),
        "2 worker processes": opened("processes", 2),
    }
    seconds = take_turns(programs, turns=50)
    report(f"a null round over {NODES} nodes", seconds, "plain loop")
    for name, values in seconds.items():
        print(f"  {name:<44} {statistics.median(values) / NODES * 1e6:9.2f} µs a node")


if __name__ == "__main__":
    main()
