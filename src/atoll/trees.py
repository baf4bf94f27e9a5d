"""Trees: flat mappings from name to array, the one shape in which numbers travel.

A `TreeSpec` is the contract of a contribution. It is read off the answer of an operation to the *empty shard*
(`contract`): whatever that answer's names, dtypes and shapes are, every other node must answer alike. Three readings
make this enough:

- a dimension of length 0 in the empty shard's answer depends on the rows, so any length is accepted there;
- an infinity (or NaN) in the empty shard's answer says that this array may hold one ("no neighbour found" is at
  distance infinity);
- text has a kind but no fixed width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atoll.errors import WireError, explain

__all__ = [
    "PIECE",
    "Array",
    "Leaf",
    "Tree",
    "TreeSpec",
    "check",
    "check_claims",
    "check_norm",
    "check_weight",
    "contract",
    "finite",
    "nbytes",
    "row_major",
    "squares",
    "too_wild",
]

Array = NDArray[Any]
Tree = dict[str, Array]

PIECE = 1 << 16
"""Numbers that `squares` adds up at a time; who reads an array in multiples of it gets the same sum."""


class Leaf(NamedTuple):
    """What one array of a contribution must look like.

    Attributes
    ----------
    dtype : str
        NumPy dtype string; `"U"` for text of any width.
    shape : tuple of int
        -1 where any length is accepted.
    allows : {"finite", "inf", "nan"}
        The wildest value accepted.
    """

    dtype: str
    shape: tuple[int, ...]
    allows: str = "finite"


class TreeSpec(NamedTuple):
    """The contract of a contribution: its arrays, and how much one node may claim.

    Attributes
    ----------
    leaves : dict of str to Leaf
        One entry per array; no other name is accepted.
    max_weight : float
        Upper bound on the entries of an array named `weight` (infinity: any finite weight).
    max_norm : float
        Upper bound on the Euclidean norm of all arrays of floats but `weight`, taken together (infinity: any). Whole
        numbers do not count, so neither does what is written in fixed point.
    """

    leaves: dict[str, Leaf]
    max_weight: float = float("inf")
    max_norm: float = float("inf")


def nbytes(tree: Tree) -> int:
    """Bytes of all arrays of a tree."""
    return sum([a.nbytes for a in tree.values()])


def row_major(tree: Tree) -> Tree:
    """A tree whose arrays lie in C order, as they do after they travelled; the same one if they do so already.

    A product of matrices is rounded otherwise where one of them lies in Fortran order, and law 3 wants the same bits
    whether or not an array has been sent.
    """
    for a in tree.values():
        if not a.flags.c_contiguous:
            return {name: np.asarray(array, order="C") for name, array in tree.items()}
    return tree


def finite(array: Array) -> str:
    """How wild the values of an array are: `"finite"`, `"inf"` or `"nan"`."""
    if array.dtype.kind not in "fc" or np.isfinite(array).all():
        return "finite"
    return "nan" if np.isnan(array).any() else "inf"


def _kind(array: Array) -> str:
    return "U" if array.dtype.kind == "U" else array.dtype.str


def contract(answer: Tree, max_weight: float = float("inf")) -> TreeSpec:
    """Read the contract off the answer of the empty shard.

    Parameters
    ----------
    answer : Tree
        What an operation returned for a shard without rows.
    max_weight : float, default=inf
        The largest weight that one node may claim.

    Returns
    -------
    TreeSpec
    """
    leaves = {name: Leaf(_kind(a), tuple(n if n else -1 for n in a.shape), finite(a)) for name, a in answer.items()}
    return TreeSpec(leaves, max_weight)


_WILDNESS = {"finite": 0, "inf": 1, "nan": 2}


def check(tree: Tree, spec: TreeSpec, *, values: bool = True) -> None:
    """Hold a contribution against its contract.

    Parameters
    ----------
    tree : Tree
        The contribution.
    spec : TreeSpec
        Its contract.
    values : bool, default=True
        Look at the values too (finite, weight, norm). A caller that checks a whole block at once says False.

    Raises
    ------
    WireError
        Naming the array and what is wrong with it.
    """
    if tree.keys() != spec.leaves.keys():
        raise WireError(
            explain("a contribution has other arrays than agreed", got=sorted(tree), expected=sorted(spec.leaves))
        )
    for name, leaf in spec.leaves.items():
        array = tree[name]
        shape = array.shape
        if shape != leaf.shape and not _fits(shape, leaf.shape):
            raise WireError(explain(f"array {name!r} has another shape than agreed", got=shape, expected=leaf.shape))
        if array.dtype.str != leaf.dtype and _kind(array) != leaf.dtype:
            raise WireError(
                explain(f"array {name!r} has another dtype than agreed", got=array.dtype.str, expected=leaf.dtype)
            )
    if values and (wild := too_wild(tree, spec)):
        raise WireError(wild)
    if values:
        check_claims(tree, spec)


def check_claims(tree: Tree, spec: TreeSpec) -> None:
    """Hold what a contribution claims to count for, and how large it is, against its contract.

    Parameters
    ----------
    tree : Tree
        The contribution, of whose arrays and values `check` and `too_wild` approved.
    spec : TreeSpec
        Its contract.

    Raises
    ------
    WireError
        If a weight or the norm is out of range.
    """
    if "weight" in tree and tree["weight"].size:
        check_weight(float(tree["weight"].min()), float(tree["weight"].max()), spec)
    if spec.max_norm < float("inf"):
        check_norm(sum([squares(a) for n, a in tree.items() if n != "weight"], 0.0), spec)


def too_wild(tree: Tree, spec: TreeSpec) -> str:
    """What is to be said of the first array that holds an infinity or NaN and may not; empty if there is none.

    Parameters
    ----------
    tree : Tree
        The contribution, of which `check` approved but for its values.
    spec : TreeSpec
        Its contract.

    Returns
    -------
    str
    """
    for name, leaf in spec.leaves.items():
        if leaf.allows != "nan" and _WILDNESS[(got := finite(tree[name]))] > _WILDNESS[leaf.allows]:
            return explain(f"array {name!r} has values that are not allowed", got=got, expected=leaf.allows)
    return ""


def _fits(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    if len(shape) != len(expected):
        return False
    for n, e in zip(shape, expected, strict=True):  # noqa: SIM110, for every array of every node
        if e not in (-1, n):
            return False
    return True


def check_weight(least: float, most: float, spec: TreeSpec) -> None:
    """Hold the smallest and the largest entry of an array named `weight` against the contract.

    Raises
    ------
    WireError
        If one is negative or larger than `max_weight`.
    """
    if least < 0 or most > spec.max_weight:
        raise WireError(
            explain("a claimed weight is out of range", got=[least, most], expected=f"from 0 to {spec.max_weight:g}")
        )


def squares(array: Array) -> float:
    """The sum of the squares of an array of floats (of the absolute values, if complex); 0 for any other.

    Added in pieces of `PIECE` numbers, in double precision; infinity where that overflows, NaN where a value is.
    """
    if array.dtype.kind not in "fc":
        return 0.0
    total, flat = 0.0, array.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, flat.size, PIECE):
            piece = np.abs(flat[start : start + PIECE]).astype(np.float64)
            total += float(np.square(piece).sum())
    return total


def check_norm(squared: float, spec: TreeSpec) -> None:
    """Hold a squared norm against the contract.

    Raises
    ------
    WireError
        If its root is larger than `max_norm`, or no number.
    """
    norm = squared**0.5
    if not norm <= spec.max_norm:
        raise WireError(
            explain("the norm of a contribution is out of range", got=norm, expected=f"at most {spec.max_norm:g}")
        )
