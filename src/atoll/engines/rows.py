"""How rows reach local workers: written once into shared memory, or mapped from the file in which they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from atoll import wire
from atoll.engines.base import Handover
from atoll.engines.channel import Blob, Opened, Segment, share
from atoll.shards import Shard, on_file
from atoll.trees import Array, Tree
from atoll.wire import Limits

__all__ = ["LOCAL", "Mapped", "Rows", "written"]

LOCAL = Limits(max_bytes=1 << 46, max_body=1 << 31, max_arrays=1 << 24)
_GROUPS = 8
_FILES = 12


class Mapped(NamedTuple):
    """Rows that lie in a file: which shard's, which file of the frame, and where in it."""

    shard: int
    file: int
    dtype: str
    shape: list[int]
    offset: int


class Rows(NamedTuple):
    """Some consecutive shards of a federation, in order of node numbers."""

    names: list[str]
    trees: list[Tree]
    mapped: list[Mapped] = []

    def shards(self, files: Sequence[Any] = ()) -> list[Shard]:
        """The shards, on the arrays as they are; rows that lie in files on those."""
        trees = list(self.trees)
        for m in self.mapped:
            X = np.ndarray.__new__(np.memmap, tuple(m.shape), np.dtype(m.dtype), files[m.file], m.offset)
            trees[m.shard] = {**trees[m.shard], "X": X}
        return [Shard.from_tree(name, tree) for name, tree in zip(self.names, trees, strict=True)]


def written(shards: Sequence[Shard]) -> tuple[list[list[Blob]], list[Shard]]:
    """Write shards for local workers, some at a time.

    Parameters
    ----------
    shards : sequence of Shard
        A `Handover` is emptied on the way, so that rows nobody else holds are in memory once, and not twice.

    Returns
    -------
    frames : list of list of blob
        What is sent to a worker, one list per message.
    held : list of Shard
        The same shards where they lie now, read-only.
    """
    frames: list[list[Blob]] = []
    held: list[Shard] = []
    for lo, hi in list(_groups(shards)):
        group = shards[lo:hi]
        files = {str(s.X.filename): s.X for s in group if on_file(s.X)}
        opened = [Opened(path) for path in files]
        mapped = [_mapped(i, list(files), s.X) for i, s in enumerate(group) if on_file(s.X)]
        trees = [{n: a for n, a in s.to_tree().items() if n != "X" or not on_file(a)} for s in group]
        blob = share(Rows([s.name for s in group], trees, mapped))
        frames.append([blob, *opened])
        data: Any = blob.view if isinstance(blob, Segment) else blob
        there = wire.decode(memoryview(data), Rows, LOCAL)
        own = [s.X for s in group if on_file(s.X)]
        kept = [{**t, "X": own.pop(0)} if on_file(s.X) else t for s, t in zip(group, there.trees, strict=True)]
        held += Rows(there.names, kept).shards()
        del group, trees
        if isinstance(shards, Handover):
            shards[lo:hi] = [None] * (hi - lo)  # type: ignore[list-item]
    return frames, held


def _groups(shards: Sequence[Shard]) -> Iterator[tuple[int, int]]:
    """Consecutive shards that together make an eighth of all bytes, and lie in few files."""
    sizes = [s.nbytes for s in shards]
    lo, size, files, most = 0, 0, set[str](), sum(sizes) / _GROUPS
    for i, n in enumerate(sizes):
        own = {str(shards[i].X.filename)} if on_file(shards[i].X) else set()
        if i > lo and (size + n > most or len(files | own) > _FILES):
            yield lo, i
            lo, size, files = i, 0, set()
        size, files = size + n, files | own
    yield lo, len(shards)


def _mapped(i: int, files: list[str], X: Array) -> Mapped:
    """Where rows lie: a memory map knows where its own first byte is, and a slice of it starts further on."""
    whole: Any = X
    while isinstance(whole.base, np.memmap):
        whole = whole.base
    offset = whole.offset + X.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return Mapped(i, files.index(str(whole.filename)), X.dtype.str, list(X.shape), int(offset))
