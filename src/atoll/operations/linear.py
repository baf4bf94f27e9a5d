"""What least squares needs of the rows: one triangle of columns and targets, or their sums and products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from scipy.linalg.lapack import dpotrf, dtpqrt, dtrtri

from atoll.blas import has_small_kernels
from atoll.combine import Triangle
from atoll.context import Ctx
from atoll.errors import InvalidData, explain
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.shards import Shard, is_sparse, weights
from atoll.specs import Spec
from atoll.trees import Array, Tree
from atoll.views import views

__all__ = ["gram", "jittered", "n_targets", "products", "roots_of", "row_triangle", "sums", "targets_of", "triangle"]

_WELL = 100.0
_SMALL = 1e-140
_PANEL = 8
_CHUNK = 1 << 14
_PIECE = 1 << 17
_NEAR = 1 << 18
_BLOCK = 256
_WIDE = 16
_BLOCKED = range(_WIDE + 1, 97)


@operation(
    "linear.triangle",
    discloses="the means of columns and targets, and how all of them vary together, as a triangle",
    pieces=True,
    piece=1 << 20,
)
def triangle(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``R`` of shape (p, p) and ``centre`` (p - 1,), float64, p = 1 + d + T; for the combine `Triangle`.

    R is the triangular factor of the rows ``√w (1, x - centre, y - centre)``.

    Settings: `targets`, which is "numbers" (``y`` as it is), "classes" (1 for a row's class and -1 for the others, of
    the view `codes`; one column for two classes) or "labels" (1 for a label that is set and -1 otherwise), and
    `n_classes`.
    """
    return Reply(row_triangle(shard.X, targets_of(shard, ctx.settings), weights(shard)))


@operation("linear.sums", discloses="the sum of each column and target, and the sum of its sample weights", pieces=True)
def sums(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``total`` (1,), the weight of the rows, and ``sum`` (d + T,) of columns and targets, float64.

    Settings: `targets`, `n_classes`.
    """
    Y, w = targets_of(shard, ctx.settings), weights(shard)
    one = np.ones(shard.n_rows) if w is None else w
    return Reply(
        {"total": np.array([one.sum()]), "sum": np.concatenate([np.asarray(shard.X.T @ one).reshape(-1), Y.T @ one])}
    )


@operation("linear.gram", discloses="how all columns and targets vary together about agreed means", pieces=True)
def gram(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``gram`` (p, p), float64: ``AᵀA`` of the rows ``√w (1, x - mean, y - mean)``; payload `mean` (d + T,).

    Settings: `targets`, `n_classes`.
    """
    Y, w = targets_of(shard, ctx.settings), weights(shard)
    if is_sparse(shard.X):
        return Reply({"gram": _sparse_gram(shard.X, Y, roots_of(w, len(Y)), payload["mean"])})
    A = _rows(shard.X, Y, roots_of(w, len(Y)), payload["mean"])
    return Reply({"gram": products(A)})


def jittered(state: tuple[Any, ...], high: float, n: int) -> Spec:
    """The view that adds noise to targets, as scikit-learn draws it for the pooled rows.

    Parameters
    ----------
    state : tuple
        Of a Mersenne twister, as `numpy.random.RandomState.get_state` gives it.
    high : float
        Noise is uniform from 0 to this.
    n : int
        Rows of all nodes, with ids from 0 to n - 1.

    Returns
    -------
    Spec
    """
    return Spec("jittered", {"high": float(high), "n": int(n), "at": int(state[2])}, {"key": state[1]})


@views.register("jittered")
def _jittered(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    rng = np.random.RandomState()
    rng.set_state(("MT19937", arrays["key"], settings["at"], 0, 0.0))
    noise = rng.uniform(high=settings["high"], size=settings["n"])
    return replace(shard, y=np.asarray(shard.y, dtype=np.float64) + noise[shard.ids])


def n_targets(n_classes: int) -> int:
    """Columns that stand for so many classes: one for two of them."""
    return n_classes if n_classes > 2 else 1


def targets_of(shard: Shard, settings: dict[str, Any]) -> Array:
    """Targets as columns, float64 of shape (n, T); settings as for `triangle`."""
    kind = settings["targets"]
    if kind == "classes":
        code, T = shard.columns["code"], n_targets(settings["n_classes"])
        own = code[:, None] == (np.arange(T) if T > 1 else np.ones(1))
        return np.where(own, 1.0, -1.0)
    y = np.asarray(shard.y, dtype=np.float64)
    y = y[:, None] if y.ndim == 1 else y
    return np.where(y != 0, 1.0, -1.0) if kind == "labels" else y


def roots_of(w: Array | None, n: int) -> Array:
    """Roots of the weights of n rows, (n,), which count once where there are none."""
    return np.ones(n) if w is None else np.sqrt(w)


def _mean(rows: Any, w: Array) -> Array:
    """The weighted mean of some rows; zero where they have no weight."""
    total = w.sum()
    return np.asarray(rows.T @ w).reshape(-1) / (total if total > 0 else 1.0)


def _centre(X: Array, Y: Array, w: Array | None) -> Array:
    """The weighted mean of columns and targets; to the last bit where a column is constant."""
    one = np.ones(len(Y)) if w is None else w
    if not one.any():
        return np.zeros(X.shape[1] + Y.shape[1])
    means = []
    for columns in (X, Y):
        mean = _mean(columns, one)
        near = np.flatnonzero(np.abs(mean - columns[0]) <= 1e-12 * np.abs(mean))
        constant = near[(columns[:, near] == columns[0, near]).all(axis=0)]
        mean[constant] = columns[0, constant]
        means.append(mean)
    return np.concatenate(means)


def _rows(X: Array, Y: Array, root: Array, centre: Array) -> Array:
    """The rows ``√w (1, x - centre, y - centre)``, float64 of shape (n, p)."""
    d = X.shape[1]
    A = np.empty((len(Y), 1 + len(centre)))
    A[:, 0] = 1
    np.subtract(X, centre[:d], out=A[:, 1 : d + 1])
    np.subtract(Y, centre[d:], out=A[:, d + 1 :])
    if not (root == 1).all():
        A *= root[:, None]
    return A


def row_triangle(X: Any, Y: Array, w: Array | None) -> Tree:
    """The triangle of the rows ``√w (1, x - centre, y - centre)``.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
        Columns.
    Y : ndarray of shape (n, T)
        Targets; T may be 0.
    w : ndarray of shape (n,) or None
        Weights.

    Returns
    -------
    Tree
        ``R`` (1 + d + T, 1 + d + T) and ``centre`` (d + T,), float64, for the combine `Triangle`. The centre of columns
        is zero where that provably costs no digits, and their mean otherwise.

    Raises
    ------
    InvalidData
        If squares of the numbers are not finite.
    """
    root, d = roots_of(w, len(Y)), X.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused in the end
        centre = np.concatenate([np.zeros(d), _mean(Y, root if w is None else w)])
        R = _by_products(X, Y - centre[d:], root, weighted=w is not None)
    if R is not None:
        return {"R": R, "centre": centre}
    if not is_sparse(X):
        return _about_mean(X, Y, w, root)
    size = max(2 * len(centre), _PIECE // len(centre))
    pieces = [slice(i, i + size) for i in range(0, max(len(Y), 1), size)]
    return reduce(Triangle().add, [row_triangle(X[s].toarray(), Y[s], None if w is None else w[s]) for s in pieces])


def _about_mean(X: Array, Y: Array, w: Array | None, root: Array) -> Tree:
    with np.errstate(over="ignore", invalid="ignore"):
        centre = _centre(X, Y, w)
        A = _rows(X, Y, root, centre)
        first, others = np.split(A, [1 + X.shape[1]], axis=1)
        R = _with_targets(products(first), first.T @ others, others, lambda coef: first @ coef)
    return {"R": _by_reflections(A) if R is None else R, "centre": centre}


def _by_products(X: Any, Y: Array, root: Array, weighted: bool) -> Array | None:
    """The triangle of the rows ``√w (1, x, y)``, columns as they are, dense or sparse; None where that costs digits."""
    X, one = X.astype(np.float64, copy=False), root[:, None]
    if weighted:
        X, Y = X.multiply(one).tocsr() if is_sparse(X) else one * X, one * Y
    gram = np.empty((1 + X.shape[1], 1 + X.shape[1]))
    gram[1:, 1:], rest = _with_others(X, np.concatenate([one, Y], axis=1) if Y.shape[1] else one)
    gram[0, 0], gram[0, 1:], gram[1:, 0] = root @ root, rest[:, 0], rest[:, 0]
    across = np.concatenate([(root @ Y)[None], rest[:, 1:]])
    return _with_targets(gram, across, Y, lambda coef: X @ coef[1:] + one * coef[0])


def _with_others(X: Any, others: Array) -> tuple[Array, Array]:
    """``XᵀX`` and ``Xᵀ others``; of dense rows some at a time, so that they are read once."""
    (n, d), k = X.shape, others.shape[1]
    if is_sparse(X):
        return (X.T @ X).toarray(), np.asarray(X.T @ others)
    own, cross = np.zeros((d, d)), np.zeros((d, k))
    by_blocks = _go_by_blocks(d)
    step = _BLOCK * -(-max(_NEAR // max(d, 1), d, 1) // _BLOCK)
    for start in range(0, n, step):
        rows = X[start : start + step]
        if by_blocks:
            _add_by_blocks(own, rows)
        else:
            own += rows.T @ rows
        cross += rows.T @ others[start : start + step]
    return np.triu(own) + np.triu(own, 1).T if by_blocks else own, cross


def products(A: Array) -> Array:
    """The products of columns, ``AᵀA``.

    Parameters
    ----------
    A : ndarray of shape (n, p), float64
        Rows.

    Returns
    -------
    ndarray of shape (p, p), float64
        Symmetric. Where the BLAS multiplies small matrices without packing them, some hundred rows are multiplied at a
        time, a few columns with those to their right.
    """
    return _with_others(A, A[:, :0])[0] if _go_by_blocks(A.shape[1]) else A.T @ A


def _go_by_blocks(p: int) -> bool:
    """Whether the BLAS multiplies blocks of so many columns as they lie, and takes longer over all of them at once."""
    return has_small_kernels() and p in _BLOCKED


def _add_by_blocks(own: Array, A: Array) -> None:
    """Add ``AᵀA`` to some products, of which only those on and right of the diagonal count from then on (in place)."""
    whole, p = len(A) - len(A) % _BLOCK, A.shape[1]
    rows = A[:whole].reshape(-1, _BLOCK, p)
    columns = rows.transpose(0, 2, 1)
    for i in range(0, p, _WIDE):
        own[i : i + _WIDE, i:] += np.matmul(columns[:, i : i + _WIDE], rows[:, :, i:]).sum(axis=0)
    if whole < len(A):
        own += A[whole:].T @ A[whole:]


def _with_targets(gram: Array, across: Array, Y: Array, fit: Callable[[Array], Array]) -> Array | None:
    """The triangle of rows, of their columns by Cholesky; None where that would cost digits.

    What columns leave of the targets is made row by row and triangulated by reflections, so targets that are fitted
    almost without error, or depend on each other as classes do, lose no digits either.
    """
    found = _by_cholesky(gram)
    if found is None:
        return None
    q, p = len(gram), len(gram) + Y.shape[1]
    R = np.zeros((p, p))
    R[:q, :q], inverse = found
    if p == q:
        return R
    R[:q, q:] = inverse.T @ across
    R[q:, q:] = _by_reflections(Y - fit(inverse @ R[:q, q:]))
    return R


def _by_cholesky(gram: Array) -> tuple[Array, Array] | None:
    """The triangle of rows from their Gram matrix, and its inverse, both (p, p); None where that would cost digits.

    With columns scaled to length 1, products are off by the machine's precision u times a small number, so the result
    is the triangle of rows whose columns differ from the true ones by at most that times ``|R⁻¹|``, relative to their
    length (Yamamoto et al., 2015, "Roundoff error analysis of the CholeskyQR2 algorithm"). At most 100 u is let pass.
    """
    length = np.sqrt(np.diagonal(gram))
    if not np.isfinite(gram).all() or ((length > 0) & (length < _SMALL)).any():
        return None
    by = np.where(length > 0, length, 1.0)
    scaled = gram / by / by[:, None]
    np.fill_diagonal(scaled, 1.0)
    R, fails = dpotrf(scaled, clean=1)
    if fails:
        return None
    inverse = np.triu(dtrtri(R)[0])
    if np.linalg.norm(inverse) > _WELL:
        return None
    return R * length, inverse / by[:, None]


def _by_reflections(A: Array) -> Array:
    """The triangle of rows by Householder's reflections, (p, p), its diagonal not negative."""
    n, p = A.shape
    R = np.zeros((p, p), order="F")
    step = max(64, _CHUNK // max(p, 1))
    for start in range(0, n if p else 0, step):
        below = np.asfortranarray(A[start : start + step])
        R = dtpqrt(0, min(p, _PANEL), R, below, overwrite_a=1, overwrite_b=1)[0]
    if not np.isfinite(R).all():
        raise InvalidData(explain("the squares of these numbers are not finite", hint="scale columns and targets down"))
    return np.ascontiguousarray(R * np.where(np.diagonal(R) < 0, -1.0, 1.0)[:, None])


def _sparse_gram(X: Any, Y: Array, root: Array, centre: Array) -> Array:
    """``AᵀA`` of the rows ``√w (1, x - centre, y - centre)`` without making them dense."""
    d = X.shape[1]
    scaled = X.astype(np.float64).multiply(root[:, None]).tocsr()
    rest = root[:, None] * np.column_stack([np.ones(len(Y)), Y - centre[d:]])
    c, total = centre[:d], np.square(root).sum()
    s = np.asarray(scaled.T @ root).reshape(-1)
    of_rest = scaled.T @ rest - np.outer(c, root @ rest)
    full = np.empty((1 + len(centre), 1 + len(centre)))
    order = np.r_[0, d + 1 : len(full)]
    full[1 : d + 1, 1 : d + 1] = (
        (scaled.T @ scaled).toarray() - np.outer(s, c) - np.outer(c, s) + total * np.outer(c, c)
    )
    full[np.ix_(np.arange(1, d + 1), order)] = of_rest
    full[np.ix_(order, np.arange(1, d + 1))] = of_rest.T
    full[np.ix_(order, order)] = rest.T @ rest
    return full
