"""What can be fitted over nodes, how, and at what cost: measured, by fitting everything on generated rows.

Rounds and bytes of a fit depend on the columns and classes, not on the rows, so a few hundred rows tell them.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import get_tags

from atoll.errors import AtollError
from atoll.estimators import Distributed
from atoll.recipes import Recipe, supported
from atoll.run import Run

__all__ = ["Entry", "catalogue", "public_name", "run_of"]

_NODES, _ROWS = 4, 240
_MADE_OF_OTHERS = (CalibratedClassifierCV, ColumnTransformer, FeatureUnion, Pipeline)


class Entry(NamedTuple):
    """One way to fit one estimator.

    Attributes
    ----------
    module, estimator : str
        As scikit-learn names them.
    method : str
        The name of the way.
    kind : {"exact", "iterative", "trained", "generic", "of its steps"}
        Exact: equal to the fit on the pooled rows. Iterative: likewise, to the estimator's tolerance, in rounds until
        it converges. Trained: in rounds of local training, which over one node are scikit-learn's own. Generic: another
        model than that of the pooled rows.
    rounds : int or None
        Of a fit with default parameters on the generated rows, round 0 included.
    bytes_up : int or None
        Bytes that leave a node in that fit.
    leaves : tuple of str
        In words, what leaves a node; what every fit tells in round 0 is left out.
    asks : bool
        Whether predicting asks the nodes too.
    """

    module: str
    estimator: str
    method: str
    kind: str
    rounds: int | None
    bytes_up: int | None
    leaves: tuple[str, ...]
    asks: bool


def public_name(kind: type) -> str:
    """The name under which users of scikit-learn know a class: ``neighbors.KNeighborsClassifier``."""
    parts = kind.__module__.split(".")[1:]
    hidden = next((i for i, part in enumerate(parts) if part.startswith("_")), len(parts))
    return ".".join([*parts[:hidden], kind.__name__])


def catalogue(n_features: int = 10, n_classes: int = 2, names: Sequence[str] | None = None) -> list[Entry]:
    """Fit everything that is supported on generated rows, and tell what that took.

    Parameters
    ----------
    n_features : int, default=10
        Columns.
    n_classes : int, default=2
        Classes.
    names : sequence of str, optional
        Class names; everything by default.

    Returns
    -------
    list of Entry
        By module and name, the default way of each estimator first.
    """
    kinds = sorted(supported(by_name=True).items(), key=lambda item: public_name(item[0]).rpartition(".")[::2])
    found = []
    for kind, ways in kinds:
        if names is None or kind.__name__ in names:
            found += [_measured(kind, way, n_features, n_classes) for way in ways.values()]
    return found


def _measured(kind: type, way: Recipe, n_features: int, n_classes: int) -> Entry:
    module, _, name = public_name(kind).rpartition(".")
    if issubclass(kind, _MADE_OF_OTHERS):
        return Entry(module, name, way.method, "of its steps", None, None, (), False)
    run = run_of(kind(), way.method, n_features, n_classes)
    what = {} if run is None else {d.what: None for d in run.disclosures() if d.op != "describe.schema"}
    described = "trained" if way.trained else "generic" if not way.exact else "iterative" if way.iterative else "exact"
    rounds, sent = (None, None) if run is None else (run.rounds, run.bytes_up // len(run.nodes))
    return Entry(module, name, way.method, described, rounds, sent, tuple(what), way.asks)


def run_of(estimator: Any, method: str, n_features: int = 10, n_classes: int = 2) -> Run | None:
    """The record of a fit to generated rows.

    Parameters
    ----------
    estimator : estimator
        What is fitted.
    method : str
        The way to fit it.
    n_features, n_classes : int
        Columns and classes.

    Returns
    -------
    Run or None
        None where the generated rows do not suit the estimator.
    """
    rng = np.random.default_rng(0)
    code = np.arange(_ROWS) % n_classes
    X = rng.integers(0, 5, size=(_ROWS, n_features)) + (0.25 * code[:, None])
    y: Any = code if is_classifier(estimator) or not _is_number(estimator) else X[:, 0] + rng.random(_ROWS) + 1
    y = np.stack([y, y[::-1]], axis=1) if get_tags(estimator).target_tags.single_output is False else y
    if estimator.get_params().get("n_components") == "auto":
        estimator.set_params(n_components=2)
    model = Distributed(estimator, n_nodes=_NODES, method=method, verbose=0)
    given = (code,) if "y" in inspect.signature(estimator.fit).parameters and _of_labels(estimator) else (X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return model.fit(*given).run_
        except (ValueError, AtollError):
            return None


def _is_number(estimator: Any) -> bool:
    return bool(get_tags(estimator).estimator_type == "regressor")


def _of_labels(estimator: Any) -> bool:
    return "X" not in inspect.signature(estimator.fit).parameters
