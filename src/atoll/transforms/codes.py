"""Ways to write numbers: as they are, and in fixed point."""

from __future__ import annotations

import numpy as np

from atoll.context import Ctx
from atoll.errors import InvalidData, explain
from atoll.specs import Spec
from atoll.transforms.base import Transform, transforms
from atoll.trees import Array, Tree

__all__ = ["fixed_point", "identity"]


@transforms.register("identity")
def identity() -> Transform:
    """Leave every contribution as it is."""
    return Transform((Spec("identity"),), lambda tree, ctx: (tree, None))


@transforms.register("fixed_point")
def fixed_point(bits: int = 24) -> Transform:
    """Write floats as 64-bit integers in units of ``2**-bits``, so that sums are exact in any order.

    Parameters
    ----------
    bits : int, default=24
        Binary places kept after the point, 0 to 52. The rounding error of a node is at most ``2**-(bits + 1)`` per
        number.

    Returns
    -------
    Transform
        For sums only. On a node, a number of magnitude above ``2**(50 - bits)`` raises `InvalidData`: 8,192 such
        numbers still fit a sum.
    """
    if not isinstance(bits, int) or not 0 <= bits <= 52:
        raise InvalidData(explain("fixed point keeps 0 to 52 binary places", got=bits))
    scale, most = 2.0**bits, 2.0**50

    def write(name: str, array: Array) -> tuple[str, Array]:
        if array.dtype.kind != "f":
            return name, array
        scaled = np.rint(np.asarray(array, dtype=np.float64) * scale)
        if not (np.abs(scaled) <= most).all():
            hint = "keep fewer bits, or scale the data"
            raise InvalidData(explain(f"array {name!r} does not fit fixed point with {bits} bits", hint=hint))
        return f"{name}@fixed", scaled.astype(np.int64)

    def encode(tree: Tree, ctx: Ctx) -> tuple[Tree, Tree | None]:
        return dict(write(name, array) for name, array in tree.items()), None

    def decode(tree: Tree) -> Tree:
        return {n.removesuffix("@fixed"): a / scale if n.endswith("@fixed") else a for n, a in tree.items()}

    return Transform((Spec("fixed_point", {"bits": bits}),), encode, decode=decode)
