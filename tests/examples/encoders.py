"""Encoders of categories; every distinct value of a column is one."""

from __future__ import annotations

import numpy as np
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from cases import Asked, data
from examples_base import Example

EXAMPLES: dict[type, list[Example]] = {
    OneHotEncoder: [
        Example(lambda name: OneHotEncoder(handle_unknown="ignore"), ("iris", "digits", "wine")),
        Example(lambda name: OneHotEncoder(min_frequency=4, handle_unknown="infrequent_if_exist"), ("iris",)),
    ],
    OrdinalEncoder: [
        Example(lambda name: OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)),
        Example(
            lambda name: OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, max_categories=5),
            ("iris", "digits"),
        ),
    ],
}


def asked(name: str) -> dict[str, Asked]:
    """An example of each operation."""
    X = data(name)[0]
    return {
        "categories.values": Asked({}, {}, "Union"),
        "categories.counts": Asked({}, {str(i): np.unique(column) for i, column in enumerate(X.T)}, "Sum"),
        "categories.missing": Asked({"missing": float(np.median(X))}, {}, "Sum"),
    }
