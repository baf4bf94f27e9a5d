"""``atoll run … --at URL``: train over nodes that keep their rows."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

from atoll import models
from atoll.cli import show
from atoll.cli.compare import Task, task_of
from atoll.cli.output import writable
from atoll.cli.settings import Settings
from atoll.datasets import Dataset, read_table
from atoll.errors import InvalidData, NotAvailable, RoundFailed, explain
from atoll.estimators import Federated
from atoll.evaluation import Evaluation
from atoll.federation import Federation
from atoll.messages import Rule
from atoll.recipes import as_given
from atoll.run import Run, human_bytes
from atoll.table import Table

__all__ = ["run_at"]

_HERE = {"engine": "inprocess", "workers": None, "topology": "star", "journal": None, "node_column": None}


class _Came(NamedTuple):
    """What came of it."""

    run: Run
    name: str
    seconds: float
    measure: str
    score: float | None
    judged: Evaluation | None
    note: str


def run_at(settings: Settings, estimator: Any, args: Namespace) -> int:
    """Train over the nodes of a coordinator, and say how good the model is.

    On a table of one's own, where the experiment names one; otherwise the nodes are asked, if the model is one that can
    be judged where the rows are.

    Parameters
    ----------
    settings : Settings
        What is to be done.
    estimator : estimator
        What is trained.
    args : Namespace
        What was given.

    Returns
    -------
    int
        Exit status 0; what fails is raised.
    """
    for key, plain in _HERE.items():
        if getattr(settings, key) != plain:
            got = f"{key.replace('_', '-')} {getattr(settings, key)}"
            raise InvalidData(explain("nodes that keep their rows are where they are", got=got, hint="leave it out"))
    task, place = task_of(estimator), writable(settings.save)
    table = None if settings.file is None else _own_rows(settings, estimator, task)
    federation = Federation.connect(
        str(settings.at), settings.data, nodes=settings.sites or None, rule=Rule(settings.deadline, settings.quorum),
        run=settings.name, random_state=settings.seed, verbose=0 if settings.quiet else None, models=[estimator],
    )  # fmt: skip
    begin = time.perf_counter()
    model = Federated(estimator, method=settings.method).fit(federation)
    came = _judged(model, federation, task, table, begin)
    if place is not None:
        Path(place).write_bytes(models.to_bytes(model.to_sklearn()))
    _say(came, federation, place, json=args.json)
    return 0


def _own_rows(settings: Settings, estimator: Any, task: Task) -> Dataset:
    """The table to judge on."""
    if task.needs_target and settings.target is None:
        raise InvalidData(explain("which column of the table is to be predicted?", hint="--target COLUMN"))
    table = read_table(str(settings.file), settings.target, drop=settings.drop, kinds=as_given(estimator))
    return table if task.measure == "accuracy" or table.y is None else table._replace(y=table.y.astype(float))


def _judged(model: Any, federation: Federation, task: Task, table: Dataset | None, begin: float) -> _Came:
    name, score, found, note = type(model.estimator).__name__, None, None, ""
    if table is not None:
        rows = table.X.rows() if isinstance(table.X, Table) else table.X
        score = float(task.score(table.y, task.answer(model, rows)))
    else:
        try:
            found = federation.evaluate(model)
        except NotAvailable:
            note = f"a {name} over nodes is judged on rows of your own: name a table with file and target"
        except (InvalidData, RoundFailed) as error:
            note = f"the nodes did not judge the model: {str(error).splitlines()[0]}"
    return _Came(model.run_, name, time.perf_counter() - begin, task.measure, score, found, note)


def _say(came: _Came, federation: Federation, place: str | None, *, json: bool) -> None:
    if json:
        show.emit_json(_as_data(came, federation, place))
        return
    run = came.run
    rows = sum(federation.remote.rows) if federation.remote else 0
    lines = [
        f"{came.name} over {rows} rows of {len(run.nodes)} nodes: {', '.join(run.nodes)}",
        f"run:     {run.name}, {run.rounds} rounds, {human_bytes(run.bytes_up + run.bytes_down)} moved, "
        f"{came.seconds:.3f} s",
    ]  # fmt: skip
    lines += [f"{came.measure}: {came.score:.4f} on your own rows"] if came.score is not None else []
    lines += [str(came.judged).rstrip()] if came.judged is not None else []
    lines += ["what left each node:"]
    lines += [f"  {op}: {what}" for op, what in {one.op: one.what for one in run.disclosures()}.items()]
    lines += [f"note: {note}" for note in (*run.notes, came.note) if note]
    lines += [f"model: {place}"] if place is not None else []
    show.emit("\n".join(lines) + "\n")


def _as_data(came: _Came, federation: Federation, place: str | None) -> dict[str, Any]:
    run, remote = came.run, federation.remote
    return {
        "estimator": came.name, "at": remote.url if remote else None, "data": remote.data if remote else None,
        "run": run.name, "nodes": list(run.nodes), "rows": list(remote.rows) if remote else [],
        "rounds": run.rounds, "bytes_up": run.bytes_up, "bytes_down": run.bytes_down, "seconds": came.seconds,
        "measure": came.measure, "score": came.score,
        "evaluation": None if came.judged is None else came.judged.to_dict(),
        "left": [one._asdict() for one in run.disclosures()],
        "notes": [note for note in (*run.notes, came.note) if note], "written": {"model": place} if place else {},
    }  # fmt: skip
