"""Names of metrics, as `sklearn.metrics.get_scorer_names` has them, and what each needs of the nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sklearn import metrics
from sklearn.base import is_classifier, is_outlier_detector, is_regressor

from atoll.errors import InvalidData, UnknownName, closest, explain
from atoll.evaluation import closed
from atoll.evaluation.classes import (
    Value,
    area_under_curve,
    average_precision,
    by_cells,
    fraction_of_loss,
    likelihood_ratio,
    mean_loss,
    one_against_one,
    one_against_rest,
    over_classes,
)
from atoll.evaluation.numbers import explained_variance, largest_error, r2, root_mean
from atoll.evaluation.statistics import Statistics

__all__ = ["METRICS", "Metric", "Wanted", "choose", "task_of"]


class Metric(NamedTuple):
    """One metric; greater is better.

    Attributes
    ----------
    task : {"classes", "numbers", "density"}
        What the answers are.
    methods : tuple of str
        Methods of the model, of which the first that it has is asked.
    needs : tuple of str
        As in `atoll.evaluation.statistics.gather`; ``{}`` stands for the method.
    value : callable
        The method to what computes the value.
    sign : int
        -1 for a loss.
    """

    task: str
    methods: tuple[str, ...]
    needs: tuple[str, ...]
    value: Callable[[str], Value]
    sign: int = 1


class Wanted(NamedTuple):
    """A metric that was asked for, of a certain model.

    Attributes
    ----------
    name : str
        As scikit-learn names it.
    method : str
        What the model is asked.
    needs : tuple of str
        As in `atoll.evaluation.statistics.gather`.
    compute : callable
        Statistics to the value.
    """

    name: str
    method: str
    needs: tuple[str, ...]
    compute: Value


_PREDICT, _PROBA = ("predict",), ("predict_proba",)
_SCORES = ("decision_function", "predict_proba")


def _cells(value: Value, sign: int = 1) -> Metric:
    return Metric("classes", _PREDICT, ("confusion",), lambda _: value, sign)


def _loss(task: str, methods: tuple[str, ...], name: str, value: Value | None = None, sign: int = -1) -> Metric:
    return Metric(task, methods, (f"losses.{name}",), lambda _: value or mean_loss(name), sign)


def _number(name: str, value: Value | None = None) -> Metric:
    return _loss("numbers", _PREDICT, name, value)


def _curve(methods: tuple[str, ...], make: Callable[..., Value], *settings: str) -> Metric:
    return Metric("classes", methods, ("scores.{}",), lambda method: make(method, *settings))


METRICS: dict[str, Metric] = {
    "accuracy": _cells(by_cells(metrics.accuracy_score, closed.accuracy)),
    "average_precision": _curve(_SCORES, average_precision),
    "balanced_accuracy": _cells(by_cells(metrics.balanced_accuracy_score, closed.balanced_accuracy)),
    "d2_brier_score": _loss("classes", _PROBA, "brier", fraction_of_loss("brier"), 1),
    "d2_log_loss_score": _loss("classes", _PROBA, "log_loss", fraction_of_loss("log_loss"), 1),
    "explained_variance": Metric("numbers", _PREDICT, ("spread",), lambda _: explained_variance),
    "matthews_corrcoef": _cells(by_cells(metrics.matthews_corrcoef, closed.correlation)),
    "neg_brier_score": _loss("classes", _PROBA, "brier"),
    "neg_log_loss": _loss("classes", _PROBA, "log_loss"),
    "neg_max_error": Metric("numbers", _PREDICT, ("largest",), lambda _: largest_error, -1),
    "neg_mean_absolute_error": _number("mean_absolute_error"),
    "neg_mean_absolute_percentage_error": _number("mean_absolute_percentage_error"),
    "neg_mean_gamma_deviance": _number("mean_gamma_deviance"),
    "neg_mean_poisson_deviance": _number("mean_poisson_deviance"),
    "neg_mean_squared_error": _number("mean_squared_error"),
    "neg_mean_squared_log_error": _number("mean_squared_log_error"),
    "neg_negative_likelihood_ratio": _cells(likelihood_ratio(1), -1),
    "neg_root_mean_squared_error": _number("mean_squared_error", root_mean("mean_squared_error")),
    "neg_root_mean_squared_log_error": _number("mean_squared_log_error", root_mean("mean_squared_log_error")),
    "positive_likelihood_ratio": _cells(likelihood_ratio(0)),
    "r2": Metric("numbers", _PREDICT, ("losses.mean_squared_error", "spread"), lambda _: r2),
    "roc_auc": _curve(_SCORES, area_under_curve),
    "roc_auc_ovo": _curve(_PROBA, one_against_one, "macro"),
    "roc_auc_ovo_weighted": _curve(_PROBA, one_against_one, "weighted"),
    "roc_auc_ovr": _curve(_PROBA, one_against_rest, "macro"),
    "roc_auc_ovr_weighted": _curve(_PROBA, one_against_rest, "weighted"),
    "mean_log_likelihood": _loss("density", ("score_samples",), "score_samples", sign=1),
    "top_k_accuracy": Metric("classes", _SCORES, ("losses.top_two.{}",), lambda method: mean_loss(f"top_two.{method}")),
    **{
        which if average == "binary" else f"{which}_{average}": _cells(over_classes(which, average))
        for which in ("precision", "recall", "f1", "jaccard")
        for average in ("binary", "macro", "micro", "weighted")
    },
}
"""Every metric that can be computed from sums or sorted scores, by scikit-learn's name for its scorer."""

_DEFAULTS = {
    "classes": ("accuracy", "balanced_accuracy", "f1_macro", "neg_log_loss"),
    "numbers": ("r2", "neg_mean_absolute_error", "neg_root_mean_squared_error"),
    "density": ("mean_log_likelihood",),
}
_WORDS = {"classes": "classes", "numbers": "numbers", "density": "densities"}


def task_of(model: Any) -> str:
    """What the answers of a model are: classes, numbers or density.

    Raises
    ------
    InvalidData
        If it gives none of these.
    """
    if is_classifier(model) or is_outlier_detector(model):
        return "classes"
    if is_regressor(model):
        return "numbers"
    if hasattr(model, "score_samples"):
        return "density"
    name = type(model).__name__
    hint = "evaluate what predicts, or use its transformed rows in a pipeline that does"
    raise InvalidData(explain(f"{name} neither predicts nor scores rows, so there is nothing to evaluate", hint=hint))


def choose(scoring: str | Sequence[str] | None, task: str, methods: Sequence[str], who: str) -> list[Wanted]:
    """Look up what was asked for, and hold it against what the model can do.

    Parameters
    ----------
    scoring : str, sequence of str, or None
        Names; None: a few by default.
    task : {"classes", "numbers", "density"}
        What the answers are.
    methods : sequence of str
        What the model has.
    who : str
        Its name.

    Returns
    -------
    list of Wanted

    Raises
    ------
    UnknownName
        For a name that is no metric.
    InvalidData
        For one that cannot be computed here, or not of this model; says why.
    AttributeError
        If the model lacks the method that the metric needs, as scikit-learn says it.
    """
    if scoring is None:
        named: Sequence[Any] = [n for n in _DEFAULTS[task] if _method(METRICS[n], methods)]
    else:
        named = [scoring] if isinstance(scoring, str) or callable(scoring) else list(scoring)
    if not named:
        raise InvalidData(explain("no metric was asked for", expected="at least one name", where="scoring"))
    return [_wanted(name, task, methods, who) for name in dict.fromkeys(map(_checked, named))]


def _checked(name: Any) -> str:
    if not isinstance(name, str):
        got = getattr(name, "__name__", repr(name))
        hint = "scoring='accuracy' or ['accuracy', 'neg_log_loss']"
        raise InvalidData(explain("a metric is asked for by name: a function does not travel", got=got, hint=hint))
    if name in METRICS:
        return name
    if name in metrics.get_scorer_names():
        raise InvalidData(explain(f"{name!r} cannot be computed over nodes", got=_reason(name)))
    raise UnknownName(explain(f"unknown metric {name!r}", where="scoring", hint=closest(name, METRICS)))


def _reason(name: str) -> str:
    if "median" in name or name == "d2_absolute_error_score":
        return "a median of errors is no sum"
    if name.endswith("_samples"):
        return "it is for several labels per row"
    return "it compares two clusterings"


def _method(metric: Metric, methods: Sequence[str]) -> str | None:
    return next((m for m in metric.methods if m in methods), None)


def _wanted(name: str, task: str, methods: Sequence[str], who: str) -> Wanted:
    metric = METRICS[name]
    if metric.task != task:
        known = [n for n, m in METRICS.items() if m.task == task]
        got = f"{who}, which answers with {_WORDS[task]}"
        raise InvalidData(
            explain(f"{name!r} is a metric for {_WORDS[metric.task]}", got=got, hint=f"such as {', '.join(known[:6])}")
        )
    method = _method(metric, methods)
    if method is None:
        raise AttributeError(f"{who} has none of the following attributes: {', '.join(metric.methods)}.")
    value, sign = metric.value(method), metric.sign

    def compute(known: Statistics) -> float:
        return sign * value(known)

    return Wanted(name, method, tuple(n.format(method) for n in metric.needs), compute)
