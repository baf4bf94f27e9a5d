"""Every operation: says what it discloses, answers a shard without rows, and keeps the contract that this answer is."""

from __future__ import annotations

import numpy as np
import pytest

from atoll import wire
from atoll.context import Ctx
from atoll.operations import operations
from atoll.shards import Shard, blank, empty_shard
from atoll.trees import Tree, check, contract
from atoll.views import viewer
from cases import asked, combine, data, same_bits, shards


@pytest.fixture(params=sorted(operations))
def name(request):
    return request.param


def ctx(settings, node=0):
    return Ctx(node, 0, 0, 0, settings, {}, (0,))


def answer(name, shard, data_name="wine"):
    example = asked(data_name)[name]
    return operations[name].fn(viewer(example.view)(shard), example.payload, ctx(example.settings)).tree


def test_every_operation_has_an_example():
    assert set(asked("wine")) == set(operations)


def test_says_in_words_what_it_discloses(name):
    words = operations[name].discloses
    assert len(words) > 10
    assert words == words.strip()
    assert not words.endswith(".")


@pytest.mark.parametrize("partition", ["iid", "label", "one-row"])
def test_every_answer_keeps_the_contract_of_the_empty_shard(name, partition):
    all_shards = shards("wine", 5, partition)
    spec = contract(answer(name, blank() if name == "describe.schema" else empty_shard(all_shards[0])))
    for shard in all_shards:
        check(answer(name, shard), spec)


def test_an_answer_travels(name):
    tree = answer(name, shards("wine", 3, "iid")[0])
    assert same_bits(wire.decode(wire.encode(tree), Tree), {n: np.ascontiguousarray(a) for n, a in tree.items()})


def test_an_answer_can_be_added(name):
    example = asked("wine")[name]
    kind = combine(example.combine, **example.combine_settings)
    a, b = (answer(name, s) for s in shards("wine", 2, "iid"))
    assert set(kind.finish(kind.add(a, b))) == set(a)


def test_what_may_be_asked_piece_by_piece_adds_up(name):
    """A node that answers in pieces answers the same, rounding apart."""
    if not operations[name].pieces:
        pytest.skip("is asked about all rows at once")
    example = asked("wine")[name]
    kind = combine(example.combine, **example.combine_settings)
    shard = viewer(example.view)(shards("wine", 1, "iid")[0])

    def one(rows):
        return operations[name].fn(shard.take(rows), example.payload, ctx(example.settings)).tree

    whole = kind.finish(one(slice(None)))
    pieces = kind.finish(kind.add(kind.add(one(slice(0, 50)), one(slice(50, 100))), one(slice(100, None))))
    assert whole.keys() == pieces.keys()
    for what, array in whole.items():
        if array.dtype.kind == "f":
            scale = np.abs(array[np.isfinite(array)]).max(initial=0)
            np.testing.assert_allclose(pieces[what], array, rtol=1e-9, atol=1e-12 * scale, err_msg=what)
        else:
            assert (pieces[what] == array).all(), what


def test_rows_are_not_written_to(name):
    X, y = data("wine")
    shard = Shard.of("n", X.copy(), y.copy())
    for array in (shard.X, shard.y, shard.ids):
        array.setflags(write=False)
    answer(name, shard)


def test_sums_over_parts_are_the_sums_over_all():
    X = data("wine")[0]
    means = [operations["statistics.sums"].fn(s, {}, ctx({})).tree for s in shards("wine", 4, "label")]
    kind = combine("Mean")
    total = means[0]
    for m in means[1:]:
        total = kind.add(total, m)
    assert kind.finish(total)["x"] == pytest.approx(X.mean(axis=0), rel=1e-13)


def test_class_moments_are_those_of_each_class():
    X, y = data("wine")
    got = answer("statistics.class_moments", Shard.of("n", X, y))
    for c in range(3):
        rows = X[y == c]
        assert got["n"][c] == len(rows)
        assert got["mean"][c] == pytest.approx(rows.mean(axis=0), rel=1e-13)
        assert got["m2"][c] == pytest.approx(rows.var(axis=0) * len(rows), rel=1e-12)


def test_labels_are_counted():
    y = np.array([2, 0, 2, 2, 1])
    got = operations["describe.labels"].fn(
        Shard.of("n", np.zeros((5, 1)), y).with_columns(code=y), {}, ctx({"n_classes": [4]})
    )
    assert got.tree["count.0"].tolist() == [1, 1, 3, 0]
