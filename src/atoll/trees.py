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

__all__ = ["Array", "Leaf", "Tree", "TreeSpec", "check", "contract", "finite", "nbytes", "too_wild"]

Array = NDArray[Any]
Tree = dict[str, Array]


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
    """The contract of a contribution: its arrays, and the largest weight that one node may claim.

    Attributes
    ----------
    leaves : dict of str to Leaf
        One entry per array; no other name is accepted.
    max_weight : float
        Upper bound on the entries of an array named `weight` (infinity: any finite weight).
    """

    leaves: dict[str, Leaf]
    max_weight: float = float("inf")


def nbytes(tree: Tree) -> int:
    """Bytes of all arrays of a tree."""
    return sum([a.nbytes for a in tree.values()])


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
        Look at the values too (finite, weight in range). A caller that checks a whole block at once says False.

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
    if values and "weight" in tree:
        _check_weight(tree["weight"], spec.max_weight)


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
    return len(shape) == len(expected) and all(e in (-1, n) for n, e in zip(shape, expected, strict=True))


def _check_weight(weight: Array, most: float) -> None:
    if weight.size and (float(weight.min()) < 0 or float(weight.max()) > most):
        raise WireError(
            explain("a claimed weight is out of range", got=[float(weight.min()), float(weight.max())],
                    expected=f"from 0 to {most:g}")
        )  # fmt: skip
