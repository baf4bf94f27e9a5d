"""Contributions become one, as they arrive, in bounded memory, with the bits of `atoll.worker.assemble`.

What is added are *parts*: segments of the aligned tree of positions, each a written tree, in memory or in a file.
`fold` adds all parts of a segment, absent positions skipped. Plain sums of files are read, added and written chunk by
chunk: all parts at once, so that nothing is written but the sum, and memory is a few chunks however large the trees
are. Any other combine reads whole trees, one per level of the tree at a time.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from atoll import wire
from atoll.blas import one_thread
from atoll.combine import Combine
from atoll.errors import AtollError, WireError, explain
from atoll.silo.outlines import LIMITS, Slot, opened, outline, read_into
from atoll.silo.tasks import Blob
from atoll.trees import Array, Tree

__all__ = ["Misfit", "Part", "adds_in_place", "fold", "reason", "width"]

_SAME_SHAPE = ("Sum", "Mean", "Moments", "Triangle", "Extrema", "LogSum")
_SUMMED = 1 << 21  # bytes that are added at a time: a level of the tree each, within the cache
_TEXT = 1 << 26
_OPEN = 64  # files that are kept open together


class Part(NamedTuple):
    """A segment of positions and the sum of its contributions, as a written tree.

    Attributes
    ----------
    lo, hi : int
        Positions ``[lo, hi)``.
    what : bytes or Path
        The tree, or the file that holds it.
    expanded : bool
        Whether transforms are undone already, as far as they are before adding.
    """

    lo: int
    hi: int
    what: bytes | Path
    expanded: bool = True


class Misfit(AtollError):
    """Two sums that cannot be added, such as arrays of different lengths; those right of `at` are to be left out.

    Attributes
    ----------
    lo, hi : int
        The positions to leave out.
    """

    def __init__(self, lo: int, hi: int, error: Exception) -> None:
        super().__init__(explain("answers do not fit together", got=f"{type(error).__name__}: {error}"))
        self.lo, self.hi = lo, hi


def reason(error: Exception) -> str:
    """What is recorded of an error, as other engines record it."""
    return f"{type(error).__name__}: {error}"


def width(n: int) -> int:
    """Positions under the root of the aligned tree of a cohort of `n`."""
    return 1 << max(n - 1, 0).bit_length()


def adds_in_place(combine: Combine) -> bool:
    """Whether contributions may be added number by number."""
    return combine.spec.name in ("Sum", "Mean")


def fold(
    parts: Sequence[Part],
    lo: int,
    hi: int,
    combine: Combine,
    expand: Callable[[Tree], Tree] | None,
    target: Path | None = None,
) -> bytes | Blob | None:
    """Add the parts of a segment in the aligned tree, absent positions skipped.

    Parameters
    ----------
    parts : sequence of Part
        Aligned, disjoint segments within ``[lo, hi)``, in any order.
    lo, hi : int
        The segment: a power of two of positions, at a multiple of it.
    combine : Combine
        How to add.
    expand : callable or None
        What is undone of each contribution before adding.
    target : Path, optional
        A file to write the sum into, synced to disk; otherwise it is returned as bytes.

    Returns
    -------
    bytes, Blob or None
        The written sum; its name where it was written to `target`; None when there are no parts.

    Raises
    ------
    Misfit
        If two sums cannot be added, naming the positions to leave out.
    """
    if not parts:
        return None
    plain = expand is None and adds_in_place(combine)
    if target is not None and plain and all(isinstance(p.what, Path) for p in parts):
        made = _in_place(parts, lo, hi, target)
        if made is not None:
            return made
    with one_thread(), np.errstate(over="ignore", invalid="ignore"):
        tree = _whole({(p.lo, p.hi): p for p in parts}, lo, hi, combine, expand)
        frames = wire.frames(tree)
    if target is None:
        return b"".join(frames)
    with _Sink(target) as sink:
        for frame in frames:
            sink.write(frame)
        return sink.done()


def _whole(
    parts: dict[tuple[int, int], Part],
    lo: int,
    hi: int,
    combine: Combine,
    expand: Callable[[Tree], Tree] | None,
) -> Tree | None:
    """As in `atoll.combine.close`; trees are read when their turn comes."""
    part = parts.get((lo, hi))
    if part is not None:
        return _load(part, expand)
    if hi - lo <= 1 or not any(lo <= p[0] < hi for p in parts):
        return None
    middle = (lo + hi) // 2
    left = _whole(parts, lo, middle, combine, expand)
    right = _whole(parts, middle, hi, combine, expand)
    if left is None or right is None:
        return right if left is None else left
    try:
        _check_fit(left, right, combine)
        return {name: np.asarray(array) for name, array in combine.add(left, right).items()}
    except Exception as error:
        raise Misfit(middle, hi, error) from error


def _check_fit(left: Tree, right: Tree, combine: Combine) -> None:
    """Nothing may swell: shapes that a contract leaves open do not broadcast, and text does not become much wider."""
    for name, array in left.items():
        other = right[name]
        if combine.spec.name in _SAME_SHAPE and array.shape != other.shape:
            raise WireError(explain(f"array {name!r} has another shape", got=other.shape, expected=array.shape))
        if array.dtype.kind == "U":
            size = (array.size + other.size) * max(array.itemsize, other.itemsize)
            if size > _TEXT + 4 * (array.nbytes + other.nbytes):
                raise WireError(explain(f"text array {name!r} becomes too wide", got=f"{size} bytes together"))


def _load(part: Part, expand: Callable[[Tree], Tree] | None) -> Tree:
    if isinstance(part.what, Path):
        with opened(part.what) as file:
            data: wire.Buffer = memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_READ))
    else:
        data = part.what
    tree = wire.decode(data, Tree, LIMITS)
    if part.expanded or expand is None:
        return tree
    try:
        return expand(tree)
    except Exception as error:
        raise Misfit(part.lo, part.hi, error) from error


def _in_place(parts: Sequence[Part], lo: int, hi: int, target: Path) -> Blob | None:
    """The sum of files of numbers, chunk by chunk; None where there is text among them.

    The head of the leftmost file is the head of the sum, so the sum is that file with other values.
    """
    with ExitStack() as stack:
        keep = stack if len(parts) <= _OPEN else None
        held = {(p.lo, p.hi): _Source(p.what, keep) for p in parts if isinstance(p.what, Path)}
        first = held[min(held)]
        if any(s.dtype.kind == "U" for s in first.made.slots):
            return None
        _check_kinds(held, lo, hi)
        with _Sink(target) as sink, np.errstate(over="ignore", invalid="ignore"):
            at = 0
            for slot in first.made.slots:
                if slot.nbytes:
                    sink.write(first.read(at, slot.offset - at))
                    for start in range(0, slot.nbytes, _SUMMED):
                        size = min(_SUMMED, slot.nbytes - start)
                        sink.write(_added(held, lo, hi, slot, start, size).view(np.uint8).data)
                    at = slot.offset + slot.nbytes
            sink.write(first.read(at, first.made.size - at))
            return sink.done()


def _halves(held: dict[tuple[int, int], _Source], lo: int, hi: int) -> list[tuple[int, int]]:
    """Those halves of a segment in which there are parts."""
    middle = (lo + hi) // 2
    return [(a, b) for a, b in ((lo, middle), (middle, hi)) if any(a <= p[0] < b for p in held)]


def _check_kinds(held: dict[tuple[int, int], _Source], lo: int, hi: int) -> _Source:
    """Make sure that all arrays have the same names, dtypes and shapes, where they meet."""
    source = held.get((lo, hi))
    if source is not None:
        return source
    (left, *right), halves = [_check_kinds(held, a, b) for a, b in _halves(held, lo, hi)], _halves(held, lo, hi)
    if right and right[0].kinds != left.kinds:
        name = next((n for n in left.kinds if right[0].kinds.get(n) != left.kinds[n]), "")
        got, expected = right[0].kinds.get(name), left.kinds.get(name)
        raise Misfit(*halves[1], WireError(explain(f"array {name!r} has another shape", got=got, expected=expected)))
    return left


def _added(held: dict[tuple[int, int], _Source], lo: int, hi: int, slot: Slot, start: int, size: int) -> Array:
    """The same bytes of the same array of all parts, added in the aligned tree."""
    source = held.get((lo, hi))
    if source is not None:
        return np.frombuffer(source.read(source.offsets[slot.name] + start, size), slot.dtype)
    left, *right = (_added(held, a, b, slot, start, size) for a, b in _halves(held, lo, hi))
    return np.add(left, right[0], out=left) if right else left


class _Source:
    """A tree in a file, kept open where there are not too many."""

    def __init__(self, path: Path, stack: ExitStack | None) -> None:
        self._path = path
        self._file = stack.enter_context(opened(path)) if stack is not None else None
        with opened(path) as file:
            self.made = outline(file, os.fstat(file).st_size)
        self.offsets = {s.name: s.offset for s in self.made.slots}
        self.kinds = {s.name: (s.dtype.str, s.shape) for s in self.made.slots}

    def read(self, offset: int, size: int) -> bytearray:
        """Some bytes, in memory that may be written to."""
        room = bytearray(size)
        if self._file is not None:
            read_into(self._file, memoryview(room), offset)
            return room
        with opened(self._path) as file:
            read_into(file, memoryview(room), offset)
        return room


class _Sink:
    """A new file, hashed as it is written; deleted again if it is not finished."""

    def __init__(self, path: Path) -> None:
        self._path, self._hash, self._size, self._done = path, hashlib.sha256(), 0, False
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> _Sink:
        return self

    def write(self, data: wire.Buffer) -> None:
        """Write on, whole."""
        view = memoryview(data).cast("B")
        self._hash.update(view)
        self._size += view.nbytes
        while view.nbytes:
            view = view[os.write(self._file, view) :]

    def done(self) -> Blob:
        """Sync it to disk, and name it."""
        os.fsync(self._file)
        self._done = True
        return Blob(self._hash.hexdigest(), self._size)

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        if not self._done:
            self._path.unlink(missing_ok=True)
