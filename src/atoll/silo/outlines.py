"""Written trees in files that nobody has looked at yet: read, and held against a contract, in bounded memory.

`outline` reads the head of a file without making anything of the sizes it claims; `examine` goes through its values
chunk by chunk. What they accept is what `atoll.wire.decode` and `atoll.trees.check` accept.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from atoll import wire
from atoll.errors import WireError, explain
from atoll.trees import PIECE, Array, TreeSpec, check, check_norm, check_weight, finite, squares

__all__ = ["LIMITS", "Outline", "Slot", "examine", "opened", "outline", "read_into"]

LIMITS = wire.Limits(max_bytes=1 << 40, max_body=1 << 20, max_arrays=1 << 16)
"""What a contribution may be at most; how long it is has been bounded before."""

_CHUNK = 16 * PIECE  # numbers that are read at a time
_DTYPES = ("|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16")
_WILD = {"finite": 0, "inf": 1, "nan": 2}


class Slot(NamedTuple):
    """Where one array lies in a file."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class Outline(NamedTuple):
    """What a file says it holds: its arrays, where they lie, and how long head and file are."""

    slots: tuple[Slot, ...]
    head: int
    size: int


def outline(file: int, size: int, limits: wire.Limits = LIMITS) -> Outline:
    """Read the head of a file that should be a written tree, as `docs/wire-format.md` lays it out.

    Parameters
    ----------
    file : int
        Descriptor of an open file.
    size : int
        Its length in bytes.
    limits : Limits
        What to accept at most.

    Returns
    -------
    Outline

    Raises
    ------
    WireError
        If this does not begin a tree of exactly this length. Values are not looked at.
    """
    prefix = os.pread(file, wire.PREFIX_BYTES, 0)
    total = wire.length(prefix, limits)
    if total != size:
        raise WireError(explain("a message is cut short or has bytes left over", got=size, expected=total))
    body = os.pread(file, int.from_bytes(prefix[8:16], "little"), wire.PREFIX_BYTES)
    try:
        found = msgspec.msgpack.decode(body, type=dict[str, msgspec.msgpack.Ext])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(explain("this does not read as a tree", got=error)) from error
    if len(found) > limits.max_arrays:
        raise WireError(explain("a message holds too many arrays", expected=f"at most {limits.max_arrays}"))
    if msgspec.msgpack.encode(found) != body:
        raise WireError(explain("a message is not written the one way it can be"))
    head = wire.PREFIX_BYTES + len(body)
    slots, at = [], head
    for name, reference in found.items():
        slot, at = _slot(name, reference, at, size)
        slots.append(slot)
    if at != size:
        raise WireError(explain("a message is longer than its arrays", got=size, expected=at))
    return Outline(tuple(slots), head, size)


def _slot(name: str, reference: msgspec.msgpack.Ext, at: int, size: int) -> tuple[Slot, int]:
    """The array that a reference describes, and where it ends."""
    data = memoryview(reference.data)
    dims, odd = divmod(len(data) - 1, 8)
    if reference.code != 1 or odd or not 0 <= dims <= 33 or data[0] > len(_DTYPES):
        raise WireError(explain(f"array {name!r} is described in an unknown way"))
    shape = tuple(int.from_bytes(data[i : i + 8], "little") for i in range(1, len(data), 8))
    if data[0] == len(_DTYPES):
        if not shape or not 0 < shape[-1] < 1 << 29:
            raise WireError(explain(f"text array {name!r} has no width, or too much"))
        dtype, shape = np.dtype(f"<U{shape[-1]}"), shape[:-1]
    else:
        dtype = np.dtype(_DTYPES[data[0]])
    if len(shape) > 32 or dtype.itemsize * math.prod([n or 1 for n in shape]) > LIMITS.max_bytes:
        raise WireError(explain(f"array {name!r} is too large", got=shape))
    taken = dtype.itemsize * math.prod(shape)
    start = at + -at % wire.ALIGNMENT if taken else at
    if start + taken > size:
        raise WireError(explain(f"array {name!r} reaches beyond its message", got=shape))
    return Slot(name, dtype, shape, start, taken), start + taken


def examine(path: Path, expects: TreeSpec) -> int:
    """Hold a contribution in a file against its contract, in bounded memory.

    Parameters
    ----------
    path : Path
        A written tree.
    expects : TreeSpec
        The contract.

    Returns
    -------
    int
        Bytes of its arrays.

    Raises
    ------
    WireError
        If the file is no tree, or breaks the contract, with the words of `atoll.trees.check`.
    """
    with opened(path) as file:
        made = outline(file, os.fstat(file).st_size)
        check({s.name: _stand_in(s) for s in made.slots}, expects, values=False)
        _gaps(file, made)
        wild: dict[str, str] = {}
        weight: list[float] = []
        squared = 0.0
        bounded = expects.max_norm < math.inf
        for slot in made.slots:
            for chunk in _chunks(file, slot):
                _check_bits(chunk)
                wild[slot.name] = max(wild.get(slot.name, "finite"), finite(chunk), key=lambda w: _WILD[w])
                if slot.name == "weight":
                    weight += [float(chunk.min()), float(chunk.max())]
                elif bounded:
                    squared += squares(chunk)
    for name, leaf in expects.leaves.items():
        if _WILD[got := wild.get(name, "finite")] > _WILD[leaf.allows]:
            raise WireError(explain(f"array {name!r} has values that are not allowed", got=got, expected=leaf.allows))
    if weight:
        check_weight(float(np.min(weight)), float(np.max(weight)), expects)
    if bounded:
        check_norm(squared, expects)
    return sum(s.nbytes for s in made.slots)


def _stand_in(slot: Slot) -> Array:
    """One number, or letter, that is spread out: shape and dtype without memory."""
    return np.broadcast_to(np.zeros((), "<U1" if slot.dtype.kind == "U" else slot.dtype), slot.shape)


def _gaps(file: int, made: Outline) -> None:
    at = made.head
    for slot in made.slots:
        if slot.nbytes:
            if any(os.pread(file, slot.offset - at, at)):
                raise WireError(explain("the bytes between two arrays are not zero"))
            at = slot.offset + slot.nbytes


def _chunks(file: int, slot: Slot) -> Iterator[Array]:
    """The values of an array, some megabytes at a time; each chunk is gone when the next is asked for."""
    dtype = np.dtype("<U1") if slot.dtype.kind == "U" else slot.dtype
    most = _CHUNK * dtype.itemsize
    room = bytearray(min(slot.nbytes, most))
    for start in range(0, slot.nbytes, most):
        view = memoryview(room)[: min(most, slot.nbytes - start)]
        read_into(file, view, slot.offset + start)
        yield np.frombuffer(view, dtype)


def _check_bits(chunk: Array) -> None:
    """As when a message is read: bools are 0 or 1, text is Unicode."""
    if chunk.dtype.kind == "b" and chunk.view(np.uint8).max(initial=0) > 1:
        raise WireError(explain("an array of bool holds a byte that is neither 0 nor 1"))
    if chunk.dtype.kind == "U":
        points = chunk.view("<u4")
        if points.size and (points.max() > 0x10FFFF or ((points & 0xFFFFF800) == 0xD800).any()):
            raise WireError(explain("an array of text holds a code point that is not in Unicode"))


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The descriptor of a file, for as long as it is needed."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


def read_into(file: int, view: memoryview, offset: int) -> None:
    """Fill memory from a file.

    Raises
    ------
    WireError
        If the file ends before.
    """
    while view.nbytes:
        got = os.preadv(file, [view], offset)
        if not got:
            raise WireError(explain("a file ended early"))
        view, offset = view[got:], offset + got
