"""Training a torch module over nodes that have met."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from atoll.engines import Remote
from atoll.errors import InvalidData, MissingExtra, Refused, explain
from atoll.learners import Balance, balance_of, check_balance
from atoll.rounds import Rounds
from atoll.specs import Spec
from atoll.topology import is_mix
from atoll.training.allreduce import goes_round
from atoll.training.balancing import class_counts
from atoll.training.forecast import check_memory
from atoll.training.loop import Course, Trained
from atoll.training.start import train_over
from atoll.training.validation import Validation, suits
from atoll.views import codes

if TYPE_CHECKING:
    from torch import nn

__all__ = ["check_code_stays", "nets_or_why", "train_module"]


def check_code_stays(remote: Remote | None) -> None:
    """Refuse to hand over a module or a loss where nodes keep their rows: they belong to others.

    Raises
    ------
    Refused
        With what to do.
    """
    if remote is not None:
        what = "nodes of other owners run no code of yours"
        expected = "a program that their owners installed (atoll.nets.install)"
        hint = "atoll.train('its name', None, federation)"
        raise Refused(explain(what, got="a module", expected=expected, where=remote.url, hint=hint))


def nets_or_why() -> Any:
    """`atoll.nets`, which needs torch.

    Raises
    ------
    MissingExtra
        If that is not installed.
    """
    try:
        from atoll import nets
    except ImportError as error:
        hint = "pip install 'atoll[torch]'"
        raise MissingExtra(explain("neural networks need torch", got=str(error), hint=hint)) from None
    return nets


def train_module(
    rounds: Rounds,
    module: nn.Module,
    loss: Any,
    course: Course,
    device: str = "cpu",
    balance: str | None = None,
    held_out: Validation | None = None,
    *,
    named: str | None = None,
) -> Trained:
    """Train a module over nodes that have met.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows; where classes are balanced, nodes have told which there are.
    module : torch.nn.Module
        It is not touched.
    loss : callable
        ``(outputs, target) -> scalar``, the mean over rows.
    course : Course
        How it goes.
    device : str
        Where to compute.
    balance : str, optional
        How unequal classes are answered.
    held_out : Validation, optional
        Held-out rows on which rounds are judged.
    named : str, optional
        Under which the module is installed: nodes that keep their rows are told this name, and no code.

    Returns
    -------
    Trained

    Raises
    ------
    InvalidData, NodeValueError
        Before the first round, if the module cannot be copied, or rows do not suit it.
    NotEnoughMemory
        Likewise, if it does not fit.
    """
    nets = nets_or_why()
    model = nets.as_model(module)
    if named is None:
        check_code_stays(rounds.link.remote)
    told = named is not None and rounds.link.remote is not None
    program = Spec(str(named)) if told else nets.written_down(module, loss, device)
    if balance is not None:
        course = course._replace(balance=_balanced(rounds, balance, loss))
    rows = sorted(rounds.schema.rows)
    net = nets.Net(module, loss, model.layout)
    tilted = course.balance is not None and course.balance.kind != "sampler"  # such steps are taken node by node
    wanted = "sequential" if course.way == "auto" and tilted else course.way
    local, typical, asked = course.local.at(0), rows[len(rows) // 2], course.nodes_per_round or len(rows)
    if _by_themselves(rounds, course):
        way, block = "sequential", 1
    else:
        way = nets.chosen(wanted, net, course.algorithm, local, typical, device)
        block = course.block or nets.together(way, net, local, typical, asked)
    course = course._replace(way=way, block=block)
    rounds.run.notes.append(f"local training was computed the {way} way, {_nodes(course.at_once)} at once")
    check_memory(rounds, model, course, device)
    suits(rounds, program, model, course)
    if held_out is not None:
        held_out.begin(program, model, course)
        course = course._replace(callbacks=(held_out, *course.callbacks))
    return train_over(rounds, program, model, course)


def _by_themselves(rounds: Rounds, course: Course) -> bool:
    """Whether each node is asked by itself: then there are no blocks to compute together."""
    link = rounds.link
    serverless = course.mixing is not None or is_mix(link.plan)
    apart = link.remote is not None or link.rule.deadline is not None
    return serverless or apart or goes_round(course, link.plan, len(rounds.schema.nodes))


def _nodes(n: int) -> str:
    return "1 node" if n == 1 else f"{n} nodes"


def _balanced(rounds: Rounds, kind: str, loss: Any) -> Balance:
    """How unequal classes are answered, by how many rows each has on all nodes together."""
    check_balance(kind)
    _check_loss(kind, loss)
    classes = rounds.schema.classes[0]
    if classes.dtype.kind not in "iu" or len(classes) < 2 or classes[0] < 0:
        got, expected = f"{len(classes)} classes of {classes.dtype}", "class numbers, two or more"
        raise InvalidData(explain("classes are balanced by their numbers", got=got, expected=expected))
    counts = np.zeros(int(classes[-1]) + 1)
    counts[classes] = class_counts(rounds.through(codes((classes,))), len(classes))
    return balance_of(kind, counts)


_WITHOUT_LOGITS = ("NLLLoss", "LogLoss", "BCELoss", "BCEWithLogitsLoss")
"""Losses of outputs that are no logits of classes."""


def _check_loss(kind: str, loss: Any) -> None:
    """Refuse an answer that a loss cannot give."""
    name = type(loss).__name__
    if kind == "logits" and name in _WITHOUT_LOGITS:
        what, expected = f"logits are adjusted before a softmax, and {name} takes none", "CrossEntropyLoss"
    elif kind == "reweight" and name.startswith("BCE"):
        what, expected = f"classes are weighted by their numbers, and {name} takes shares", "CrossEntropyLoss"
    else:
        return
    hint = "use balance='sampler', which goes with any loss"
    raise InvalidData(explain(what, got=f"balance={kind!r}", expected=expected, hint=hint))
