"""What nodes keep between rounds: control variates, personal layers, optimiser state.

A memory is versioned by exchange number and read as of the node's last *accepted* exchange (`base`). An exchange whose
contribution was not accepted leaves no trace: the next one reads, and builds on, the version before it.

A `Store` holds some bytes in the process's own memory, and beyond that what it has not touched for longest in files:
one for every slot of a block of nodes. The files have no name, and are gone when the store is.
"""

from __future__ import annotations

import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import IO, Protocol

import numpy as np

from atoll.trees import Array, Tree, nbytes

__all__ = ["LIMIT", "NODES_PER_FILE", "Memory", "Store"]

LIMIT = 1 << 28
"""Bytes of arrays that a store holds in memory, unless it is told otherwise."""

NODES_PER_FILE = 1 << 12
"""Consecutive nodes whose slots of one name lie in one file."""

_WASTE = 1 << 20


class Memory(Protocol):
    """What a node keeps between rounds, outliving any worker."""

    def read(self, node: int, base: int) -> Mapping[str, Tree]:
        """The slots of a node as of exchange `base`; empty for -1."""
        ...

    def write(self, node: int, number: int, base: int, keep: Mapping[str, Tree]) -> None:
        """Store version `number`: the slots of version `base`, with those of `keep` replaced."""
        ...


class Store:
    """A memory in the process's own memory and, beyond a bound, on disk; what cannot be read again is dropped.

    Arrays are kept in C order and given back read-only, so that nothing depends on where they were meanwhile.

    Parameters
    ----------
    limit : int, optional
        Bytes of arrays held in memory; `LIMIT` by default.

    Attributes
    ----------
    held : int
        Bytes of arrays that are in memory now.

    Examples
    --------
    >>> import numpy as np
    >>> from atoll.memory import Store
    >>> memory = Store()
    >>> memory.write(node=0, number=3, base=-1, keep={"c": {"w": np.zeros(2)}})
    >>> memory.read(node=0, base=3)["c"]["w"].shape, dict(memory.read(node=0, base=-1))
    ((2,), {})
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = LIMIT if limit is None else limit
        self.held = 0
        self._versions: dict[int, dict[int, dict[str, _Slot]]] = {}
        self._recent: OrderedDict[int, _Slot] = OrderedDict()
        self._files: dict[tuple[int, str], _File] = {}

    @property
    def spilled(self) -> int:
        """Bytes of arrays that are on disk now."""
        return sum(file.used for file in self._files.values())

    @property
    def files(self) -> int:
        """Open files."""
        return len(self._files)

    def read(self, node: int, base: int) -> Mapping[str, Tree]:
        """The slots of a node as of exchange `base`; everything older is forgotten."""
        versions = self._versions.get(node)
        if base < 0 or not versions:
            return {}
        for number in [n for n in versions if n < base]:
            self._drop(versions.pop(number))
        return self._trees(versions.get(base, {}))

    def write(self, node: int, number: int, base: int, keep: Mapping[str, Tree], *, as_it_lies: bool = False) -> None:
        """Store version `number` of a node, built on version `base`.

        With `as_it_lies` arrays are not copied out of what they are a part of, which then lives as long: good where all
        of it is replaced together.
        """
        versions = self._versions.setdefault(node, {})
        kept = {name: self._kept(node, name, tree, as_it_lies) for name, tree in keep.items()}
        slots = {**versions.get(base, {}), **kept}
        for slot in slots.values():
            slot.versions += 1
        self._drop(versions.pop(number, {}))
        versions[number] = slots
        while self.held > self.limit and self._recent:
            self._spill(self._recent.popitem(last=False)[1])

    def version(self, node: int, number: int) -> dict[str, Tree]:
        """One version, whole, without forgetting others."""
        return self._trees(self._versions.get(node, {}).get(number, {}))

    def _trees(self, slots: Mapping[str, _Slot]) -> dict[str, Tree]:
        for slot in slots.values():
            if slot.tree is not None:
                self._recent.move_to_end(id(slot))
        return {name: self._tree(slot) for name, slot in slots.items()}

    def _tree(self, slot: _Slot) -> Tree:
        return dict(slot.tree) if slot.tree is not None else self._files[slot.file].read(slot)

    def _kept(self, node: int, name: str, tree: Tree, as_it_lies: bool) -> _Slot:
        own = {key: _locked(a.view()) if as_it_lies and a.flags.c_contiguous else _own(a) for key, a in tree.items()}
        slot = _Slot((node // NODES_PER_FILE, name), own)
        self.held += slot.size
        self._recent[id(slot)] = slot
        return slot

    def _spill(self, slot: _Slot) -> None:
        if slot.file not in self._files:
            self._files[slot.file] = _File()
        self._files[slot.file].write(slot)
        self.held -= slot.size

    def _drop(self, slots: Mapping[str, _Slot]) -> None:
        """Forget a version, and those of its slots that no other version shares."""
        for slot in slots.values():
            slot.versions -= 1
            if slot.versions:
                continue
            if slot.tree is not None:
                self._recent.pop(id(slot))
                self.held -= slot.size
            else:
                self._files[slot.file].free(slot)


class _Slot:
    """One tree of one or more versions of a node: in memory, or at a place in a file."""

    __slots__ = ("file", "layout", "size", "start", "tree", "versions")

    def __init__(self, file: tuple[int, str], tree: Tree) -> None:
        self.file, self.size, self.versions, self.start = file, nbytes(tree), 0, -1
        self.tree: Tree | None = tree
        self.layout = [(name, array.dtype, array.shape) for name, array in tree.items()]


class _File:
    """Slots packed into one file without a name; where one is freed, another of its size goes.

    When more than half of a file is free, what is left is moved to the front and the file cut, so it never grows past
    twice what is in it, and a little.
    """

    def __init__(self) -> None:
        self.used = self.end = 0
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with this object
        self._slots: dict[int, _Slot] = {}
        self._free: dict[int, list[int]] = {}
        weakref.finalize(self, self._file.close)

    def write(self, slot: _Slot) -> None:
        """Take a slot's tree from it."""
        assert slot.tree is not None  # noqa: S101
        places = self._free.get(slot.size)
        slot.start = places.pop() if places else self.end
        self.end = max(self.end, slot.start + slot.size)
        self._file.seek(slot.start)
        for array in slot.tree.values():
            self._put(_octets(array))
        self._slots[id(slot)], slot.tree = slot, None
        self.used += slot.size

    def read(self, slot: _Slot) -> Tree:
        """The tree that a slot held, in arrays of its own."""
        data = self._get(slot.start, slot.size)
        tree, at = {}, 0
        for name, dtype, shape in slot.layout:
            size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
            tree[name] = _locked(np.ndarray(shape, dtype, data[at : at + size].copy()))
            at += size
        return tree

    def free(self, slot: _Slot) -> None:
        """Give a slot's place to others."""
        del self._slots[id(slot)]
        self._free.setdefault(slot.size, []).append(slot.start)
        self.used -= slot.size
        if self.end > 2 * self.used + _WASTE:
            self._pack()

    def _pack(self) -> None:
        at = 0
        for slot in sorted(self._slots.values(), key=lambda slot: slot.start):
            if slot.start != at:
                data = self._get(slot.start, slot.size)
                self._file.seek(at)
                self._put(data.data)
                slot.start = at
            at += slot.size
        self._file.truncate(at)
        self.end = at
        self._free.clear()

    def _put(self, data: memoryview) -> None:
        while data:
            data = data[self._file.write(data) :]

    def _get(self, start: int, size: int) -> Array:
        data = np.empty(size, dtype=np.uint8)
        view, at = data.data, 0
        self._file.seek(start)
        while at < size:
            more: int = self._file.readinto(view[at:])  # type: ignore[attr-defined]
            if not more:
                raise EOFError("a file of what nodes keep is shorter than it was")
            at += more
        return data


def _own(array: Array) -> Array:
    """The array in C order, read-only, and without anything behind it that is larger than itself."""
    plain = np.asarray(array)
    if not (plain.flags.owndata and plain.flags.c_contiguous):
        plain = plain.copy(order="C")
    return _locked(plain.view())


def _locked(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _octets(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
