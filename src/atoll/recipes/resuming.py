"""Going on from a checkpoint, where an estimator is trained in rounds."""

from __future__ import annotations

from atoll.errors import InvalidData, explain
from atoll.learners import Model
from atoll.recipes.base import Wish
from atoll.rounds import Rounds
from atoll.training import Course
from atoll.training.checkpoints import read_checkpoint, resumed

__all__ = ["going_on"]


def going_on(rounds: Rounds, wish: Wish, model: Model, course: Course) -> Course:
    """The course of a training, from the checkpoint on that the user asks for.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows.
    wish : Wish
        Its `resume` is a file that `atoll.training.checkpoint` wrote, or their folder.
    model : Model
        Where training would begin.
    course : Course
        How it goes.

    Returns
    -------
    Course
        As it is, where nothing is to be resumed.

    Raises
    ------
    InvalidData
        If there is no checkpoint, it is of another training, or it does not hold all that the rest depends on.
    """
    if wish.resume is None:
        return course
    if course.replayed:
        what = "scores of held back rows end this training, and a checkpoint does not hold them"
        hint = "give a journal: the same program run again goes on by itself"
        raise InvalidData(explain(what, got="resume=, early_stopping=True", hint=hint))
    return resumed(read_checkpoint(wish.resume, model), course, rounds.link.plan, rounds.run)
