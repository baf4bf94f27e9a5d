"""`evaluate`: how good a model is on rows that stay on their nodes; `evaluate_answers`: how good answers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import is_outlier_detector
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

from atoll.blas import one_thread
from atoll.errors import InvalidData, NotAvailable, SchemaMismatch, explain
from atoll.evaluation.classes import per_class
from atoll.evaluation.result import Evaluation
from atoll.evaluation.scoring import Wanted, choose, task_of
from atoll.evaluation.statistics import Answers, Statistics, gather
from atoll.nodes import Nodes
from atoll.operations.metrics import answered, encode_answers, recorded
from atoll.partition import by_column
from atoll.rounds import Rounds
from atoll.schema import Schema
from atoll.shards import Shard, as_target
from atoll.trees import Array
from atoll.views import arrange, codes

__all__ = ["Subject", "evaluate", "evaluate_answers", "ordinary", "subject_of"]

_METHODS = ("predict", "predict_proba", "decision_function", "score_samples")


def ordinary(model: Any) -> Any:
    """The fitted scikit-learn estimator within: of a search the best one, of Atoll's wrappers the ordinary one.

    Raises
    ------
    NotAvailable
        If there is none, since the model asks the nodes for its answers.
    """
    if hasattr(model, "best_estimator_"):
        return ordinary(model.best_estimator_)
    if not hasattr(model, "to_sklearn"):
        return model
    try:
        return model.to_sklearn()
    except NotAvailable:
        name = type(model.estimator).__name__
        raise NotAvailable(
            explain(
                f"a federated {name} asks the nodes for its answers, and a node cannot ask the others",
                hint="predict where you hold rows, and give the answers to atoll.evaluation.evaluate_answers",
            )
        ) from None


class Subject(NamedTuple):
    """A model that can be evaluated, and by what.

    Attributes
    ----------
    model : estimator
        The ordinary one.
    name : str
        Its class.
    task : {"classes", "numbers", "density"}
        What its answers are.
    wanted : list of Wanted
        The metrics.
    """

    model: Any
    name: str
    task: str
    wanted: list[Wanted]


def subject_of(model: Any, scoring: str | Sequence[str] | None = None) -> Subject:
    """Hold a model and the metrics against each other; nobody has been asked anything yet.

    Parameters
    ----------
    model : estimator
        Fitted.
    scoring : str, sequence of str, or None
        As for `evaluate`.

    Raises
    ------
    NotFittedError, NotAvailable, InvalidData, UnknownName
        As `evaluate`.
    """
    model = ordinary(model)
    check_is_fitted(model)
    name, task = type(model).__name__, task_of(model)
    return Subject(model, name, task, choose(scoring, task, [m for m in _METHODS if hasattr(model, m)], name))


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
    model, name, task, wanted = subject_of(model, scoring)
    rounds = _arranged(rounds, model)
    schema = rounds.schema
    _check_bins(bins)
    methods = sorted({w.method for w in wanted} | ({"predict"} if task == "classes" else set()))
    classes = None
    if task == "classes":
        known = np.array([-1, 1]) if is_outlier_detector(model) else np.asarray(model.classes_)
        classes = _all_classes(known, schema, methods, name)
    elif task == "numbers":
        _check_numbers(schema, name)
    seen = rounds if classes is None else rounds.through(codes([classes]))
    answers = Answers(
        seen.through(answered(model, classes, methods)),
        classes,
        max(schema.n_outputs, 1) if task == "numbers" else 1,
        1 if classes is None or len(classes) == 2 else len(classes),
        sample_weight and schema.weighted,
    )
    with one_thread():
        return _judged(answers, wanted, name, per_node, bins)


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


def _arranged(rounds: Rounds, model: Any) -> Rounds:
    """The rows with their columns in the model's order, where both have names; they must have the same ones."""
    schema, name = rounds.schema, type(model).__name__
    expected = getattr(model, "n_features_in_", schema.n_features)
    if expected != schema.n_features:
        raise SchemaMismatch(
            f"X has {schema.n_features} features, but {name} is expecting {expected} features as input."
        )
    names = getattr(model, "feature_names_in_", None)
    if names is None or schema.feature_names is None or tuple(names) == schema.feature_names:
        return rounds
    if set(names) == set(schema.feature_names):
        return rounds.through(arrange([str(n) for n in names]))
    raise SchemaMismatch(
        explain(
            "The feature names should match those that were passed during fit.",
            got=", ".join(schema.feature_names),
            expected=", ".join(map(str, names)),
        )
    )


def _check_bins(bins: int | None) -> None:
    if bins is not None and bins < 1:
        raise InvalidData(explain("scores are counted in at least one range", got=bins, where="bins"))


def _check_numbers(schema: Schema, name: str) -> None:
    if not schema.target_dtype or schema.target_dtype in ("U", "O"):
        got = "text" if schema.target_dtype else "no targets"
        raise InvalidData(explain(f"{name} is a regressor: it is evaluated on numbers", got=got, where="y"))


def _all_classes(known: Array, schema: Schema, methods: Sequence[str], name: str) -> Array:
    """Classes of the model and of the rows; where the model gives scores, it must know all of them."""
    if not schema.classes:
        raise InvalidData(explain(f"{name} is a classifier: it is evaluated on labels", got="no targets", where="y"))
    if schema.n_outputs:
        got = f"{schema.n_outputs} columns"
        raise InvalidData(explain("several labels per row are not evaluated", got=got, where="y", hint="y.ravel()"))
    model, rows = (c.astype(np.str_) if c.dtype == object else c for c in (known, schema.classes[0]))
    if (model.dtype.kind == "U") != (rows.dtype.kind == "U"):
        got, expected = _listed(rows), _listed(model)
        raise SchemaMismatch(
            explain("labels are of another type than those the model knows", got=got, expected=expected)
        )
    scores = [m for m in methods if m != "predict"]
    strange = np.setdiff1d(rows, model)
    if scores and len(strange):
        got, expected = _listed(strange), _listed(model)
        raise InvalidData(explain(f"rows have classes that {name} gives no score to", got=got, expected=expected))
    if scores and len(model) < 2:
        raise ValueError(f"Got {scores[0]} of one class, but need classifier with two classes.")
    return np.union1d(model, rows)


def _listed(labels: Array) -> str:
    shown = [repr(label) for label in labels[:8].tolist()]
    return ", ".join(shown) + (" …" if len(labels) > 8 else "")


def _judged(answers: Answers, wanted: Sequence[Wanted], name: str, per_node: bool, bins: int | None) -> Evaluation:
    needs = {need for w in wanted for need in w.needs} | ({"confusion"} if answers.n_classes else set())
    schema, run = answers.rounds.schema, answers.rounds.run
    before = run.rounds
    pooled, nodes = gather(answers, needs, per_node=per_node, bins=bins)
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
