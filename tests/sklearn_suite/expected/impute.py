"""Tests of scikit-learn that cannot pass over nodes, with the reason; docs/scikit-learn.md publishes this list.

Each is run all the same, in all its forms, and must fail: a line that is no longer true fails the suite.
"""

from __future__ import annotations

__all__ = ["EXPECTED"]

EXPECTED: dict[str, str] = {
    "sklearn.impute.tests.test_impute::test_imputation_most_frequent_objects[0]": (
        "a column that holds text and numbers at once is refused by name: make it all text, or all numbers"
    ),
    "sklearn.impute.tests.test_impute::test_imputation_constant_object[True-0]": (
        "a column that holds text and numbers at once is refused by name: make it all text, or all numbers"
    ),
    "sklearn.impute.tests.test_impute::test_imputation_constant_object[False-0]": (
        "a column that holds text and numbers at once is refused by name: make it all text, or all numbers"
    ),
    "sklearn.impute.tests.test_impute::test_imputation_custom": (
        "a strategy of one's own sees a whole column, and no node has one"
    ),
}
