"""What is done to a contribution on its way from a node to the sum.

A `Transform` holds both halves: `encode` runs on the node, `expand` before adding, `decode` once after adding. `chain`
applies several in order and unwinds them in reverse.
"""

from __future__ import annotations

from atoll.transforms.base import Transform, build, chain, transforms
from atoll.transforms.codes import fixed_point, identity

__all__ = ["Transform", "build", "chain", "fixed_point", "identity", "transforms"]
