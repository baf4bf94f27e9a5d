"""Train and answer with all rows in one place and over nodes, and hold the answers against each other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone, is_classifier, is_clusterer, is_regressor
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.utils import get_tags

from atoll.combine import Sum
from atoll.datasets import Dataset
from atoll.errors import InvalidData, explain
from atoll.estimators import Distributed, Federated
from atoll.evaluation import Evaluation, evaluate_answers
from atoll.federation import Federation
from atoll.messages import DEFAULT_RULE, Rule
from atoll.partition import PartitionReport, by_column, report, split
from atoll.recipes import of_labels
from atoll.report import Result
from atoll.shards import is_sparse
from atoll.table import Table
from atoll.trees import Array

__all__ = [
    "Nodes",
    "Rows",
    "Task",
    "class_names",
    "deal",
    "deal_test",
    "hold_out",
    "over_nodes",
    "pooled",
    "start",
    "task_of",
]


class Rows(NamedTuple):
    """Rows to train on and rows held out.

    Attributes
    ----------
    X_train, X_test : ndarray of shape (n_train, d) and (n_test, d)
        Features.
    y_train, y_test : ndarray of shape (n_train,) and (n_test,), or None
        Targets.
    test : ndarray of shape (n_test,), int64
        Which rows of the table are held out.
    node : ndarray of shape (n_train,), or None
        Node of each row to train on, where a column says so.
    node_test : ndarray of shape (n_test,), or None
        Node of each row held out, likewise.
    """

    X_train: Array
    X_test: Array
    y_train: Array | None
    y_test: Array | None
    test: Array
    node: Array | None = None
    node_test: Array | None = None


class Task(NamedTuple):
    """What an estimator is asked, and what makes an answer good.

    Attributes
    ----------
    measure : str
        Name of the score.
    answer : callable
        Model and rows to one answer per row.
    score : callable
        Truth and answers to a number.
    same : callable
        Two arrays of answers to one bool per row.
    needs_target : bool
        Whether there is a truth.
    """

    measure: str
    answer: Callable[[Any, Array], Array]
    score: Callable[[Any, Array], float]
    same: Callable[[Array, Array], Array]
    needs_target: bool = True


class Nodes(NamedTuple):
    """Where an estimator is trained.

    Attributes
    ----------
    trust : {"distributed", "federated"}
        Who owns the rows.
    n_nodes : int
        Number of nodes; not looked at where a column says which node a row belongs to.
    partition : str
        How rows come to the nodes.
    words : str
        The same for people.
    engine : str
        Where nodes run.
    workers : int or None
        Worker processes.
    topology : str
        Who sends what to whom.
    rule : Rule
        When a round ends.
    journal : str or None
        Folder of answered rounds.
    seed : int
        Of the partition and the run.
    method : str or None
        Way to fit.
    verbose : int or None
        0 is silent, None prints a line per round on a terminal.
    """

    trust: str
    n_nodes: int
    partition: str
    words: str
    engine: str = "inprocess"
    workers: int | None = None
    topology: str = "star"
    rule: Rule = DEFAULT_RULE
    journal: str | None = None
    seed: int = 0
    method: str | None = None
    verbose: int | None = 0


def task_of(estimator: Any) -> Task:
    """What to ask of an estimator.

    Classifiers are measured by accuracy and regressors by R². A density has no truth to be held against: its measure is
    the mean log-density of the held-out rows, which cross-validation maximises. A neighbour search and a clustering
    answer with distances, so their measure is the mean; of a transformer it is the mean of what it makes.
    """
    if is_classifier(estimator):
        return Task("accuracy", lambda m, X: np.asarray(m.predict(X)), accuracy_score, lambda a, b: np.asarray(a == b))
    if is_regressor(estimator):
        return Task("R²", _quantities, r2_score, _close)
    if is_clusterer(estimator) and hasattr(estimator, "transform"):
        return Task("mean distance", lambda m, X: m.transform(X).min(axis=1), _mean, _close, needs_target=False)
    if hasattr(estimator, "score_samples"):
        return Task("mean log-density", lambda m, X: np.asarray(m.score_samples(X)), _mean, _close, needs_target=False)
    if hasattr(estimator, "kneighbors"):
        return Task("mean distance", lambda m, X: np.asarray(m.kneighbors(X)[0]), _mean, _close, needs_target=False)
    if hasattr(estimator, "transform") and not of_labels(estimator):
        needs = get_tags(estimator).target_tags.required
        return Task("mean of what it makes", _transformed, _mean, _close, needs_target=needs)
    if hasattr(estimator, "mahalanobis"):
        return Task("mean squared distance", lambda m, X: m.mahalanobis(X), _mean, _close, needs_target=False)
    name = type(estimator).__name__
    raise InvalidData(explain(f"{name} neither predicts nor scores rows, so there is nothing to compare"))


def _quantities(model: Any, X: Array) -> Array:
    answers = np.asarray(model.predict(X), dtype=np.float64)
    lost = int(np.isnan(answers).sum())
    if lost:
        hint = "a larger --set radius=… reaches further" if hasattr(model, "radius") else None
        raise InvalidData(explain("held-out rows without an answer", got=f"{lost} of {len(answers)}", hint=hint))
    return answers


def _transformed(model: Any, X: Array) -> Array:
    made = model.transform(X)
    made = made.toarray() if is_sparse(made) else np.asarray(made)
    try:
        return made.astype(np.float64)
    except ValueError:
        name = type(model).__name__
        raise InvalidData(explain(f"{name} makes text of these rows, so there is no number to compare")) from None


def _mean(_: Any, answers: Array) -> float:
    return float(answers.mean())


def _close(a: Array, b: Array) -> Array:
    """Equal up to rounding: within 1e-9 of the value, or within 1e-12 of the largest one."""
    finite = np.abs(b[np.isfinite(b)])
    near = np.isclose(a, b, rtol=1e-9, atol=1e-12 * float(finite.max(initial=0.0)))
    return np.asarray(near if near.ndim == 1 else near.all(axis=1))


def hold_out(table: Dataset, test_size: float, seed: int) -> Rows:
    """Set rows aside to evaluate on, as `train_test_split` draws them.

    Raises
    ------
    InvalidData
        If there are too few rows.
    """
    n = table.X.shape[0]
    index = np.arange(n)
    try:
        train, test = train_test_split(index, test_size=test_size, random_state=seed)
    except ValueError as error:
        where = f"{n} rows, test-size {test_size:g}"
        raise InvalidData(
            explain("the rows cannot be split into a training and a test part", got=error, where=where)
        ) from None
    y, node = table.y, table.node
    return Rows(
        _seen(table.X[train]), _seen(table.X[test]),
        None if y is None else y[train], None if y is None else y[test],
        test, None if node is None else node[train], None if node is None else node[test],
    )  # fmt: skip


def _seen(X: Any) -> Any:
    """Rows as scikit-learn is given them: a data frame where columns are of different kinds."""
    return X.rows() if isinstance(X, Table) else X


def deal(rows: Rows, nodes: Nodes) -> tuple[tuple[str, ...] | None, list[Array]]:
    """Which rows each node gets: its name, where a column gives one, and its row numbers.

    Raises
    ------
    InvalidData
        If there are more nodes than rows, or the partition needs labels and there are none.
    UnknownName
        If there is no such partition.
    """
    if rows.node is not None:
        return by_column(rows.node)
    labels: Any = len(rows.X_train) if rows.y_train is None else rows.y_train
    return None, split(labels, nodes.n_nodes, nodes.partition, random_state=nodes.seed)


def deal_test(rows: Rows, nodes: Nodes, names: Sequence[str]) -> Array | None:
    """The node of each row held out: by its column, or dealt as the rows to train on were.

    Returns
    -------
    ndarray of shape (n_test,), or None
        None where they are too few for all nodes.
    """
    if rows.node_test is not None:
        return rows.node_test.astype(np.str_)
    labels: Any = len(rows.X_test) if rows.y_test is None else rows.y_test
    try:
        parts = split(labels, nodes.n_nodes, nodes.partition, random_state=nodes.seed)
    except InvalidData:
        return None
    dealt = np.empty(len(rows.X_test), dtype=object)
    for name, part in zip(names, parts, strict=True):
        dealt[part] = name
    return dealt.astype(np.str_)


def class_names(table: Dataset, task: Task) -> dict[Any, str]:
    """Names of the classes by label, sorted; empty where the target is no class."""
    if task.measure != "accuracy" or table.y is None:
        return {}
    labels = np.unique(table.y).tolist()
    names = table.target_names if len(table.target_names) == len(labels) else map(str, labels)
    return dict(zip(labels, names, strict=True))


def start(nodes: Nodes) -> float:
    """Try engine and topology on made-up nodes of one row each, which starts the workers.

    Returns
    -------
    float
        Seconds it took.

    Raises
    ------
    UnknownName, InvalidData
        If one of them does not exist or cannot be.
    """
    n = nodes.workers or os.cpu_count() or 1
    shards = [(np.zeros((1, 1)), None)] * max(n, 2)
    begin = time.perf_counter()
    made_up = Federation.from_shards(
        shards, engine=nodes.engine, n_workers=nodes.workers, topology=nodes.topology, verbose=0
    )
    made_up.rounds("start").round("null.ping", combine=Sum())
    return time.perf_counter() - begin


def pooled(estimator: Any, rows: Rows, task: Task) -> Result:
    """Plain scikit-learn on all training rows.

    Raises
    ------
    InvalidData
        With scikit-learn's reason, if it refuses these rows with these parameters.
    """
    begin = time.perf_counter()
    try:
        model = clone(estimator).fit(rows.X_train, rows.y_train)
        answers = task.answer(model, rows.X_test)
        seconds = time.perf_counter() - begin
        score = float(task.score(rows.y_test, answers))
    except InvalidData:
        raise
    except (TypeError, ValueError) as error:
        where = f"{len(rows.X_train)} rows to train on, {len(rows.X_test)} held out"
        got = " ".join(str(error).split())
        raise InvalidData(
            explain(f"scikit-learn's {type(estimator).__name__} refuses this", got=got, where=where)
        ) from error
    return Result("pooled", score, None, seconds, answers)


def over_nodes(
    estimator: Any, rows: Rows, task: Task, nodes: Nodes, reference: Result, classes: dict[Any, str]
) -> Result:
    """The same estimator over nodes, held against the pooled answers.

    Parameters
    ----------
    estimator : estimator
        What is trained.
    rows : Rows
        On what.
    task : Task
        What is asked.
    nodes : Nodes
        Where.
    reference : Result
        The pooled one.
    classes : dict
        Names of the classes by label.

    Returns
    -------
    Result
    """
    begin = time.perf_counter()
    model = _trained(estimator, rows, nodes)
    answers = task.answer(model, rows.X_test)
    seconds = time.perf_counter() - begin
    score = float(task.score(rows.y_test, answers))
    agreement = float(task.same(answers, reference.answers).mean())
    _, parts = deal(rows, nodes)
    labels: Any = len(rows.X_train) if rows.y_train is None else rows.y_train
    counted = report(labels, parts, model.run_.nodes)
    by_text = {str(label): name for label, name in classes.items()}
    named = [by_text.get(name, name) for name in counted.classes]
    held = PartitionReport.from_counts(counted.names, named, counted.counts)
    judged = _judged(estimator, rows, task, nodes, model.run_.nodes, answers, classes)
    return Result(nodes.trust, score, agreement, seconds, answers, model.run_, held, nodes.words, judged)


def _judged(
    estimator: Any, rows: Rows, task: Task, nodes: Nodes, names: Sequence[str], answers: Array, classes: dict[Any, str]
) -> Evaluation | None:
    """The answers by node and by class."""
    dealt = deal_test(rows, nodes, names) if task.needs_target else None
    if dealt is None or rows.y_test is None:
        return None
    kind = type(estimator).__name__
    if task.measure != "accuracy":
        return evaluate_answers(rows.y_test, answers, dealt, task="numbers", name=kind)
    known = classes if len(set(classes.values())) == len(classes) else {}
    truth, given = ([known.get(v, str(v)) for v in labels.tolist()] for labels in (rows.y_test, answers))
    return evaluate_answers(truth, given, dealt, task="classes", name=kind)


def _trained(estimator: Any, rows: Rows, nodes: Nodes) -> Any:
    where: dict[str, Any] = {
        "engine": nodes.engine, "n_workers": nodes.workers, "topology": nodes.topology, "rule": nodes.rule,
        "journal": nodes.journal, "random_state": nodes.seed, "verbose": nodes.verbose,
    }  # fmt: skip
    if nodes.trust == "distributed":
        model = Distributed(estimator, nodes.n_nodes, partition=nodes.partition, method=nodes.method, **where)
        return model.fit(rows.X_train, rows.y_train)
    partition = nodes.partition if rows.node is None else rows.node
    sites = Federation.simulate(rows.X_train, rows.y_train, n_nodes=nodes.n_nodes, partition=partition, **where)
    return Federated(estimator, method=nodes.method).fit(sites)
