"""Imputers; zeros and other values that occur often stand for what is missing."""

from __future__ import annotations

from sklearn.impute import MissingIndicator, SimpleImputer

from examples_base import Example

EXAMPLES: dict[type, list[Example]] = {
    SimpleImputer: [
        Example(lambda name: SimpleImputer(missing_values=0.2, add_indicator=True), ("iris", "wine")),
        Example(
            lambda name: SimpleImputer(missing_values=0.2, strategy="median", keep_empty_features=True),
            ("iris", "digits", "breast_cancer"),
        ),
        Example(lambda name: SimpleImputer(missing_values=0.2, strategy="most_frequent"), ("iris", "diabetes")),
        Example(lambda name: SimpleImputer(strategy="constant", fill_value=7.0), ("iris", "wine")),
    ],
    MissingIndicator: [
        Example(lambda name: MissingIndicator(missing_values=0.2, error_on_new=False), ("iris", "wine"))
    ],
}
