"""``atoll silo demo``: a coordinator and three nodes with a file each, as real processes on this machine."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from atoll import Federated, Federation
from atoll.cli import show
from atoll.cli.pipelines import in_short
from atoll.datasets import read_table
from atoll.run import human_bytes

__all__ = ["Result", "execute"]

_NODES = ("bay", "cove", "dune")
_ALLOWED = ("describe.*", "neighbors.*", "columns.*", "losses.*")


class Result(NamedTuple):
    """One estimator, over nodes of their own and over the same rows in this process.

    Attributes
    ----------
    estimator : str
        Its name.
    accuracy : float
        On the rows of all nodes.
    rounds, bytes, seconds : int, int, float
        Of the fit and of predicting.
    same : bool
        Whether both give the same bits.
    """

    estimator: str
    accuracy: float
    rounds: int
    bytes: int
    seconds: float
    same: bool


def execute(args: Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    args : Namespace
        As the parser read them.

    Returns
    -------
    int
        Exit status: 0 if all results have the bits of the simulation.
    """
    from atoll.silo.local import federation

    began = time.perf_counter()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atoll-demo-")))
        files = _files(place)
        data = {name: f"iris={file}:species" for name, file in files.items()}
        allow = [f"ada:iris:{pattern}" for pattern in _ALLOWED]
        with show.busy("starting a coordinator and three nodes"):
            site = stack.enter_context(federation(place, data, allow=allow))
        started = time.perf_counter() - began
        with _home(site.home), show.busy("training over nodes"):
            results = _results(site.url, files)
    _tell(results, started, time.perf_counter() - began, json=args.json)
    return 0 if all(result.same for result in results) else 1


def _files(place: Path) -> dict[str, Path]:
    """Iris, dealt to three files."""
    iris = load_iris()
    head = ",".join([*(name.replace(" (cm)", "").replace(" ", "_") for name in iris.feature_names), "species"])
    order = np.random.default_rng(0).permutation(len(iris.target))
    files = {}
    for i, name in enumerate(_NODES):
        lines = [
            ",".join([*map(repr, iris.data[row].tolist()), str(iris.target_names[iris.target[row]])])
            for row in order[i::3]
        ]
        files[name] = place / f"{name}.csv"
        files[name].write_text("\n".join([head, *lines]) + "\n")
    return files


@contextmanager
def _home(home: Path) -> Iterator[None]:
    """Logins of the demo, not of the user."""
    before = os.environ.get("ATOLL_HOME")
    os.environ["ATOLL_HOME"] = str(home)
    try:
        yield
    finally:
        if before is None:
            del os.environ["ATOLL_HOME"]
        else:
            os.environ["ATOLL_HOME"] = before


def _results(url: str, files: dict[str, Path]) -> list[Result]:
    tables = [read_table(file, "species") for file in files.values()]
    X, y = np.concatenate([t.X for t in tables]), np.concatenate([t.y for t in tables])
    simulated = Federation.from_shards([(t.X, t.y) for t in tables], names=list(files), verbose=0)
    sites = Federation.connect(url, data="iris", verbose=0)
    warnings.filterwarnings(
        "ignore", "X does not have valid feature names"
    )  # the files name columns, these rows do not
    return [
        _compared(estimator, sites, simulated, X, y)
        for estimator in (KNeighborsClassifier(n_neighbors=3), make_pipeline(StandardScaler(), LogisticRegression()))
    ]


def _compared(estimator: Any, sites: Federation, simulated: Federation, X: Any, y: Any) -> Result:
    begun = time.perf_counter()
    over = Federated(estimator).fit(sites)
    answers = over.predict_proba(X)
    seconds = time.perf_counter() - begun
    same = answers.tobytes() == Federated(estimator).fit(simulated).predict_proba(X).tobytes()
    hit = float(np.mean(over.classes_[answers.argmax(axis=1)] == y))
    run = over.run_
    return Result(in_short(estimator), hit, len(run.rows), sum(r.bytes_up for r in run.rows), seconds, same)


def _tell(results: list[Result], started: float, seconds: float, *, json: bool) -> None:
    if json:
        show.emit_json({"started": started, "seconds": seconds, "results": [r._asdict() for r in results]})
        return
    head = f"{'over three nodes':<36}{'accuracy':>10}{'rounds':>8}{'left nodes':>13}{'seconds':>9}  as simulated"
    rows = [
        f"{r.estimator:<36}{r.accuracy:>10.4f}{r.rounds:>8}{human_bytes(r.bytes):>13}{r.seconds:>9.2f}"
        f"  {'to the bit' if r.same else 'NO: other bits'}"
        for r in results
    ]
    end = [
        "",
        f"one coordinator and three nodes, each a process with its own file and keys: up after {started:.1f} s, "
        f"all ended after {seconds:.1f} s",
        "next: atoll coordinator start",
    ]
    show.emit("\n".join([head, *rows, *end]) + "\n")
