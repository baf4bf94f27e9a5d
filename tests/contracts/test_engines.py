"""Every engine: the same outcome, bit for bit, as the in-process one, and the same manners."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from atoll.engines import Remote, close_all, engines, live
from atoll.engines.inprocess import InProcess
from atoll.errors import InvalidData, UnknownName
from atoll.messages import Exchange, Rule
from atoll.operations import operations
from atoll.shards import Shard
from atoll.specs import Spec
from atoll.transforms import fixed_point
from atoll.trees import TreeSpec
from atoll.worker import promise
from cases import asked, combine, same_bits, shards

WORKERS = {"inprocess": [None], "processes": [1, 2, 4]}
LOCAL = [(name, n) for name in sorted(engines) for n in WORKERS.get(name, ())]


@pytest.fixture(scope="module", autouse=True)
def _ended():
    yield
    close_all()


@pytest.fixture(params=LOCAL, ids=lambda p: f"{p[0]}-{p[1]}")
def engine(request):
    return live(*request.param)


def exchange(held, name="statistics.sums", data="wine", **changes):
    example = asked(data)[name]
    n = len(held)
    x = Exchange(
        run="contract", number=0, step=0, seed=7, op=name, settings=example.settings, payload=example.payload, each={},
        view=example.view, cohort=tuple(range(n)), base=(-1,) * n,
        combine=combine(example.combine, **example.combine_settings).spec, transform=(), plan=Spec("star"), rule=Rule(),
        expects=TreeSpec({}),
    )  # fmt: skip
    x = dataclasses.replace(x, **changes)
    return dataclasses.replace(x, expects=promise(x, held[0].take(np.zeros(0, int)), np.inf))


def ask(engine, held, x):
    key = engine.attach(held)
    try:
        return engine.submit(key, x).result()
    finally:
        engine.detach(key)


def same_outcome(a, b):
    assert same_bits(a.merged, b.merged)
    assert (a.accepted, a.refused, a.bytes, a.links) == (b.accepted, b.refused, b.bytes, b.links)


@pytest.mark.parametrize("name", sorted(set(operations) - {"describe.schema"}))
@pytest.mark.parametrize("plan", [Spec("star"), Spec("tree", {"fan_out": 3})], ids=lambda p: p.name)
def test_the_outcome_is_the_in_process_one(engine, name, plan):
    held = shards("wine", 7, "label")
    x = exchange(held, name, plan=plan)
    same_outcome(ask(engine, held, x), ask(InProcess(), held, x))


def test_a_cohort_may_be_some_nodes_in_any_order(engine):
    held = shards("wine", 6, "iid")
    x = exchange(held, cohort=(4, 1, 5), base=(-1, -1, -1))
    outcome = ask(engine, held, x)
    same_outcome(outcome, ask(InProcess(), held, x))
    assert outcome.merged["weight"][0] == sum(held[i].n_rows for i in (4, 1, 5))


def test_a_transform_is_encoded_and_left_encoded(engine):
    held = shards("wine", 5, "iid")
    x = exchange(held, transform=fixed_point(bits=20).specs)
    outcome = ask(engine, held, x)
    assert set(outcome.merged) == {"x@fixed", "weight@fixed"}
    same_outcome(outcome, ask(InProcess(), held, x))


def test_each_position_gets_its_own_payload(engine):
    held = shards("wine", 3, "iid")
    q = asked("wine")["neighbors.nearest"].payload["Q"]
    x = exchange(held, "neighbors.nearest", payload={}, each={i: {"Q": q[i : i + 2]} for i in range(3)},
                 combine=Spec("Each"))  # fmt: skip
    same_outcome(ask(engine, held, x), ask(InProcess(), held, x))


def test_a_node_that_fails_is_named_and_does_not_stop_the_others(engine):
    held = shards("wine", 4, "iid")
    bad = [*held[:2], dataclasses.replace(held[2], y=held[2].y + 40), held[3]]
    outcome = ask(engine, bad, exchange(held, "describe.labels"))
    assert outcome.accepted == (0, 1, 3)
    assert list(outcome.refused) == [2]
    assert "not among the agreed classes" in outcome.refused[2]
    assert "node-02" in outcome.refused[2]


def test_a_contribution_that_breaks_the_contract_is_refused(engine):
    held = shards("wine", 3, "iid")
    strange = Shard.of("node-01", np.ones((4, 5)), np.zeros(4, int))
    outcome = ask(engine, [held[0], strange, held[2]], exchange(held))
    assert outcome.accepted == (0, 2)
    assert "another shape than agreed" in outcome.refused[1]


@pytest.mark.parametrize("name", ["statistics.sums", "statistics.extrema"])
def test_a_nan_is_refused_and_its_node_found(engine, name):
    held = shards("wine", 5, "iid")
    X = held[3].X.copy()
    X[0, 0] = np.nan
    spoilt = [*held[:3], dataclasses.replace(held[3], X=X), held[4]]
    outcome = ask(engine, spoilt, exchange(held, name))
    assert list(outcome.refused) == [3]
    assert "values that are not allowed" in outcome.refused[3]
    others = [held[i] for i in (0, 1, 2, 4)]
    expected = ask(InProcess(), others, exchange(others, name)).merged
    for what, array in expected.items():
        np.testing.assert_allclose(outcome.merged[what], array, rtol=1e-13)


def test_a_claimed_weight_is_bounded(engine):
    held = shards("wine", 3, "iid")
    x = exchange(held)
    x = dataclasses.replace(x, expects=x.expects._replace(max_weight=float(held[0].n_rows - 1)))
    outcome = ask(engine, held, x)
    assert set(outcome.refused) >= {0}
    assert "claimed weight" in outcome.refused[0]


def test_an_unknown_operation_refuses_everyone_or_raises(engine):
    held = shards("wine", 2, "iid")
    x = dataclasses.replace(exchange(held), op="no.such")
    with pytest.raises(UnknownName, match=r"no\.such"):
        ask(engine, held, x)


@pytest.mark.parametrize("name", ["wine", "digits"])
def test_shards_are_held_as_they_were_attached(engine, name):
    given = shards(name, 3, "iid")
    key = engine.attach(given)
    for a, b in zip(engine.held(key), given, strict=True):
        assert a.name == b.name
        assert same_bits(a.to_tree(), b.to_tree())
    engine.detach(key)


def test_shards_given_back_are_gone(engine):
    key = engine.attach(shards("wine", 2, "iid"))
    engine.detach(key)
    engine.detach(key)
    with pytest.raises(KeyError):
        engine.submit(key, exchange(shards("wine", 2, "iid")))


def test_a_data_set_by_name_is_not_for_local_engines(engine):
    with pytest.raises(InvalidData, match="takes rows"):
        engine.attach(Remote("https://silo.example.org", "iris"))


def test_two_federations_do_not_meet(engine):
    a, b = shards("wine", 2, "iid"), shards("iris", 3, "iid")
    ka, kb = engine.attach(a), engine.attach(b)
    pa, pb = engine.submit(ka, exchange(a)), engine.submit(kb, exchange(b, data="iris"))
    assert pb.result().merged["x"].shape == (4,)
    assert pa.result().merged["x"].shape == (13,)
    engine.detach(ka)
    engine.detach(kb)


def test_a_deadline_ends_the_round(engine):
    held = shards("wine", 4, "iid")
    x = exchange(held, rule=Rule(deadline=1e-9))
    outcome = ask(engine, held, x)
    assert outcome.accepted == ()
    assert set(outcome.refused.values()) == {"late"}
    assert outcome.merged is None


def test_late_nodes_are_waited_for_when_asked(engine):
    held = shards("wine", 4, "iid")
    outcome = ask(engine, held, exchange(held, rule=Rule(deadline=1e-9, late="wait")))
    assert outcome.accepted == (0, 1, 2, 3)


def test_the_nodes_before_the_deadline_count(engine):
    held = shards("wine", 24, "iid")
    ask(engine, held, exchange(held, "null.ping"))  # the workers are up
    outcome = ask(engine, held, exchange(held, "null.sleep", settings={"seconds": 0.5}, rule=Rule(deadline=1.5)))
    assert 1 <= len(outcome.accepted) < 24
    assert outcome.merged["nodes"][0] == len(outcome.accepted)
    assert set(outcome.refused.values()) == {"late"}


def test_memory_moves_on_only_by_accepted_exchanges(engine):
    held = shards("wine", 2, "iid")
    key = engine.attach(held)
    x = exchange(held, "null.count")

    def turn(number, base):
        return engine.submit(key, dataclasses.replace(x, number=number, base=base)).result().merged["times"][0]

    assert turn(0, (-1, -1)) == 2
    assert turn(1, (0, 0)) == 4
    assert turn(2, (0, 0)) == 4, "exchange 1 was not accepted: its trace is gone"
    assert turn(3, (2, 2)) == 6
    assert turn(4, (-1, 3)) == 5, "one node starts again"
    engine.detach(key)
