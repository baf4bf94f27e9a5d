"""Training without rounds: what is scheduled by the virtual clock is run, group by group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from atoll.algorithms.base import Came
from atoll.clock import Pace, devices
from atoll.combine import Sum
from atoll.errors import InvalidData, explain
from atoll.learners import Model
from atoll.operations.training import question, written
from atoll.rounds import Rounds
from atoll.specs import Spec
from atoll.training.loop import At, Course, Trained, trained_at
from atoll.training.schedule import Group, Schedule, scheduled
from atoll.trees import Array, Tree

__all__ = ["train_as_they_come"]


def train_as_they_come(rounds: Rounds, program: Spec, model: Model, course: Course) -> Trained:
    """Train over nodes that have met, by a method without rounds.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows.
    program : Spec
        What is trained.
    model : Model
        Where training begins.
    course : Course
        How it goes: `rounds` are steps of the server, `nodes_per_round` are nodes that train at the same time, and
        `pace` says how fast they are (devices of unequal speed, where it is left out).

    Returns
    -------
    Trained

    Raises
    ------
    InvalidData
        For a model with buffers that nodes average, or settings that say who takes part.
    """
    arrivals = course.algorithm.arrivals
    if arrivals is None:
        raise InvalidData(explain("this method has rounds", got=repr(course.algorithm)))
    if model.buffers.size:
        hint = "use group or layer norms"
        raise InvalidData(explain("a method without rounds has no mean of running statistics", hint=hint))
    plan = _planned(rounds, course, course.pace or devices(), model)
    rounds.run.notes.append(f"{plan.dropped} nodes dropped out; the last step was at {plan.seconds[-1]:g} virtual s")
    x, losses = model.w, list[float]()
    starts: dict[int, Array] = {}
    sums: dict[Group, Tree] = {}
    seen = trained_at(rounds, program, course, At(0, model, {}, ()))
    try:
        for step in range(course.rounds):
            starts[step] = x
            for group in plan.groups:
                if group.start == step:
                    sums[group] = _trained(rounds, program, course, x, group, plan.seconds[group.step])
            counted = [group for group in plan.groups if group.step == step]
            came = [Came(step - g.start, starts[g.start], sums[g]["change"], len(g.nodes)) for g in counted]
            x = (course.algorithm.at(step).arrivals or arrivals).go_on(x, came)
            losses.append(_loss([sums.pop(g) for g in counted]))
            waiting = {g.start for g in sums}
            starts = {v: start for v, start in starts.items() if v in waiting}
            at = At(step + 1, model._replace(w=x), {}, tuple(losses), {}, plan.seconds[step])
            seen = trained_at(rounds, program, course, at)
            if sum(bool(callback(seen)) for callback in course.callbacks):
                break
    except KeyboardInterrupt:
        rounds.run.notes.append(f"interrupted after {seen.step} of {course.rounds} rounds")
    return seen


def _planned(rounds: Rounds, course: Course, pace: Pace, model: Model) -> Schedule:
    rows = _rows(rounds)
    arrivals, at_once = course.algorithm.arrivals, course.nodes_per_round or len(rows)
    return scheduled(
        pace, rows, course.local.at(0), seed=rounds.run.seed, at_once=at_once,
        buffer=arrivals.buffer if arrivals else 1, steps=course.rounds, nbytes=2.0 * model.w.nbytes,
    )  # fmt: skip


def _rows(rounds: Rounds) -> Mapping[int, int]:
    number = {name: i for i, name in enumerate(rounds.link.names)}
    return {number[name]: n for name, n in zip(rounds.schema.nodes, rounds.schema.rows, strict=True)}


def _trained(rounds: Rounds, program: Spec, course: Course, x: Array, group: Group, seconds: float) -> Tree:
    algorithm, local = course.algorithm.at(group.start), course.local.at(group.start)
    settings, arrays = written(program, algorithm, local, course.way, course.at_once, course.balance)
    told: dict[str, Any] = {"staleness": float(group.step - group.start), "virtual_seconds": seconds}
    return rounds.round(
        "train.local", {**question(x, np.zeros(0, x.dtype), {}), **arrays}, combine=Sum(), settings=settings,
        cohort=group.nodes, step=group.start, metrics=lambda total: {"loss": _loss([total]), **told},
    )  # fmt: skip


def _loss(sums: list[Tree]) -> float:
    return sum(float(s["loss"][0]) for s in sums) / sum(float(s["weight"][0]) for s in sums)
