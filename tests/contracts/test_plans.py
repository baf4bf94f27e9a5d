"""Every plan: each node sends once, everything arrives, and part of it can be carried out anywhere."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.combine import close
from atoll.errors import InvalidData
from atoll.specs import Spec
from atoll.topology import HUB, Routed, is_mix, matrix, mix, plans, route, traffic
from cases import combine, same_bits

SETTINGS = {
    "allreduce": [{}],
    "gossip": [{}, {"graph": "torus"}, {"graph": "one-peer-exponential", "step": 2}],
    "ring": [{}],
    "star": [{}],
    "tree": [{}, {"fan_out": 2}, {"fan_out": 3}, {"fan_out": 4}],
}
CASES = [(name, settings) for name in plans for settings in SETTINGS[name]]
REDUCES = [case for case in CASES if not is_mix(Spec(case[0]))]
MIXES = [case for case in CASES if is_mix(Spec(case[0]))]


def test_every_plan_has_settings_to_try():
    assert set(SETTINGS) == set(plans)


@pytest.fixture(params=REDUCES, ids=lambda c: f"{c[0]}{c[1]}")
def make(request):
    name, settings = request.param
    return lambda n: plans[name](n, **settings)


@pytest.fixture(params=MIXES, ids=lambda c: f"{c[0]}{c[1]}")
def make_mix(request):
    name, settings = request.param
    return lambda n: plans[name](n, **settings)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20])
def test_a_reduce_plan_sends_each_position_once_and_ends_at_its_root(make, n):
    plan = make(n)
    assert plan.kind == "reduce"
    assert sorted(m.src for m in plan.moves) == list(range(n))
    assert list(plan.moves) == sorted(plan.moves)
    assert plan.root == HUB
    sent = {m.src: m.phase for m in plan.moves}
    for move in plan.moves:
        assert move.dst == HUB or sent[move.dst] > move.phase, "a node passes on only after it has received"


def leaves(n):
    rng = np.random.default_rng(n)
    return {i: [(i, i + 1, {"x": rng.normal(size=4)})] for i in range(n)}


@pytest.mark.parametrize("n", [2, 7, 20])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_parts_carried_out_in_different_places_give_the_same(make, n, workers):
    plan, add = make(n), combine("Sum").add
    whole = route(plan, add, Routed(leaves(n), {}, frozenset()))
    held, links, done = {}, {}, set()
    for here in np.array_split(np.arange(n), workers):
        mine = {int(i): leaves(n)[int(i)] for i in here}
        part = route(plan, add, Routed(mine, {}, frozenset()), here={int(i) for i in here})
        for at, parts in part.held.items():
            held.setdefault(at, []).extend(parts)
        links.update(part.links)
        done |= part.done
    rest = route(plan, add, Routed(held, links, frozenset(done)))
    assert same_bits(close(add, rest.held[HUB], n), close(add, whole.held[HUB], n))
    assert rest.links == whole.links


def test_links_count_what_takes_them(make):
    plan = make(5)
    routed = route(plan, combine("Sum").add, Routed(leaves(5), {}, frozenset()))
    assert set(routed.links) == {f"{m.src}>{m.dst}" for m in plan.moves}
    assert all(size >= 32 for size in routed.links.values())


def test_an_absent_node_still_passes_on(make):
    some = {i: p for i, p in leaves(6).items() if i != 1}
    routed = route(make(6), combine("Sum").add, Routed(some, {}, frozenset()))
    covered = sorted(i for lo, hi, _ in routed.held[HUB] for i in range(lo, hi))
    assert covered == [0, 2, 3, 4, 5]


@pytest.mark.parametrize("away", [(), (1,), (0, 4, 5)], ids=str)
def test_traffic_is_what_links_would_carry(make, away):
    some = {i: p for i, p in leaves(13).items() if i not in away}
    carried = route(make(13), combine("Sum").add, Routed(some, {}, frozenset())).links
    assert traffic(make(13), dict.fromkeys(some, 32)) == carried


@pytest.mark.parametrize("fan_out", [1, 0, -2, 2.5, "2"])
def test_a_tree_needs_a_fan_out(fan_out):
    with pytest.raises(InvalidData, match="fan-out"):
        plans["tree"](5, fan_out=fan_out)


def test_reduce_plans_give_the_bits_of_a_star(make):
    add = combine("Sum").add
    one, star = (route(plan, add, Routed(leaves(13), {}, frozenset())) for plan in (make(13), plans["star"](13)))
    assert same_bits(close(add, one.held[HUB], 13), close(add, star.held[HUB], 13))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20])
def test_a_mix_moves_between_nodes_only_and_keeps_the_sum(make_mix, n):
    plan = make_mix(n)
    assert plan.kind == "mix"
    assert list(plan.moves) == sorted(plan.moves)
    assert {i for m in plan.moves for i in (m.src, m.dst)} <= set(range(n))
    assert {m.chunk for m in plan.moves} <= set(range(plan.chunks))
    for chunk in range(plan.chunks):
        columns = matrix(plan, n, chunk).sum(axis=0)
        np.testing.assert_allclose(columns, columns[0], atol=1e-14)


def test_in_a_mix_parts_carried_out_in_different_places_give_the_same(make_mix):
    trees = {i: parts[0][2] for i, parts in leaves(7).items()}
    whole = mix(make_mix(7), trees, range(7))
    for here in np.array_split(np.arange(7), 3):
        part = mix(make_mix(7), trees, {int(i) for i in here})
        assert all(same_bits(part.held[int(i)], whole.held[int(i)]) for i in here)
        assert part.links.items() <= whole.links.items()
