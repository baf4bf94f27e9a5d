"""Tests of scikit-learn's feature selection that cannot pass over nodes, with the reason."""

from __future__ import annotations

__all__ = ["EXPECTED"]

_NEIGHBOURS = "mutual information is estimated from the neighbours of every row among all rows, and not from sums"
_SELECT = "sklearn.feature_selection.tests.test_feature_select::"

EXPECTED: dict[str, str] = {
    _SELECT + "test_dataframe_output_dtypes": "a column of intervals is not numeric, and Atoll takes numbers only here",
    _SELECT + "test_mutual_info_classif": _NEIGHBOURS,
    _SELECT + "test_mutual_info_regression": _NEIGHBOURS,
}
