"""Messages to bytes and back: a short head, then the raw buffers of the arrays.

A message is a value made of what the library sends: dataclasses and NamedTuples such as `Exchange`, `Outcome` or
`Reply`, trees, and dictionaries, lists and plain values of them. Its structure is written as msgpack; where an array
stands, the structure holds its dtype and shape, and its bytes follow behind, aligned, in the order in which the arrays
occur. So writing copies nothing (`frames`), and reading gives read-only views on the bytes received (`decode`). The
layout is specified in `docs/wire-format.md`.

Every message has exactly one encoding, and `decode` accepts no other: what it returns encodes to the same bytes again.
Nothing in a message is looked up by name, evaluated or unpickled. Whatever the bytes are, the answer is a value of the
asked type or a `WireError`, and every size they claim is checked before anything is made from it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from itertools import starmap
from typing import Any, NamedTuple, NoReturn, TypeAlias, TypeVar

import msgspec
import numpy as np

from atoll.errors import WireError, explain
from atoll.trees import Array

__all__ = [
    "ALIGNMENT",
    "DEFAULT_LIMITS",
    "PREFIX_BYTES",
    "VERSION",
    "Buffer",
    "Limits",
    "decode",
    "encode",
    "encode_into",
    "frames",
    "length",
    "size",
]

T = TypeVar("T")
Buffer: TypeAlias = bytes | bytearray | memoryview

VERSION = 1
ALIGNMENT = 64

_MAGIC = b"atoll\x00"
_PREFIX = struct.Struct("<6sHQQ")
PREFIX_BYTES = _PREFIX.size

_ARRAY = 1
_NUMBERS = ("|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16")
_DTYPES = tuple(map(np.dtype, _NUMBERS))
_CODES = {dtype: code for code, dtype in enumerate(_DTYPES)}
_TEXT = len(_DTYPES)
_MAX_DIMS = 32
_REFERENCE = tuple(struct.Struct(f"<B{n}Q") for n in range(_MAX_DIMS + 2))
_ZEROS = memoryview(bytes(ALIGNMENT))


class Limits(NamedTuple):
    """What a reader accepts at most. It holds the bytes already, so this bounds what is made from them.

    Attributes
    ----------
    max_bytes : int
        Length of a message. Also the largest size that the shape of an empty array may suggest, its zeros counted as 1.
    max_body : int
        Length of the structure. Python objects made from it take at most about 200 times as much memory.
    max_arrays : int
        Number of arrays.
    max_dims : int
        Dimensions of an array, at most 32.
    """

    max_bytes: int = 1 << 34
    max_body: int = 1 << 24
    max_arrays: int = 1 << 18
    max_dims: int = _MAX_DIMS


DEFAULT_LIMITS = Limits()


def encode(message: object) -> bytes:
    """Write a message as one string of bytes, which copies its arrays once.

    Parameters
    ----------
    message : object
        A dataclass or NamedTuple whose annotations say what it holds, a tree, or dictionaries, lists and tuples of
        these and of plain values. NumPy scalars become Python numbers; arrays become little-endian, C-ordered and of
        exact type `ndarray`.

    Returns
    -------
    bytes

    Raises
    ------
    WireError
        If something in the message is not data (an array of objects, a function), or does not fit the message's own
        annotations.

    Examples
    --------
    >>> import numpy as np
    >>> from atoll import wire
    >>> from atoll.trees import Tree
    >>> wire.decode(wire.encode({"coef": np.arange(3.0)}), Tree)
    {'coef': array([0., 1., 2.])}
    """
    return b"".join(frames(message))


def encode_into(message: object, buffer: bytearray | memoryview) -> int:
    """Write a message into memory that is already there, such as shared memory.

    Parameters
    ----------
    message : object
        As for `encode`.
    buffer : bytearray or memoryview
        Writable and at least `size(message)` long; decoded arrays are aligned if it starts at a multiple of 64.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    WireError
        As for `encode`, or if the buffer is too short.
    """
    parts = frames(message)
    total = sum([part.nbytes for part in parts])
    target = memoryview(buffer).cast("B")
    if total > target.nbytes:
        _refuse("a message does not fit into the buffer", got=f"{target.nbytes} bytes", expected=f"{total} bytes")
    at = 0
    for part in parts:
        target[at : at + part.nbytes] = part
        at += part.nbytes
    return total


def size(message: object) -> int:
    """Bytes that a message takes; a caller that writes it next adds up the `nbytes` of its `frames` instead.

    Parameters
    ----------
    message : object
        As for `encode`.

    Returns
    -------
    int

    Raises
    ------
    WireError
        As for `encode`.
    """
    return sum([part.nbytes for part in frames(message)])


def frames(message: object) -> list[memoryview]:
    """Write a message as pieces that are its bytes one after the other, without copying contiguous arrays.

    Parameters
    ----------
    message : object
        As for `encode`. Its arrays must not change before the pieces are written out.

    Returns
    -------
    list of memoryview
        Each of format `"B"`: the head, then arrays and the zeros between them.

    Raises
    ------
    WireError
        As for `encode`.
    """
    body, arrays = _write(message)
    parts = [memoryview(b"")]
    at = PREFIX_BYTES + len(body)
    for array in arrays:
        if array.nbytes:
            gap = -at % ALIGNMENT
            if gap:
                parts.append(_ZEROS[:gap])
            parts.append(_octets(array))
            at += gap + array.nbytes
    parts[0] = memoryview(_PREFIX.pack(_MAGIC, VERSION, len(body), at) + body)
    return parts


def length(prefix: Buffer, limits: Limits = DEFAULT_LIMITS) -> int:
    """How long the message is that begins with these bytes; for a reader of a stream, before it makes room.

    Parameters
    ----------
    prefix : bytes-like
        At least the first `PREFIX_BYTES` bytes.
    limits : Limits
        What to accept at most.

    Returns
    -------
    int
        Bytes of the whole message, within the limits.

    Raises
    ------
    WireError
        If this does not begin a message, or begins one that is too long.
    """
    return _lengths(prefix, limits)[1]


def decode(buffer: Buffer, type: type[T], limits: Limits = DEFAULT_LIMITS) -> T:
    """Read a message.

    Parameters
    ----------
    buffer : bytes-like
        Exactly one message. It must outlive the arrays, and they show what is later written into it.
    type : type
        What the message must be, such as `Exchange` or `Tree`.
    limits : Limits
        What to accept at most.

    Returns
    -------
    object of the given type
        Its arrays are read-only views on `buffer`, aligned if that starts at a multiple of 64.

    Raises
    ------
    WireError
        If these bytes are not the encoding of such a message, or exceed a limit. Whatever the bytes are, nothing else
        is raised.
    """
    view = memoryview(buffer).cast("B").toreadonly()
    end, total = _lengths(view, limits)
    if total != view.nbytes:
        _refuse("a message is cut short or has bytes left over", got=f"{view.nbytes} bytes", expected=f"{total} bytes")
    body = bytes(view[PREFIX_BYTES:end])
    reader = _Reader(view, end, limits)
    value, again = _read(body, type, reader)
    if reader.at != total:
        _refuse("a message is longer than its arrays", got=f"{total} bytes", expected=f"{reader.at} bytes")
    if again != body:
        _refuse(
            "a message is not written the one way it can be",
            hint="unknown or missing fields, repeated keys and numbers in a longer form than needed are not accepted",
        )
    return value


def _refuse(what: str, **details: object) -> NoReturn:
    raise WireError(explain(what, **details))


def _lengths(prefix: Buffer, limits: Limits) -> tuple[int, int]:
    """Where the structure ends and where the message ends, checked against each other and the limits."""
    if len(prefix) < PREFIX_BYTES:
        _refuse("a message is cut short", got=f"{len(prefix)} bytes", expected=f"at least {PREFIX_BYTES}")
    magic, version, body, total = _PREFIX.unpack_from(prefix)
    if magic != _MAGIC:
        _refuse("these bytes are not a message of Atoll", got=magic, expected=_MAGIC)
    if version != VERSION:
        _refuse(
            "a message is written in another version of the wire format",
            got=version,
            expected=VERSION,
            hint="install the same version of Atoll on both sides",
        )
    if total > limits.max_bytes:
        _refuse("a message is too long", got=f"{total} bytes", expected=f"at most {limits.max_bytes}")
    if body > limits.max_body:
        _refuse("the structure of a message is too long", got=f"{body} bytes", expected=f"at most {limits.max_body}")
    if PREFIX_BYTES + body > total:
        _refuse("a message is shorter than its structure", got=f"{total} bytes", expected=f"{PREFIX_BYTES + body}")
    return PREFIX_BYTES + body, total


def _read(body: bytes, type: type[T], array: Callable[[int, memoryview], Array]) -> tuple[T, bytes]:
    """The value that a structure holds, and the structure that this value has."""
    try:
        value = msgspec.msgpack.decode(body, type=type, ext_hook=array)
        return value, msgspec.msgpack.encode(value, enc_hook=_refer)
    except WireError:
        raise
    except Exception as error:  # msgspec, the hooks of NumPy and the types themselves raise many kinds
        name = getattr(type, "__name__", type)
        raise WireError(explain(f"this does not read as {name}", got=error)) from error


class _Reader:
    """Gives the arrays of one message, in order, as views."""

    def __init__(self, view: memoryview, at: int, limits: Limits) -> None:
        self.view = view
        self.octets = np.frombuffer(view, np.uint8)  # unlike a memoryview, keeps shared memory and maps from closing
        self.at = at
        self.left = limits.max_arrays
        self.limits = limits

    def __call__(self, kind: int, reference: memoryview) -> Array:
        if kind != _ARRAY:
            _refuse("a message holds an extension that is not an array", got=kind, expected=_ARRAY)
        if not self.left:
            _refuse("a message holds too many arrays", expected=f"at most {self.limits.max_arrays}")
        self.left -= 1
        dtype, shape = _dereference(reference, self.limits)
        nbytes = dtype.itemsize * math.prod(shape)
        if not nbytes:
            return np.ndarray(shape, dtype, self.octets)
        start = self.at + -self.at % ALIGNMENT
        if start + nbytes > self.view.nbytes:
            _refuse("an array reaches beyond its message", got=(dtype.str, shape))
        if self.view[self.at : start] != _ZEROS[: start - self.at]:
            _refuse("the bytes between two arrays are not zero")
        self.at = start + nbytes
        array: Array = np.ndarray(shape, dtype, self.octets, start)
        _check_values(array)
        return array


def _dereference(reference: memoryview, limits: Limits) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Dtype and shape that a reference states, within the limits."""
    dims, odd = divmod(len(reference) - 1, 8)
    if odd or not 0 <= dims <= limits.max_dims + 1:
        _refuse("the shape of an array cannot be read", got=f"{len(reference)} bytes")
    code, *shape = _REFERENCE[dims].unpack(reference)
    if code > _TEXT:
        _refuse("an array has an unknown dtype", got=code, expected=f"at most {_TEXT}")
    unit = 4 if code == _TEXT else _DTYPES[code].itemsize
    if unit * math.prod([n or 1 for n in shape]) > limits.max_bytes:
        _refuse("an array is too large", got=shape, expected=f"at most {limits.max_bytes} bytes")
    if code == _TEXT:
        width = shape.pop() if shape else 0
        if not 0 < width < 1 << 29:
            _refuse("a text array has no width, or too much", got=width)
        dtype = np.dtype(f"<U{width}")
    else:
        dtype = _DTYPES[code]
    if len(shape) > limits.max_dims:
        _refuse("an array has too many dimensions", got=len(shape), expected=f"at most {limits.max_dims}")
    return dtype, tuple(shape)


def _write(message: object) -> tuple[bytes, list[Array]]:
    """The structure of a message and its arrays in order.

    What has annotations is held against them, so that what its receiver would refuse never leaves. This also gives
    numbers the form that their annotation asks for (5 where a float is declared becomes 5.0).
    """
    writer = _Writer()
    body = writer.write(message)
    if not _is_annotated(message):
        return body, writer.arrays
    arrays = iter(writer.arrays)
    value, again = _read(body, type(message), lambda kind, reference: next(arrays))
    if again == body:
        return body, writer.arrays
    if not _same(msgspec.msgpack.decode(body), msgspec.msgpack.decode(again)):
        _refuse(f"a {type(message).__name__} holds more than its annotations say", hint="annotate the exact types")
    writer = _Writer()
    return writer.write(value), writer.arrays


def _is_annotated(message: object) -> bool:
    return is_dataclass(message) or (isinstance(message, tuple) and hasattr(message, "__annotations__"))


def _same(a: Any, b: Any) -> bool:
    """Equal as plain values, where 5 is 5.0 and NaN is NaN."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(starmap(_same, zip(a, b, strict=True)))
    return bool(a == b or (a != a and b != b))


class _Writer:
    """Writes one structure and keeps the arrays that it meets, in order."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self.culprit: object = None

    def write(self, message: object) -> bytes:
        try:
            return msgspec.msgpack.encode(message, enc_hook=self)
        except WireError as error:
            where = _find(message, self.culprit)
            raise WireError(f"{error}\n  where:    {where}" if where else str(error)) from None
        except Exception as error:  # too deep, an integer beyond 64 bits, text that is not Unicode
            raise WireError(explain("this cannot be written as a message", got=error)) from error

    def __call__(self, thing: object) -> object:
        self.culprit = thing
        if isinstance(thing, np.generic):
            if thing.dtype.kind == "U" or (thing.dtype.kind in "biuf" and thing.dtype.itemsize <= 8):
                return thing.item()
            _refuse("a message cannot hold this scalar", got=thing.dtype, hint="put it into an array")
        if not isinstance(thing, np.ndarray) or isinstance(thing, np.ma.MaskedArray):
            _refuse("a message holds data only", got=type(thing), expected="arrays and plain values")
        array = _plain(thing)
        self.arrays.append(array)
        return _refer(array)


def _refer(array: Array) -> msgspec.msgpack.Ext:
    """What stands in the structure for a plain array; a text array has its width as last dimension."""
    code, shape = _CODES.get(array.dtype, _TEXT), array.shape
    if code == _TEXT:
        shape = (*shape, array.dtype.itemsize // 4)
    return msgspec.msgpack.Ext(_ARRAY, _REFERENCE[len(shape)].pack(code, *shape))


def _plain(array: Array) -> Array:
    """The array little-endian, in C order and of a dtype that travels; itself if it is so already."""
    dtype = array.dtype
    if dtype.kind == "U":
        dtype = np.dtype(f"<U{max(dtype.itemsize // 4, 1)}")
    elif dtype not in _CODES:
        if dtype.newbyteorder("<") not in _CODES:
            _refuse("arrays of this dtype are not sent", got=dtype, expected="bool, int, uint, float, complex or text")
        dtype = _DTYPES[_CODES[dtype.newbyteorder("<")]]
    if array.ndim > _MAX_DIMS:
        _refuse("an array has too many dimensions", got=array.ndim, expected=f"at most {_MAX_DIMS}")
    plain = np.asarray(array, dtype, order="C")
    _check_values(plain)
    return plain


def _check_values(array: Array) -> None:
    """Bytes of a bool are 0 or 1, code points of text are Unicode's; every other bit pattern is a number."""
    kind = array.dtype.kind
    if kind == "b" and array.size and array.view(np.uint8).max() > 1:
        _refuse("an array of bool holds a byte that is neither 0 nor 1")
    if kind == "U" and array.size:
        points = array.reshape(-1).view("<u4")
        if points.max() > 0x10FFFF or ((points & 0xFFFFF800) == 0xD800).any():
            _refuse("an array of text holds a code point that is not in Unicode")


def _octets(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _find(value: object, wanted: object, path: str = "message") -> str | None:
    """Where in a message a thing stands, as one would write it in Python."""
    if value is wanted:
        return path
    for step, child in _children(value):
        found = _find(child, wanted, path + step)
        if found:
            return found
    return None


def _children(value: object) -> Iterator[tuple[str, object]]:
    if is_dataclass(value):
        yield from ((f".{f.name}", getattr(value, f.name)) for f in fields(value))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from zip((f".{name}" for name in value._fields), value, strict=True)
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", child) for key, child in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{i}]", child) for i, child in enumerate(value))
