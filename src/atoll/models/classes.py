"""Which classes a model may be of: those that scikit-learn makes public, and a few that these are made of."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable
from functools import cache

from sklearn.base import BaseEstimator

from atoll.errors import WireError, closest, explain

__all__ = [
    "INNER",
    "MODULES",
    "check_attribute",
    "check_parameters",
    "class_name",
    "find_class",
    "parameter_names",
]

_KERNELS = "sklearn.gaussian_process.kernels"

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
"""The public modules of scikit-learn that define estimators or kernels."""

INNER = frozenset({
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.multiclass._ConstantPredictor",
})  # fmt: skip
"""Private classes that fitted public estimators hold."""


def class_name(kind: type) -> str | None:
    """The name under which a model of this class travels.

    Parameters
    ----------
    kind : type
        Any class.

    Returns
    -------
    str or None
        The public name, such as ``sklearn.linear_model.Ridge``, or one of `INNER`; None for any other class.
    """
    full = f"{kind.__module__}.{kind.__qualname__}"
    if full in INNER:
        return full
    module = kind.__module__.partition("._")[0]
    if module not in MODULES or kind.__name__.startswith("_"):
        return None
    base = importlib.import_module(_KERNELS).Kernel if module == _KERNELS else BaseEstimator
    published = getattr(importlib.import_module(module), kind.__name__, None) is kind
    return f"{module}.{kind.__name__}" if published and issubclass(kind, base) else None


def find_class(name: str) -> type:
    """The class whose `class_name` this is; nothing is looked up outside `MODULES` and `INNER`.

    Parameters
    ----------
    name : str
        From a message.

    Returns
    -------
    type

    Raises
    ------
    WireError
        If there is no such class.
    """
    module, _, short = name.rpartition(".")
    kind = getattr(importlib.import_module(module), short, None) if module in MODULES or name in INNER else None
    if not isinstance(kind, type) or class_name(kind) != name or inspect.isabstract(kind):
        hint = "a model may only be of a public class of scikit-learn"
        raise WireError(explain("a model is of a class that is not accepted", got=name, hint=hint))
    return kind


@cache
def parameter_names(kind: type) -> tuple[str, ...]:
    """Names of the parameters of a class, in the order of its constructor.

    Parameters
    ----------
    kind : type
        A class that `class_name` knows.

    Returns
    -------
    tuple of str
    """
    return () if kind.__init__ is object.__init__ else tuple(inspect.signature(kind).parameters)  # type: ignore[misc]


def check_parameters(kind: type, names: Iterable[str]) -> None:
    """Refuse parameters that a class does not have.

    Parameters
    ----------
    kind : type
        The class.
    names : iterable of str
        Names of parameters, from a message.

    Raises
    ------
    WireError
        Naming the first such parameter and the nearest that exist.
    """
    known = parameter_names(kind)
    for name in names:
        if name not in known:
            raise WireError(explain(f"{kind.__name__} has no parameter {name!r}", hint=closest(name, known)))


def check_attribute(kind: type, name: str) -> None:
    """Refuse a fitted attribute that would hide what the class defines, or be a parameter.

    Parameters
    ----------
    kind : type
        The class.
    name : str
        Name of the attribute, from a message.

    Raises
    ------
    WireError
        Naming the attribute.
    """
    plain = name.isidentifier() and not name.startswith("__")
    if not plain or hasattr(kind, name) or name in parameter_names(kind):
        expected = "a name that the class does not use otherwise"
        raise WireError(explain(f"a fitted {kind.__name__} cannot have this attribute", got=name, expected=expected))
