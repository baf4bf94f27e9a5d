"""Rows, targets and weights that are bad for some estimator or other: one function per kind, found by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.base import is_classifier, is_regressor
from sklearn.utils.validation import has_fit_parameter


class Rows(NamedTuple):
    """What a fit is given."""

    X: Any
    y: Any = None
    weight: Any = None


class Good(NamedTuple):
    """Rows that every estimator takes: classes 0 to 2 in `label`, and for regressors positive targets."""

    X: np.ndarray
    y: Any
    label: np.ndarray
    rng: np.random.Generator


class Bad(NamedTuple):
    """How good rows are spoilt, and which estimators that concerns."""

    make: Callable[[Good], Rows]
    concerns: Callable[[Any], bool]
    n: int = 30
    d: int = 4

    def __call__(self, estimator: Any) -> Rows:
        return self.make(good(estimator, self.n, self.d))


COUNTS = ("CategoricalNB", "MultinomialNB", "ComplementNB", "BernoulliNB", "AdditiveChi2Sampler", "SkewedChi2Sampler")


def good(estimator: Any, n: int = 30, d: int = 4) -> Good:
    """Rows that suit an estimator: small counts where it counts, otherwise numbers around the means of three classes."""
    rng, name = np.random.default_rng(0), type(estimator).__name__
    label = rng.permutation(np.arange(n) % 3)
    if name in COUNTS:
        X = rng.integers(0, 4, size=(n, d)).astype(float)
        X[:, 0] += label
    else:
        X = rng.normal(size=(n, d)) + 1.5 * label[:, None] * (np.arange(d) % 2)
    scores = getattr(estimator, "score_func", None)
    if is_classifier(estimator) or getattr(scores, "__name__", "") == "f_classif":
        return Good(X, label, label, rng)
    if not is_regressor(estimator) and scores is None:
        return Good(X, None, label, rng)
    y = np.exp(0.2 * X[:, 0]) + 0.3 * rng.random(n) + 0.1 * label
    return Good(X, np.stack([y, y + rng.normal(size=n)], axis=1) if "MultiTask" in name else y, label, rng)


def everyone(estimator: Any) -> bool:
    """Anybody."""
    return True


def with_targets(estimator: Any) -> bool:
    """Who is fitted on targets."""
    return is_classifier(estimator) or with_numbers(estimator) or hasattr(estimator, "score_func")


def with_numbers(estimator: Any) -> bool:
    """Who is fitted on targets that are numbers."""
    return is_regressor(estimator)


def with_weights(estimator: Any) -> bool:
    """Who is fitted with weights."""
    return bool(has_fit_parameter(estimator, "sample_weight"))


def with_scale(estimator: Any) -> bool:
    """Who takes numbers of any size: not one who takes them for the numbers of categories."""
    return type(estimator).__name__ != "CategoricalNB"


INPUTS: dict[str, Bad] = {}
Make = Callable[[Good], Rows]


def bad(concerns: Callable[[Any], bool] = everyone, n: int = 30, d: int = 4) -> Callable[[Make], Make]:
    """Register a way to spoil good rows."""

    def add(make: Make) -> Make:
        INPUTS[make.__name__] = Bad(make, concerns, n, d)
        return make

    return add


def column(g: Good, values: Any, at: int = 1) -> Rows:
    """Good rows with another column."""
    X = g.X.copy()
    X[:, at] = values
    return Rows(X, g.y)


# --- columns that tell nothing, or the same as others -----------------------------------------------------------------


@bad()
def constant_feature(g: Good) -> Rows:
    return column(g, 2.0)


@bad(with_scale)
def constant_feature_with_rounding(g: Good) -> Rows:
    return column(g, 0.1)


@bad(with_scale)
def constant_feature_in_float32(g: Good) -> Rows:
    return Rows(column(g, 0.1).X.astype(np.float32), g.y)


@bad()
def zero_feature(g: Good) -> Rows:
    return column(g, 0.0)


@bad(with_scale)
def nearly_constant_feature(g: Good) -> Rows:
    return column(g, 1000 + 1e-11 * g.rng.normal(size=len(g.X)))


@bad()
def constant_within_classes(g: Good) -> Rows:
    return column(g, g.label, at=2)


@bad()
def constant_features(g: Good) -> Rows:
    return Rows(np.tile([1.0, 2.0, 0.0, 3.0], (len(g.X), 1)), g.y)


@bad()
def equal_rows(g: Good) -> Rows:
    return Rows(np.tile(np.rint(8 * g.X[:1]) / 8, (len(g.X), 1)), None if g.y is None else np.repeat(g.y[:1], 30, axis=0))


@bad()
def equal_features(g: Good) -> Rows:
    return column(g, g.X[:, 0], at=3)


@bad()
def dependent_features(g: Good) -> Rows:
    return column(g, g.X[:, 0] + g.X[:, 1], at=3)


# --- shapes -----------------------------------------------------------------------------------------------------------


@bad(n=9, d=14)
def fewer_rows_than_features(g: Good) -> Rows:
    return Rows(g.X, g.y)


@bad(n=12, d=200)
def very_wide(g: Good) -> Rows:
    return Rows(g.X, g.y)


@bad()
def one_row(g: Good) -> Rows:
    return Rows(g.X[:1], None if g.y is None else g.y[:1])


@bad()
def two_rows(g: Good) -> Rows:
    which = [int(np.flatnonzero(g.label == c)[0]) for c in (0, 1)]
    return Rows(g.X[which], None if g.y is None else g.y[which])


@bad()
def one_feature(g: Good) -> Rows:
    return Rows(g.X[:, :1], g.y)


@bad()
def no_features(g: Good) -> Rows:
    return Rows(g.X[:, :0], g.y)


# --- values -----------------------------------------------------------------------------------------------------------


@bad(with_scale)
def far_from_zero(g: Good) -> Rows:
    return Rows(g.X + 1e8, g.y)


@bad(with_scale)
def huge(g: Good) -> Rows:
    return Rows(g.X * 1e100, g.y)


@bad(with_scale)
def overflowing(g: Good) -> Rows:
    return Rows(g.X * 1e200, g.y)


@bad(with_scale)
def tiny(g: Good) -> Rows:
    return Rows(g.X * 1e-100, g.y)


@bad()
def single_precision(g: Good) -> Rows:
    return Rows(g.X.astype(np.float32), g.y)


@bad()
def negative_value(g: Good) -> Rows:
    return column(g, np.where(np.arange(len(g.X)) == 3, -2.0, g.X[:, 1]))


@bad()
def infinity(g: Good) -> Rows:
    return column(g, np.where(np.arange(len(g.X)) == 5, np.inf, g.X[:, 2]), at=2)


@bad()
def infinities_that_cancel(g: Good) -> Rows:
    return column(g, np.where(np.arange(len(g.X)) == 5, np.inf, np.where(g.label == 0, -np.inf, g.X[:, 2])), at=2)


@bad()
def missing_value(g: Good) -> Rows:
    return column(g, np.where(np.arange(len(g.X)) == 5, np.nan, g.X[:, 2]), at=2)


@bad()
def missing_on_a_node(g: Good) -> Rows:
    return column(g, np.where(g.label == 0, np.nan, g.X[:, 2]), at=2)


@bad()
def missing_feature(g: Good) -> Rows:
    return column(g, np.nan, at=2)


@bad()
def nothing_but_missing(g: Good) -> Rows:
    return Rows(np.full_like(g.X, np.nan), g.y)


def zeros(X: np.ndarray) -> np.ndarray:
    return np.where(np.abs(X) < 0.5, 0.0, X)


@bad()
def sparse_rows(g: Good) -> Rows:
    return Rows(sp.csr_matrix(zeros(g.X)), g.y)


@bad()
def sparse_constant_features(g: Good) -> Rows:
    return Rows(sp.csr_matrix(zeros(g.X) * [1, 0, 0, 1] + [0, 0, 3, 0]), g.y)


@bad()
def sparse_missing_value(g: Good) -> Rows:
    return Rows(sp.csr_matrix(zeros(missing_value(g).X)), g.y)


@bad()
def sparse_infinity(g: Good) -> Rows:
    return Rows(sp.csr_matrix(zeros(infinity(g).X)), g.y)


def whole(X: np.ndarray, factor: int = 3) -> np.ndarray:
    return np.rint(np.abs(X) * factor).astype(np.int64)


@bad(with_scale)
def large_whole_numbers(g: Good) -> Rows:
    return Rows(whole(g.X) * [1, 10**9, 1, 1], g.y)


@bad(with_scale)
def whole_numbers_beyond_floats(g: Good) -> Rows:
    return Rows(whole(g.X) + np.array([0, 2**61, 0, 0]), g.y)


@bad(n=300)
def whole_numbers_of_a_byte(g: Good) -> Rows:
    return Rows(whole(g.X, 30).clip(0, 120).astype(np.int8), g.y)


@bad()
def truth_values(g: Good) -> Rows:
    return Rows(g.X > np.median(g.X, axis=0), g.y)


@bad()
def text(g: Good) -> Rows:
    X = g.X.astype(object)
    X[:, 1] = np.where(g.X[:, 1] > 0, "a", "b")
    return Rows(X, g.y)


@bad()
def numbers_as_objects(g: Good) -> Rows:
    return Rows(g.X.astype(object), g.y)


# --- targets ----------------------------------------------------------------------------------------------------------


def targets(g: Good, y: Any) -> Rows:
    return Rows(g.X, y)


def single(g: Good) -> np.ndarray:
    return g.y if g.y.ndim == 1 else g.y[:, 0]


@bad(with_targets)
def no_targets(g: Good) -> Rows:
    return Rows(g.X)


@bad(with_targets)
def targets_in_two_columns(g: Good) -> Rows:
    return targets(g, np.stack([single(g), single(g)[::-1]], axis=1))


@bad(with_targets)
def targets_in_one_column(g: Good) -> Rows:
    return targets(g, single(g)[:, None])


@bad(with_targets)
def targets_in_one_dimension(g: Good) -> Rows:
    return targets(g, single(g))


@bad(with_targets)
def targets_in_three_dimensions(g: Good) -> Rows:
    return targets(g, np.zeros((len(g.X), 2, 2)))


@bad(with_targets)
def missing_target(g: Good) -> Rows:
    return targets(g, np.where(np.arange(len(g.X)) == 3, np.nan, g.y.T).T)


@bad(with_targets)
def infinite_target(g: Good) -> Rows:
    return targets(g, np.where(np.arange(len(g.X)) == 3, np.inf, g.y.T).T)


@bad(with_targets)
def same_target(g: Good) -> Rows:
    return targets(g, np.full_like(g.y, 3))


@bad(with_numbers)
def zeros_as_targets(g: Good) -> Rows:
    return targets(g, np.zeros_like(g.y))


@bad(with_numbers)
def negative_targets(g: Good) -> Rows:
    return targets(g, g.y - 5)


@bad(with_numbers)
def targets_far_from_zero(g: Good) -> Rows:
    return targets(g, g.y + 1e8)


@bad(with_numbers)
def text_as_targets(g: Good) -> Rows:
    return targets(g, np.full(g.y.shape, "a"))


@bad(with_numbers)
def numbers_spelt_as_text(g: Good) -> Rows:
    return targets(g, g.y.astype(str))


@bad(with_numbers)
def truth_values_as_targets(g: Good) -> Rows:
    return targets(g, g.y > np.median(g.y))


@bad(with_numbers, n=300)
def targets_of_a_byte(g: Good) -> Rows:
    return targets(g, np.rint(np.abs(g.y) * 20).clip(1, 120).astype(np.int8))


@bad(is_classifier)
def class_of_one_row(g: Good) -> Rows:
    return targets(g, np.where(np.arange(len(g.X)) == 4, 2, g.y > 0))


@bad(is_classifier)
def every_row_a_class(g: Good) -> Rows:
    return targets(g, np.arange(len(g.X)))


@bad(is_classifier)
def fractions_as_labels(g: Good) -> Rows:
    return targets(g, g.y + 0.5)


@bad(is_classifier)
def whole_floats_as_labels(g: Good) -> Rows:
    return targets(g, g.y.astype(float))


@bad(is_classifier)
def text_as_labels(g: Good) -> Rows:
    return targets(g, np.array(["no", "yes", "maybe"])[g.y])


@bad(is_classifier)
def objects_as_labels(g: Good) -> Rows:
    return targets(g, np.array(["no", "yes", "maybe"], dtype=object)[g.y])


@bad(is_classifier)
def truth_values_as_labels(g: Good) -> Rows:
    return targets(g, g.y > 0)


@bad(is_classifier)
def indicators_as_labels(g: Good) -> Rows:
    return targets(g, np.eye(3, dtype=int)[g.y])


@bad(is_classifier)
def separable(g: Good) -> Rows:
    return column(g, 10 * g.label, at=0)


@bad(is_classifier)
def two_separable_classes(g: Good) -> Rows:
    return column(g, 10 * (g.label > 0), at=0)._replace(y=(g.y > 0).astype(int))


# --- weights ----------------------------------------------------------------------------------------------------------


def weighed(g: Good, weight: Any) -> Rows:
    return Rows(g.X, g.y, weight)


def one_weight(g: Good, value: float) -> Rows:
    return weighed(g, np.where(np.arange(len(g.X)) == 4, value, g.rng.random(len(g.X))))


@bad(with_weights)
def weights(g: Good) -> Rows:
    return weighed(g, g.rng.random(len(g.X)))


@bad(with_weights)
def weightless_node(g: Good) -> Rows:
    key = g.X[:, 0] if g.y is None else single(g)
    return weighed(g, np.where(np.argsort(np.argsort(key, kind="stable")) < len(key) // 3, 0.0, g.rng.random(len(key))))


@bad(with_weights)
def weightless_class(g: Good) -> Rows:
    return weighed(g, (g.label > 0).astype(float))


@bad(lambda estimator: with_weights(estimator) and is_classifier(estimator))
def one_class_with_weight(g: Good) -> Rows:
    return weighed(g, (g.label == 1).astype(float))


@bad(with_weights)
def one_row_with_weight(g: Good) -> Rows:
    return weighed(g, (np.arange(len(g.X)) == 3).astype(float))


@bad(with_weights)
def weightless(g: Good) -> Rows:
    return weighed(g, np.zeros(len(g.X)))


@bad(with_weights)
def negative_weight(g: Good) -> Rows:
    return one_weight(g, -1.0)


@bad(with_weights)
def missing_weight(g: Good) -> Rows:
    return one_weight(g, np.nan)


@bad(with_weights)
def infinite_weight(g: Good) -> Rows:
    return one_weight(g, np.inf)


@bad(with_weights)
def huge_weights(g: Good) -> Rows:
    return weighed(g, 1e100 * g.rng.random(len(g.X)))


@bad(with_weights)
def tiny_weights(g: Good) -> Rows:
    return weighed(g, 1e-100 * g.rng.random(len(g.X)))


@bad(with_weights)
def weights_in_two_columns(g: Good) -> Rows:
    return weighed(g, g.rng.random((len(g.X), 2)))
