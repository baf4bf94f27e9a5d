"""Fitted state that is not data, and how each family gets it back.

A hook belongs to a base class of scikit-learn, by name, so that nothing is imported before it is needed. Its `dump`
says which data stand for the fitted state, its `load` sets the state from them and checks what compiled code trusts.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from atoll.errors import WireError, explain

__all__ = ["Hook", "find_hook"]

_State = dict[str, Any]


class Hook(NamedTuple):
    """How the fitted state of one family of estimators becomes data and comes back.

    Attributes
    ----------
    dump : callable
        From the estimator and its attributes (parameters excluded) to attributes that are data.
    load : callable
        From the new, unfitted estimator and those attributes to the fitted estimator, in place. May raise anything if
        the attributes are not what `dump` writes.
    """

    dump: Callable[[Any, _State], _State]
    load: Callable[[Any, _State], None]


def find_hook(kind: type) -> Hook:
    """The hook of the nearest base class that has one; for most classes all attributes are data.

    Parameters
    ----------
    kind : type
        Class of an estimator.

    Returns
    -------
    Hook
    """
    names = (f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__)
    return next((_HOOKS[name] for name in names if name in _HOOKS), _PLAIN)


def _set(estimator: Any, state: _State) -> None:
    vars(estimator).update(state)


def _same(_: Any, state: _State) -> _State:
    return state


_PLAIN = Hook(_same, _set)


def _rebuilt(name: str, build: Callable[[Any], Any], check: Callable[[_State], None] = lambda state: None) -> Hook:
    """One attribute follows from the others and is built again, if it was there."""

    def dump(_: Any, state: _State) -> _State:
        return {key: True if key == name else value for key, value in state.items()}

    def load(estimator: Any, state: _State) -> None:
        check(state)
        _set(estimator, state)
        if name in state:
            vars(estimator)[name] = build(estimator)

    return Hook(dump, load)


def _interpolation(estimator: Any) -> Any:
    estimator._build_f(estimator.X_thresholds_, estimator.y_thresholds_)
    return estimator.f_


_ROWS = ("_fit_X", "_y", "classes_")
_KEPT = ("feature_names_in_", "_sklearn_output_config")


def _dump_neighbors(estimator: Any, state: _State) -> _State:
    """The training rows; everything else follows from them by fitting again, which is deterministic."""
    return {name: state[name] for name in (*_ROWS, *_KEPT) if name in state}


def _labels(classes: Any, codes: Any) -> Any:
    if isinstance(classes, list):
        return np.column_stack([one[column] for one, column in zip(classes, codes.T, strict=True)])
    return classes[codes]


def _load_neighbors(estimator: Any, state: _State) -> None:
    """Fit again, for indices into rows and classes are trusted by compiled code."""
    if unknown := state.keys() - set(_KEPT) - set(_ROWS if "_fit_X" in state else ()):
        raise WireError(explain("these attributes follow from the training rows", got=sorted(unknown)))
    if "_fit_X" in state:
        y = _labels(state["classes_"], state["_y"]) if "classes_" in state else state.get("_y")
        _fit(estimator, state["_fit_X"], *(() if y is None else (y,)))
    _set(estimator, {name: state[name] for name in _KEPT if name in state})


def _fit(estimator: Any, *rows: Any, **weights: Any) -> None:
    """Fit without the warnings that the first fit gave already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(*rows, **weights)


def _dump_density(_: Any, state: _State) -> _State:
    if "tree_" not in state:
        return state
    tree = state["tree_"]
    weights = None if tree.sample_weight is None else np.array(tree.sample_weight)
    kept = {name: state[name] for name in _KEPT if name in state}
    return {"rows": np.array(tree.data), "weights": weights} | kept


def _load_density(estimator: Any, state: _State) -> None:
    if "rows" in state:
        _fit(estimator, state.pop("rows"), sample_weight=state.pop("weights"))
    _set(estimator, state)


def _dump_splines(_: Any, state: _State) -> _State:
    splines = [(spline.t, spline.c, spline.k, spline.extrapolate) for spline in state.get("bsplines_", [])]
    return state | {"bsplines_": splines} if splines else state


def _load_splines(estimator: Any, state: _State) -> None:
    if "bsplines_" in state:
        spline = importlib.import_module("scipy.interpolate").BSpline  # slow to import, rarely needed
        state["bsplines_"] = [spline(t, c, k, extrapolate) for t, c, k, extrapolate in state["bsplines_"]]
    _set(estimator, state)


def _dump_network(_: Any, state: _State) -> _State:
    if "_optimizer" not in state:
        return state
    return state | {"_optimizer": dict(vars(state["_optimizer"]))}


def _load_network(estimator: Any, state: _State) -> None:
    """Give the optimizer its moments back, so that `partial_fit` goes on as if it had not stopped."""
    _set(estimator, state)
    if "_optimizer" in state:
        memory = state["_optimizer"]
        module = importlib.import_module("sklearn.neural_network._stochastic_optimizers")
        kind = {"adam": module.AdamOptimizer, "sgd": module.SGDOptimizer}[estimator.solver]
        optimizer = kind(estimator.coefs_ + estimator.intercepts_)
        if memory.keys() != vars(optimizer).keys():
            raise WireError(
                explain("an optimizer has other state", got=sorted(memory), expected=sorted(vars(optimizer)))
            )
        _set(optimizer, memory)
        estimator._optimizer = optimizer


def _check_descent(state: _State) -> None:
    """Sizes that the compiled loops of stochastic gradient descent trust when training goes on."""
    if "coef_" not in state:
        return
    rows, columns = np.atleast_2d(state["coef_"]).shape
    _demand("coef_", columns, state["n_features_in_"])
    for name in ("_standard_coef", "_average_coef"):
        if state.get(name) is not None:  # two classes: one row, or none
            _demand(name, np.atleast_2d(state[name]).shape, (rows, columns))
    for name in ("intercept_", "offset_", "_standard_intercept", "_average_intercept"):
        if state.get(name) is not None:
            _demand(name, state[name].shape, (rows,))


def _load_clusters(estimator: Any, state: _State) -> None:
    """Sizes that the compiled k-means loops trust; threads are those of this machine."""
    if "cluster_centers_" in state:
        shape = state["cluster_centers_"].shape
        _demand("cluster_centers_", shape, (max(shape[0], 1), state["n_features_in_"]))
        if "_counts" in state:
            _demand("_counts", state["_counts"].shape, shape[:1])
        state["_n_threads"] = max(1, min(state["_n_threads"], os.cpu_count() or 1))
    _set(estimator, state)


def _load_vectors(estimator: Any, state: _State) -> None:
    """Sizes that libsvm trusts (see CVE-2020-28975)."""
    _set(estimator, state)
    if "support_" not in state:
        return
    n, counts = len(state["support_"]), state["_n_support"]
    k = len(state["classes_"]) if "classes_" in state else 2
    pairs = k * (k - 1) // 2
    coef, vectors = state["_dual_coef_"], state["support_vectors_"]
    _demand("_n_support", counts.shape, (k,))
    if "classes_" in state:
        _demand("_n_support", (counts.min() >= 0, int(counts.sum())), (True, n))
    _demand("_dual_coef_", coef.shape, (k - 1, n))
    _demand("_intercept_", state["_intercept_"].shape, (pairs,))
    for name in ("_probA", "_probB"):
        _demand(name, len(state[name]), pairs if state["_effective_probability"] or len(state[name]) else 0)
    if estimator.kernel == "precomputed" and not state["_sparse"]:
        rows = state["shape_fit_"][0]
        _demand("shape_fit_", rows, state["n_features_in_"])
        _demand("support_", bool(np.all((state["support_"] >= 0) & (state["support_"] < rows))), True)
    else:
        _demand("support_vectors_", vectors.shape, (n, state["n_features_in_"]))
    if state["_sparse"]:
        _demand("_dual_coef_", (vectors.format, coef.format, coef.nnz), ("csr", "csr", (k - 1) * n))


def _demand(name: str, got: object, expected: object) -> None:
    if got != expected:
        raise WireError(explain(f"attribute {name!r} does not fit the others", got=got, expected=expected))


_HOOKS = {
    "sklearn.neighbors._base.NeighborsBase": Hook(_dump_neighbors, _load_neighbors),
    "sklearn.neighbors._kde.KernelDensity": Hook(_dump_density, _load_density),
    "sklearn.linear_model._glm.glm._GeneralizedLinearRegressor": _rebuilt("_base_loss", lambda e: e._get_loss()),
    "sklearn.linear_model._stochastic_gradient.BaseSGD": _rebuilt(
        "_loss_function_", lambda e: e._get_loss_function(e.loss), _check_descent
    ),
    "sklearn.isotonic.IsotonicRegression": _rebuilt("f_", _interpolation),
    "sklearn.preprocessing._polynomial.SplineTransformer": Hook(_dump_splines, _load_splines),
    "sklearn.neural_network._multilayer_perceptron.BaseMultilayerPerceptron": Hook(_dump_network, _load_network),
    "sklearn.cluster._kmeans._BaseKMeans": Hook(_same, _load_clusters),
    "sklearn.svm._base.BaseLibSVM": Hook(_same, _load_vectors),
}
