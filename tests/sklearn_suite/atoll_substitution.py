"""A pytest plugin: `sklearn.neighbors` exports classes that fit over Atoll's nodes, before any test module is imported.

Each substitute subclasses the class it stands for, so constructor, parameters and `isinstance` are scikit-learn's. `fit`
hands the rows to `Distributed`, and every public method is handed on to it. Nothing of scikit-learn's tests is changed.

    PYTHONPATH=tests/sklearn_suite python -m pytest -p atoll_substitution -c tests/sklearn_suite/suite.ini \
        --pyargs sklearn.neighbors.tests.test_neighbors
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from expected_failures import EXPECTED
from sklearn import neighbors
from sklearn.utils.validation import _num_samples, check_is_fitted

from atoll import Distributed

N_NODES = 3
CLASSES = (
    "KNeighborsClassifier",
    "KNeighborsRegressor",
    "KernelDensity",
    "NearestCentroid",
    "NearestNeighbors",
    "RadiusNeighborsClassifier",
    "RadiusNeighborsRegressor",
)
METHODS = (
    "decision_function",
    "kneighbors",
    "kneighbors_graph",
    "predict",
    "predict_log_proba",
    "predict_proba",
    "radius_neighbors",
    "radius_neighbors_graph",
    "sample",
    "score",
    "score_samples",
)
fits: Counter[str] = Counter()
calls: Counter[str] = Counter()


def substitute(base: type) -> type:
    """A class that looks like `base` and works over nodes."""

    def fit(self: Any, X: Any, y: Any = None, **params: Any) -> Any:
        self.__dict__.pop("over_", None)
        over = Distributed(base(**self.get_params(deep=False)), n_nodes=_nodes(X), verbose=0).fit(X, y, **params)
        fits[base.__name__] += 1
        self.over_ = over
        return self

    def attribute(self: Any, name: str) -> Any:
        """Fitted attributes from `Distributed`; what scikit-learn reads privately, from the ordinary estimator."""
        over = self.__dict__.get("over_")
        if over is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(over.estimator_ if name.startswith("_") else over, name)

    own = {name: _handed_on(name) for name in METHODS if hasattr(base, name)}
    names = {"__module__": "sklearn.neighbors", "__qualname__": base.__name__, "__doc__": base.__doc__}
    return type(base.__name__, (base,), {**names, **own, "fit": fit, "__getattr__": attribute})


def _handed_on(name: str) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        check_is_fitted(self)
        calls[name] += 1
        return getattr(self.over_, name)(*args, **kwargs)

    return method


def _nodes(X: Any) -> int:
    try:
        return max(1, min(N_NODES, _num_samples(X)))
    except TypeError:
        return 1


for _name in CLASSES:
    setattr(neighbors, _name, substitute(getattr(neighbors, _name)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expected failures must fail: a line that is no longer true fails the run."""
    for item in items:
        reason = EXPECTED.get(f"{item.module.__name__}::{item.name}")
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How much went over nodes."""
    terminalreporter.write_line(f"atoll: {fits.total()} fits and {calls.total()} calls over nodes")
    for name, number in sorted((fits + calls).items()):
        terminalreporter.write_line(f"atoll: {name} {number}")
