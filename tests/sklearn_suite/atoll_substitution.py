"""A pytest plugin: `sklearn.neighbors` exports classes that fit over Atoll's nodes, before a test module is imported.

Each substitute subclasses the class it stands for, so constructor, parameters and `isinstance` are scikit-learn's;
`fit` hands the rows to `Distributed`, and so does every public method. scikit-learn's tests are not changed.

    PYTHONPATH=tests/sklearn_suite python -m pytest -p atoll_substitution -c tests/sklearn_suite/suite.ini \
        --pyargs sklearn.neighbors.tests.test_neighbors

`ATOLL_SETTINGS`, JSON, gives `Distributed` other settings than three nodes.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import Any

import pytest
from expected_failures import EXPECTED
from sklearn import neighbors
from sklearn.utils.validation import _num_samples, check_is_fitted

from atoll import Distributed
from atoll.recipes import supported

SETTINGS: dict[str, Any] = {"n_nodes": 3, "verbose": 0, **json.loads(os.environ.get("ATOLL_SETTINGS", "{}"))}
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
        settings = {**SETTINGS, "n_nodes": min(SETTINGS["n_nodes"], _rows(X))}
        over = Distributed(base(**self.get_params(deep=False)), **settings).fit(X, y, **params)
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


def _rows(X: Any) -> int:
    """Rows of what a test fits on; nonsense counts as one, so that Atoll is the one to refuse it."""
    try:
        return max(1, _num_samples(X))
    except TypeError:
        return 1


for _kind in supported():
    if getattr(neighbors, _kind.__name__, None) is _kind:
        setattr(neighbors, _kind.__name__, substitute(_kind))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the published failures, strictly."""
    for item in items:
        reason = EXPECTED.get(f"{item.module.__name__}::{item.originalname}")  # type: ignore[attr-defined]
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell how much went over nodes."""
    terminalreporter.write_line(f"atoll: {fits.total()} fits and {calls.total()} calls over nodes")
    for name, number in sorted((fits + calls).items()):
        terminalreporter.write_line(f"atoll: {name} {number}")
