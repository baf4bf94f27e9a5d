"""What a node knows while it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from numpy.random import Generator

from atoll.rng import stream
from atoll.trees import Tree

__all__ = ["Ctx"]


class Ctx(NamedTuple):
    """What an operation or a transform knows besides the rows and the message.

    Attributes
    ----------
    node : int
        Number of the node in its federation.
    number, step, seed : int
        Of the exchange.
    settings : dict
        Of the operation.
    memory : mapping of str to Tree
        What the node kept, as of its last accepted exchange.
    cohort : tuple of int
        Node numbers of everyone asked.
    """

    node: int
    number: int
    step: int
    seed: int
    settings: dict[str, Any]
    memory: Mapping[str, Tree]
    cohort: tuple[int, ...]

    def rng(self, use: str) -> Generator:
        """The node's own random stream for one use at this step; made at this call."""
        return stream(self.seed, self.step, self.node, use)
