"""What nodes keep between rounds: control variates, personal layers, optimiser state.

A memory is versioned by exchange number and read as of the node's last *accepted* exchange (`base`). An exchange whose
contribution was not accepted leaves no trace: the next one reads, and builds on, the version before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from atoll.trees import Tree

__all__ = ["Memory", "Store"]


class Memory(Protocol):
    """What a node keeps between rounds, outliving any worker."""

    def read(self, node: int, base: int) -> Mapping[str, Tree]:
        """The slots of a node as of exchange `base`; empty for -1."""
        ...

    def write(self, node: int, number: int, base: int, keep: Mapping[str, Tree]) -> None:
        """Store version `number`: the slots of version `base`, with those of `keep` replaced."""
        ...


class Store:
    """A memory in the process's own memory; versions that can no longer be read are dropped.

    Examples
    --------
    >>> import numpy as np
    >>> from atoll.memory import Store
    >>> memory = Store()
    >>> memory.write(node=0, number=3, base=-1, keep={"c": {"w": np.zeros(2)}})
    >>> memory.read(node=0, base=3)["c"]["w"].shape, dict(memory.read(node=0, base=-1))
    ((2,), {})
    """

    def __init__(self) -> None:
        self._versions: dict[int, dict[int, dict[str, Tree]]] = {}

    def read(self, node: int, base: int) -> Mapping[str, Tree]:
        """The slots of a node as of exchange `base`; everything older is forgotten."""
        versions = self._versions.get(node)
        if base < 0 or not versions:
            return {}
        for number in [n for n in versions if n < base]:
            del versions[number]
        return versions.get(base, {})

    def write(self, node: int, number: int, base: int, keep: Mapping[str, Tree]) -> None:
        """Store version `number` of a node, built on version `base`."""
        versions = self._versions.setdefault(node, {})
        versions[number] = {**versions.get(base, {}), **keep}

    def version(self, node: int, number: int) -> dict[str, Tree]:
        """One version, whole, without forgetting others."""
        return dict(self._versions.get(node, {}).get(number, {}))
