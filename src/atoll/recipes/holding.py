"""Rows that nodes hold back, to end a training early by how well they are answered."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.metrics._regression import _assemble_fraction_of_explained_deviance

from atoll import models
from atoll.combine import Moments, Sum
from atoll.errors import InvalidData
from atoll.operations.metrics import answered
from atoll.rounds import Rounds
from atoll.schema import Schema
from atoll.trees import Array, Tree
from atoll.views import chosen, sampled

__all__ = ["Held", "hold_back"]

_TELLS = (
    "coefs_", "intercepts_", "n_layers_", "n_outputs_", "out_activation_", "_label_binarizer", "classes_", "coef_",
    "intercept_", "_loss_function_",
)  # fmt: skip
"""What `predict` of these estimators looks at."""


class Held(NamedTuple):
    """The rows of a training, in two parts.

    Attributes
    ----------
    train, test : Rounds
        Over the rows that are trained on, and over those that are held back.
    order : ndarray of shape (n_train,) or None
        The order in which scikit-learn would have the rows that are trained on, where it is known.
    """

    train: Rounds
    test: Rounds
    order: Array | None = None

    def score(self, estimator: Any) -> float:
        """scikit-learn's score on the rows that are held back: accuracy, or R².

        Parameters
        ----------
        estimator : MLPClassifier, MLPRegressor, SGDClassifier, SGDRegressor or Perceptron
            As far as it is trained; the nodes are given what it takes to predict.

        Returns
        -------
        float
        """
        schema = self.test.schema
        bare = clone(estimator)
        vars(bare).update({name: value for name, value in vars(estimator).items() if name in _TELLS})
        bare.n_features_in_ = schema.n_features
        classes = estimator.classes_ if is_classifier(estimator) else None
        seen = self.test.through(answered([models.to_bytes(bare)], classes, ["predict"]))
        settings = {"n_models": 1, "weighted": schema.weighted}
        if classes is not None:
            settings["n_classes"] = len(classes)
            told = seen.round("metrics.confusion", combine=Sum(), settings=settings)
            cells: Array = told["mass" if schema.weighted else "count"][0, 0]
            return float(np.trace(cells) / cells.sum())
        settings["n_outputs"] = max(1, schema.n_outputs)
        return _explained(seen.round("metrics.spread", combine=Moments(), settings=settings))


def _explained(told: Tree) -> float:
    """R², the mean over outputs, as scikit-learn puts it together."""
    m2, mean, n = told["m2"][0, 0], told["mean"][0, 0], float(told["n"][0, 0])
    half = len(m2) // 2
    left = m2[half:] + n * mean[half:] ** 2
    parts = (left, m2[:half], half, "uniform_average", True, np, None)
    return float(_assemble_fraction_of_explained_deviance(*parts))


def hold_back(seen: Rounds, share: float, seed: int, numbers: tuple[Array, Array] | None = None) -> Held:
    """Hold back a share of the rows of every node.

    Parameters
    ----------
    seen : Rounds
        The way to the rows.
    share : float
        Of the rows. Each is held back with this probability, drawn by its id: whoever has it, and however many others
        there are.
    seed : int
        Of the draw.
    numbers : (ndarray, ndarray), optional
        Numbers of the rows that scikit-learn would train on, and of those it would hold back; taken where the rows are
        numbered from 0 on without a gap.

    Returns
    -------
    Held

    Raises
    ------
    ValueError
        In scikit-learn's words, if fewer than two rows would be held back, or none would be left.
    """
    n_rows = seen.schema.n_rows
    if numbers is not None:
        train, test = (seen.only(chosen(np.sort(part))) for part in numbers)
        held = Held(train, test, np.argsort(np.argsort(numbers[0])))
        if _rows(held.train.schema) + _rows(held.test.schema) == n_rows:
            return held
    try:
        train, test = (seen.only(sampled(share, seed, keep=keep)) for keep in ("train", "test"))
    except InvalidData:  # no node has any
        raise _too_small() from None
    if _rows(test.schema) < 2:
        raise _too_small()
    return Held(train, test)


def _too_small() -> ValueError:
    return ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")


def _rows(schema: Schema) -> int:
    return int(sum(schema.rows))
