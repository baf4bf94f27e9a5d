"""Cross-validation of least squares: triangles of parts, and how far each row lies from a fit without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from atoll.context import Ctx
from atoll.errors import InvalidData, explain
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.operations.linear import roots_of, row_triangle, targets_of
from atoll.shards import Shard, is_sparse, weights
from atoll.trees import Array, Tree

__all__ = ["fold_triangles", "left_out", "left_out_errors", "part_of", "right"]


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
    Y, w = targets_of(shard, ctx.settings), weights(shard)
    part = part_of(shard, payload)
    made = [
        row_triangle(shard.X[of], Y[of], None if w is None else w[of])
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
    Y, w = targets_of(shard, settings), weights(shard)
    d, root = shard.n_features, roots_of(w, len(Y))
    mean, basis, own = payload["mean"], payload["basis"], payload["own"]
    if is_sparse(shard.X):
        z = root[:, None] * (shard.X @ basis - mean[:d] @ basis)
    else:
        z = root[:, None] * ((shard.X - mean[:d]) @ basis)
    below = own * (1 - np.square(root) / payload["total"])[:, None] + np.square(z) @ payload["leverage"]
    above = own * (root[:, None] * (Y - mean[d:]))[:, :, None] + np.tensordot(z, payload["fit"], axes=1)
    return above / below[:, None, :], Y, root  # numpy warns where nothing is left of 0 / 0, as on the pooled rows


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
    Y, w = targets_of(shard, ctx.settings), weights(shard)
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
