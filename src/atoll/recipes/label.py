"""LabelEncoder and LabelBinarizer, exact: the union of the classes of all nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.preprocessing import LabelBinarizer, LabelEncoder

from atoll.errors import InvalidData, explain
from atoll.recipes.base import recipe
from atoll.rounds import Rounds
from atoll.schema import Schema
from atoll.trees import Array

__all__ = ["fit_labels"]


@recipe(LabelEncoder, LabelBinarizer)
def fit_labels(estimator: Any, rounds: Rounds) -> Any:
    """Exact: scikit-learn's own `fit`, over the classes that nodes agreed on in place of their targets.

    Labels that are the user's own come as the targets of rows without columns, which are sparse where the labels were.
    """
    schema = rounds.raw.schema
    targets = _targets(schema)
    return estimator.fit(csr_matrix(targets) if schema.sparse and not schema.n_features else targets)


def _targets(schema: Schema) -> Array:
    """Targets in which every class of every output occurs, as few as that takes."""
    if not schema.classes:
        hint = "give y to Federation.simulate, or (X, y) pairs to Federation.from_shards"
        raise InvalidData(explain("labels are encoded, and these nodes have none", hint=hint))
    if not schema.n_outputs:
        return schema.classes[0]
    most = max(schema.n_classes)
    return np.stack([np.resize(classes, most) for classes in schema.classes], axis=1)
