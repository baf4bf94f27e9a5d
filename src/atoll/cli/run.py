"""``atoll run``: train and evaluate on a person's own file, pooled and over nodes."""

from __future__ import annotations

import csv
import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

from sklearn.base import is_classifier, is_regressor

from atoll.cli import options
from atoll.cli.compare import (
    Nodes,
    Rows,
    Task,
    class_names,
    deal,
    hold_out,
    over_nodes,
    pooled,
    start,
    task_of,
)
from atoll.cli.estimators import make
from atoll.cli.output import finish, writable
from atoll.cli.over_silos import run_at
from atoll.cli.pipelines import in_short, pipeline_of
from atoll.cli.scripts import run_script
from atoll.cli.settings import Settings, gather
from atoll.datasets import Dataset, read_table
from atoll.errors import InvalidData, explain
from atoll.messages import Rule
from atoll.recipes import as_given, find
from atoll.report import Report, Result

__all__ = ["execute"]


def execute(args: Namespace) -> int:
    """Run the command: everything that can be checked is checked before anything is computed.

    Parameters
    ----------
    args : Namespace
        What was given.

    Returns
    -------
    int
        Exit status.
    """
    settings = gather(args)
    estimator = _estimator(settings)
    if settings.at is not None:
        return run_at(settings, estimator, args)
    task = task_of(estimator)
    _check_target(estimator, settings, task)
    path, predictions = writable(settings.report), writable(settings.predictions)
    nodes = _nodes(settings)
    table = _read(settings, estimator)
    rows = hold_out(table, settings.test_size, settings.seed)
    deal(rows, nodes)
    started = start(nodes)
    classes = class_names(table, task)
    reference = pooled(estimator, rows, task)
    result = over_nodes(estimator, rows, task, nodes, reference, classes)
    notes = [*_lost_nodes(table, rows), *(result.run.notes if result.run else ())]
    if settings.engine != "inprocess":
        notes.insert(0, f"starting the workers took {started:.2f} s, which is in no row of the table")
    report = Report(
        f"{in_short(estimator)} on {Path(table.source).name}", task.measure, [reference, result],
        len(rows.X_train), len(rows.X_test), settings.shown(), _command(args), run_script(settings, estimator, task),
        str(Path(table.source).absolute()), rows.y_test if classes else None, classes, notes,
    )  # fmt: skip
    if predictions is not None:
        predictions = str(Path(predictions).absolute())
        _write_predictions(predictions, rows, [reference, result], settings.target)
    return finish(report, path, predictions, json=args.json)


def _estimator(settings: Settings) -> Any:
    if settings.steps is None:
        return make(str(settings.estimator), settings.set, settings.method)
    pipeline = pipeline_of(settings.steps)
    find(pipeline, settings.method)
    return pipeline


def _check_target(estimator: Any, settings: Settings, task: Task) -> None:
    name = type(estimator).__name__
    if task.needs_target and settings.target is None:
        raise InvalidData(explain(f"{name} needs a column to predict", hint="--target COLUMN"))
    if not task.needs_target and settings.target is not None:
        hint = f"leave --target out, or --drop {settings.target} to leave the column out of the rows"
        raise InvalidData(explain(f"{name} predicts no column", got=f"target {settings.target!r}", hint=hint))


def _nodes(settings: Settings) -> Nodes:
    column = settings.node_column
    return Nodes(
        settings.trust, settings.nodes, settings.partition,
        settings.partition if column is None else f"by column {column!r}",
        engine=settings.engine, workers=settings.workers, topology=settings.topology,
        rule=Rule(settings.deadline, settings.quorum).validated(), journal=settings.journal, seed=settings.seed,
        method=settings.method, verbose=0 if settings.quiet else None,
    )  # fmt: skip


def _read(settings: Settings, estimator: Any) -> Dataset:
    """The table; a regressor's whole numbers are a quantity, not classes."""
    table = read_table(
        str(settings.file), settings.target, drop=settings.drop, node=settings.node_column, kinds=as_given(estimator)
    )
    name = type(estimator).__name__
    if is_classifier(estimator) and table.task == "regression":
        got, hint = f"column {settings.target!r} holds numbers with fractions", _other(name, "Classifier", "Regressor")
        raise InvalidData(explain(f"{name} predicts classes", got=got, where=table.source, hint=hint))
    if table.y is not None and is_regressor(estimator):
        if table.y.dtype.kind not in "if":
            got, hint = f"column {settings.target!r} holds text", _other(name, "Regressor", "Classifier")
            raise InvalidData(explain(f"{name} predicts numbers", got=got, where=table.source, hint=hint))
        return table._replace(y=table.y.astype(float), task="regression")
    return table


def _other(name: str, ending: str, instead: str) -> str:
    return f"--estimator {name.replace(ending, instead)}" if ending in name else f"use a {instead.lower()}"


def _lost_nodes(table: Dataset, rows: Rows) -> list[str]:
    """Nodes all of whose rows are held out."""
    if table.node is None or rows.node is None:
        return []
    lost = sorted(set(table.node.tolist()) - set(rows.node.tolist()))
    return [f"node {name!r} takes no part: all its rows are held out" for name in lost]


def _command(args: Namespace) -> str:
    words = ["atoll", "run", str(args.FILE)]
    for option in options.RUN.options:
        value = getattr(args, option.key)
        if value is True:
            words.append(f"--{option.name}")
        elif isinstance(value, list):
            words += [f"--{option.name}", *value]
        elif value is not None and value is not False:
            words += [f"--{option.name}", str(value)]
    return shlex.join(words)


def _write_predictions(path: str, rows: Rows, results: list[Result], target: str | None) -> None:
    """The answers to the held-out rows, a line each; rows of the table count from 1."""
    columns: list[tuple[str, list[Any]]] = [("row", (rows.test + 1).tolist())]
    if rows.y_test is not None:
        columns.append((str(target), rows.y_test.tolist()))
    for result in results:
        name = result.name if result.run is None else "over nodes"
        answers = result.answers.reshape(len(result.answers), -1)
        names = [name] if answers.shape[1] == 1 else [f"{name}, {j + 1}" for j in range(answers.shape[1])]
        columns += zip(names, answers.T.tolist(), strict=True)
    try:
        with open(path, "w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(name for name, _ in columns)
            writer.writerows(zip(*(values for _, values in columns), strict=True))
    except OSError as error:
        raise InvalidData(explain("the predictions cannot be written", got=error.strerror, where=path)) from None
