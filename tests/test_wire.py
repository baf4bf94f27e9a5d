"""The wire format: what goes in comes out, and what is not a message is refused by a WireError."""

from __future__ import annotations

import mmap
import re
import runpy
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from atoll import wire
from atoll.errors import WireError
from atoll.messages import Exchange, Outcome, Reply, Rule
from atoll.specs import Spec
from atoll.trees import Leaf, Tree, TreeSpec

ROOT = Path(__file__).parents[1]
FUZZER = runpy.run_path(str(ROOT / "tests" / "fuzz" / "fuzz_wire.py"))

NUMBERS = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]


def exchange(**changes: Any) -> Exchange:
    parts: dict[str, Any] = {
        "run": "run", "number": 0, "step": 0, "seed": 0, "op": "mean", "settings": {}, "payload": {}, "each": {},
        "view": (), "cohort": (0, 1), "base": (-1, -1), "combine": Spec("sum"), "transform": (), "plan": Spec("star"),
        "rule": Rule(), "expects": TreeSpec({"x": Leaf("<f8", (3,))}),
    }  # fmt: skip
    return Exchange(**(parts | changes))


def message(body: bytes, buffers: bytes = b"", *, magic: bytes = b"atoll\x00", version: int = 1) -> bytes:
    """A message around a structure written by hand."""
    end = 24 + len(body)
    gap = bytes(-end % 64 if buffers else 0)
    return struct.pack("<6sHQQ", magic, version, len(body), end + len(gap) + len(buffers)) + body + gap + buffers


def reference(code: int, *dims: int, kind: int = 1) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(kind, struct.pack(f"<B{len(dims)}Q", code, *dims)))


def tree(*references: bytes) -> bytes:
    """The structure of a tree of which the arrays are these."""
    return bytes([0x80 + len(references)]) + b"".join(b"\xa1%c" % (97 + i) + r for i, r in enumerate(references))


def same(a: Any, b: Any) -> bool:
    """Equal in structure, dtype, shape and bits; byte order and memory order aside."""
    if isinstance(a, np.ndarray):
        native = a.dtype.newbyteorder("<")
        return native == b.dtype and a.shape == b.shape and a.astype(native).tobytes() == b.tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Exchange | Outcome):
        return same(vars(a) | {"digest": 0}, vars(b) | {"digest": 0})
    return type(a) is type(b) and (a == b or (a != a and b != b))


# -- what goes in comes out ----------------------------------------------------------------------------------------


def arrays() -> st.SearchStrategy[np.ndarray]:
    dtypes = st.sampled_from([order + name for name in NUMBERS for order in "<>"]).map(np.dtype)
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
    numbers = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shapes))
    letters = st.text(st.characters(exclude_categories=["Cs"]), max_size=4).map(lambda word: word.rstrip("\0"))
    words = hnp.arrays(st.sampled_from(["<U4", ">U4", "<U7"]).map(np.dtype), shapes, elements=letters)
    layout = st.sampled_from([lambda a: a, np.asfortranarray, lambda a: a.T, lambda a: a[..., ::2] if a.ndim else a])
    return st.tuples(st.one_of(numbers, words), layout).map(lambda pair: pair[1](pair[0]))


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
TREES = st.dictionaries(NAMES, arrays(), max_size=4)
INTEGERS = st.integers(-(2**63), 2**64 - 1)
PLAIN = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats() | NAMES | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | INTEGERS, inner, max_size=3),
    max_leaves=8,
)
SETTINGS = st.dictionaries(NAMES, PLAIN, max_size=3)
SPECS = st.builds(Spec, NAMES, SETTINGS, TREES)
RULES = st.builds(Rule, st.none() | st.floats(), st.floats(), st.sampled_from(["drop", "next", "wait"]))
LEAVES = st.builds(Leaf, NAMES, st.lists(st.integers(-1, 9), max_size=3).map(tuple), NAMES)
COUNTS = st.lists(st.integers(-1, 2**40), max_size=20).map(tuple)
EXCHANGES = st.builds(
    Exchange, NAMES, INTEGERS, INTEGERS, INTEGERS, NAMES, SETTINGS, TREES,
    st.dictionaries(st.integers(0, 9), TREES, max_size=2), st.lists(SPECS, max_size=2).map(tuple), COUNTS, COUNTS,
    SPECS, st.lists(SPECS, max_size=2).map(tuple), SPECS, RULES,
    st.builds(TreeSpec, st.dictionaries(NAMES, LEAVES, max_size=3), st.floats()),
)  # fmt: skip
OUTCOMES = st.builds(
    Outcome, st.none() | TREES, COUNTS, st.dictionaries(INTEGERS, NAMES, max_size=2),
    st.dictionaries(INTEGERS, INTEGERS, max_size=2), st.dictionaries(NAMES, INTEGERS, max_size=2), st.floats(),
    st.lists(NAMES, max_size=2).map(tuple),
)  # fmt: skip


@given(TREES)
def test_a_tree_comes_back(value):
    data = wire.encode(value)
    back = wire.decode(data, Tree)
    assert same(value, back)
    assert wire.encode(back) == data
    assert all(not array.flags.writeable for array in back.values())


@given(EXCHANGES)
def test_an_exchange_comes_back(value):
    data = wire.encode(value)
    back = wire.decode(data, Exchange)
    assert same(value, back)
    assert wire.encode(back) == data


@given(OUTCOMES)
def test_an_outcome_comes_back(value):
    data = wire.encode(value)
    back = wire.decode(data, Outcome)
    assert same(value, back)
    assert wire.encode(back) == data


@given(PLAIN)
def test_plain_values_come_back(value):
    assert same(value, wire.decode(wire.encode(value), Any))


def test_the_digest_of_an_exchange_survives():
    sent = exchange(payload={"x": np.asfortranarray(np.arange(6.0).reshape(2, 3))}, settings={"metric": "l2"})
    assert wire.decode(wire.encode(sent), Exchange).digest == sent.digest


def test_other_types_made_of_arrays_come_back():
    class Part(NamedTuple):
        low: int
        tree: Tree

    @dataclass
    class Answer:
        parts: list[Part]
        note: str | None = None

    Answer.__annotations__ = {"parts": list[Part], "note": str | None}
    sent = Answer([Part(0, {"x": np.arange(2)}), Part(1, {})])
    back = wire.decode(wire.encode(sent), Answer)
    assert [part.low for part in back.parts] == [0, 1]
    assert same(sent.parts[0].tree, back.parts[0].tree)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (3, 0, 2), (4,), (2, 3)])
def test_every_dtype_and_shape_survives(name, shape):
    array = np.ones(shape, name)
    back = wire.decode(wire.encode([array]), list[np.ndarray])[0]
    assert (back.dtype, back.shape) == (array.dtype, shape)
    assert np.array_equal(back, array)


def test_text_of_no_width_gets_one():
    empty = np.ndarray((2,), np.dtype("U0"), b"")
    assert wire.decode(wire.encode({"x": empty}), Tree)["x"].dtype == "<U1"


def test_a_dtype_with_metadata_is_the_plain_dtype():
    array = np.arange(3).astype(np.dtype("f8", metadata={"unit": "m"}))
    assert wire.decode(wire.encode({"x": array}), Tree)["x"].tolist() == [0.0, 1.0, 2.0]


def test_numpy_scalars_become_numbers():
    sent = {"a": np.float32(0.5), "b": np.int64(-3), "c": np.bool_(True), "d": np.str_("x"), np.int8(4): 1}
    back = wire.decode(wire.encode(sent), dict)
    assert back == {"a": 0.5, "b": -3, "c": True, "d": "x", 4: 1}
    assert [type(value) for value in back.values()] == [float, int, bool, str, int]


def test_a_number_takes_the_form_of_its_annotation():
    back = wire.decode(wire.encode(Rule(5, 1)), Rule)
    assert back == Rule(5.0, 1.0)
    assert type(back.deadline) is float
    sent = exchange(rule=Rule(5), settings={"missing": float("nan")}, payload={"x": np.arange(3)})
    assert wire.decode(wire.encode(sent), Exchange).payload["x"].tolist() == [0, 1, 2]


# -- memory --------------------------------------------------------------------------------------------------------


def test_writing_copies_no_contiguous_array():
    array = np.arange(100.0)
    parts = wire.frames({"x": array})
    assert any(np.shares_memory(array, np.frombuffer(part, np.uint8)) for part in parts)
    assert b"".join(parts) == wire.encode({"x": array})
    assert all(part.format == "B" for part in parts)


def test_reading_gives_aligned_read_only_views():
    sent = {"a": np.arange(3, dtype=np.int8), "b": np.arange(5.0), "c": np.array("x")}
    store = np.zeros(wire.size(sent) + 64 + 10, np.uint8)
    memory = store[-store.ctypes.data % 64 :]
    assert wire.encode_into(sent, memory.data) == wire.size(sent) == len(wire.encode(sent))
    back = wire.decode(memory.data[: wire.size(sent)], Tree)
    assert same(sent, back)
    for array in back.values():
        assert array.ctypes.data % 64 == 0
        assert np.shares_memory(array, store)
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_a_buffer_may_start_anywhere():
    sent = {"x": np.arange(5.0), "t": np.array(["ab", "c"]), "b": np.array([True])}
    data = wire.encode(sent)
    for shift in range(1, 9):
        assert same(sent, wire.decode(memoryview(bytes(shift) + data)[shift:], Tree))


def test_memory_cannot_close_under_its_arrays():
    memory = mmap.mmap(-1, 4096)
    total = wire.encode_into({"x": np.arange(4.0)}, memoryview(memory))
    back = wire.decode(memoryview(memory)[:total], Tree)
    with pytest.raises(BufferError):
        memory.close()
    del back
    memory.close()


def test_a_buffer_that_is_too_short_is_refused():
    with pytest.raises(WireError, match="does not fit"):
        wire.encode_into({"x": np.arange(9)}, bytearray(50))


def test_the_length_is_known_from_the_first_bytes():
    data = wire.encode({"x": np.arange(9)})
    assert wire.length(data[: wire.PREFIX_BYTES]) == len(data)
    with pytest.raises(WireError, match="cut short"):
        wire.length(data[: wire.PREFIX_BYTES - 1])


# -- what cannot be sent -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.array([None]), np.array([b"raw"]), np.array(["2020-01-01"], "M8[D]"), np.array([1], "m8[s]"),
        np.zeros(2, [("a", "f8")]), np.zeros(2, "V4"), np.zeros(2, np.longdouble), np.ma.masked_array([1], [True]),
    ],
    ids=["object", "bytes", "date", "duration", "record", "void", "longdouble", "masked"],
)  # fmt: skip
def test_an_array_that_is_not_plain_data_is_named(array):
    with pytest.raises(WireError, match=r"message\.payload\['w'\]"):
        wire.encode(exchange(payload={"v": np.zeros(3), "w": array}))


def test_other_things_are_named():
    with pytest.raises(WireError, match=r"message\['a'\]\[1\]\['f'\]"):
        wire.encode({"a": [1, {"f": print}]})
    with pytest.raises(WireError, match=r"message\.arrays\['x'\]"):
        wire.encode(Spec("s", {}, {"x": np.zeros(1, object)}))
    with pytest.raises(WireError, match="complex128"):
        wire.encode([np.complex128(1)])


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", {"x": "\udfff"}])
def test_values_beyond_the_format_are_refused(value):
    with pytest.raises(WireError, match="cannot be written"):
        wire.encode([value])


def test_a_value_inside_itself_is_refused():
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(WireError, match="recursion"):
        wire.encode(endless)


def test_invalid_bool_and_text_are_refused_where_they_are_written():
    with pytest.raises(WireError, match="neither 0 nor 1"):
        wire.encode({"x": np.array([2], np.uint8).view(bool)})
    with pytest.raises(WireError, match="not in Unicode"):
        wire.encode({"x": np.array(["\ud800"])})


def test_a_message_is_held_against_its_own_annotations():
    with pytest.raises(WireError, match=r"Expected `int`, got `str` - at `\$.number`"):
        wire.encode(exchange(number="three"))

    @dataclass
    class Base:
        a: int

    @dataclass
    class More(Base):
        b: int

    class Holder(NamedTuple):
        part: Base

    Holder.__annotations__ = {"part": Base}
    Base.__annotations__, More.__annotations__ = {"a": int}, {"b": int}
    with pytest.raises(WireError, match="more than its annotations say"):
        wire.encode(Holder(More(1, 2)))


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Tree, Exchange, Outcome, Reply])
def test_every_prefix_and_every_extension_is_refused(kind):
    data = next(data for one, data in FUZZER["corpus"]() if one is kind)
    for end in range(len(data)):
        with pytest.raises(WireError):
            wire.decode(data[:end], kind)
    for tail in (b"\x00", b"x", bytes(64)):
        with pytest.raises(WireError, match="cut short or has bytes left over"):
            wire.decode(data + tail, kind)


ONE = struct.pack("<d", 1.0)
BOTH = "cut short or has bytes left over"
REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "cut short"),
    "magic": (message(b"\x80", magic=b"nutmeg"), "not a message of Atoll"),
    "pickle": (b"\x80\x04\x95" + bytes(30), "not a message of Atoll"),
    "version": (message(b"\x80", version=2), "another version"),
    "structure beyond its message": (struct.pack("<6sHQQ", b"atoll\x00", 1, 2, 25) + b"\x80", "shorter than its struc"),
    "structure of 2**64 - 1": (struct.pack("<6sHQQ", b"atoll\x00", 1, 2**64 - 1, 25) + b"\x80", "structure .* long"),
    "message of 2**64 - 1": (struct.pack("<6sHQQ", b"atoll\x00", 1, 1, 2**64 - 1) + b"\x80", "too long"),
    "message of 2**33": (struct.pack("<6sHQQ", b"atoll\x00", 1, 1, 2**33) + b"\x80", BOTH),
    "no structure": (message(b""), "truncated"),
    "bytes after the structure": (message(b"\x80\x80"), "trailing"),
    "buffer without array": (message(b"\x80", ONE), "longer than its arrays"),
    "buffer after the last array": (message(tree(reference(11, 1)), ONE + ONE), "longer than its arrays"),
    "array without buffer": (message(tree(reference(11, 1))), "reaches beyond"),
    "two arrays, one buffer": (message(tree(reference(11, 1), reference(11, 1)), ONE), "reaches beyond"),
    "padding": (message(tree(reference(5, 1), reference(5, 1)), b"a" + bytes(62) + b"xb"), "not zero"),
    "2**60 elements": (message(tree(reference(11, 2**60)), ONE), "too large"),
    "2**32 times 2**32 elements": (message(tree(reference(5, 2**32, 2**32)), ONE), "too large"),
    "negative length": (message(tree(reference(5, 2**64 - 1)), ONE), "too large"),
    "negative lengths": (message(tree(reference(5, 2**64 - 1, 2**64 - 1)), ONE), "too large"),
    "empty but huge": (message(tree(reference(11, 0, 2**61))), "too large"),
    "empty but huge at last": (message(tree(reference(11, 2**62, 2**62, 0))), "too large"),
    "33 dimensions": (message(tree(reference(5, *[1] * 33)), b"a"), "too many dimensions"),
    "34 dimensions": (message(tree(reference(5, *[1] * 34)), b"a"), "cannot be read"),
    "no dtype": (message(tree(b"\xc7\x00\x01")), "cannot be read"),
    "half a dimension": (message(tree(b"\xd6\x01\x05\x01\x00\x00")), "cannot be read"),
    "unknown dtype": (message(tree(reference(15, 1)), ONE), "unknown dtype"),
    "another extension": (message(tree(reference(11, 1, kind=2)), ONE), "not an array"),
    "text without width": (message(tree(reference(14))), "no width"),
    "text of width 0": (message(tree(reference(14, 3, 0))), "no width"),
    "text too wide": (message(tree(reference(14, 0, 2**30))), "no width, or too much"),
    "bool of 2": (message(tree(reference(0, 2)), b"\x01\x02"), "neither 0 nor 1"),
    "surrogate": (message(tree(reference(14, 1, 1)), struct.pack("<I", 0xD800)), "not in Unicode"),
    "last surrogate": (message(tree(reference(14, 1)), struct.pack("<I", 0xDFFF)), "not in Unicode"),
    "beyond Unicode": (message(tree(reference(14, 1, 2)), struct.pack("<II", 97, 0x110000)), "not in Unicode"),
    "array as a key": (message(b"\x81" + reference(11, 1) + b"\x01", ONE), "does not read"),
    "number for an array": (message(b"\x81\xa1x\x05"), "Expected `numpy.ndarray`"),
    "list for a tree": (message(b"\x90"), "Expected `object`, got `array`"),
    "repeated key": (message(b"\x82" + 2 * (b"\xa1a" + reference(5)), b"a" + bytes(63) + b"b"), "one way"),
    "long form of a key": (message(b"\x81\xd9\x01a" + reference(5), b"a"), "one way"),
    "long form of a map": (message(b"\xde\x00\x00"), "one way"),
    "long form of a reference": (message(b"\x81\xa1a\xc7\x01\x01\x05", b"a"), "one way"),
    "invalid UTF-8": (message(b"\x81\xa1\xff" + reference(5), b"a"), "does not read"),
    "key cut short": (message(b"\x81\xbf"), "truncated"),
    "2**32 - 1 entries": (message(b"\xdf\xff\xff\xff\xff"), "truncated"),
    "reserved marker": (message(b"\xc1"), "does not read"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_a_tree_is_refused(case):
    data, why = REFUSED[case]
    with pytest.raises(WireError, match=why):
        wire.decode(data, Tree)


@pytest.mark.parametrize(
    "body",
    [
        b"\x91" * 100_000,
        b"\x81\xa0" * 100_000,
        b"\xdc\xff\xff" * 5_000,
        b"\xdd\xff\xff\xff\xff" * 900,
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
    ],
    ids=["lists", "maps", "long lists", "very long lists", "text", "bytes", "extension"],
)
def test_deep_or_long_structures_are_refused_and_take_little_memory(body):
    reason, share = FUZZER["measured"](message(body), Any)
    assert reason == "this does not read as Any"
    assert share < 1


def test_depth_is_refused_in_text_arrays_and_keys_alike():
    nested = b"\x81" + b"\x91" * 5_000 + b"\x90" * 2
    with pytest.raises(WireError):
        wire.decode(message(nested), dict)


FIELDS = msgspec.msgpack.decode(wire.encode(exchange())[wire.PREFIX_BYTES :])


def reversed_fields(fields: dict[str, Any]) -> dict[str, Any]:
    return dict(reversed(fields.items()))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda f: f | {"number": "3"}, "Expected `int`, got `str`"),
        (lambda f: f | {"number": 1.0}, "Expected `int`"),
        (lambda f: f | {"rule": [None, 1.0, "never"]}, "Invalid enum value"),
        (lambda f: f | {"rule": [None, 1, "drop"]}, "one way"),
        (lambda f: f | {"rule": [None, 1.0]}, "one way"),
        (lambda f: f | {"rule": [None, 1.0, "drop", 0]}, "length"),
        (lambda f: f | {"more": 1}, "one way"),
        (lambda f: f | {"digest": "0" * 32}, "one way"),
        (lambda f: f | {"each": {"0": {}}}, "Expected `int`"),
        (lambda f: f | {"cohort": [0, None]}, "Expected `int`, got `None`"),
        (lambda f: {k: v for k, v in f.items() if k != "seed"}, "missing required field `seed`"),
        (reversed_fields, "one way"),
    ],
)
def test_what_is_not_an_exchange_is_refused(change, why):
    with pytest.raises(WireError, match=why):
        wire.decode(message(msgspec.msgpack.encode(change(FIELDS))), Exchange)


@pytest.mark.parametrize("kind", [Exchange, Outcome, Reply, Rule, Spec, TreeSpec, Tree])
def test_a_message_of_another_type_is_refused(kind):
    for other, data in FUZZER["corpus"]():
        if other is not kind and other not in (Any, dict):
            with pytest.raises(WireError):
                wire.decode(data, kind)


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (wire.Limits(max_bytes=100), "too long"),
        (wire.Limits(max_body=20), "structure of a message is too long"),
        (wire.Limits(max_arrays=1), "too many arrays"),
        (wire.Limits(max_dims=1), "too many dimensions"),
    ],
)
def test_limits_hold(limits, why):
    sent = {"a": np.zeros((2, 2)), "b": np.zeros(20)}
    data = wire.encode(sent)
    assert same(sent, wire.decode(data, Tree))
    with pytest.raises(WireError, match=why):
        wire.decode(data, Tree, limits)


def test_an_error_inside_a_type_is_a_refusal():
    @dataclass
    class Picky:
        n: int

        def __post_init__(self) -> None:
            raise KeyError("no")

    Picky.__annotations__ = {"n": int}
    with pytest.raises(WireError, match="does not read as Picky"):
        wire.decode(message(b"\x81\xa1n\x01"), Picky)


# -- the page and the fuzzer ---------------------------------------------------------------------------------------

VECTORS: list[tuple[Any, Callable[[], Any]]] = [
    (Tree, dict),
    (Tree, lambda: {"a": np.array([1.0, -2.0]), "b": np.array(True)}),
    (Rule, lambda: Rule(deadline=5.0, quorum=1.0, late="drop")),
    (
        Spec,
        lambda: Spec(
            "ab",
            {"k": [1, None]},
            {"t": np.array([["é", "xy"]]), "e": np.zeros((0, 3), np.int32), "z": np.array(1, np.complex64)},
        ),
    ),
]


def test_the_vectors_of_the_page_are_read_and_written():
    page = (ROOT / "docs" / "wire-format.md").read_text(encoding="utf-8")
    vectors = [bytes.fromhex(block) for block in re.findall(r"```text\n([0-9a-f\s]+)```", page)]
    assert len(vectors) == len(VECTORS)
    for data, (kind, build) in zip(vectors, VECTORS, strict=True):
        assert same(build(), wire.decode(data, kind))
        assert wire.encode(wire.decode(data, kind)) == data == wire.encode(build())


def test_a_sample_of_damaged_messages():
    report = FUZZER["fuzz"](50_000, seed=20_250)
    assert report.accepted > 1_000, f"too few stay messages to test anything: {report}"
    assert len(report.refused) > 15, f"too few reasons: {report}"
    print(f"seed 20250: {report}")


@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_a_million_damaged_messages():
    report = FUZZER["fuzz"](1_000_000, seed=1)
    assert report.cases == 1_000_000
    assert report.worst < 1
    print(f"seed 1: {report}")
