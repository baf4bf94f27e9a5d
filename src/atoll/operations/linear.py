"""What least squares needs of the rows: one triangle, and how far each row lies from a fit without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from scipy.linalg.lapack import dpotrf, dtpqrt, dtrtri

from atoll.combine import Triangle
from atoll.context import Ctx
from atoll.errors import InvalidData, explain
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.shards import Shard, is_sparse, weights
from atoll.specs import Spec
from atoll.trees import Array, Tree
from atoll.views import views

__all__ = [
    "fold_triangles",
    "gram",
    "jittered",
    "left_out",
    "left_out_errors",
    "n_targets",
    "part_of",
    "right",
    "sums",
    "triangle",
]

_WELL = 100.0
_SMALL = 1e-140
_PANEL = 8
_CHUNK = 1 << 14
_PIECE = 1 << 17


@operation(
    "linear.triangle",
    discloses="the means of columns and targets, and how all of them vary together, as a triangle",
    pieces=True,
)
def triangle(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``R`` of shape (p, p) and ``centre`` (p - 1,), float64, p = 1 + d + T; for the combine `Triangle`.

    R is the triangular factor of the rows ``√w (1, x - centre, y - centre)``.

    Settings: `targets`, which is "numbers" (``y`` as it is), "classes" (1 for a row's class and -1 for the others, of
    the view `codes`; one column for two classes) or "labels" (1 for a label that is set and -1 otherwise), and
    `n_classes`.
    """
    return Reply(_triangle(shard.X, _targets(shard, ctx.settings), weights(shard)))


@operation(
    "linear.folds",
    discloses="for each part of a cross-validation, the means of columns and targets, and how they vary together",
    pieces=True,
)
def fold_triangles(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """As `triangle`, for each part: ``R`` (K, p, p) and ``centre`` (K, p - 1), float64.

    Which part a row belongs to follows from its id, see `part_of`. Settings further: `n_parts` and `n_rows`.

    Raises
    ------
    InvalidData
        If an id is not below `n_rows`, so that ids do not tell a row's place among all rows.
    """
    if shard.ids.max(initial=-1) >= ctx.settings["n_rows"]:
        hint = "search from outside: GridSearchCV over Distributed, or Federation.search"
        raise InvalidData(explain("rows were left out, so their ids do not tell which fold they are in", hint=hint))
    Y, w = _targets(shard, ctx.settings), weights(shard)
    part = part_of(shard, payload)
    made = [
        _triangle(shard.X[of], Y[of], None if w is None else w[of])
        for of in (part == k for k in range(ctx.settings["n_parts"]))
    ]
    return Reply({name: np.stack([tree[name] for tree in made]) for name in ("R", "centre")})


def part_of(shard: Shard, payload: Tree) -> Array:
    """The part of a cross-validation that each row belongs to, (n,), int64.

    Payload `start` and `part` of shape (c, runs): rows with an id from ``start[i]`` on, up to the next, belong to
    ``part[i]``; with c > 1 each class, a column `code`, has a line of its own.
    """
    start, part = payload["start"], payload["part"]
    if len(start) == 1:
        return np.asarray(part[0][np.searchsorted(start[0], shard.ids, side="right") - 1])
    code, found = shard.columns["code"], np.empty(shard.n_rows, dtype=np.int64)
    for c in range(len(start)):
        of = code == c
        found[of] = part[c][np.searchsorted(start[c], shard.ids[of], side="right") - 1]
    return found


@operation("linear.sums", discloses="the sum of each column and target, and the sum of its sample weights", pieces=True)
def sums(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``total`` (1,), the weight of the rows, and ``sum`` (d + T,) of columns and targets, float64.

    Settings: `targets`, `n_classes`.
    """
    Y, w = _targets(shard, ctx.settings), weights(shard)
    one = np.ones(shard.n_rows) if w is None else w
    return Reply({"total": np.array([one.sum()]), "sum": _weighted_sum(shard.X, Y, one)})


@operation("linear.gram", discloses="how all columns and targets vary together about agreed means", pieces=True)
def gram(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``gram`` (p, p), float64: ``AᵀA`` of the rows ``√w (1, x - mean, y - mean)``; payload `mean` (d + T,).

    Settings: `targets`, `n_classes`.
    """
    Y, w = _targets(shard, ctx.settings), weights(shard)
    if is_sparse(shard.X):
        return Reply({"gram": _sparse_gram(shard.X, Y, _roots(w, len(Y)), payload["mean"])})
    A = _rows(shard.X, Y, _roots(w, len(Y)), payload["mean"])
    return Reply({"gram": A.T @ A})


@operation(
    "linear.left_out",
    discloses="how far targets lie from what ridge regression without their row says, summed over rows",
    pieces=True,
)
def left_out(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``score`` of shape (T, A), float64: summed errors of targets for A penalties, each from a fit without the row.

    With ``z = √w (x - mean) basis`` an error is ``e = (own √w (y - mean) + z fit) / (own (1 - w / total) + z²
    leverage)`` (Rifkin & Lippert, 2007, "Notes on regularized least squares"). Payload: `mean` (d + T,), `basis` (d,
    r), `leverage` (r, A), `fit` (r, T, A), and `own` and `total` of shape (1,); `total` is infinity without intercept.
    Settings: `targets`, `n_classes`, and `score`: sums of "squares" e², of "signed" errors ``√w e``, of "magnitudes"
    ``√w |e|``, or of the weights of rows whose largest prediction is at their largest target, "right".
    """
    if not shard.n_rows:
        return Reply({"score": np.full(payload["fit"].shape[1:], np.nan)})  # it may be: a row alone leaves nothing
    error, Y, root = left_out_errors(shard, payload, ctx.settings)
    return Reply({"score": _SCORES[ctx.settings["score"]](error, Y, root)})


def left_out_errors(shard: Shard, payload: Tree, settings: dict[str, Any]) -> tuple[Array, Array, Array]:
    """The errors e of `left_out` for each row, (n, T, A); the targets (n, T); and √w of shape (n,)."""
    Y, w = _targets(shard, settings), weights(shard)
    d, root = shard.n_features, _roots(w, len(Y))
    mean, basis, own = payload["mean"], payload["basis"], payload["own"]
    if is_sparse(shard.X):
        z = root[:, None] * (shard.X @ basis - mean[:d] @ basis)
    else:
        z = root[:, None] * ((shard.X - mean[:d]) @ basis)
    below = own * (1 - np.square(root) / payload["total"])[:, None] + np.square(z) @ payload["leverage"]
    above = own * (root[:, None] * (Y - mean[d:]))[:, :, None] + np.tensordot(z, payload["fit"], axes=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return above / below[:, None, :], Y, root


def _right(error: Array, Y: Array, root: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        told = Y[:, :, None] - error / root[:, None, None]
    hit = told.argmax(axis=1) == Y.argmax(axis=1)[:, None]
    return np.repeat((np.square(root) @ hit)[None], Y.shape[1], axis=0)


_SCORES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "squares": lambda error, Y, root: np.square(error).sum(axis=0),
    "signed": lambda error, Y, root: np.tensordot(root, error, axes=1),
    "magnitudes": lambda error, Y, root: np.tensordot(root, np.abs(error), axes=1),
    "right": _right,
}


@operation(
    "linear.right", discloses="for each of some models, the weight of chosen rows that it classifies right", pieces=True
)
def right(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``right`` (M,), float64: the weight of those rows of a model's parts whose class it tells.

    Payload: `start` and `part` as for `part_of`, `coef` (M, T, d), `intercept` (M, T), and `tests` (M, K), truth
    values: which parts a model is tested on. Settings: `targets`, `n_classes`; a row with several labels is right if
    all of them are.
    """
    Y, w = _targets(shard, ctx.settings), weights(shard)
    several, part = ctx.settings["targets"] == "labels" or Y.shape[1] == 1, part_of(shard, payload)
    hits = np.zeros(len(payload["coef"]))
    for m, (coef, intercept, tests) in enumerate(
        zip(payload["coef"], payload["intercept"], payload["tests"], strict=True)
    ):
        of = tests[part]
        scores = shard.X[of] @ coef.T + intercept
        each = (scores > 0) == (Y[of] > 0)
        hit = each.all(axis=1) if several else scores.argmax(axis=1) == Y[of].argmax(axis=1)
        hits[m] = hit.sum() if w is None else w[of] @ hit
    return Reply({"right": hits})


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


def _targets(shard: Shard, settings: dict[str, Any]) -> Array:
    """Targets as columns, float64 of shape (n, T)."""
    kind, n = settings["targets"], shard.n_rows
    if kind == "classes":
        code, T = shard.columns["code"], n_targets(settings["n_classes"])
        own = code[:, None] == (np.arange(T) if T > 1 else np.ones(1))
        return np.where(own, 1.0, -1.0)
    y = np.asarray(shard.y, dtype=np.float64).reshape(n, *([-1] if n else [_width(shard)]))
    return np.where(y != 0, 1.0, -1.0) if kind == "labels" else y


def _width(shard: Shard) -> int:
    return 1 if shard.y is None or shard.y.ndim == 1 else int(shard.y.shape[1])


def _roots(w: Array | None, n: int) -> Array:
    return np.ones(n) if w is None else np.sqrt(w)


def _weighted_sum(X: Any, Y: Array, w: Array) -> Array:
    summed: Array = np.concatenate([np.asarray(X.T @ w).reshape(-1), Y.T @ w])
    return summed


def _centre(X: Array, Y: Array, w: Array | None) -> Array:
    """The weighted mean of columns and targets; to the last bit where a column is constant."""
    one = np.ones(len(Y)) if w is None else w
    total = one.sum()
    if not total > 0:
        return np.zeros(X.shape[1] + Y.shape[1])
    centre: Array = _weighted_sum(X, Y, one) / total
    for columns, mean in ((X, centre[: X.shape[1]]), (Y, centre[X.shape[1] :])):
        near = np.flatnonzero(np.abs(mean - columns[0]) <= 1e-12 * np.abs(mean))
        for j in near[(columns[:, near] == columns[0, near]).all(axis=0)]:
            mean[j] = columns[0, j]
    return centre


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


def _triangle(X: Any, Y: Array, w: Array | None) -> Tree:
    """The triangle of some rows about their own mean."""
    if is_sparse(X):
        return _sparse_triangle(X, Y, w)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused in the end
        centre = _centre(X, Y, w)
        A = _rows(X, Y, _roots(w, len(Y)), centre)
        R = _by_products(A, 1 + X.shape[1])
    return {"R": _by_reflections(A) if R is None else R, "centre": centre}


def _by_products(A: Array, q: int) -> Array | None:
    """The triangle of rows, of the first q columns by Cholesky; None where that would cost digits.

    What the first columns leave of the others is made row by row and triangulated by reflections, so targets that are
    fitted almost without error, or depend on each other as classes do, lose no digits either.
    """
    first, others = A[:, :q], A[:, q:]
    found = _by_cholesky(first.T @ first)
    if found is None:
        return None
    R = np.zeros((A.shape[1], A.shape[1]))
    R[:q, :q], inverse = found
    R[:q, q:] = across = inverse.T @ (first.T @ others)
    R[q:, q:] = _by_reflections(others - first @ (inverse @ across))
    return R


def _by_cholesky(gram: Array) -> tuple[Array, Array] | None:
    """The triangle of rows from their Gram matrix, and its inverse; None where that would cost digits.

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
    step = max(64, _CHUNK // p)
    for start in range(0, n, step):
        below = np.asfortranarray(A[start : start + step])
        R = dtpqrt(0, min(p, _PANEL), R, below, overwrite_a=1, overwrite_b=1)[0]
    if not np.isfinite(R).all():
        raise InvalidData(explain("the squares of these numbers are not finite", hint="scale columns and targets down"))
    return np.ascontiguousarray(R * np.where(np.diagonal(R) < 0, -1.0, 1.0)[:, None])


def _sparse_triangle(X: Any, Y: Array, w: Array | None) -> Tree:
    """Through the sparse product where subtracting the mean from it loses nothing, otherwise dense, piece by piece."""
    root = _roots(w, len(Y))
    total = np.square(root).sum()
    centre = _weighted_sum(X, Y, np.square(root)) / (total if total > 0 else 1.0)
    product = _sparse_gram(X, Y, root, centre)
    raw = np.concatenate([[total], np.asarray(X.multiply(X).T @ np.square(root)).reshape(-1)])
    keeps = np.diagonal(product)[: len(raw)] >= raw / 4
    found = _by_cholesky(product) if keeps.all() else None
    if found is not None:
        return {"R": found[0], "centre": centre}
    size = max(2 * len(product), _PIECE // len(product))
    pieces = [slice(i, i + size) for i in range(0, max(len(Y), 1), size)]
    return reduce(Triangle().add, [_triangle(X[s].toarray(), Y[s], None if w is None else w[s]) for s in pieces])


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
