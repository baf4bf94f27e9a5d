"""scikit-learn's linear models of stochastic gradient descent as something that can be trained.

A model is one flat array: the coefficients of every binary problem (one per class, or a single one), then their
intercepts. Local epochs are scikit-learn's own; where a method bends the steps, plain gradient steps on the same
objective take their place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.linear_model import Perceptron, SGDClassifier, SGDRegressor
from sklearn.linear_model._stochastic_gradient import fit_binary

from atoll import models
from atoll.algorithms import Done, Drift, Learner
from atoll.algorithms.base import Slope
from atoll.errors import InvalidData, explain
from atoll.learners.balance import Balanced, log_odds
from atoll.learners.base import Layout, Model, Part, Turn, order_of
from atoll.learners.descent import Descent
from atoll.shards import Shard
from atoll.specs import programs
from atoll.trees import Array, Tree

__all__ = ["LOSSES", "Linear", "linear"]

_Loss = Callable[[Array, Array, float], tuple[Array, Array]]


def _hinge(y: Array, p: Array, at: float) -> tuple[Array, Array]:
    inside = y * p <= at
    return np.where(inside, at - y * p, 0.0), np.where(inside, -y, 0.0)


def _squared_hinge(y: Array, p: Array, _: float) -> tuple[Array, Array]:
    gap = np.maximum(1 - y * p, 0.0)
    return gap**2, -2 * y * gap


def _log_loss(y: Array, p: Array, _: float) -> tuple[Array, Array]:
    return np.logaddexp(0.0, p) - y * p, expit(p) - y


def _modified_huber(y: Array, p: Array, _: float) -> tuple[Array, Array]:
    z = y * p
    near, far = np.maximum(1 - z, 0.0), z < -1
    return np.where(far, -4 * z, near**2), np.where(far, -4 * y, -2 * y * near)


def _squared(y: Array, p: Array, _: float) -> tuple[Array, Array]:
    return (p - y) ** 2 / 2, p - y


def _huber(y: Array, p: Array, width: float) -> tuple[Array, Array]:
    slope = np.clip(p - y, -width, width)
    return slope * (p - y) - slope**2 / 2, slope


def _insensitive(y: Array, p: Array, width: float) -> tuple[Array, Array]:
    over = np.abs(y - p) - width
    return np.maximum(over, 0.0), np.where(over > 0, np.sign(p - y), 0.0)


def _squared_insensitive(y: Array, p: Array, width: float) -> tuple[Array, Array]:
    over = np.maximum(np.abs(y - p) - width, 0.0)
    return over**2, 2 * over * np.sign(p - y)


LOSSES: dict[str, _Loss] = {
    "hinge": lambda y, p, _: _hinge(y, p, 1.0),
    "squared_hinge": _squared_hinge,
    "perceptron": lambda y, p, _: _hinge(y, p, 0.0),
    "log_loss": _log_loss,
    "modified_huber": _modified_huber,
    "squared_error": _squared,
    "huber": _huber,
    "epsilon_insensitive": _insensitive,
    "squared_epsilon_insensitive": _squared_insensitive,
}
"""scikit-learn's losses by name: ``(y, prediction, epsilon) -> (loss, slope)``, row by row."""


class Linear:
    """A program: SGDClassifier, SGDRegressor or Perceptron.

    Rows of a classifier are seen through the view `codes`.

    Parameters
    ----------
    estimator : SGDClassifier, SGDRegressor or Perceptron
        Unfitted; it is used up.
    n_features : int
        Columns.
    class_weight : ndarray of shape (C,) or (0,)
        What each class counts for; empty for a regressor.
    per_epoch : float
        By how much the clock of scikit-learn's learning rates moves on in an epoch: the mean number of a node's rows.
    use : str
        Names the random streams that order the rows.
    """

    def __init__(self, estimator: Any, n_features: int, class_weight: Array, per_epoch: float, use: str) -> None:
        self.estimator, self.class_weight, self.per_epoch, self.use = estimator, class_weight, per_epoch, use
        self.n_classes, self.n_features = len(class_weight), n_features
        self.problems = self.n_classes if self.n_classes > 2 else 1
        quiet = {"tol": None, "shuffle": False, "verbose": 0, "early_stopping": False, "average": False}
        unused = np.random.RandomState(0)  # rows come in order; one that is made already saves its making in every pass
        vars(estimator).update(quiet, random_state=unused, classes_=np.arange(self.n_classes))
        estimator._loss_function_ = estimator._get_loss_function(estimator.loss)

    @property
    def layout(self) -> Layout:
        """Coefficients, then intercepts."""
        B, d = self.problems, self.n_features
        return Part("coef_", 0, (B, d)), Part("intercept_", B * d, (B,))

    def start(self, seed: int) -> Model:
        """Zeros, as in scikit-learn."""
        return Model(np.zeros(self.layout[-1].stop), np.zeros(0), self.layout)

    def check(self, shard: Shard) -> None:
        """Refuse rows without targets, or with another number of columns."""
        if shard.y is None:
            raise InvalidData(explain("these rows have no targets", where=f"node {shard.name!r}"))
        if shard.n_features != self.n_features:
            got, expected = f"{shard.n_features} columns", str(self.n_features)
            raise InvalidData(explain("these rows do not fit the model", got=got, expected=expected))

    def learner(self, shard: Shard, turn: Turn) -> Learner:
        """A node's rows with this loss; the estimator's own steps, or plain ones where the local settings say so."""
        rows = _Rows(self, shard, turn.balanced)
        return rows.learner(turn) if turn.local.optimizer == "sgd" else _Own(rows, turn)

    def judge(self, shard: Shard, w: Array, buffers: Array) -> Tree:
        """Sums over a node's rows: the losses of the binary problems without penalty, and rows answered right."""
        rows = _Rows(self, shard)
        p = rows.scores(w, None)
        loss = LOSSES[self.estimator.loss](rows.binary(None), p, self.estimator.epsilon)[0].sum()
        said = p.argmax(axis=1) if self.problems > 1 else (p[:, 0] > 0).astype(int)
        right = np.count_nonzero(said == rows.y) if self.n_classes else 0
        return {n: np.array([float(v)]) for n, v in {"loss": loss, "right": right, "rows": shard.n_rows}.items()}


class _Rows:
    """A node's rows, and the objective at any point."""

    def __init__(self, program: Linear, shard: Shard, balanced: Balanced | None = None) -> None:
        self.program, self.X, self.n_rows = program, shard.X, shard.n_rows
        self.y: Array = shard.columns["code"] if program.n_classes else np.asarray(shard.y).ravel()
        own = shard.columns.get("sample_weight")
        self.weights: Array = np.ones(shard.n_rows) if own is None else own
        self.tilt: Array = np.zeros(program.problems)
        if balanced is not None and balanced.weights is not None:
            self.weights = self.weights * balanced.weights[self.y]
        if balanced is not None and balanced.logits is not None:
            self.tilt = log_odds(balanced.logits)[-program.problems :]

    def learner(self, turn: Turn) -> Descent:
        """Plain gradient steps."""
        return Descent(self.of, self.outputs, self.n_rows, turn)

    def taken(self, rows: Array | None, dtype: Any) -> Any:
        """Some rows, in the precision of the model."""
        return (self.X if rows is None else self.X[rows]).astype(dtype, copy=False)

    def split(self, w: Array) -> tuple[Array, Array]:
        """Coefficients of shape (B, d) and intercepts of shape (B,), views of the flat array."""
        end = self.program.problems * self.program.n_features
        return w[:end].reshape(self.program.problems, -1), w[end:]

    def scores(self, w: Array, rows: Array | None) -> Array:
        """What every binary problem says of some rows, shape (n, B)."""
        coef, intercept = self.split(w)
        said: Array = self.taken(rows, w.dtype) @ coef.T + intercept
        return said

    def outputs(self, w: Array) -> tuple[Array, Array]:
        """The scores of all rows, and the rows."""
        return self.scores(w, None), self.taken(None, w.dtype)

    def binary(self, rows: Array | None) -> Array:
        """Targets of every binary problem, shape (n, B): -1 and 1, or 0 and 1 for the log loss, as in scikit-learn."""
        y = self.y if rows is None else self.y[rows]
        if not self.program.n_classes:
            return y[:, None]
        own = np.arange(self.program.problems) if self.program.problems > 1 else np.array([1])
        hit: Array = (y[:, None] == own).astype(np.float64)
        return hit if self.program.estimator.loss == "log_loss" else 2 * hit - 1

    def counts(self, rows: Array | None, target: Array) -> Array:
        """What a row counts for in every binary problem, class weights included, shape (n, B)."""
        weight: Array = (self.weights if rows is None else self.weights[rows])[:, None]
        of_class, B = self.program.class_weight, self.program.problems
        if not len(of_class):
            return weight
        if B == 1:
            weight = weight * np.where(target > 0, of_class[1], of_class[0])
            return weight
        weight = weight * np.where(target > 0, of_class, 1.0)
        return weight

    def of(self, w: Array, rows: Array | None) -> tuple[float, Array]:
        """The objective, summed over the binary problems, and its flat gradient."""
        est, (coef, _) = self.program.estimator, self.split(w)
        target = self.binary(rows)
        loss, slope = LOSSES[est.loss](target, self.scores(w, rows) + self.tilt.astype(w.dtype), est.epsilon)
        count, n = self.counts(rows, target), max(len(target), 1)
        slope = (slope * count / n).astype(w.dtype, copy=False)
        penalty, pull = self.penalty(coef)
        inner = np.asarray((self.taken(rows, w.dtype).T @ slope).T) + pull
        outer = slope.sum(axis=0) if est.fit_intercept else np.zeros_like(w, shape=self.program.problems)
        return float((loss * count).sum() / n) + penalty, np.concatenate([inner.ravel(), outer]).astype(
            w.dtype, copy=False
        )

    def penalty(self, coef: Array) -> tuple[float, Array]:
        """The penalty, summed over the binary problems, and its slope."""
        est = self.program.estimator
        l1 = {"l2": 0.0, "l1": 1.0, "elasticnet": est.l1_ratio}.get(est.penalty)
        if l1 is None:
            return 0.0, np.zeros_like(coef)
        size = est.alpha * ((1 - l1) * (coef**2).sum() / 2 + l1 * np.abs(coef).sum())
        return float(size), est.alpha * ((1 - l1) * coef + l1 * np.sign(coef))


class _Own:
    """A `Learner` that goes through the rows as scikit-learn does: a step for each, at the estimator's own rates.

    The loss is the objective at the model that was sent: scikit-learn keeps that of its steps to itself.
    """

    def __init__(self, rows: _Rows, turn: Turn) -> None:
        self._rows, self._turn = rows, turn
        self.n_rows, self.weight, self.rate = rows.n_rows, turn.weight, float(turn.local.lr)  # type: ignore[arg-type]

    def gradient(self, w: Array, rows: Array | None = None) -> tuple[float, Array]:
        """The objective and its gradient at `w`, over all rows or some."""
        return self._rows.of(w, rows)

    def outputs(self, w: Array) -> tuple[Array, Array]:
        """The scores of each row, and the rows."""
        return self._rows.outputs(w)

    def train(
        self,
        w: Array,
        drift: Drift | None = None,
        *,
        use: str = "rows",
        only: Array | None = None,
        slope: Callable[[Slope, Array], tuple[float, Array]] | None = None,
        steps: int | None = None,
    ) -> Done:
        """Train from `w` by scikit-learn's own loop over the rows; such steps are not bent."""
        if only is not None or slope is not None or (drift is not None and drift != Drift()):
            hint = "give local=sgd(…)"
            raise InvalidData(explain("the estimator's own steps cannot be bent by a method", hint=hint))
        local, ctx, y = self._turn.local, self._turn.ctx, w.copy()
        left = self._turn.count(self.n_rows, steps)
        t, taken = 1.0 + ctx.step * local.epochs * self._rows.program.per_epoch, 0
        while taken < left:
            order = order_of(self._turn, self.n_rows, f"{use}/{self._rows.program.use}", taken // self.n_rows)
            order = order[: left - taken]
            self._pass(y, order, t + taken)
            taken += len(order)
        return Done(y, self.rate * taken, taken, float(taken), self._rows.of(w, None)[0], self.weight)

    def _pass(self, w: Array, order: Array, t: float) -> None:
        """One pass over some rows, in place."""
        rows, est = self._rows, self._rows.program.estimator
        X, y = rows.taken(order, w.dtype), rows.y[order]
        weights = rows.weights[order].astype(w.dtype)
        coef, intercept = rows.split(w)
        est.t_, est.eta0 = t, self.rate
        if not rows.program.n_classes:
            est.coef_, est.intercept_ = coef[0], intercept
            est._fit_regressor(X, y.astype(w.dtype), est.alpha, est.loss, est.learning_rate, weights, 1)
            intercept[:] = est.intercept_
            return
        est.coef_, intercept[:] = coef, intercept + rows.tilt
        est.intercept_ = intercept.copy()
        of_class, B, none = rows.program.class_weight, rows.program.problems, np.zeros(len(order), dtype=np.bool_)
        for i in range(B):
            which = i if B > 1 else 1
            negative = 1.0 if B > 1 else of_class[0]
            coef[i], intercept[i], _ = fit_binary(
                est, which, X, y, est.alpha, est.learning_rate, 1, of_class[which], negative, weights,
                validation_mask=none, random_state=est.random_state,
            )  # fmt: skip
        intercept -= rows.tilt


@programs.register("sklearn.sgd")
def linear(*, n_features: int, per_epoch: float, use: str = "", arrays: Tree) -> Linear:
    """A linear model of stochastic gradient descent by name.

    Parameters
    ----------
    n_features : int
        Columns.
    per_epoch : float
        By how much the clock of the learning rates moves on in an epoch.
    use : str
        Names the random streams that order the rows.
    arrays : Tree
        `estimator`: an unfitted SGDClassifier, SGDRegressor or Perceptron as data, uint8; `class_weight` of shape (C,).

    Returns
    -------
    Linear
    """
    allow = (Perceptron, SGDClassifier, SGDRegressor)
    estimator = models.from_bytes(arrays["estimator"].tobytes(), allow=allow)
    return Linear(estimator, n_features, arrays["class_weight"], per_epoch, use)
