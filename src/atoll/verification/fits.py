"""`verify`: fit an estimator on the pooled rows and over nodes, and hold the two against each other."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from atoll.errors import UnknownName
from atoll.estimators import Distributed
from atoll.recipes import find
from atoll.rng import as_seed
from atoll.verification.differences import MISSING, Difference, compare, fitted_attributes, parts
from atoll.verification.result import Verification

__all__ = ["verify"]

_METHODS = ("predict", "predict_proba", "decision_function", "transform", "score_samples", "kneighbors")


class _Fit(NamedTuple):
    """What came of fitting: a model or an error, the warnings, and how long it took."""

    model: Any
    error: Exception | None
    warned: list[str]
    seconds: float


def verify(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    n_nodes: int = 4,
    partition: str = "iid",
    engine: str = "inprocess",
    n_workers: int | None = None,
    topology: str = "star",
    method: str | None = None,
    sample_weight: Any = None,
    random_state: int | np.random.RandomState | None = None,
    rtol: float = 1e-9,
    atol: float = 1e-12,
) -> Verification:
    """Fit an estimator on the pooled rows and over nodes, and say where and by how much they differ.

    Compared are all public fitted attributes with their types and shapes, the answers to the training rows, and the
    warnings or the error that fitting ends with.

    Parameters
    ----------
    estimator : estimator
        A scikit-learn estimator that Atoll supports; it is not fitted itself. A `random_state` of it that is None is
        set to the seed, so that both fits draw the same.
    X : array-like, data frame or sparse matrix of shape (n, d)
        Rows.
    y : array-like of shape (n,) or (n, n_outputs), optional
        Targets.
    n_nodes, partition, engine, n_workers, topology, method
        As for `Distributed`.
    sample_weight : array-like of shape (n,), optional
        Given to both fits.
    random_state : int, RandomState or None
        Seed of the split and the run; None is 0.
    rtol, atol : float
        Numbers a and b, the pooled one, are the same where ``|a - b| <= rtol * |b| + atol``; for float32 at least
        within ten units of its precision.

    Returns
    -------
    Verification

    Raises
    ------
    UnsupportedEstimator
        Before anything is fitted, if Atoll cannot fit this estimator.
    UnknownName
        If there is no such partition, engine, topology or method.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from atoll import verify
    >>> result = verify(GaussianNB(), *load_iris(return_X_y=True), n_nodes=5, partition="label")
    >>> result.ok, [one.name for one in result.differences if one.name.endswith("_")][:3]
    (True, ['class_count_', 'class_prior_', 'classes_'])
    """
    find(estimator, method)
    said, seed = " ".join(repr(estimator).split()), as_seed(random_state)
    estimator = _seeded(estimator, seed)
    wrapped = Distributed(
        estimator, n_nodes, engine=engine, partition=partition, topology=topology, n_workers=n_workers, method=method,
        random_state=seed, verbose=0,
    )  # fmt: skip
    given = {} if sample_weight is None else {"sample_weight": sample_weight}
    pooled = _fitted(lambda: clone(estimator).fit(X, y, **given))
    over = _fitted(lambda: wrapped.fit(X, y, **given))
    found = (
        [_errors(pooled.error, over.error)] if pooled.error or over.error else [*_models(pooled, over, X, rtol, atol)]
    )
    where = f"{n_nodes} node{'s' if n_nodes != 1 else ''} ({partition}, {engine})"
    return Verification(
        said, where, (*found, *_warnings(pooled, over)), rtol, atol, pooled.seconds,
        over.seconds, pooled.model, over.model, getattr(over.model, "run_", None),
    )  # fmt: skip


def _seeded(estimator: Any, seed: int) -> Any:
    """A clone whose random states are set."""
    cloned = clone(estimator)
    unset = {
        name: seed % 2**32
        for name, value in cloned.get_params(deep=True).items()
        if value is None and name.rpartition("__")[2] == "random_state"
    }
    return cloned.set_params(**unset)


def _fitted(fit: Callable[[], Any]) -> _Fit:
    begin = time.perf_counter()
    model, error = None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = fit()
        except UnknownName:
            raise
        except Exception as raised:  # both fits may fail, and should then fail alike
            error = raised
    warned = [f"{w.category.__name__}: {_first_line(w.message)}" for w in caught]
    return _Fit(model, error, list(dict.fromkeys(warned)), time.perf_counter() - begin)


def _models(pooled: _Fit, over: _Fit, X: Any, rtol: float, atol: float) -> Iterator[Difference]:
    for name, a, b in _attributes(pooled.model, over.model):
        yield compare(name, a, b, rtol, atol)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in _METHODS:
            if hasattr(pooled.model, method):
                a, b = (_answer(model, method, X) for model in (pooled.model, over.model))
                yield compare(f"{method}(X)", a, b, rtol, atol)


def _attributes(pooled: Any, over: Distributed) -> Iterator[tuple[str, Any, Any]]:
    """Fitted attributes side by side; of a model that asks the nodes, those that it has without the rows."""
    if over._asks:
        for name in fitted_attributes(pooled):
            yield from parts(name, getattr(pooled, name), getattr(over, name, MISSING))
    else:
        yield from parts("", pooled, over.to_sklearn())


def _answer(model: Any, method: str, X: Any) -> Any:
    """Answers as one array: of sparse ones all entries, of a data frame its values, of neighbours the distances."""
    if not hasattr(model, method):
        return MISSING
    answers = getattr(model, method)(X)
    answers = answers[0] if method == "kneighbors" else answers
    return answers.toarray() if hasattr(answers, "toarray") else np.asarray(answers)


def _errors(pooled: Exception | None, over: Exception | None) -> Difference:
    """Both fits are to fail, and in the same way."""
    same = pooled is not None and isinstance(over, type(pooled))
    said = [_said(error) for error in (pooled, over)]
    why = said[0] if same else f"{said[1]} instead of {said[0]}"
    return Difference("fit", "error", (), int(not same), np.nan, np.nan, same, why)


def _said(error: Exception | None) -> str:
    return "no error" if error is None else f"{type(error).__name__}: {_first_line(error)}"


def _first_line(message: object) -> str:
    return next(iter(str(message).strip().splitlines()), "")


def _warnings(pooled: _Fit, over: _Fit) -> Iterator[Difference]:
    """Kinds of warning that only one of the two fits gave; their words may count what is counted differently."""
    kinds = [{w.partition(":")[0]: w for w in reversed(fit.warned)} for fit in (pooled, over)]
    for kind in sorted(set(kinds[0]) | set(kinds[1])):
        same = kind in kinds[0] and kind in kinds[1]
        who = "" if same else "only over nodes: " if kind in kinds[1] else "only on the pooled rows: "
        said = (kinds[0] if kind in kinds[0] else kinds[1])[kind].partition(": ")[2]
        yield Difference(kind, "warning", (), int(not same), np.nan, np.nan, same, who + said)
