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
from atoll.shards import as_target, is_sparse
from atoll.trees import Array

__all__ = ["checked", "checked_weight"]


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
    checks: dict[str, Any] = {
        "accept_sparse": "csr" if tags.input_tags.sparse else False,
        "ensure_all_finite": "allow-nan" if tags.input_tags.allow_nan else True,
    }
    if not (tags.target_tags.required or is_classifier(estimator) or is_regressor(estimator)):
        return validate_data(wrapper, X, **checks), None
    several = bool(tags.target_tags.multi_output)
    X, y = validate_data(wrapper, X, y, multi_output=several, y_numeric=is_regressor(estimator), **checks)
    y = y.toarray() if is_sparse(y) else as_target(y)
    return X, _labels(y, several) if is_classifier(estimator) else _numbers(y)


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


def _numbers(y: Array) -> Array:
    if y.dtype.kind == "U":
        raise InvalidData(explain("a regressor's targets are numbers", got=f"text, such as {y.flat[0]!r}", where="y"))
    return y


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
