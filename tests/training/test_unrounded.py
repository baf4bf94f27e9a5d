"""Asynchronous training on the virtual clock."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.algorithms import constant, fedasync, fedavg, fedbuff, sgd, step_decay
from atoll.algorithms.base import Arrivals, Came
from atoll.clock import devices
from atoll.errors import InvalidData
from atoll.learners import Model, Part
from atoll.specs import Spec
from atoll.training import Course, Trained, train_over
from atoll.training.schedule import scheduled
from training.quadratics import D, drawn, federation, optimum

LOCAL = sgd(lr=0.05, steps=7, batch_size=None)
EVEN = devices(spread=0, bandwidth_spread=0)


def course(algorithm: object, rounds: int, **more: object) -> Trained:
    A, b = drawn()
    run = federation(A, b).rounds("quadratic")
    run.meet(classes=False)
    start = Model(np.zeros(D), np.zeros(0), (Part("x", 0, (D,)),))
    return train_over(run, Spec("test.quadratic"), start, Course(algorithm, LOCAL, rounds, **more))  # type: ignore[arg-type]


def test_fedbuff_without_delay_is_fedavg() -> None:
    """All nodes are as fast as each other and all are waited for: nothing is ever stale."""
    one, other = course(fedavg(), 20), course(fedbuff(buffer=4), 20, pace=EVEN)
    np.testing.assert_allclose(other.model.w, one.model.w, rtol=1e-12)


def test_the_server_s_rate_may_be_a_schedule() -> None:
    fixed, said = (course(fedbuff(buffer=2, server_lr=rate), 6) for rate in (0.5, constant(0.5)))
    assert np.array_equal(fixed.model.w, said.model.w)
    fading = step_decay(0.5, every=3, factor=0.5)
    early, late = (course(fedbuff(buffer=2, server_lr=fading), n).model.w for n in (3, 6))
    assert np.array_equal(early, course(fedbuff(buffer=2, server_lr=0.5), 3).model.w)
    assert not np.array_equal(late, fixed.model.w)


def test_staleness_discounts_as_the_papers_say() -> None:
    x, start, change = np.array([1.0]), np.array([3.0]), np.array([0.5])
    came = [Came(3, start, change, 1)]
    assert Arrivals(4, 2.0, 0.5, mixes=False).go_on(x, came) == 1 + 2 / 4 * 0.5 / 2  # x + η/K Δ/√(1 + 3)
    y, s = start + change, 4**-0.5
    assert Arrivals(1, 0.6, 0.5, mixes=True).go_on(x, came) == (1 - 0.6 * s) * x + 0.6 * s * y


def test_a_schedule_counts_every_arrival_once_and_in_order() -> None:
    rows = {i: 10 + i for i in range(12)}
    plan = scheduled(devices(spread=1.0), rows, LOCAL, seed=0, at_once=6, buffer=3, steps=20, nbytes=1e4)
    assert [sum(len(g.nodes) for g in plan.groups if g.step == s) for s in range(20)] == [3] * 20
    assert all(g.start <= g.step for g in plan.groups)
    assert any(g.start < g.step for g in plan.groups)
    assert list(plan.seconds) == sorted(plan.seconds)
    starts = [(g.start, node) for g in plan.groups for node in g.nodes]
    assert len(starts) == len(set(starts)), "a node starts once from each model"


def test_dropping_out_costs_time_and_nothing_else() -> None:
    rows = dict.fromkeys(range(12), 10)
    pace = devices(spread=0, bandwidth_spread=0, dropout=0.5)
    plan = scheduled(pace, rows, LOCAL, seed=0, at_once=6, buffer=3, steps=10, nbytes=1e4)
    assert plan.dropped > 5
    assert sum(len(g.nodes) for g in plan.groups) == 30


def test_fedasync_comes_near_the_optimum_and_the_clock_goes_on() -> None:
    done = course(fedasync(mix=0.05, decay=0.0), 300, pace=devices(spread=0.5))
    A, b = drawn()
    best = optimum(A, b, np.full(4, 0.25))
    begun, ended, least = (
        np.mean([(w - c) @ a @ (w - c) / 2 for a, c in zip(A, b, strict=True)])
        for w in (np.zeros(D), done.model.w, best)
    )
    assert ended - least < (begun - least) / 10
    assert len(done.losses) == 300


def test_it_says_when_nobody_can_come() -> None:
    pace = devices(trace={node: [(5.0, 6.0)] for node in range(4)})
    with pytest.raises(InvalidData, match="nobody is left"):
        course(fedbuff(buffer=2), 3, pace=pace)


def test_a_buffer_that_nobody_fills_is_refused() -> None:
    with pytest.raises(InvalidData, match="nobody is left"):
        course(fedbuff(buffer=5), 3, pace=EVEN)
