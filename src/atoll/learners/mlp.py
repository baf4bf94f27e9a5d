"""scikit-learn's multi-layer perceptrons as something that can be trained: its own loss, gradient and optimizers.

The parameters are one flat array, coefficients of all layers before intercepts, as scikit-learn packs them; an
estimator whose `coefs_` and `intercepts_` are views of that array does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.neural_network._base import LOSS_FUNCTIONS
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils import check_random_state

from atoll import models
from atoll.algorithms import Done, Drift, Learner
from atoll.algorithms.base import Slope
from atoll.errors import InvalidData, explain
from atoll.learners.balance import Balanced, log_odds
from atoll.learners.base import Layout, Model, Part, Turn, batches
from atoll.learners.descent import Descent
from atoll.shards import Shard
from atoll.specs import programs
from atoll.trees import Array, Tree

__all__ = ["Perceptron", "layout_of", "mlp", "optimizer_of", "views_of"]


def layout_of(layers: Sequence[int]) -> Layout:
    """Where the parameters of a network lie.

    Parameters
    ----------
    layers : sequence of int
        Units of every layer, columns and outputs among them.

    Returns
    -------
    Layout
        ``coefs_[i]``, then ``intercepts_[i]``.
    """
    shapes = [(f"coefs_[{i}]", pair) for i, pair in enumerate(pairwise(layers))]
    shapes += [(f"intercepts_[{i}]", (n,)) for i, n in enumerate(layers[1:])]  # type: ignore[misc]
    parts: list[Part] = []
    for name, shape in shapes:
        parts.append(Part(name, parts[-1].stop if parts else 0, shape))
    return tuple(parts)


def views_of(w: Array, layout: Layout) -> list[Array]:
    """The parts of a flat array, each in its shape; what is changed in them is changed in the array."""
    return [w[part.start : part.stop].reshape(part.shape) for part in layout]


def optimizer_of(estimator: Any, params: list[Array], buffers: Array, layout: Layout, lr: float) -> Any:
    """scikit-learn's optimizer of an estimator, in the state that the buffers hold.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its solver is ``"sgd"`` or ``"adam"``.
    params : list of ndarray
        What it moves.
    buffers : ndarray of shape (P,) or (2 P + 1,)
        Velocities; or first moments, second moments, and how many steps they have seen.
    layout : Layout
        Of the parameters.
    lr : float
        The rate.

    Returns
    -------
    SGDOptimizer or AdamOptimizer
        Holds views of the buffers until its first step.
    """
    if estimator.solver == "sgd":
        made = SGDOptimizer(params, lr, "constant", estimator.momentum, estimator.nesterovs_momentum)
        made.velocities = views_of(buffers, layout)
        return made
    made = AdamOptimizer(params, lr, estimator.beta_1, estimator.beta_2, estimator.epsilon)
    P = layout[-1].stop
    made.ms, made.vs, made.t = views_of(buffers, layout), views_of(buffers[P:], layout), float(buffers[-1])
    return made


class Perceptron:
    """A program: a multi-layer perceptron of scikit-learn.

    Rows of a classifier are seen through the view `codes`, unless it has several outputs.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Unfitted; it is used up.
    layers : list of int
        Units of every layer, columns and outputs among them.
    out : str
        What the last layer does, as scikit-learn names it.
    use : str
        Names the random streams that order the rows.
    """

    def __init__(self, estimator: Any, layers: Sequence[int], out: str, use: str) -> None:
        self.estimator, self.layout, self.use = estimator, layout_of(layers), use
        self.n_layers, self.n_outputs = len(layers), layers[-1]
        self.classifies = hasattr(estimator, "predict_proba")
        estimator.n_layers_, estimator.n_outputs_, estimator.out_activation_ = len(layers), layers[-1], out
        self._layers = list(layers)

    @property
    def buffered(self) -> int:
        """How many numbers the optimizer keeps."""
        P = self.layout[-1].stop
        return P if self.estimator.solver == "sgd" else 2 * P + 1

    def start(self, seed: int) -> Model:
        """Where scikit-learn begins with this seed, in float64."""
        self.estimator._random_state = check_random_state(seed)
        drawn = [self.estimator._init_coef(*pair, np.float64) for pair in pairwise(self._layers)]
        flat = [coef.ravel() for coef, _ in drawn] + [intercept for _, intercept in drawn]
        return Model(np.concatenate(flat), np.zeros(self.buffered), self.layout)

    def check(self, shard: Shard) -> None:
        """Refuse rows without targets, or with as many columns or targets as the network has not."""
        if shard.y is None:
            raise InvalidData(explain("these rows have no targets", where=f"node {shard.name!r}"))
        if shard.n_features != self._layers[0]:
            got, expected = f"{shard.n_features} columns", f"{self._layers[0]}, as the first layer has"
            raise InvalidData(explain("these rows do not fit the network", got=got, expected=expected))

    def learner(self, shard: Shard, turn: Turn) -> Learner:
        """A node's rows with this loss; the estimator's own steps, or plain ones where the local settings say so."""
        rows = _Rows(self, shard, turn.balanced)
        return rows.learner(turn) if turn.local.optimizer == "sgd" else _Own(rows, turn)

    def judge(self, shard: Shard, w: Array, buffers: Array) -> Tree:
        """Sums over a node's rows: the loss without its penalty, and for classifiers how many were answered right."""
        rows = _Rows(self, shard)
        said = rows.forward(w, None)[-1]
        loss = LOSS_FUNCTIONS[_loss_name(self.estimator)](rows.y, said, None) * shard.n_rows
        right = np.count_nonzero(_right(self.estimator.out_activation_, said, rows.y)) if self.classifies else 0
        sums = {"loss": loss, "right": right, "rows": shard.n_rows}
        return {name: np.array([float(value)]) for name, value in sums.items()}


def _loss_name(estimator: Any) -> str:
    binary = estimator.loss == "log_loss" and estimator.out_activation_ == "logistic"
    return "binary_log_loss" if binary else str(estimator.loss)


def _right(out: str, said: Array, y: Array) -> Array:
    """Which rows a classifier answers right."""
    same: Array = said.argmax(axis=1) == y.argmax(axis=1) if out == "softmax" else ((said > 0.5) == y).all(axis=1)
    return same


class _Rows:
    """A node's rows, and the network at any point."""

    def __init__(self, program: Perceptron, shard: Shard, balanced: Balanced | None = None) -> None:
        self.net, self.layout, self.use = program.estimator, program.layout, program.use
        self.X, self.n_rows = shard.X, shard.n_rows
        self.y = _targets(shard, program.n_outputs, program.classifies)
        self.weights: Array | None = shard.columns.get("sample_weight")
        self.of_class: Array | None = None
        self.tilt: Array | None = None
        if balanced is not None and balanced.weights is not None:
            self.of_class = balanced.weights[shard.columns["code"]]
        if balanced is not None and balanced.logits is not None:
            self.tilt = balanced.logits if program.n_outputs > 1 else log_odds(balanced.logits)[1:]

    def learner(self, turn: Turn) -> Descent:
        """Plain gradient steps."""
        return Descent(self.of, self.outputs, self.n_rows, turn)

    def forward(self, w: Array, rows: Array | None) -> list[Array]:
        """What every layer says, the rows first."""
        X = self.X if rows is None else self.X[rows]
        self._at(views_of(w, self.layout))
        X = X.astype(w.dtype, copy=False)
        said: list[Array] = self.net._forward_pass([X] + [None] * (self.net.n_layers_ - 1))
        return said

    def _at(self, params: list[Array]) -> None:
        half = len(params) // 2
        self.net.coefs_, self.net.intercepts_ = params[:half], params[half:]

    def outputs(self, w: Array) -> tuple[Array, Array]:
        """The last layer of all rows before its activation, and what goes into it."""
        said, params = self.forward(w, None), views_of(w, self.layout)
        return said[-2] @ params[len(params) // 2 - 1] + params[-1], said[-2]

    def slopes(self, params: list[Array], rows: Array | None) -> tuple[float, list[Array]]:
        """Mean loss of some rows and its gradient, part by part, by scikit-learn's own propagation."""
        self._at(params if self.tilt is None else [*params[:-1], params[-1] + self.tilt.astype(params[-1].dtype)])
        pick: Any = slice(None) if rows is None else rows
        X, y = self.X[pick].astype(params[0].dtype, copy=False), self.y[pick]
        weights, share = self._counts(pick)
        n = self.net.n_layers_ - 1
        acts, lists = [X] + [None] * n, ([None] * n, [None] * n, [None] * n)
        loss, coefs, intercepts = self.net._backprop(X, y, weights, acts, *lists)
        if share == 1.0:
            return float(loss), [*coefs, *intercepts]
        return float(loss * share), [g * g.dtype.type(share) for g in (*coefs, *intercepts)]

    def _counts(self, pick: Any) -> tuple[Array | None, float]:
        """What rows count for, and their sum over that without weights of classes: means divide by the latter."""
        own = None if self.weights is None else self.weights[pick]
        if self.of_class is None:
            return own, 1.0
        of_class = self.of_class[pick]
        both = of_class if own is None else own * of_class
        return both, float(both.sum() / (len(both) if own is None else own.sum()))

    def weightless(self, rows: Array | None) -> bool:
        """Whether none of some rows counts."""
        if self.weights is None:
            return False
        return not (self.weights if rows is None else self.weights[rows]).any()

    def of(self, w: Array, rows: Array | None) -> tuple[float, Array]:
        """Mean loss and flat gradient."""
        if self.weightless(rows):
            return 0.0, np.zeros_like(w)
        loss, parts = self.slopes(views_of(w, self.layout), rows)
        return loss, np.concatenate([g.ravel() for g in parts]).astype(w.dtype, copy=False)


def _targets(shard: Shard, n_outputs: int, classifies: bool) -> Array:
    """Targets as scikit-learn's `fit` encodes them, shape (n, n_outputs)."""
    if not classifies:
        y: Array = np.asarray(shard.y)
        return y.reshape(-1, n_outputs)
    if shard.y is not None and shard.y.ndim == 2:
        return shard.y.astype(bool)
    code = shard.columns["code"][:, None]
    hit: Array = code == (np.array([1]) if n_outputs == 1 else np.arange(n_outputs))
    return hit


class _Own:
    """A `Learner` that takes the estimator's own steps; what its optimizer keeps are the `buffers`."""

    def __init__(self, rows: _Rows, turn: Turn) -> None:
        self._rows, self._turn = rows, turn
        self.n_rows, self.weight, self.rate = rows.n_rows, turn.weight, float(turn.local.lr)  # type: ignore[arg-type]
        self.buffers = turn.buffers

    def gradient(self, w: Array, rows: Array | None = None) -> tuple[float, Array]:
        """Mean loss and gradient at `w`, over all rows or some."""
        return self._rows.of(w, rows)

    def outputs(self, w: Array) -> tuple[Array, Array]:
        """What the network says of each row, and what comes before its last layer."""
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
        """Train from `w` by scikit-learn's optimizer; such steps are not bent."""
        if only is not None or slope is not None or (drift is not None and drift != Drift()):
            hint = "give local=sgd(…)"
            raise InvalidData(explain("the estimator's own steps cannot be bent by a method", hint=hint))
        rows, y = self._rows, w.copy()
        params = views_of(y, rows.layout)
        optimizer = optimizer_of(rows.net, params, self.buffers, rows.layout, self.rate)
        total, seen, taken = 0.0, 0, 0
        for batch in batches(self._turn, self.n_rows, f"{use}/{rows.use}", steps):
            if rows.weightless(batch):
                continue
            loss, gradients = rows.slopes(params, batch)
            optimizer.update_params(params, gradients)
            total, seen, taken = total + loss * len(batch), seen + len(batch), taken + 1
        self.buffers = _kept(optimizer, self.buffers)
        return Done(y, self.rate * taken, taken, float(taken), total / max(seen, 1), self.weight)


def _kept(optimizer: Any, before: Array) -> Array:
    """What an optimizer keeps, flat."""
    sgd = isinstance(optimizer, SGDOptimizer)
    parts = optimizer.velocities if sgd else [*optimizer.ms, *optimizer.vs, np.array([float(optimizer.t)])]
    return np.concatenate([part.ravel() for part in parts]).astype(before.dtype, copy=False)


@programs.register("sklearn.mlp")
def mlp(*, layers: Sequence[int], out: str, use: str = "", arrays: Tree) -> Perceptron:
    """A multi-layer perceptron by name.

    Parameters
    ----------
    layers : sequence of int
        Units of every layer, columns and outputs among them.
    out : str
        What the last layer does, as scikit-learn names it.
    use : str
        Names the random streams that order the rows.
    arrays : Tree
        `estimator`: an unfitted MLPClassifier or MLPRegressor as data, uint8.

    Returns
    -------
    Perceptron
    """
    estimator = models.from_bytes(arrays["estimator"].tobytes(), allow=(MLPClassifier, MLPRegressor))
    return Perceptron(estimator, list(layers), out, use)
