"""Feed damaged messages to the wire decoder: each is refused by a WireError, or is a message that encodes to itself.

    python tests/fuzz/fuzz_wire.py --cases 1000000 --seed 0

The damage knows the format: besides flipped bits, cuts, insertions and splices, it rewrites the fields of the head,
puts MessagePack markers into the structure and, half of the time, keeps lengths and buffers right so that the structure
is what is looked at. Memory is held by a limit on the whole process, and every 64th case is measured: what decoding
allocates stays within a multiple of the bytes received.
"""

from __future__ import annotations

import argparse
import resource
import struct
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import numpy as np

from atoll import wire
from atoll.errors import WireError
from atoll.messages import Exchange, Outcome, Reply, Rule
from atoll.specs import Spec
from atoll.trees import Leaf, Tree, TreeSpec

EVERY = 64
PER_BYTE = 256
FIXED = 1 << 14
HEADROOM = 1 << 29
MARKERS = bytes([0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, *range(0xC0, 0xE0), 0x00, 0x7F, 0xFF])
NUMBERS = (0, 1, 2, 7, 63, 64, 65, 255, 2**16, 2**31, 2**32 - 1, 2**32, 2**60, 2**63 - 1, 2**63, 2**64 - 1)


class Report(NamedTuple):
    """What a run of the fuzzer saw."""

    cases: int
    accepted: int
    refused: Counter[str]
    seconds: float
    worst: float


def corpus() -> list[tuple[Any, bytes]]:
    """Valid messages of every kind, each with the type that it is read as."""
    numbers = {
        name: np.arange(3).astype(name) for name in ("b1", "i1", "i2", "i8", "u4", "f2", "f4", "f8", "c8", "c16")
    }
    shapes: Tree = {"scalar": np.array(2.5), "empty": np.zeros((0, 4)), "cube": np.ones((2, 1, 2), "f4")}
    words: Tree = {"names": np.array(["setosa", "é", ""]), "none": np.array([], "<U3")}
    spec = Spec("scale", {"by": 2, "deep": [[], {"x": [None, True, -1.5, b"raw"]}]}, {"mean": np.arange(2.0)})
    contract = TreeSpec({"distance": Leaf("<f8", (-1, 3), "inf"), "n": Leaf("<i8", ())})
    exchange = Exchange(
        "run", 3, 0, 2**63, "neighbors.candidates", {"k": 5, "metric": "minkowski"}, {"queries": np.ones((2, 3))},
        {0: {"a": np.arange(3)}, 4: {}}, (spec,), tuple(range(20)), (-1,) * 20, Spec("topk", {"k": 5}), (),
        Spec("star"), Rule(2.0, 0.5, "wait"), contract,
    )  # fmt: skip
    outcome = Outcome({"sum": np.arange(4.0)}, (0, 2), {1: "late"}, {0: 32, 2: 32}, {"0>-1": 32}, 0.25, ("one", "two"))
    reply = Reply({"x": np.arange(2.0)}, {"slot": {"y": np.array([1, 2], "u1")}})
    plain: list[Any] = [1, "two", [3.0, {"four": None, 5: True}], {"a": np.arange(2), "b": [np.array(["c"])]}]
    typed = [(Tree, numbers), (Tree, shapes), (Tree, words), (Exchange, exchange), (Outcome, outcome), (Reply, reply)]
    return [(kind, wire.encode(message)) for kind, message in [*typed, (Spec, spec), (Any, plain), (dict, {})]]


def flip(data: bytearray, random: Random, _: bytes) -> None:
    """Change one bit."""
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def cut(data: bytearray, random: Random, _: bytes) -> None:
    """Drop the end."""
    del data[random.randrange(len(data)) :]


def drop(data: bytearray, random: Random, _: bytes) -> None:
    """Drop a few bytes in the middle."""
    at = random.randrange(len(data))
    del data[at : at + random.randint(1, 9)]


def insert(data: bytearray, random: Random, _: bytes) -> None:
    """Put random bytes in."""
    at = random.randrange(len(data) + 1)
    data[at:at] = random.randbytes(random.randint(1, 9))


def splice(data: bytearray, random: Random, other: bytes) -> None:
    """Replace a piece by a piece of another message."""
    at, start = random.randrange(len(data)), random.randrange(len(other))
    data[at : at + random.randint(0, 40)] = other[start : start + random.randint(1, 40)]


def head(data: bytearray, random: Random, _: bytes) -> None:
    """Rewrite a field of the head."""
    if len(data) >= wire.PREFIX_BYTES:
        at, form = random.choice(((0, "<I"), (6, "<H"), (8, "<Q"), (16, "<Q")))
        number = random.choice(NUMBERS) if random.random() < 0.5 else random.randrange(2 * len(data))
        struct.pack_into(form, data, at, number % 256 ** struct.calcsize(form))


def number(data: bytearray, random: Random, _: bytes) -> None:
    """Write eight bytes of a remarkable number anywhere, such as over a dimension."""
    at = random.randrange(len(data))
    data[at : at + 8] = struct.pack("<Q", random.choice(NUMBERS))


def mark(data: bytearray, random: Random, _: bytes) -> None:
    """Write a MessagePack marker somewhere in the structure."""
    if len(data) > wire.PREFIX_BYTES:
        end = min(len(data), wire.PREFIX_BYTES + int.from_bytes(data[8:16], "little"))
        data[random.randrange(wire.PREFIX_BYTES, max(end, wire.PREFIX_BYTES + 1))] = random.choice(MARKERS)


def nest(data: bytearray, random: Random, _: bytes) -> None:
    """Open containers inside one another, or claim very long ones."""
    opening = random.choice((b"\x91", b"\x81\xa0", b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff"))
    at = random.randrange(len(data) + 1)
    data[at:at] = opening * random.choice((1, 3, 40))


DAMAGE: tuple[Callable[[bytearray, Random, bytes], None], ...] = (
    flip, flip, flip, cut, drop, insert, splice, head, number, mark, mark, nest,
)  # fmt: skip


def damage(data: bytes, other: bytes, random: Random) -> bytes:
    """The bytes with one to three damages."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if changed:
            random.choice(DAMAGE)(changed, random, other)
    return bytes(changed)


def damaged(message: bytes, other: bytes, random: Random) -> bytes:
    """The message damaged anywhere, or in its structure only and with the right lengths around it."""
    if random.random() < 0.5:
        return damage(message, other, random)
    end = wire.PREFIX_BYTES + int.from_bytes(message[8:16], "little")
    body = damage(message[wire.PREFIX_BYTES : end], other, random)
    buffers = message[end + -end % wire.ALIGNMENT :]
    gap = -(wire.PREFIX_BYTES + len(body)) % wire.ALIGNMENT if buffers else 0
    total = wire.PREFIX_BYTES + len(body) + gap + len(buffers)
    return message[:8] + struct.pack("<QQ", len(body), total) + body + bytes(gap) + buffers


def check(data: bytes, kind: Any) -> str | None:
    """Why the bytes were refused, None if they are a message; anything else is raised."""
    try:
        value = wire.decode(data, kind)
    except WireError as error:
        return str(error).partition("\n")[0]
    again = b"".join(wire.frames(value))
    if again != data:
        raise AssertionError(f"accepted, but encodes to something else:\n{data.hex()}\n{again.hex()}")
    return None


def measured(data: bytes, kind: Any) -> tuple[str | None, float]:
    """The same, and the bytes allocated at most, as a share of what is allowed."""
    tracemalloc.start()
    try:
        reason = check(data, kind)
        return reason, tracemalloc.get_traced_memory()[1] / (FIXED + PER_BYTE * len(data))
    finally:
        tracemalloc.stop()


def fuzz(cases: int, seed: int) -> Report:
    """Decode so many damaged messages; an AssertionError names the seed, the case and its bytes."""
    messages, random = corpus(), Random(seed)
    refused: Counter[str] = Counter()
    worst, start = 0.0, time.perf_counter()
    for case in range(cases):
        kind, message = random.choice(messages)
        data = damaged(message, random.choice(messages)[1], random)
        try:
            if case % EVERY:
                reason = check(data, kind)
            else:
                reason, share = measured(data, kind)
                worst = max(worst, share)
                assert share <= 1, f"allocated {share:.1f} times what is allowed"
        except Exception as error:
            raise AssertionError(f"seed {seed}, case {case}, read as {kind}: {error!r}\n{data.hex()}") from error
        refused[reason or ""] += 1
    accepted = refused.pop("", 0)
    return Report(cases, accepted, refused, time.perf_counter() - start, worst)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Feed damaged messages to the wire decoder.")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, resource.RLIM_INFINITY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = fuzz(options.cases, options.seed)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"seed {options.seed}: {report.cases} damaged messages in {report.seconds:.1f} s, ", end="")
    print(f"{report.cases / report.seconds:,.0f} a second")
    print(f"  {report.accepted:8d} still messages, each encodes to itself")
    for reason, count in report.refused.most_common():
        print(f"  {count:8d} {reason}")
    print(f"  worst allocation {report.worst:.0%} of {PER_BYTE} bytes per byte received + {FIXED}; ", end="")
    print(f"peak memory grew by {grown:.1f} MB")


if __name__ == "__main__":
    main()
