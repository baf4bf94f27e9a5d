"""Decompositions, exact: the triangle of all columns, then scikit-learn's own steps on rows that have this triangle.

With the mean and the triangle of the centred rows, a few made-up rows are found that have the same mean and, but for a
factor, the same products of columns as all rows together. scikit-learn's own `fit` runs on them; what depends on the
number of rows is put right afterwards.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import helmert, svd
from sklearn.base import clone
from sklearn.decomposition import PCA, FactorAnalysis, TruncatedSVD
from sklearn.decomposition._pca import _infer_dimension
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from atoll.combine import Extrema, Moments, Triangle
from atoll.recipes.base import recipe
from atoll.recipes.subspace import Leading, is_wide
from atoll.rounds import Rounds
from atoll.schema import Schema
from atoll.trees import Array

__all__ = ["StandIn", "fit_factor_analysis", "fit_pca", "fit_truncated_svd", "stand_in"]


class StandIn(NamedTuple):
    """Few rows that stand for many.

    Attributes
    ----------
    n : int
        How many rows are stood for.
    mean : ndarray of shape (d,)
        Their mean.
    rows : ndarray of shape (m, d)
        ``m = min(n, d + 1)`` rows of mean zero whose products of columns, summed, are those of the centred rows.
    """

    n: int
    mean: Array
    rows: Array

    @property
    def share(self) -> float:
        """Rows that stand, as a share of those they stand for."""
        return len(self.rows) / self.n


def stand_in(rounds: Rounds) -> StandIn:
    """Ask for the triangle of all columns, and make few rows of it.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows.

    Returns
    -------
    StandIn
        The rows are the triangle, rotated by Helmert's matrix (Lancaster, 1965) so that their mean is zero. A column
        whose spread is rounding is constant.
    """
    answer = rounds.round("decomposition.triangle", combine=Triangle())
    n, mean, triangle = rounds.schema.n_rows, answer["centre"], answer["R"][1:, 1:].copy()
    spread = np.linalg.norm(triangle, axis=0)
    triangle[:, spread <= 16 * np.finfo(np.float64).eps * math.sqrt(n) * np.abs(mean)] = 0
    m = min(n, len(mean) + 1)
    if m <= len(mean):
        _, values, vectors = svd(triangle)
        triangle = values[: m - 1, None] * vectors[: m - 1]
    return StandIn(n, mean, helmert(m).T @ triangle)


@recipe(PCA)
def fit_pca(estimator: PCA, rounds: Rounds) -> PCA:
    """Exact: mean and triangle in one round, and every solver on it.

    `full`, `covariance_eigh` and `arpack` are scikit-learn's full decomposition of the merged triangle. `randomized`
    is its randomized one with the same draws, whose answer depends on the triangle alone; with fewer rows than columns
    the draws would be one per row, and it is the full decomposition too. Where there are thousands of columns,
    `arpack` and `randomized` run by rounds instead (`atoll.recipes.subspace`).
    """
    schema = rounds.schema
    n, d, asked = schema.n_rows, schema.n_features, estimator.n_components
    solver = _solver(estimator, schema)
    components = asked if asked is not None else min(n, d) - (solver == "arpack")
    _check_components(components, solver, n, d)
    if solver in ("arpack", "randomized") and is_wide(d, components):
        return _wide_pca(estimator, rounds, int(components), solver)
    few = stand_in(rounds)
    degrees = (len(few.rows) - 1) / (n - 1) if n > 1 else 1.0
    made = clone(estimator).set_params(
        svd_solver=_on_triangle(solver, n, d), random_state=_seeded(estimator, rounds), copy=True,
        n_components=None if components == "mle" else components,
    )  # fmt: skip
    made.fit(few.rows * math.sqrt(degrees))
    if components == "mle":
        made.set_params(n_components=_infer_dimension(made.explained_variance_, n)).fit(few.rows * math.sqrt(degrees))
    made.mean_, made.n_samples_, made._fit_svd_solver = few.mean, n, solver
    made.singular_values_ = made.singular_values_ / math.sqrt(degrees)
    fitted: PCA = _handed_over(made, estimator, schema.dtype)
    return fitted


def _solver(estimator: PCA, schema: Schema) -> str:
    """The solver that scikit-learn would choose for the pooled rows."""
    n, d, solver = schema.n_rows, schema.n_features, str(estimator.svd_solver)
    if schema.sparse and solver not in ("auto", "arpack", "covariance_eigh"):
        raise TypeError(
            'PCA only support sparse inputs with the "arpack" and "covariance_eigh" solvers, while '
            f'"{solver}" was passed. See TruncatedSVD for a possible alternative.'
        )
    if solver != "auto":
        return solver
    if schema.sparse:
        return "arpack"
    if d <= 1_000 and n >= 10 * d:
        return "covariance_eigh"
    if max(n, d) <= 500 or estimator.n_components == "mle":
        return "full"
    components = min(n, d) if estimator.n_components is None else estimator.n_components
    return "randomized" if 1 <= components < 0.8 * min(n, d) else "full"


def _check_components(components: Any, solver: str, n: int, d: int) -> None:
    """What scikit-learn refuses, in its words."""
    least = min(n, d)
    if solver in ("full", "covariance_eigh"):
        if components == "mle" and n < d:
            raise ValueError("n_components='mle' is only supported if n_samples >= n_features")
        if components != "mle" and not 0 <= components <= least:
            raise ValueError(
                f"n_components={components} must be between 0 and min(n_samples, n_features)={least} with "
                f"svd_solver={solver!r}"
            )
        return
    if isinstance(components, str):
        raise ValueError(f"n_components={components!r} cannot be a string with svd_solver='{solver}'")
    strictly = "strictly less than" if solver == "arpack" and components == least else "between 1 and"
    if strictly != "between 1 and" or not 1 <= components <= least:
        raise ValueError(
            f"n_components={components!r} must be {strictly} min(n_samples, n_features)={least!r} with "
            f"svd_solver='{solver}'"
        )


def _wide_pca(estimator: PCA, rounds: Rounds, k: int, solver: str) -> PCA:
    """scikit-learn's steps of a truncated solver, from the singular values on."""
    n, d, rng = rounds.schema.n_rows, rounds.schema.n_features, check_random_state(_seeded(estimator, rounds))
    moments = rounds.round("columns.moments", combine=Moments(), settings={"weighted": False})
    leading, total = Leading(rounds, moments["mean"]), moments["m2"].sum() / (n - 1)
    if solver == "arpack":
        values, vectors = leading.arpack(k, estimator.tol, rng)
    else:
        values, vectors = leading.randomized(k, estimator.n_oversamples, estimator.iterated_power, rng)
    made = clone(estimator)
    made.mean_, made.components_, made.singular_values_ = moments["mean"], vectors, values
    made.explained_variance_ = values**2 / (n - 1)
    made.explained_variance_ratio_ = made.explained_variance_ / total
    rest = min(n, d) - k
    made.noise_variance_ = (total - made.explained_variance_.sum()) / rest if rest else 0.0
    made.n_samples_, made.n_components_, made._fit_svd_solver = n, k, solver
    fitted: PCA = _handed_over(made, estimator, rounds.schema.dtype)
    return fitted


def _on_triangle(solver: str, n: int, d: int) -> str:
    """The solver for the rows that stand in: the one that loses no digits, where it has as many components."""
    if solver == "randomized" and n >= d:
        return solver
    return "covariance_eigh" if solver == "covariance_eigh" and n <= d else "full"


@recipe(TruncatedSVD)
def fit_truncated_svd(estimator: TruncatedSVD, rounds: Rounds) -> TruncatedSVD:
    """Exact: mean and triangle in one round; the solver runs on rows that have them, with the same draws.

    Where there are fewer rows than columns, the randomized solver's draws would be one per row, and are others. Where
    there are thousands of columns, solvers run by rounds instead (`atoll.recipes.subspace`).
    """
    if is_wide(rounds.schema.n_features, estimator.n_components):
        return _wide_svd(estimator, rounds)
    few = stand_in(rounds)
    made = clone(estimator).set_params(random_state=_seeded(estimator, rounds))
    made.fit(few.rows * math.sqrt(few.share) + few.mean)
    made.singular_values_ = made.singular_values_ / math.sqrt(few.share)
    fitted: TruncatedSVD = _handed_over(made, estimator, rounds.schema.dtype)
    return fitted


def _wide_svd(estimator: TruncatedSVD, rounds: Rounds) -> TruncatedSVD:
    """scikit-learn's steps, and one round more for the variance along each vector."""
    n, d, k = rounds.schema.n_rows, rounds.schema.n_features, estimator.n_components
    leading, rng = Leading(rounds, np.zeros(d)), check_random_state(_seeded(estimator, rounds))
    if estimator.algorithm == "arpack":
        if k >= min(n, d):
            raise ValueError("`k` must be an integer satisfying `0 < k < min(A.shape)`.")
        values, vectors = leading.arpack(k, estimator.tol, rng)
    else:
        values, vectors = leading.randomized(k, estimator.n_oversamples, estimator.n_iter, rng)
    moments = rounds.round("columns.moments", combine=Moments(), settings={"weighted": False})
    products = Leading(rounds, moments["mean"]).products(vectors.T)
    made = clone(estimator)
    made.components_, made.singular_values_ = vectors, values
    made.explained_variance_ = np.einsum("kd,dk->k", vectors, products) / n
    made.explained_variance_ratio_ = made.explained_variance_ / (moments["m2"].sum() / n)
    fitted: TruncatedSVD = _handed_over(made, estimator, rounds.schema.dtype)
    return fitted


@recipe(FactorAnalysis)
def fit_factor_analysis(estimator: FactorAnalysis, rounds: Rounds) -> FactorAnalysis:
    """Exact: mean and triangle in one round; scikit-learn's iterations run on rows that have them.

    Their log-likelihood counts as many rows as there are, so the tolerance is scaled and the log-likelihood put right.
    With `randomized` a factor's sign is such that the row that reaches farthest along it does so on its positive side,
    which takes one more round. Where there are fewer rows than columns, `randomized` would draw one number per row, and
    draws others.
    """
    few = stand_in(rounds)
    made = clone(estimator).set_params(
        tol=estimator.tol * few.share, copy=True, rotation=None, random_state=_seeded(estimator, rounds)
    )
    made.fit(few.rows * math.sqrt(few.share))
    if estimator.svd_method == "randomized" and made.components_.size:
        made.components_ *= _signs(made.components_ / _last_noise(made, few), few.mean, rounds)[:, None]
    if estimator.rotation is not None:
        made.components_ = estimator._rotate(made.components_)
    made.mean_ = few.mean
    made.loglike_ = [value / few.share for value in made.loglike_]
    fitted: FactorAnalysis = _handed_over(made, estimator, "float64")
    return fitted


def _last_noise(made: FactorAnalysis, few: StandIn) -> Array:
    """The noise that the last iteration began with; where that did not converge, one iteration less tells it."""
    gain = np.diff(made.loglike_[-2:])
    noise: Array = made.noise_variance_
    if made.n_iter_ < made.max_iter or (gain < made.tol).any():
        return noise
    if made.n_iter_ == 1:
        first = made.noise_variance_init
        return np.ones_like(noise) if first is None else np.asarray(first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the fit has given it
        noise = clone(made).set_params(max_iter=made.n_iter_ - 1).fit(few.rows * math.sqrt(few.share)).noise_variance_
    return noise


def _signs(directions: Array, mean: Array, rounds: Rounds) -> Array:
    """For each direction, in rows, the side to which the farthest row lies: 1 or -1."""
    payload = {"directions": directions.T, "mean": mean}
    told = rounds.round("decomposition.reach", payload, combine=Extrema())
    return np.where(told["max"] >= -told["min"], 1.0, -1.0)


def _seeded(estimator: Any, rounds: Rounds) -> Any:
    """The estimator's own random state, or a seed of the run where it has none."""
    if estimator.random_state is not None:
        return estimator.random_state
    return int(rounds.rng("random_state").integers(2**31 - 1))


def _handed_over(made: Any, estimator: Any, dtype: str) -> Any:
    """Give the estimator what was fitted, in the dtype of the rows; its parameters stay as they are."""
    parameters = set(estimator.get_params(deep=False))
    for name, value in vars(made).items():
        if name not in parameters:
            floats = isinstance(value, np.ndarray | np.generic) and value.dtype == np.float64
            setattr(estimator, name, value.astype(dtype) if floats else value)
    return estimator
