"""A fit over 8 nodes in 2 worker processes against scikit-learn with all cores on the pooled rows, and its memory.

1e6 x 50 float64 rows (400 MB), which lie at their nodes already. Claims: nothing is slower than scikit-learn; what
takes one pass is at least 1.5 times as fast; memory stays within the rows plus 20 %.

    python benchmarks/exact_table.py [rows] [turns]
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler

from _turns import report, take_turns
from atoll import Federated, Federation
from atoll.engines import live

D, NODES, WORKERS = 50, 8, 2


def rows(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlated columns, a quantity and three classes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, D))
    X[:, 1:] += 0.5 * X[:, :-1]
    y = X @ rng.normal(size=D) + rng.normal(size=n)
    return X, y, np.digitize(y, np.quantile(y, [0.3, 0.7]))


def of_process(pid: int) -> float:
    """Megabytes of a process, shared pages divided among those who share them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def peak(run: Callable[[], object], pids: list[int]) -> float:
    """Megabytes that some processes need together at most while something runs, more than before."""
    highest, done = 0.0, threading.Event()
    before = sum(map(of_process, pids))

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.02):
            highest = max(highest, sum(map(of_process, pids)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    return highest - before


def pooled(model: Any, X: np.ndarray, y: np.ndarray) -> None:
    clone(model).fit(X, y)


def over(model: Any, sites: Federation) -> None:
    Federated(model).fit(sites)


def main() -> None:
    n, turns = (int(a) for a in [*sys.argv[1:], *["1000000", "5"][len(sys.argv) - 1 :]])
    warnings.simplefilter("ignore", ConvergenceWarning)
    X, number, label = rows(n)
    start = np.ascontiguousarray(X[:10])
    models: list[tuple[Any, np.ndarray]] = [
        (Ridge(), number),
        (GaussianNB(), label),
        (StandardScaler(), number),
        (PCA(), number),
        (KMeans(10, init=start, n_init=1, max_iter=20, tol=0), number),
        (LogisticRegression(), label),
    ]
    sites = {
        "number": Federation.simulate(X, number, n_nodes=NODES, engine="processes", n_workers=WORKERS, verbose=0),
        "label": Federation.simulate(X, label, n_nodes=NODES, engine="processes", n_workers=WORKERS, verbose=0),
    }
    pids = [os.getpid(), *live("processes", WORKERS).pids()]  # type: ignore[attr-defined]
    size = X.nbytes / 2**20
    print(f"{n} x {D} float64 rows ({size:.0f} MB) in {NODES} nodes, {WORKERS} workers, {os.cpu_count()} cores")
    ratios = []
    for model, y in models:
        where = sites["number" if y is number else "label"]
        programs = {"scikit-learn, all cores": partial(pooled, model, X, y), "over nodes": partial(over, model, where)}
        seconds = take_turns(programs, turns)
        more = peak(programs["over nodes"], pids)
        name = type(model).__name__
        title = f"{name}: {100 * more / size:.0f} % of the rows' memory on top of them"
        report(title, seconds, "scikit-learn, all cores")
        medians = [statistics.median(values) for values in seconds.values()]
        ratios.append((name, medians[0] / medians[1]))
    print("times as fast: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios))


if __name__ == "__main__":
    main()
