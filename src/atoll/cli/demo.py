"""``atoll demo``: k nearest neighbours on a bundled data set, pooled, distributed and federated."""

from __future__ import annotations

import shlex
from argparse import Namespace
from typing import Any

from sklearn.neighbors import KNeighborsClassifier

from atoll.cli import options, show
from atoll.cli.compare import Nodes, class_names, deal, hold_out, over_nodes, pooled, start, task_of
from atoll.cli.output import finish, writable
from atoll.cli.scripts import demo_script
from atoll.datasets import Dataset, load
from atoll.errors import InvalidData, explain
from atoll.report import Report

__all__ = ["execute"]

_NODES = {"distributed": 4, "federated": 5}
_TEST_SIZE = 0.2


def execute(args: Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    args : Namespace
        What was given.

    Returns
    -------
    int
        Exit status.
    """
    given = {o.key: getattr(args, o.key) for o in options.DEMO.options}
    chosen = {o.key: o.default if given[o.key] is None else given[o.key] for o in options.DEMO.options}
    path = writable(chosen["report"])
    with show.busy("training over nodes"):
        table = load(chosen["data"])
        if table.task != "classification":
            hint = "atoll run trains regressors, on a file"
            raise InvalidData(explain("the demo classifies", got=f"{table.name}, a regression", hint=hint))
        report = _compared(table, chosen, shlex.join(["atoll", "demo", *_words(given)]))
    return finish(report, path, None, json=args.json)


def _words(given: dict[str, Any]) -> list[str]:
    """The options as they were given."""
    pairs = [(o.name, given[o.key]) for o in options.DEMO.options if given[o.key] is not None]
    return [word for name, value in pairs for word in (f"--{name}", str(value))]


def _compared(table: Dataset, chosen: dict[str, Any], command: str) -> Report:
    estimator = KNeighborsClassifier(n_neighbors=3)
    task, seed = task_of(estimator), chosen["seed"]
    rows = hold_out(table, _TEST_SIZE, seed)
    places = [_nodes(trust, chosen) for trust in _NODES]
    for nodes in places:
        deal(rows, nodes)
    started = start(places[0])
    classes = class_names(table, task)
    reference = pooled(estimator, rows, task)
    others = [over_nodes(estimator, rows, task, nodes, reference, classes) for nodes in places]
    notes = [note for result in others if result.run for note in result.run.notes]
    if chosen["engine"] != "inprocess":
        notes.insert(0, f"starting the workers took {started:.2f} s, which is in no row of the table")
    return Report(
        f"{estimator!r} on {table.name}", task.measure, [reference, *others], len(rows.X_train), len(rows.X_test),
        {key.replace("_", "-"): str(value) for key, value in chosen.items() if value is not None},
        command, demo_script(table.name, _TEST_SIZE, *places), table.source, rows.y_test, classes, notes,
    )  # fmt: skip


def _nodes(trust: str, chosen: dict[str, Any]) -> Nodes:
    partition = "iid" if trust == "distributed" else chosen["partition"]
    return Nodes(
        trust, chosen["nodes"] or _NODES[trust], partition, partition, engine=chosen["engine"],
        workers=chosen["workers"], seed=chosen["seed"],
    )  # fmt: skip
