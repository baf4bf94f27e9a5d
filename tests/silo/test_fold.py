"""Adding what silos send: the bits of the other engines, whatever arrives when, from memory and from files."""

from __future__ import annotations

import dataclasses
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from atoll import wire
from atoll.combine import close, combines
from atoll.errors import WireError
from atoll.messages import DEFAULT_RULE
from atoll.silo.fold import Misfit, Part, fold, width
from atoll.silo.outlines import LIMITS, examine, opened, outline
from atoll.silo.tasks import Blob, blob_of
from atoll.specs import Spec
from atoll.transforms import transforms
from atoll.trees import PIECE, Leaf, Tree, TreeSpec, check, contract, nbytes
from atoll.worker import LATE
from brokers import Site, assembled, send
from cases import COMBINES, combine, same_bits

CASES = [
    (name, i, code)
    for name, (_, makes) in sorted(COMBINES.items())
    for i in range(len(makes))
    for code in [(), *[(t,) for t in sorted(transforms)]]
    if not code or code == ("identity",) or name in ("Sum", "Mean")
]


def _example(name: str, i: int) -> tuple[dict, object]:
    settings, makes = COMBINES[name]
    return settings, makes[i]


def _free(tree: Tree) -> TreeSpec:
    """A contract that fits every answer of an example, whatever its lengths and values."""
    leaves = {n: Leaf("U" if a.dtype.kind == "U" else a.dtype.str, (-1,) * a.ndim, "nan") for n, a in tree.items()}
    return TreeSpec(leaves)


@pytest.mark.parametrize("files", [False, True], ids=["inline", "files"])
@pytest.mark.parametrize(("name", "i", "code"), CASES, ids=lambda v: str(v))
def test_bits_are_those_of_every_other_engine(place, name, i, code, files):
    """Every combine and transform; arrival in any order, some positions absent, the broker killed in between."""
    settings, make = _example(name, i)
    seed = int(np.random.SeedSequence([len(name), i, len(code), files]).generate_state(1)[0])
    rng = np.random.default_rng(seed)
    n = 43
    site = Site(place / "b", n)
    site.open()
    for number, absent in enumerate((0.0, 0.3, 0.8)):
        specs = tuple(Spec(c) for c in code)
        ctx_free = [make(rng) for _ in range(n)]
        trees = [_encoded(specs, tree) for tree in ctx_free]
        x = site.question({}, name, number=number, combine_settings=settings, transform=specs)
        x = dataclasses.replace(x, expects=_free(trees[0]))
        site.ask(x)
        gone = {int(p) for p in range(n) if rng.random() < absent}
        for p in rng.permutation(n):
            node, uid = site.names[p], site.uids["run", number]
            if p in gone:
                site.broker.refuse(node, uid, int(p), "failed", "ValueError: no")
            else:
                send(site.broker, node, uid, int(p), wire.encode(trees[p]), inline=-1 if files else 1 << 16)
            if rng.random() < 0.1:
                site.reopen()
            if rng.random() < 0.3:
                site.fold()
        site.fold()
        outcome, merged = site.outcome(x)
        expected = assembled(x, {p: trees[p] for p in range(n) if p not in gone}, dict.fromkeys(gone, "ValueError: no"))
        assert dataclasses.replace(expected, merged=None, seconds=outcome.seconds) == outcome, f"seed {seed}"
        assert list(outcome.links) == list(expected.links)
        if expected.merged is None:
            assert merged is None
        else:
            assert same_bits({k: np.asarray(v) for k, v in expected.merged.items()}, merged), f"seed {seed}"
    assert not list((place / "b" / "folds").iterdir())


def _encoded(specs: tuple[Spec, ...], tree: Tree) -> Tree:
    from atoll.context import Ctx
    from atoll.transforms import build

    return build(specs).encode(tree, Ctx(0, 0, 0, 0, {}, {}, (0,)))[0] if specs else tree


@pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 70])
def test_sums_of_files_are_added_in_place_with_the_bits_of_close(tmp_path, n):
    rng = np.random.default_rng(n)
    trees = [
        {
            "w": rng.normal(size=(3, 300_007)).astype(np.float32),
            "n": rng.integers(-9, 9, size=5),
            "e": np.zeros((0, 4)),
            "b": rng.random(7) < 0.5,
            "z": rng.normal(size=3) + 1j,
            "s": np.array(rng.normal()),
        }
        for _ in range(n)
    ]
    parts = []
    for p, tree in enumerate(trees):
        names = list(tree)
        if p:
            rng.shuffle(names)
        path = tmp_path / str(p)
        path.write_bytes(wire.encode({name: tree[name] for name in names}))
        parts.append(Part(p, p + 1, path))
    add = combine("Sum").add
    made = fold(parts[::-1], 0, width(n), combine("Sum"), None, tmp_path / "sum")
    data = (tmp_path / "sum").read_bytes()
    expected = close(add, [(p.lo, p.hi, t) for p, t in zip(parts, trees, strict=True)], n)
    assert made == blob_of(data)
    assert same_bits(wire.decode(data, Tree), {k: np.asarray(v) for k, v in expected.items()})
    assert data == wire.encode({k: np.asarray(v) for k, v in expected.items()})


def test_more_files_than_may_be_open_are_added_too(tmp_path):
    parts = []
    for p in range(70):
        (tmp_path / str(p)).write_bytes(wire.encode({"x": np.full(10, 0.1 * p)}))
        parts.append(Part(p, p + 1, tmp_path / str(p)))
    made = fold(parts, 0, 128, combine("Sum"), None, tmp_path / "sum")
    assert isinstance(made, Blob)
    expected = close(combine("Sum").add, [(p, p + 1, {"x": np.full(10, 0.1 * p)}) for p in range(70)], 70)
    assert same_bits(wire.decode((tmp_path / "sum").read_bytes(), Tree), expected)


def _peak(act) -> int:
    tracemalloc.start()
    act()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_is_some_chunks_however_large_the_files(place):
    size = 6_000_000
    parts = []
    for p in range(5):
        (place / str(p)).write_bytes(wire.encode({"x": np.full(size, 0.1 * p), "n": np.full(3, p)}))
        parts.append(Part(p, p + 1, place / str(p)))
    expects = contract({"x": np.zeros(size), "n": np.zeros(3, int)})._replace(max_norm=1e9)
    assert _peak(lambda: fold(parts, 0, 8, combine("Sum"), None, place / "sum")) < 20_000_000
    assert _peak(lambda: examine(place / "sum", expects)) < 20_000_000
    got = wire.decode((place / "sum").read_bytes(), Tree)
    assert (got["x"] == ((0.0 + 0.1) + (0.2 + 0.1 * 3)) + 0.4).all()


@pytest.mark.parametrize("files", [False, True], ids=["inline", "files"])
def test_what_cannot_be_added_names_the_positions_right_of_it(tmp_path, files):
    trees = [{"x": np.ones(3)}, {"x": np.ones(3)}, {"x": np.ones(1)}, {"x": np.ones(3)}]
    parts = []
    for p, tree in enumerate(trees):
        (tmp_path / str(p)).write_bytes(wire.encode(tree))
        parts.append(Part(p, p + 1, tmp_path / str(p) if files else wire.encode(tree)))
    with pytest.raises(Misfit, match="do not fit together") as raised:
        fold(parts, 0, 4, combine("Sum"), None, tmp_path / "sum")
    assert (raised.value.lo, raised.value.hi) == (3, 4)
    assert not (tmp_path / "sum").exists()


def test_text_does_not_swell():
    """Two small answers whose union would need gigabytes: many short words, and one very long."""
    many, long = np.array(["a"] * 100_000), np.array(["b" * 100_000])
    parts = [Part(i, i + 1, wire.encode({"values": a})) for i, a in enumerate((many, long))]
    with pytest.raises(Misfit, match="too wide"):
        fold(parts, 0, 2, combine("Each"), None)


def test_open_lengths_do_not_broadcast():
    parts = [Part(i, i + 1, wire.encode({"x": np.ones(s)})) for i, s in enumerate(((1000, 1), (1, 1000)))]
    with pytest.raises(Misfit, match="another shape"):
        fold(parts, 0, 2, combine("Sum"), None)


def test_nothing_is_left_of_a_sum_that_fails(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(wire.encode({"x": np.ones(9)}))
    parts = [Part(0, 1, tmp_path / "a"), Part(1, 2, tmp_path / "a")]

    def fails(file, data):
        raise OSError(28, "no room")

    monkeypatch.setattr(os, "write", fails)
    with pytest.raises(OSError, match="no room"):
        fold(parts, 0, 2, combine("Sum"), None, tmp_path / "sum")
    assert not (tmp_path / "sum").exists()


DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "U3"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3), (PIECE + 1,)], ids=str)
def test_an_outline_is_what_the_wire_says(tmp_path, dtype, shape):
    tree = {"é": np.ones(3), "a": np.zeros(shape, dtype), "last": np.zeros(1, "i1")}
    path = tmp_path / "tree"
    path.write_bytes(wire.encode(tree))
    with opened(path) as file:
        found = outline(file, path.stat().st_size)
    for slot, (name, array) in zip(found.slots, tree.items(), strict=True):
        assert (slot.name, slot.dtype, slot.shape, slot.nbytes) == (name, array.dtype, array.shape, array.nbytes)
    assert examine(path, contract(tree)) == nbytes(tree)


def _judged(path: Path, expects: TreeSpec) -> str:
    try:
        examine(path, expects)
    except WireError as error:
        return str(error).split("\n")[0]
    return ""


def _by_wire(data: bytes, expects: TreeSpec) -> str:
    try:
        check(wire.decode(data, Tree, LIMITS), expects)
    except WireError as error:
        return str(error).split("\n")[0]
    return ""


@pytest.mark.parametrize("seed", range(4))
def test_files_are_judged_as_messages_in_memory_are(tmp_path, seed):
    """Bits flipped, bytes cut, added and moved: examined in a file, and read by the wire, they are accepted alike."""
    rng = np.random.default_rng(seed)
    tree = {"w": rng.normal(size=(2, 3)), "t": np.array(["ab", "c"]), "b": np.array([True]), "weight": np.array([2.0])}
    good = wire.encode(tree)
    expects = contract(tree, max_weight=10)._replace(max_norm=100.0)
    path, accepted = tmp_path / "tree", 0
    for _ in range(600):
        data = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            kind, at = rng.integers(5), int(rng.integers(len(data)))
            if kind == 0:
                data[at] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                del data[at : at + int(rng.integers(1, 9))]
            elif kind == 2:
                data[at:at] = rng.bytes(int(rng.integers(1, 9)))
            elif kind == 3:
                data[at] = int(rng.integers(256))
            else:
                data[16:24] = len(data).to_bytes(8, "little")
            if not data:
                break
        path.write_bytes(bytes(data))
        mine, theirs = _judged(path, expects), _by_wire(bytes(data), expects)
        assert bool(mine) == bool(theirs), f"seed {seed}: {mine!r} where the wire says {theirs!r}: {bytes(data)!r}"
        accepted += not mine
    assert accepted


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"w": np.full((2, 3), np.nan)}, "not allowed"),
        ({"w": np.full((2, 3), np.inf)}, "not allowed"),
        ({"w": np.full((2, 3), 1e9)}, "norm"),
        ({"weight": np.array([11.0])}, "weight"),
        ({"weight": np.array([-1.0])}, "weight"),
        ({"w": np.ones((3, 3))}, "another shape"),
        ({"w": np.ones((2, 3), np.float32)}, "another dtype"),
        ({"more": np.ones(1)}, "other arrays"),
    ],
)
def test_a_file_that_breaks_the_contract_is_told_in_the_words_of_check(tmp_path, changes, words):
    tree = {"w": np.ones((2, 3)), "weight": np.array([2.0])}
    expects = contract(tree, max_weight=10)._replace(max_norm=100.0)
    path = tmp_path / "tree"
    path.write_bytes(wire.encode({**tree, **changes}))
    with pytest.raises(WireError) as mine:
        examine(path, expects)
    with pytest.raises(WireError) as theirs:
        check({**tree, **changes}, expects)
    assert str(mine.value) == str(theirs.value)
    assert words in str(mine.value)


def test_claims_of_size_make_nothing(tmp_path):
    """A head that claims arrays of terabytes is refused before anything of that size is made."""
    path = tmp_path / "tree"
    for code, shape in ((11, (1 << 62, 1 << 62)), (11, (1 << 36,)), (14, (1, 1 << 28)), (0, (0,) * 33), (15, (1,))):
        reference = bytes([code]) + b"".join(n.to_bytes(8, "little") for n in shape)
        body = b"\x81\xa1x\xc8" + len(reference).to_bytes(2, "big") + b"\x01" + reference
        if len(reference) < 256:
            body = b"\x81\xa1x\xc7" + bytes([len(reference)]) + b"\x01" + reference
        data = b"atoll\x00\x01\x00" + len(body).to_bytes(8, "little") + (24 + len(body)).to_bytes(8, "little") + body
        path.write_bytes(data)
        with pytest.raises(WireError):
            examine(path, TreeSpec({"x": Leaf("<f8", (-1,))}))


def test_every_combine_is_covered():
    assert {name for name, _, _ in CASES} == set(combines)
    assert LATE == __import__("atoll.silo.broker", fromlist=["LATE"]).LATE
    assert DEFAULT_RULE.deadline is None
