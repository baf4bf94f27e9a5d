"""What happens on a node: the gate, the contract, and finding the culprit of a block."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from atoll.errors import Refused, WireError
from atoll.memory import Store
from atoll.messages import Exchange, Reply, Rule
from atoll.operations import Operation, operations
from atoll.specs import Spec
from atoll.topology import HUB
from atoll.trees import TreeSpec
from atoll.worker import allow, block, execute, promise
from cases import combine, same_bits, shards

HELD = shards("wine", 6, "iid")


@pytest.fixture
def ask(monkeypatch):
    """An exchange over an operation that answers what a test wants, node by node; a plain sum without a weight."""

    def make(answers, **changes):
        def fn(shard, payload, ctx):
            return Reply(answers.get(ctx.node, {"x": np.ones(2)}))

        monkeypatch.setitem(operations._known, "test.any", Operation(fn, "whatever a test wants"))
        x = Exchange(
            run="t", number=0, step=0, seed=0, op="test.any", settings={}, payload={}, each={}, view=(),
            cohort=tuple(range(6)), base=(-1,) * 6, combine=combine("Sum").spec, transform=(), plan=Spec("star"),
            rule=Rule(), expects=TreeSpec({}),
        )  # fmt: skip
        x = dataclasses.replace(x, **changes)
        return dataclasses.replace(x, expects=promise(x, HELD[0].take(np.zeros(0, int)), np.inf))

    return make


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"x": np.ones(3)}, "another shape"),
        ({"x": np.ones((1, 2))}, "another shape"),
        ({"x": np.ones(2, np.float32)}, "another dtype"),
        ({"x": np.ones(2), "y": np.ones(2)}, "other arrays"),
        ({"z": np.ones(2)}, "other arrays"),
        ({}, "other arrays"),
        ({"x": np.array([1.0, np.nan])}, "not allowed"),
        ({"x": np.array([np.inf, 1.0])}, "not allowed"),
    ],
)
def test_one_wrong_answer_is_found_and_left_out(ask, wrong, words):
    """(3, 4) + (1, 4) broadcasts, and one NaN poisons a sum: neither happens here."""
    done = block(ask({4: wrong}), range(6), HELD, Store())
    assert list(done.refused) == [4]
    assert words in done.refused[4]
    assert done.accepted == [0, 1, 2, 3, 5]
    assert sum(tree["x"][0] for _, _, tree in done.held[HUB]) == 5.0


def test_two_infinities_that_cancel_are_both_found(ask):
    done = block(ask({1: {"x": np.full(2, np.inf)}, 2: {"x": np.full(2, -np.inf)}}), range(6), HELD, Store())
    assert list(done.refused) == [1, 2]


def test_finite_answers_may_add_up_to_infinity(ask):
    big = {node: {"x": np.full(2, 1e308)} for node in range(6)}
    done = block(ask(big), range(6), HELD, Store())
    assert done.refused == {}
    assert any(np.isinf(tree["x"]).all() for _, _, tree in done.held[HUB])


def test_execute_is_what_a_block_does_for_one(ask):
    x = ask({2: {"x": np.array([3.0, 4.0])}})
    (_, _, tree), *_ = block(x, [2], HELD, Store()).held[HUB]
    assert same_bits(execute(x, 2, HELD[2], Store(), allow), tree)


def test_execute_raises_what_a_block_records(ask):
    with pytest.raises(WireError, match="another shape"):
        execute(ask({2: {"x": np.ones(9)}}), 2, HELD[2], Store(), allow)


def test_the_owner_is_asked_first(ask):
    def gate(x, shard):
        if shard.name == "node-03":
            raise Refused(f"{shard.name} does not allow {x.op}")

    done = block(ask({}), range(6), HELD, Store(), gate)
    assert done.refused == {3: "Refused: node-03 does not allow test.any"}


def test_an_unexpected_error_says_where_it_came_from(ask, monkeypatch):
    x = ask({})

    def broken(shard, payload, ctx):
        return 1 / 0

    monkeypatch.setitem(operations._known, "test.any", Operation(broken, "nothing"))
    done = block(x, [0], HELD, Store())
    assert "ZeroDivisionError: division by zero" in done.refused[0]
    assert "test_worker.py" in done.refused[0]


def test_bytes_are_those_of_the_arrays(ask):
    assert block(ask({}), range(6), HELD, Store()).bytes == dict.fromkeys(range(6), 16)
    x = ask({0: {"x": np.ones(5)}}, combine=combine("Each").spec)
    x = dataclasses.replace(x, expects=TreeSpec({"x": x.expects.leaves["x"]._replace(shape=(-1,))}))
    assert block(x, range(2), HELD, Store()).bytes == {0: 40, 1: 16}


def test_a_norm_that_is_too_large_refuses_its_node_alone(ask):
    x = ask({0: {"x": np.full(2, 9.0)}, 1: {"x": np.full(2, 3.0)}})
    x = dataclasses.replace(x, expects=x.expects._replace(max_norm=5.0))
    done = block(x, range(6), HELD, Store())
    assert set(done.refused) == {0}
    assert "norm" in done.refused[0]


def test_a_digest_sees_everything_but_the_name_of_the_run(ask):
    x = ask({})
    assert dataclasses.replace(x, run="other").digest == x.digest
    others = [
        {"number": 1}, {"step": 1}, {"seed": 1}, {"op": "null.ping"}, {"settings": {"k": 1}},
        {"payload": {"q": np.ones(1)}}, {"cohort": (0, 1)}, {"base": (0,) * 6}, {"plan": Spec("tree")},
        {"rule": Rule(quorum=0.5)},
    ]  # fmt: skip
    assert x.digest not in {dataclasses.replace(x, **change).digest for change in others}
