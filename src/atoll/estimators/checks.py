"""Rows, targets and weights, checked as scikit-learn checks them for the wrapped estimator."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, has_fit_parameter, validate_data

from atoll.errors import InvalidData, explain
from atoll.schema import Schema
from atoll.shards import as_target, is_sparse
from atoll.trees import Array

__all__ = ["check_targets", "checked", "checked_weight", "finiteness"]


def checked(wrapper: Any, X: Any, y: Any) -> tuple[Any, Array | None]:
    """X and y as scikit-learn checks them for the wrapped estimator.

    Parameters
    ----------
    wrapper : OverNodes
        Is given `n_features_in_` and, where X has names, `feature_names_in_`.
    X : array-like or sparse matrix of shape (n, d)
        Rows.
    y : array-like of shape (n,) or (n, n_outputs), or None
        Targets; not looked at where the estimator takes none.

    Returns
    -------
    X : ndarray or CSR matrix of shape (n, d)
    y : ndarray of shape (n,) or (n, n_outputs), or None
        Labels, or numbers for a regressor.

    Raises
    ------
    ValueError
        What scikit-learn refuses, in its words; `InvalidData` for labels of mixed type or a regressor's text.
    """
    estimator, tags = wrapper.estimator, get_tags(wrapper.estimator)
    sparse: Any = "csr" if tags.input_tags.sparse else False
    checks = {"accept_sparse": sparse, "ensure_all_finite": finiteness(estimator)}
    if not _wants_targets(estimator):
        return validate_data(wrapper, X, **checks), None
    several = bool(tags.target_tags.multi_output)
    X, y = validate_data(wrapper, X, y, multi_output=several, y_numeric=is_regressor(estimator), **checks)
    y = y.toarray() if is_sparse(y) else np.asarray(y)
    target = as_target(y)
    if is_classifier(estimator):
        return X, _labels(y, several)
    _refuse_text(estimator, target.dtype.kind == "U")
    return X, target


def finiteness(estimator: Any) -> bool | str:
    """What scikit-learn calls `ensure_all_finite` for the X of an estimator."""
    return "allow-nan" if get_tags(estimator).input_tags.allow_nan else True


def check_targets(estimator: Any, schema: Schema) -> None:
    """Refuse nodes whose targets are not what the estimator needs.

    Raises
    ------
    InvalidData
        If there are none, or text for a regressor.
    """
    if not _wants_targets(estimator):
        return
    if not schema.target_dtype:
        hint = "give y to Federation.simulate, or (X, y) pairs to Federation.from_shards"
        raise InvalidData(explain(f"{type(estimator).__name__} needs targets, and these nodes have none", hint=hint))
    if is_regressor(estimator):
        _refuse_text(estimator, schema.target_dtype in ("U", "O"))


def _wants_targets(estimator: Any) -> bool:
    return bool(get_tags(estimator).target_tags.required) or is_classifier(estimator) or is_regressor(estimator)


def _labels(y: Array, several: bool) -> Array:
    if several and y.ndim == 2 and y.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected. Please change the shape of y to "
            "(n_samples,), for example using ravel().",
            DataConversionWarning,
            stacklevel=4,
        )
        y = y.ravel()
    check_classification_targets(y)
    return y


def _refuse_text(estimator: Any, is_text: bool) -> None:
    if is_text:
        name = type(estimator).__name__
        raise InvalidData(explain(f"{name} is a regressor: its targets are numbers", got="text", where="y"))


def checked_weight(estimator: Any, X: Any, params: dict[str, Any]) -> Array | None:
    """The sample weights among the parameters of `fit`, float64 of shape (n,).

    Parameters
    ----------
    estimator : estimator
        The wrapped one.
    X : ndarray or CSR matrix of shape (n, d)
        Rows, checked.
    params : dict
        What `fit` was given.

    Raises
    ------
    TypeError
        For a parameter that the wrapped estimator's `fit` does not take.
    ValueError
        For weights that are negative, not finite, or not one per row.
    """
    weight = params.get("sample_weight")
    unknown = set(params) - {"sample_weight"}
    if unknown or (weight is not None and not has_fit_parameter(estimator, "sample_weight")):
        name = next(iter(unknown), "sample_weight")
        raise TypeError(f"fit() of {type(estimator).__name__} got an unexpected keyword argument {name!r}")
    return None if weight is None else _check_sample_weight(weight, X, dtype=np.float64, ensure_non_negative=True)
