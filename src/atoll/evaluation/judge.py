"""`evaluate`: how good a model is on rows that stay on their nodes; `evaluate_answers`: how good answers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils.multiclass import type_of_target

from atoll.blas import one_thread
from atoll.errors import InvalidData, explain
from atoll.evaluation.classes import per_class
from atoll.evaluation.result import Evaluation
from atoll.evaluation.scoring import Wanted, choose
from atoll.evaluation.statistics import Answers, Statistics, gather
from atoll.evaluation.statistics import asked as asked_of
from atoll.evaluation.subject import Subject, asking, subject_of
from atoll.models import to_bytes
from atoll.nodes import Nodes
from atoll.operations.metrics import encode_answers, recorded
from atoll.partition import by_column
from atoll.rounds import Rounds
from atoll.shards import Shard, as_target
from atoll.views import codes

__all__ = ["evaluate", "evaluate_answers", "operations_for"]


def evaluate(
    rounds: Rounds,
    model: Any,
    scoring: str | Sequence[str] | None = None,
    *,
    per_node: bool = True,
    sample_weight: bool = True,
    bins: int | None = None,
) -> Evaluation:
    """Evaluate a fitted model on the rows of nodes that have met.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows, through the views that the model is to see; round 0 told the classes for a classifier.
    model : estimator
        Fitted, of scikit-learn; it travels to the nodes as data.
    scoring : str, sequence of str, or None
        Names as `sklearn.metrics.get_scorer_names` has them; None: a few that suit the model.
    per_node : bool, default=True
        Whether nodes tell their own sums, or only the sum over all of them is formed.
    sample_weight : bool, default=True
        Whether weights count where rows have them.
    bins : int, optional
        Count scores in so many ranges for ROC AUC and average precision, so that what leaves a node does not grow with
        its rows; the result then has bounds. By default distinct scores leave the nodes, and the result is exact.

    Returns
    -------
    Evaluation

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    NotAvailable
        If it asks the nodes for its answers.
    InvalidData, UnknownName
        For metrics that cannot be computed, or rows that do not suit the model.
    """
    subject = subject_of(model, scoring)
    _check_bins(bins)
    asked = asking(rounds, subject, ["predict"] if subject.task == "classes" else [])
    answers = asked.answers([to_bytes(subject.model)], weighted=sample_weight)
    with one_thread():
        return _judged(answers, subject.wanted, subject.name, per_node, bins)


def operations_for(subject: Subject, bins: int | None = None) -> tuple[str, ...]:
    """The operations that an evaluation asks, round 0 included.

    Parameters
    ----------
    subject : Subject
        What is evaluated, and by which metrics.
    bins : int, optional
        As for `evaluate`.

    Returns
    -------
    tuple of str
    """
    needs = {need for w in subject.wanted for need in w.needs} | ({"confusion"} if subject.task == "classes" else set())
    return ("describe.schema", *asked_of(needs, bins))


def evaluate_answers(
    y_true: Any,
    y_pred: Any,
    node: Any = None,
    *,
    scoring: str | Sequence[str] | None = None,
    y_proba: Any = None,
    classes: Any = None,
    sample_weight: Any = None,
    task: str | None = None,
    name: str = "answers",
    bins: int | None = None,
) -> Evaluation:
    """Evaluate answers that are known already, by the node of each row; nothing is asked of anybody.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, n_outputs)
        Targets.
    y_pred : array-like of shape (n,) or (n, n_outputs)
        What a model predicted.
    node : array-like of shape (n,), optional
        The node of each row; all are one node by default.
    scoring : str, sequence of str, or None
        As for `evaluate`.
    y_proba : array-like of shape (n, k), optional
        Class probabilities, for metrics that need them.
    classes : array-like of shape (k,), optional
        Sorted, in the order of `y_proba`; those of `y_true` and `y_pred` by default.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.
    task : {"classes", "numbers"}, optional
        What targets are; by default numbers where some have fractions or where there are several.
    name : str, default="answers"
        What is evaluated, for people.
    bins : int, optional
        As for `evaluate`.

    Returns
    -------
    Evaluation

    Examples
    --------
    >>> from atoll.evaluation import evaluate_answers
    >>> found = evaluate_answers([0, 1, 0, 1], [0, 1, 1, 1], ["oslo", "oslo", "rome", "rome"], scoring="accuracy")
    >>> found.pooled["accuracy"], found.worst["accuracy"].node
    (0.75, 'rome')
    """
    truth, predicted = as_target(y_true, "y_true"), as_target(y_pred, "y_pred")
    task = task or ("numbers" if type_of_target(truth).startswith("continuous") or truth.ndim == 2 else "classes")
    labels = None
    if task == "classes":
        given = [np.unique(truth), np.unique(predicted)] if classes is None else [np.asarray(classes)]
        labels = np.unique(np.concatenate(given))
    given_methods = {"predict": predicted, "predict_proba": y_proba}
    columns = {m: encode_answers(m, np.asarray(a), labels) for m, a in given_methods.items() if a is not None}
    wanted = choose(scoring, task, list(columns), name)
    _check_bins(bins)
    widths = {m: 1 if a.ndim == 1 else a.shape[1] for m, a in columns.items()}
    X = np.hstack([np.asarray(a, dtype=np.float64).reshape(len(a), -1) for a in columns.values()])
    weight = {} if sample_weight is None else {"sample_weight": np.asarray(sample_weight, dtype=np.float64)}
    whole = Shard.of("(all rows)", X, truth, columns=weight)
    ids = np.full(len(X), "(all rows)") if node is None else as_target(node, where="the column of node ids")
    shards = [whole.take(part, who) for who, part in zip(*by_column(ids), strict=True)]
    rounds = Nodes(shards, verbose=0).rounds(name, name="evaluate")
    rounds.meet(classes=task == "classes")
    seen = rounds if labels is None else rounds.through(codes([labels]))
    answers = Answers(
        seen.through(recorded(widths, codes=labels is not None)), labels, widths["predict"] if labels is None else 1,
        widths.get("predict_proba", 1), sample_weight is not None,
    )  # fmt: skip
    with one_thread():
        return _judged(answers, wanted, name, node is not None, bins)


def _check_bins(bins: int | None) -> None:
    if bins is not None and bins < 1:
        raise InvalidData(explain("scores are counted in at least one range", got=bins, where="bins"))


def _judged(answers: Answers, wanted: Sequence[Wanted], name: str, per_node: bool, bins: int | None) -> Evaluation:
    needs = {need for w in wanted for need in w.needs} | ({"confusion"} if answers.n_classes else set())
    schema, run = answers.rounds.schema, answers.rounds.run
    before = run.rounds
    ((pooled, nodes),) = gather(answers, needs, per_node=per_node, bins=bins)
    silent = {name for row in run.rows[before:] for name in row.refused}
    rows = {n: r for n, r in zip(schema.nodes, schema.rows, strict=True) if n not in silent}
    nodes = {n: known for n, known in nodes.items() if n not in silent}
    return Evaluation(
        model=name,
        pooled={w.name: w.compute(pooled) for w in wanted},
        nodes=tuple(rows),
        rows=np.array(list(rows.values()), dtype=np.int64),
        per_node={w.name: np.array([w.compute(known) for known in nodes.values()]) for w in wanted} if nodes else {},
        bounds={w.name: _bounds(w, pooled) for w in wanted if bins is not None and w.needs[0].startswith("scores.")},
        silent=tuple(sorted(silent)),
        run=run,
        **_classes(answers, pooled, nodes),
    )


def _bounds(wanted: Wanted, pooled: Statistics) -> tuple[float, float]:
    """The metric with the rows of each range in the worst and in the best order."""
    low, high = (wanted.compute(replace(pooled, order=order)) for order in (-1, 1))
    return low, high


def _classes(answers: Answers, pooled: Statistics, nodes: Mapping[str, Statistics]) -> dict[str, Any]:
    """What is known by class."""
    if answers.classes is None:
        return {}
    own = [known.sums["metrics.confusion"]["count"][0] for known in nodes.values()]
    return {
        "classes": tuple(answers.classes.tolist()),
        "per_class": per_class(pooled),
        "confusion": pooled.sums["metrics.confusion"]["count"][0],
        "confusions": np.array(own) if own else None,
    }
