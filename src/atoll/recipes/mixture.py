"""Mixtures of Gaussians, exact: scikit-learn's own loop, each step of expectation one round.

scikit-learn's `fit` runs as it is, on made-up rows, with its steps replaced: expectation asks the nodes, maximisation
works from their sums. So convergence, restarts, warm starts, priors and warnings are scikit-learn's.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.random import RandomState
from sklearn.cluster import KMeans
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.mixture._gaussian_mixture import (
    _compute_precision_cholesky,
    _compute_precision_cholesky_from_precisions,
)

from atoll.combine import Mean, Sum
from atoll.operations.mixtures import PARAMETERS
from atoll.recipes.base import fit_over, recipe
from atoll.recipes.seeding import of_nodes, plus_plus
from atoll.rounds import Rounds
from atoll.trees import Array, Tree

__all__ = ["Asked", "AskingBayesianGaussianMixture", "AskingGaussianMixture", "AskingMixture", "fit_mixture"]

_SECOND = {"full": "full", "tied": "none", "diag": "diag", "spherical": "diag"}


class Asked:
    """What the nodes tell about the rows, and how means and covariances follow.

    Sums are about the pooled mean, the `origin`. What follows from them is what scikit-learn's
    `_estimate_gaussian_parameters` finds for the same responsibilities.

    Parameters
    ----------
    rounds : Rounds
        The way to the nodes.
    covariance_type : {"full", "tied", "diag", "spherical"}
        Form of the covariances.
    reg_covar : float
        Added to variances.
    """

    def __init__(self, rounds: Rounds, covariance_type: str, reg_covar: float) -> None:
        self.rounds = rounds
        self.covariance_type = covariance_type
        self.reg_covar = reg_covar
        self.dtype = np.dtype(rounds.schema.dtype)
        self.origin = rounds.round("statistics.sums", combine=Mean())["x"]

    def sums(self, op: str, about: Array, arrays: Tree | None = None, **settings: Any) -> Tree:
        """Ask for sums, with more arrays in the message and more settings."""
        payload = {"origin": self.origin, "about": about, **(arrays or {})}
        settings = {"second": _SECOND[self.covariance_type], **settings}
        return {**self.rounds.round(op, payload, combine=Sum(), settings=settings), "about": about}

    def of_rows(self, rows: Array) -> Tree:
        """The sums where each component starts from one row, given less the origin, and all others are in none."""
        K, d = rows.shape
        second = {"full": np.zeros((K, d, d)), "diag": np.square(rows), "none": np.zeros(0)}
        return {"n": np.ones(K), "first": rows, "second": second[_SECOND[self.covariance_type]], "about": rows}

    def spread(self, second: str) -> Array:
        """Summed squares (``diag``) or products (``full``) of all rows less their mean."""
        whole = self.sums("mixtures.assigned", np.zeros((1, len(self.origin))), second=second)
        first: Array = whole["first"][0] / self.rounds.schema.n_rows
        squares = np.outer(first, first) if second == "full" else np.square(first)
        scatter: Array = whole["second"][0] - self.rounds.schema.n_rows * squares
        return scatter

    @cached_property
    def scatter(self) -> Array:
        """Summed products of all rows less their mean, (d, d)."""
        return self.spread("full")

    def parameters(self, sums: Tree, dtype: np.dtype[Any]) -> tuple[Array, Array, Array]:
        """Sums to sizes, means and covariances; `dtype` is that of scikit-learn's responsibilities."""
        ten = 10 * float(np.finfo(dtype).eps)
        size = sums["n"] + ten
        centred = (sums["first"] - ten * self.origin) / size[:, None]
        means = self.origin + centred
        if self.covariance_type == "tied":
            covariances = self._tied(sums, size, centred)
        elif self.covariance_type == "full":
            covariances = _full(sums, size, centred)
            np.einsum("kii->ki", covariances)[...] += self.reg_covar
        else:
            squares = sums["second"] - centred * (2 * sums["first"] - sums["n"][:, None] * centred)
            covariances = (squares + ten * np.square(means)) / size[:, None] + self.reg_covar
            covariances = covariances if self.covariance_type == "diag" else covariances.mean(axis=1)
        return size, means, covariances

    def _tied(self, sums: Tree, size: Array, centred: Array) -> Array:
        covariance: Array = self.scatter - (size[:, None] * centred).T @ centred
        if (missing := self.rounds.schema.n_rows - sums["n"].sum()) > 0.5:  # rows that start in no component
            off = np.outer(sums["first"].sum(axis=0), self.origin)
            covariance += missing * np.outer(self.origin, self.origin) - off - off.T
        covariance /= size.sum()
        covariance[np.diag_indices(len(covariance))] += self.reg_covar
        return covariance


def _full(sums: Tree, size: Array, centred: Array) -> Array:
    """Scatter about what was agreed to scatter about the means: both are near, so nothing is lost."""
    n, about = sums["n"][:, None], sums["about"]
    step, off = centred - about, sums["first"] - n * about
    cross = off[:, :, None] * step[:, None, :]
    squares = sums["second"] - cross - cross.transpose(0, 2, 1) + n[:, :, None] * step[:, :, None] * step[:, None, :]
    covariances: Array = squares / size[:, None, None]
    return covariances


class AskingMixture:
    """Mixed in before a mixture of scikit-learn: its steps ask the nodes instead of looking at rows."""

    _nodes: Asked
    _over: bool = False

    def _initialize_parameters(self, X: Any, random_state: RandomState, xp: Any = None) -> None:
        mixture: Any = self
        given = [getattr(self, f"{name}_init", None) for name in ("weights", "means", "precisions")]
        mixture._initialize(X, _start(mixture, random_state) if any(part is None for part in given) else None)

    def _e_step(self, X: Any, xp: Any = None) -> tuple[Any, Any]:
        """The mean log-likelihood, and sums in place of responsibilities; nothing is asked once all is over."""
        mixture: Any = self
        if self._over:
            return 0.0, np.zeros((1, 1))
        kind = type(self).__name__
        model = {name: np.asarray(getattr(self, name), dtype=np.float64) for name in PARAMETERS[kind]}
        model["means_"] = model["means_"] - self._nodes.origin
        about = mixture.__dict__.pop("_about", model["means_"])
        settings = {"kind": kind, "covariance_type": mixture.covariance_type}
        if kind == "BayesianGaussianMixture":
            settings["weight_concentration_prior_type"] = mixture.weight_concentration_prior_type
        sums = self._nodes.sums("mixtures.expect", about, model, **settings)
        return sums["log_likelihood"][0] / self._nodes.rounds.schema.n_rows, sums

    def _estimated(self, sums: Tree, dtype: Any) -> tuple[Array, Array, Array]:
        size, means, covariances = self._nodes.parameters(sums, dtype)
        self._about = means - self._nodes.origin
        return size, means, covariances

    def _set_parameters(self, params: Any, xp: Any = None) -> None:
        parent: Any = super()
        parent._set_parameters(params, xp=xp)
        self._over = True


class AskingGaussianMixture(AskingMixture, GaussianMixture):
    """A mixture of Gaussians whose steps ask the nodes."""

    def _initialize(self, X: Any, resp: Any, xp: Any = None) -> None:
        weights = means = covariances = None
        if resp is not None:
            size, means, covariances = self._estimated(resp, self._nodes.dtype)
            weights = size / self._nodes.rounds.schema.n_rows
        self.weights_ = weights if self.weights_init is None else np.asarray(self.weights_init)
        self.means_ = means if self.means_init is None else self.means_init
        if self.precisions_init is None:
            self.covariances_ = covariances
            self.precisions_cholesky_ = _compute_precision_cholesky(covariances, self.covariance_type)
        else:
            precisions, form = np.asarray(self.precisions_init), self.covariance_type
            self.precisions_cholesky_ = _compute_precision_cholesky_from_precisions(precisions, form, xp=np)

    def _m_step(self, X: Any, log_resp: Any, xp: Any = None) -> None:
        size, self.means_, covariances = self._estimated(log_resp, self._nodes.dtype)
        self.weights_ = size / size.sum()
        self.covariances_ = covariances.astype(self._nodes.dtype)
        self.precisions_cholesky_ = _compute_precision_cholesky(self.covariances_, self.covariance_type)

    def _compute_lower_bound(self, log_resp: Any, log_prob_norm: Any) -> Any:
        return self._nodes.dtype.type(log_prob_norm)

    def _get_parameters(self) -> Any:
        return tuple(part.astype(self._nodes.dtype) for part in super()._get_parameters())


class AskingBayesianGaussianMixture(AskingMixture, BayesianGaussianMixture):
    """A variational mixture of Gaussians whose steps ask the nodes."""

    def _check_means_parameters(self, X: Any) -> None:
        super()._check_means_parameters(X)
        if self.mean_prior is None:
            self.mean_prior_ = self._nodes.origin.astype(self._nodes.dtype)

    def _checkcovariance_prior_parameter(self, X: Any) -> None:
        if self.covariance_prior is not None:
            super()._checkcovariance_prior_parameter(X)
            return
        n = self._nodes.rounds.schema.n_rows
        if self.covariance_type in ("full", "tied"):
            self.covariance_prior_ = self._nodes.scatter / (n - 1)
            return
        variance = (self._nodes.spread("diag") / (n - 1)).astype(self._nodes.dtype)
        self.covariance_prior_ = variance if self.covariance_type == "diag" else variance.mean()

    def _initialize(self, X: Any, resp: Any) -> None:
        self._update(resp, self._nodes.dtype)

    def _m_step(self, X: Any, log_resp: Any, xp: Any = None) -> None:
        self._update(log_resp, np.float64)

    def _update(self, sums: Tree, dtype: Any) -> None:
        size, means, covariances = self._estimated(sums, dtype)
        self._estimate_weights(size)
        self._estimate_means(size, means)
        self._estimate_precisions(size, means, covariances)

    def _compute_lower_bound(self, log_resp: Any, log_prob_norm: Any) -> Any:
        return super()._compute_lower_bound(np.zeros((1, 1)), log_prob_norm) + log_resp["entropy"][0]


def _start(mixture: Any, random_state: RandomState) -> Tree:
    """Sums for the responsibilities that `init_params` asks for; draws are those of scikit-learn."""
    nodes: Asked = mixture._nodes
    K, n, how = mixture.n_components, nodes.rounds.schema.n_rows, mixture.init_params
    if how == "kmeans":
        found = fit_over(KMeans(n_clusters=K, n_init=1, random_state=random_state), nodes.rounds)
        random_state.set_state(found.random_state.get_state())  # a clone has drawn from a copy
        return nodes.sums("mixtures.assigned", found.cluster_centers_ - nodes.origin)
    if how == "random":
        _, key, position, _, _ = random_state.get_state(legacy=True)
        stream = {"key": np.asarray(key), "position": np.array([position])}
        random_state.random_sample((n, K))
        return nodes.sums("mixtures.drawn", np.zeros((K, len(nodes.origin))), stream, dtype=nodes.dtype.str)
    rows = of_nodes(nodes.rounds, nodes.origin)
    if how == "k-means++":
        return nodes.of_rows(plus_plus(rows, K, random_state))
    return nodes.of_rows(rows.values(rows.ids(random_state.choice(n, size=K, replace=False))))


_ASKING = {GaussianMixture: AskingGaussianMixture, BayesianGaussianMixture: AskingBayesianGaussianMixture}
for _ordinary, _asking in _ASKING.items():
    _asking.__name__ = _ordinary.__name__  # in scikit-learn's messages, the name the user knows


@recipe(*_ASKING, iterative=True)
def fit_mixture(estimator: Any, rounds: Rounds) -> Any:
    """Exact: expectation maximisation (Dempster, Laird & Rubin, 1977) with sums of responsibilities, means and spreads.

    `init_params="random"` draws what scikit-learn draws for the pooled rows in the order of their ids.
    """
    schema = rounds.schema
    asking: Any = object.__new__(_ASKING[type(estimator)])
    vars(asking).update(vars(estimator))
    if estimator.random_state is None:
        asking.random_state = int(rounds.rng("mixture").integers(2**31 - 1))
    n = min(schema.n_rows, max(2, estimator.n_components))
    if schema.n_rows >= n:
        asking._nodes = Asked(rounds, estimator.covariance_type, estimator.reg_covar)
    asking.fit_predict(np.zeros((n, schema.n_features), dtype=schema.dtype))
    left_behind = ("_nodes", "_over", "_about", "random_state")
    vars(estimator).update({name: value for name, value in vars(asking).items() if name not in left_behind})
    return estimator
