"""The answer to unequal classes: rare classes weigh more, are adjusted for, or are drawn more often.

A `Balance` travels: which answer, and how many rows each class has in all. On a node it becomes a `Balanced`, in
numbers for that node's rows, which stands in its `Turn`. Who draws batches by `batches` honours ``labels``; who
computes a loss honours ``weights`` and ``logits``, as `softmax_loss` does.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator
from scipy.special import logsumexp, softmax

from atoll.algorithms.settings import positive
from atoll.errors import InvalidData, UnknownName, closest, explain
from atoll.trees import Array

__all__ = [
    "Balance",
    "Balanced",
    "adjustments",
    "balance_of",
    "balanced_batches",
    "balanced_rows",
    "check_balance",
    "class_weights",
    "log_odds",
    "softmax_loss",
]

_KINDS = ("reweight", "logits", "sampler")


class Balance(NamedTuple):
    """How a training answers unequal classes.

    Attributes
    ----------
    kind : {"reweight", "logits", "sampler"}
        Losses weighted by class, logits adjusted by class, or batches in which classes are equally frequent.
    counts : ndarray of shape (C,), float64
        Rows of each class on all nodes together.
    prior : {"pooled", "node"}
        Whose class frequencies are answered: those of all nodes, or each node's own. The sampler draws by a node's own
        labels in any case, since it can only draw what is there.
    strength : float
        1 makes up for the frequencies in full; less does so in part: weights are raised to it, adjustments multiplied
        with it (τ of Menon et al.).
    """

    kind: Literal["reweight", "logits", "sampler"]
    counts: Array
    prior: Literal["pooled", "node"] = "pooled"
    strength: float = 1.0

    def on(self, labels: Array) -> Balanced:
        """What this comes to on a node.

        Parameters
        ----------
        labels : ndarray of shape (n,)
            Class numbers of its rows.

        Returns
        -------
        Balanced

        Raises
        ------
        InvalidData
            If a label is no number of a class.
        """
        codes = _codes(labels, len(self.counts))
        if self.kind == "sampler":
            return Balanced(labels=codes)
        counts = self.counts if self.prior == "pooled" else np.bincount(codes, minlength=len(self.counts))
        if self.kind == "reweight":
            return Balanced(weights=class_weights(counts, self.strength))
        return Balanced(logits=adjustments(counts, self.strength))


class Balanced(NamedTuple):
    """A `Balance` on one node; what is None is left alone.

    Attributes
    ----------
    weights : ndarray of shape (C,) or None
        What the loss of a row is multiplied by, by its class. The mean over a batch divides by rows, not by weights.
    logits : ndarray of shape (C,) or None
        Added to what the model says, in training only.
    labels : ndarray of shape (n,), int64, or None
        Class numbers of the node's rows, by which batches are drawn.
    """

    weights: Array | None = None
    logits: Array | None = None
    labels: Array | None = None


def check_balance(kind: str) -> None:
    """Refuse an answer that there is not.

    Raises
    ------
    UnknownName
        With the nearest one.
    """
    if kind not in _KINDS:
        raise UnknownName(explain(f"unknown answer to unequal classes {kind!r}", hint=closest(str(kind), _KINDS)))


def balance_of(kind: str, counts: Array, *, prior: str = "pooled", strength: float = 1.0) -> Balance:
    """Check and make a `Balance`.

    Parameters
    ----------
    kind : {"reweight", "logits", "sampler"}
        The answer.
    counts : array-like of shape (C,) or (n_nodes, C)
        Rows of each class: of all nodes, or of each as in ``Federation.report().counts``.
    prior : {"pooled", "node"}, default="pooled"
        Whose class frequencies are answered.
    strength : float, default=1
        How much of them is made up for.

    Returns
    -------
    Balance

    Raises
    ------
    UnknownName
        For another answer.
    InvalidData
        For other settings out of range, or counts that are none.

    Examples
    --------
    >>> from atoll.learners import balance_of
    >>> balance_of("reweight", [30, 10]).on([0, 0, 0, 1]).weights
    array([0.66666667, 2.        ])
    """
    check_balance(kind)
    if prior not in ("pooled", "node"):
        raise InvalidData(explain("unknown prior", got=repr(prior), expected="'pooled' or 'node'"))
    positive(strength=strength)
    table = np.asarray(counts, dtype=np.float64)
    pooled = table.sum(axis=0) if table.ndim == 2 else table
    if pooled.ndim != 1 or len(pooled) < 2 or not (pooled >= 0).all() or not 0 < pooled.sum() < np.inf:
        raise InvalidData(explain("counts of rows are of two classes or more", got=np.asarray(counts).tolist()))
    return Balance(kind, pooled, prior, float(strength))  # type: ignore[arg-type]


def class_weights(counts: Array, strength: float = 1.0) -> Array:
    """Weights by inverse class frequency: ``n / (C n_c)`` over the C classes that have rows, and 1 in the mean of rows.

    Parameters
    ----------
    counts : array-like of shape (C,)
        Rows of each class.
    strength : float, default=1
        What frequencies are raised to.

    Returns
    -------
    ndarray of shape (C,), float64
        0 for a class without rows.

    References
    ----------
    King & Zeng, "Logistic regression in rare events data", Political Analysis 9 (2001): scikit-learn's ``"balanced"``.
    """
    n = np.asarray(counts, dtype=np.float64)
    inverse = np.divide(1.0, n, out=np.zeros_like(n), where=n > 0) ** strength
    return np.asarray(inverse * n.sum() / max(float(inverse @ n), np.finfo(np.float64).tiny))


def adjustments(counts: Array, strength: float = 1.0) -> Array:
    """What is added to the logits in training, ``τ log π_c``, so that without it classes come out equally likely.

    Parameters
    ----------
    counts : array-like of shape (C,)
        Rows of each class; one without any counts as half a row.
    strength : float, default=1
        τ.

    Returns
    -------
    ndarray of shape (C,), float64

    References
    ----------
    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, equation 10. With each node's own prior: Zhang
    et al., "Federated learning with label distribution skew via logits calibration", ICML 2022.
    """
    n = np.maximum(np.asarray(counts, dtype=np.float64), 0.5)
    return np.asarray(strength * np.log(n / n.sum()))


def log_odds(logits: Array) -> Array:
    """What one-against-the-rest problems are adjusted by: the log odds of each class, where logits are those of all.

    Parameters
    ----------
    logits : ndarray of shape (C,)
        Adjustments of a softmax, up to a constant.

    Returns
    -------
    ndarray of shape (C,), float64
        ``a_c − log Σ_{j≠c} exp(a_j)``; with two classes the difference of the two.
    """
    others = np.where(np.eye(len(logits), dtype=bool), -np.inf, np.asarray(logits, dtype=np.float64))
    return np.asarray(logits - logsumexp(others, axis=1))


def balanced_rows(labels: Array, rng: Generator) -> Array:
    """As many rows as there are, in an order in which classes take turns, so that any stretch of it is balanced.

    Rows of a rare class come again once all of them have come; of a frequent class some do not come at all.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Class numbers.
    rng : Generator
        What is drawn comes from here.

    Returns
    -------
    ndarray of shape (n,), int64
    """
    n = len(labels)
    present = np.unique(labels)
    if not n:
        return np.zeros(0, dtype=np.int64)
    turns = rng.permuted(np.tile(present, (-(-n // len(present)), 1)), axis=1).ravel()[:n]
    rows = np.empty(n, dtype=np.int64)
    for c in present:
        places, own = np.flatnonzero(turns == c), np.flatnonzero(labels == c)
        passes = [rng.permutation(own) for _ in range(-(-len(places) // len(own)))]
        rows[places] = np.concatenate([np.zeros(0, dtype=np.int64), *passes])[: len(places)]
    return rows


def balanced_batches(labels: Array, size: int, rng: Generator) -> list[Array]:
    """The batches of one pass, each with about as many rows of any class as of any other.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Class numbers.
    size : int
        Rows of a batch.
    rng : Generator
        What is drawn comes from here.

    Returns
    -------
    list of ndarray
    """
    rows = balanced_rows(labels, rng)
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def softmax_loss(logits: Array, labels: Array, balanced: Balanced | None = None) -> tuple[float, Array]:
    """Mean cross-entropy of a softmax, and its gradient: how weights and adjustments of classes enter a loss.

    ``(1/n) Σ w_y (log Σ_c exp(z_c + a_c) − z_y − a_y)``

    Parameters
    ----------
    logits : ndarray of shape (n, C)
        What the model says, z.
    labels : ndarray of shape (n,)
        Class numbers, y.
    balanced : Balanced, optional
        Weights w and adjustments a.

    Returns
    -------
    loss : float
    gradient : ndarray of shape (n, C)
        With respect to the logits.
    """
    z = logits if balanced is None or balanced.logits is None else logits + balanced.logits.astype(logits.dtype)
    rows, y = np.arange(len(z)), labels.astype(np.int64)
    plain = balanced is None or balanced.weights is None
    weight = np.ones(len(z), z.dtype) if plain else balanced.weights[y].astype(z.dtype)  # type: ignore[index, union-attr]
    weight = weight / max(len(z), 1)
    g = softmax(z, axis=1)
    g[rows, y] -= 1
    return float(weight @ (logsumexp(z, axis=1) - z[rows, y])), g * weight[:, None]


def _codes(labels: Array, n_classes: int) -> Array:
    given = np.asarray(labels)
    if given.ndim != 1 or given.dtype.kind not in "biuf" or (given != np.floor(given)).any():
        got = f"{given.dtype} of shape {given.shape}"
        raise InvalidData(explain("classes are balanced by class numbers, one per row", got=got))
    codes = given.astype(np.int64)
    if len(codes) and not 0 <= codes.min() <= codes.max() < n_classes:
        got = f"from {codes.min()} to {codes.max()}"
        raise InvalidData(explain("a label is no class number", got=got, expected=f"from 0 to {n_classes - 1}"))
    return codes
