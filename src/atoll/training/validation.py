"""How good the model is after a round, on rows that nobody trains on."""

from __future__ import annotations

import math
from typing import Any

from atoll.algorithms.settings import whole
from atoll.combine import Sum
from atoll.errors import InvalidData, explain
from atoll.learners import Model
from atoll.nodes import Nodes
from atoll.operations.training import written
from atoll.progress import Silent
from atoll.rounds import Rounds
from atoll.run import Run
from atoll.shards import Shard
from atoll.specs import Spec
from atoll.training.loop import At, Course, Trained, judge_of

__all__ = ["Validation", "suits"]


class Validation:
    """A callback that asks how good the model of all is on held-out rows, and tells the record.

    Parameters
    ----------
    held_out : Federation or (X, y)
        Nodes with rows of their own, or rows.
    every : int
        Rounds from one time to the next; the last round is looked at in any case.

    Attributes
    ----------
    run : Run
        The record of what was asked of the nodes with held-out rows.

    Raises
    ------
    InvalidData
        If these are no rows with targets.
    """

    def __init__(self, held_out: Any, every: int) -> None:
        whole(every=every)
        self.every = every
        nodes = held_out if isinstance(held_out, Nodes) else Nodes([_shard(held_out)])
        self._rounds = nodes.rounds("validation")
        self._rounds.progress = Silent()
        self._program = Spec("")

    @property
    def run(self) -> Run:
        """The record of what was asked."""
        return self._rounds.run

    def begin(self, program: Spec, model: Model, course: Course) -> None:
        """Meet the nodes, and refuse rows that do not suit the model before anything is trained."""
        self._program = program
        self._rounds.meet(classes=False)
        suits(self._rounds, program, model, course)

    def __call__(self, seen: Trained) -> None:
        """Look at a round."""
        course = seen.course
        if course is None or seen.run is None or (seen.step % self.every and seen.step < course.rounds):
            return
        at = At(seen.step, seen.model, seen.state, seen.losses)
        judged = judge_of(self._rounds, self._program, course, at)(False)
        told = {"validation_loss": judged.loss, "validation_accuracy": judged.accuracy}
        seen.run.measure(seen.step, **{name: value for name, value in told.items() if not math.isnan(value)})


def suits(rounds: Rounds, program: Spec, model: Model, course: Course) -> None:
    """Ask all nodes whether their rows suit the model, before anything is trained."""
    settings, arrays = written(program, course.algorithm, course.local.at(0), course.way, course.at_once)
    payload = {"x": model.w, "buffers": model.buffers, **arrays}
    rounds.round("train.meet", payload, combine=Sum(), settings=settings)


def _shard(held_out: Any) -> Shard:
    if not isinstance(held_out, tuple | list) or len(held_out) != 2:
        got, expected = type(held_out).__name__, "a federation, or (X, y)"
        raise InvalidData(explain("these are no rows to validate on", got=got, expected=expected))
    return Shard.of("validation", *held_out)
