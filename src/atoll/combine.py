"""How contributions become one.

A `Combine` adds two trees and finishes the sum. Additions happen in the *aligned binary tree of cohort positions*:
positions 2i and 2i+1 are siblings, then pairs of pairs, and so on; an absent position is skipped. Whoever holds two
siblings may join them (`merge`), in any place and any order, and the root finishes what is left (`close`). So the order
of floating-point additions depends on nothing but who took part.

Three kinds:

- ``sum``: plain addition; every plan, mask, noise and fixed-point code may be used;
- ``merge``: another associative operation; reduce plans, no masks;
- ``gather``: needs all contributions at once; star only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from atoll.specs import Registry, Spec
from atoll.trees import Array, Tree

__all__ = [
    "Combine",
    "Each",
    "Extrema",
    "LogSum",
    "Mean",
    "Moments",
    "Part",
    "Sum",
    "TopK",
    "Triangle",
    "Union",
    "close",
    "combines",
    "merge",
    "push",
]

Part = tuple[int, int, Tree]
_PANEL = 16


class Combine(NamedTuple):
    """How contributions become one.

    Attributes
    ----------
    spec : Spec
        How this combine is written when it travels.
    add : callable
        Two trees to one; associative on siblings.
    finish : callable
        The sum to the result, once, at the end.
    kind : {"sum", "merge", "gather"}
        What may stand between a node and the sum.
    repeatable : bool
        Whether a contribution may be added twice without harm.
    """

    spec: Spec
    add: Callable[[Tree, Tree], Tree]
    finish: Callable[[Tree], Tree]
    kind: Literal["sum", "merge", "gather"]
    repeatable: bool = False


combines: Registry[Callable[..., Combine]] = Registry("combine")


def push(add: Callable[[Tree, Tree], Tree], parts: list[Part], part: Part) -> None:
    """Append a part that lies right of all others, joining siblings as they complete (in place)."""
    lo, hi, tree = part
    while parts:
        left_lo, left_hi, left = parts[-1]
        if left_hi != lo or left_lo + hi != lo + lo or left_lo % (hi - left_lo):
            break
        parts.pop()
        lo, tree = left_lo, add(left, tree)
    parts.append((lo, hi, tree))


def merge(add: Callable[[Tree, Tree], Tree], parts: list[Part]) -> list[Part]:
    """Join all siblings among some parts.

    Parameters
    ----------
    add : callable
        Two trees to one.
    parts : list of (lo, hi, Tree)
        Aligned, disjoint segments ``[lo, hi)`` of cohort positions, in any order.

    Returns
    -------
    list of (lo, hi, Tree)
        Sorted by position; no two of them are siblings.
    """
    joined: list[Part] = []
    for part in sorted(parts, key=lambda p: p[0]):
        push(add, joined, part)
    return joined


def close(add: Callable[[Tree, Tree], Tree], parts: list[Part], n: int) -> Tree | None:
    """Add everything that is left, at the root, skipping absent positions.

    Parameters
    ----------
    add : callable
        Two trees to one.
    parts : list of (lo, hi, Tree)
        Aligned, disjoint segments, in any order.
    n : int
        Size of the cohort.

    Returns
    -------
    Tree or None
        None when no position is present.
    """
    left = merge(add, parts)
    width = 1
    while width < n:
        width *= 2
    return _subtree(add, {(lo, hi): tree for lo, hi, tree in left}, 0, width)


def _subtree(add: Callable[[Tree, Tree], Tree], parts: dict[tuple[int, int], Tree], lo: int, hi: int) -> Tree | None:
    whole = parts.get((lo, hi))
    if whole is not None or hi - lo <= 1 or not any(lo <= p[0] < hi for p in parts):
        return whole
    middle = (lo + hi) // 2
    left, right = _subtree(add, parts, lo, middle), _subtree(add, parts, middle, hi)
    if left is None or right is None:
        return right if left is None else left
    return add(left, right)


def _same(tree: Tree) -> Tree:
    return tree


def _add(a: Tree, b: Tree) -> Tree:
    return {name: array + b[name] for name, array in a.items()}


@combines.register("Sum")
def Sum() -> Combine:
    """Plain addition of every array."""
    return Combine(Spec("Sum"), _add, _same, "sum")


def _divide(tree: Tree) -> Tree:
    weight = tree["weight"]
    return {name: array if name == "weight" else array / weight for name, array in tree.items()}


@combines.register("Mean")
def Mean() -> Combine:
    """The weighted mean: nodes send ``w · x`` and ``weight`` = w, and one division ends it.

    `weight` has shape (1,) or broadcasts against the other arrays.
    """
    return Combine(Spec("Mean"), _add, _divide, "sum")


def _chan(a: Tree, b: Tree) -> Tree:
    n = a["n"] + b["n"]
    share = np.divide(b["n"], n, out=np.zeros_like(n), where=n > 0)
    extra = (1,) * (a["mean"].ndim - n.ndim)
    share_b, na = share.reshape(n.shape + extra), a["n"].reshape(n.shape + extra)
    delta = b["mean"] - a["mean"]
    if "rest" not in a:
        return {"n": n, "mean": a["mean"] + delta * share_b, "m2": a["m2"] + b["m2"] + delta * delta * (na * share_b)}
    some, delta = na > 0, delta + (b["rest"] - a["rest"])
    mean, rest = np.where(some, a["mean"], b["mean"]), np.where(some, a["rest"] + delta * share_b, b["rest"])
    return {"n": n, "mean": mean, "rest": rest, "m2": a["m2"] + b["m2"] + delta * delta * (na * share_b)}


def _whole_mean(tree: Tree) -> Tree:
    if "rest" not in tree:
        return tree
    return {**tree, "mean": tree["mean"] + tree["rest"], "rest": np.zeros_like(tree["rest"])}


@combines.register("Moments")
def Moments() -> Combine:
    """Counts, means and summed squared deviations, by the pairwise formula of Chan, Golub & LeVeque (1979).

    Trees have `n` of shape (...), `mean` and `m2` of shape (..., d), all float64. Where means are much larger than the
    spread around them, rounding them costs digits of `m2`; then trees also have `rest` of shape (..., d), and a mean is
    ``mean + rest``, to twice the digits. Nothing is lost to cancellation then, however far the means are from zero. In
    the result `mean` is whole and `rest` is zero.
    """
    return Combine(Spec("Moments"), _chan, _whole_mean, "merge")


def _triangle(a: Tree, b: Tree) -> Tree:
    if "centre" not in a:
        return {"R": _stacked(a["R"], b["R"])}
    of_a, of_b = np.square(a["R"][..., :1, 0]), np.square(b["R"][..., :1, 0])
    share = np.divide(of_b, of_a + of_b, out=np.zeros_like(of_a), where=of_b > 0)
    centre: Array = a["centre"] + share * (b["centre"] - a["centre"])
    return {"R": _stacked(_about(a, centre), _about(b, centre)), "centre": centre}


def _about(tree: Tree, centre: Array) -> Array:
    """The triangle of the same rows about another centre: only its first row differs."""
    r: Array = tree["R"].copy()
    r[..., 0, 1:] += r[..., :1, 0] * (tree["centre"] - centre)
    return r


def _stacked(a: Array, b: Array) -> Array:
    """The triangle of two triangles, one on top of the other; of pairs of them, where there are further dimensions."""
    from scipy.linalg.lapack import dtpqrt  # 23 MB, which who only adds does without

    p = a.shape[-1]
    pairs = zip(a.reshape(-1, p, p), b.reshape(-1, p, p), strict=True)
    made = [dtpqrt(p, min(p, _PANEL), np.asfortranarray(top), np.asfortranarray(below))[0] for top, below in pairs]
    r = np.triu(np.stack(made)) if made else np.zeros((0, p, p))
    signs = np.where(np.diagonal(r, axis1=1, axis2=2) < 0, -1.0, 1.0)
    return np.ascontiguousarray(r * signs[:, :, None]).reshape(a.shape)


def _about_mean(tree: Tree) -> Tree:
    if "centre" not in tree:
        return tree
    r, root = tree["R"].copy(), tree["R"][..., :1, 0]
    mean: Array = tree["centre"] + np.divide(r[..., 0, 1:], root, out=np.zeros_like(tree["centre"]), where=root > 0)
    r[..., 0, 1:] = 0
    return {"R": r, "centre": mean}


@combines.register("Triangle")
def Triangle() -> Combine:
    """The triangular factor of stacked rows (TSQR; Demmel et al., 2012).

    Trees have `R` of shape (..., p, p), upper triangular with a non-negative diagonal, and ``RᵀR = XᵀX`` of all rows
    without ever forming it, so that no digit is lost to the squared condition number.

    Where trees also have `centre` of shape (..., p - 1), the rows are ``√w (1, x - centre)``: each contribution is
    about a centre of its own, and is moved to the common one as they are joined, which changes nothing but the first
    row. So means far from zero cost no digits, as in `Moments`. In the result `centre` is the weighted mean of all
    rows, ``R[0, 0]`` the root of their weight, the rest of its first row zero, and ``R[1:, 1:]`` the triangle of the
    centred rows.
    """
    return Combine(Spec("Triangle"), _triangle, _about_mean, "merge")


def _nearest(k: int, a: Tree, b: Tree) -> Tree:
    both: Tree = {name: np.concatenate([array, b[name]], axis=1) for name, array in a.items()}
    order = np.lexsort((both["id"], both["distance"], both["id"] < 0), axis=1)[:, :k]
    return {name: _take(array, order) for name, array in both.items()}


def _take(array: Array, order: Array) -> Array:
    index = order.reshape(order.shape + (1,) * (array.ndim - 2))
    return np.take_along_axis(array, index, axis=1)


@combines.register("TopK")
def TopK(k: int) -> Combine:
    """For each query the k nearest candidates, ordered by (distance, global row id).

    Trees have `distance` and `id` of shape (m, k), sorted along the last axis and padded with infinity and -1, and any
    further arrays of shape (m, k, ...) that travel with the candidates. An undefined distance (NaN) comes after all
    others, padding after everything.
    """
    return Combine(Spec("TopK", {"k": int(k)}), partial(_nearest, int(k)), _same, "merge")


def _union(a: Tree, b: Tree) -> Tree:
    return {name: np.union1d(array, b[name]) for name, array in a.items()}


@combines.register("Union")
def Union() -> Combine:
    """The sorted union of the values of each one-dimensional array."""
    return Combine(Spec("Union"), _union, _same, "merge", repeatable=True)


def _extrema(a: Tree, b: Tree) -> Tree:
    return {n: np.minimum(x, b[n]) if n.startswith("min") else np.maximum(x, b[n]) for n, x in a.items()}


@combines.register("Extrema")
def Extrema() -> Combine:
    """Elementwise smallest of arrays whose name begins with ``min``, largest of those that begin with ``max``."""
    return Combine(Spec("Extrema"), _extrema, _same, "merge", repeatable=True)


def _join(a: Tree, b: Tree) -> Tree:
    return {name: np.concatenate([array, b[name]]) for name, array in a.items()}


@combines.register("Each")
def Each() -> Combine:
    """Every contribution by itself: arrays are joined along their first axis in cohort order."""
    return Combine(Spec("Each"), _join, _same, "merge")


def _logsum(a: Tree, b: Tree) -> Tree:
    return {name: np.logaddexp(array, b[name]) for name, array in a.items()}


@combines.register("LogSum")
def LogSum() -> Combine:
    """The logarithm of a sum of exponentials, for densities too small to be added as they are."""
    return Combine(Spec("LogSum"), _logsum, _same, "merge")
