"""Which classes a model may be of: those that scikit-learn makes public, found by their public names."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from sklearn.base import BaseEstimator

from atoll.errors import WireError, closest, explain

__all__ = ["MODULES", "check_attribute", "check_parameters", "find_class", "parameter_names", "public_name"]

MODULES = frozenset(
    "sklearn." + name
    for name in (
        "calibration", "cluster", "compose", "covariance", "cross_decomposition", "decomposition",
        "discriminant_analysis", "dummy", "ensemble", "feature_extraction", "feature_extraction.image",
        "feature_extraction.text", "feature_selection", "frozen", "gaussian_process", "gaussian_process.kernels",
        "impute", "isotonic", "kernel_approximation", "kernel_ridge", "linear_model", "manifold", "mixture",
        "model_selection", "multiclass", "multioutput", "naive_bayes", "neighbors", "neural_network", "pipeline",
        "preprocessing", "random_projection", "semi_supervised", "svm", "tree",
    )
)  # fmt: skip
"""The public modules of scikit-learn that define estimators, and the one that defines kernels."""

_KERNELS = "sklearn.gaussian_process.kernels"


def public_name(kind: type) -> str | None:
    """The name under which scikit-learn publishes a class.

    Parameters
    ----------
    kind : type
        Any class.

    Returns
    -------
    str or None
        Such as ``sklearn.linear_model.Ridge``; None if it is no public estimator or kernel of scikit-learn.
    """
    parts = kind.__module__.split(".")
    private = next((i for i, part in enumerate(parts) if part.startswith("_")), len(parts))
    module = ".".join(parts[:private])
    if module not in MODULES or kind.__name__.startswith("_"):
        return None
    published = importlib.import_module(module)
    if getattr(published, kind.__name__, None) is not kind or not _is_model(kind, module):
        return None
    return f"{module}.{kind.__name__}"


def _is_model(kind: type, module: str) -> bool:
    base: type = importlib.import_module(_KERNELS).Kernel if module == _KERNELS else BaseEstimator
    return issubclass(kind, base) and not inspect.isabstract(kind)


def find_class(name: str) -> type:
    """The class that scikit-learn publishes under a name; no other module than `MODULES` is ever looked into.

    Parameters
    ----------
    name : str
        As `public_name` gives it.

    Returns
    -------
    type

    Raises
    ------
    WireError
        If there is no such public estimator.
    """
    module, _, short = name.rpartition(".")
    kind = getattr(importlib.import_module(module), short, None) if module in MODULES else None
    if not isinstance(kind, type) or public_name(kind) != name:
        hint = "a model may be of a public class of scikit-learn only"
        raise WireError(explain("a model is of a class that is not accepted", got=name, hint=hint))
    return kind


def parameter_names(kind: type) -> list[str]:
    """Names of the parameters of a class, in the order of its constructor."""
    return list(inspect.signature(kind).parameters)


def check_parameters(kind: type, names: Any) -> None:
    """Refuse parameters that a class does not have.

    Raises
    ------
    WireError
        Naming the first and the nearest that exist.
    """
    known = parameter_names(kind)
    for name in names:
        if name not in known:
            raise WireError(explain(f"{kind.__name__} has no parameter {name!r}", hint=closest(str(name), known)))


def check_attribute(kind: type, name: str) -> None:
    """Refuse an attribute that would stand in for anything that the class defines, or for a parameter.

    Raises
    ------
    WireError
        Naming the attribute.
    """
    fine = isinstance(name, str) and name.isidentifier() and not name.startswith("__")
    if not fine or hasattr(kind, name) or name in parameter_names(kind):
        what = f"a fitted {kind.__name__} cannot have this attribute"
        raise WireError(explain(what, got=name, expected="a name that its class does not define"))
