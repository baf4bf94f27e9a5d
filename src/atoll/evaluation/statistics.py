"""What the nodes are asked about a model's answers, and what comes back: for all rows, and for those of each node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from atoll.combine import Combine, Each, Extrema, Moments, Sum, close
from atoll.rounds import Rounds
from atoll.trees import Array, Tree

__all__ = ["Answers", "Curve", "Statistics", "gather"]


class Answers(NamedTuple):
    """Rows with a model's answers beside them, and what these are.

    Attributes
    ----------
    rounds : Rounds
        The way to them.
    classes : ndarray of shape (k,) or None
        Of rows and answers; None where answers are numbers.
    n_outputs : int
        Numbers per row.
    n_scores : int
        Columns of scores per row.
    weighted : bool
        Whether the rows' weights count.
    """

    rounds: Rounds
    classes: Array | None
    n_outputs: int = 1
    n_scores: int = 1
    weighted: bool = False

    @property
    def n_classes(self) -> int:
        """How many; 0 where answers are numbers."""
        return 0 if self.classes is None else len(self.classes)


class Curve(NamedTuple):
    """Rows by a score: what a ROC curve is drawn from.

    Attributes
    ----------
    level : ndarray of shape (m,)
        Scores, or numbers of the ranges that they fall in.
    code : ndarray of shape (m,), int64
        Class.
    mass : ndarray of shape (m,), float64
        Weight of the rows with this score and class.
    """

    level: Array
    code: Array
    mass: Array


@dataclass
class Statistics:
    """What is known about some rows: all of them, or those of one node.

    Attributes
    ----------
    classes : ndarray of shape (k,) or None
        As in `Answers`.
    weighted : bool
        Likewise.
    node : bool
        Whether the rows are one node's: then what is undefined is NaN, and no reason to warn.
    sums : dict of str to Tree
        By operation, with the leading axis of length 1 that contributions have.
    curves : dict of str to list of Curve
        By the column of scores, one for each.
    order : {-1, 0, 1}
        How rows of one level rank: as ties, or, where scores were counted in ranges, in the worst or the best way.
    """

    classes: Array | None
    weighted: bool
    node: bool = False
    sums: dict[str, Tree] = field(default_factory=dict)
    curves: dict[str, list[Curve]] = field(default_factory=dict)
    order: int = 0


_COMBINES: dict[str, Combine] = {
    "metrics.confusion": Sum(),
    "metrics.histogram": Sum(),
    "metrics.largest": Extrema(),
    "metrics.losses": Sum(),
    "metrics.spread": Moments(),
}


def gather(
    answers: Answers, needs: Iterable[str], *, per_node: bool, bins: int | None = None
) -> tuple[Statistics, dict[str, Statistics]]:
    """Ask the nodes for everything that some metrics need.

    Parameters
    ----------
    answers : Answers
        Where.
    needs : iterable of str
        ``confusion``, ``spread``, ``largest``, ``losses.<name>`` or ``scores.<column>``.
    per_node : bool
        Whether each node's own statistics are wanted, or only their sum.
    bins : int, optional
        Count scores in so many ranges instead of sorting them.

    Returns
    -------
    Statistics
        Of all rows.
    dict of str to Statistics
        By node; empty unless asked for.
    """
    wanted = set(needs)
    pooled = Statistics(answers.classes, answers.weighted)
    nodes: dict[str, Statistics] = {}
    if per_node:
        names = answers.rounds.schema.nodes
        nodes = {n: Statistics(answers.classes, answers.weighted, True) for n in names}
    for kind in ("confusion", "spread", "largest"):
        if kind in wanted:
            _ask(answers, f"metrics.{kind}", pooled, nodes)
    losses = sorted(n.removeprefix("losses.") for n in wanted if n.startswith("losses."))
    if losses:
        _ask(answers, "metrics.losses", pooled, nodes, losses=losses)
    for column in sorted(n.removeprefix("scores.") for n in wanted if n.startswith("scores.")):
        if bins is None:
            _sort(answers, column, pooled, nodes)
        else:
            _count(answers, column, bins, pooled, nodes)
    return pooled, nodes


def _settings(answers: Answers, **more: Any) -> dict[str, Any]:
    own = answers._asdict()
    return {**{n: own[n] for n in ("n_outputs", "n_scores", "weighted")}, "n_classes": answers.n_classes, **more}


def _ask(
    answers: Answers, op: str, pooled: Statistics, nodes: Mapping[str, Statistics],
    payload: Tree | None = None, **more: Any,
) -> None:  # fmt: skip
    """One question: added up, or joined and then added in the same order, so that both give the same bits."""
    natural = _COMBINES[op]
    got = answers.rounds.round(op, payload, combine=Each() if nodes else natural, settings=_settings(answers, **more))
    if not nodes:
        pooled.sums[op] = got
        return
    own = [{name: array[i : i + 1] for name, array in got.items()} for i in range(len(next(iter(got.values()))))]
    pooled.sums[op] = natural.finish(close(natural.add, [(i, i + 1, t) for i, t in enumerate(own)], len(own)) or {})
    for name, tree in zip(_answered(answers), own, strict=True):
        nodes[name].sums[op] = tree


def _answered(answers: Answers) -> list[str]:
    """Names of the nodes whose answers are in the last round."""
    refused = answers.rounds.run.rows[-1].refused
    return [name for name in answers.rounds.schema.nodes if name not in refused]


def _sort(answers: Answers, column: str, pooled: Statistics, nodes: Mapping[str, Statistics]) -> None:
    got = answers.rounds.round("metrics.scores", combine=Each(), settings=_settings(answers, scores=column))
    length = got["length"]
    ends = np.cumsum(length.ravel())[:-1]
    parts = [Curve(*part) for part in zip(*(np.split(got[n], ends) for n in Curve._fields), strict=True)]
    n_scores = length.shape[1]
    by_node = [parts[i : i + n_scores] for i in range(0, len(parts), n_scores)]
    pooled.curves[column] = [_joined(own) for own in zip(*by_node, strict=True)]
    for name, curves in zip(_answered(answers), by_node, strict=True):
        if nodes:
            nodes[name].curves[column] = curves


def _joined(curves: Iterable[Curve]) -> Curve:
    return Curve(*(np.concatenate(part) for part in zip(*curves, strict=True)))


def _count(answers: Answers, column: str, bins: int, pooled: Statistics, nodes: Mapping[str, Statistics]) -> None:
    low, high = np.zeros(answers.n_scores), np.ones(answers.n_scores)
    if column != "predict_proba":
        ends = answers.rounds.round("metrics.range", combine=Extrema(), settings=_settings(answers, scores=column))
        low, high = ends["min"][0], ends["max"][0]
    _ask(answers, "metrics.histogram", pooled, nodes, {"low": low, "high": high}, scores=column, bins=bins)
    for one in (pooled, *nodes.values()):
        counted = one.sums.pop("metrics.histogram", None)
        if counted is not None:
            one.curves[column] = [_ranges(mass) for mass in counted["mass"][0]]


def _ranges(mass: Array) -> Curve:
    code, level = np.nonzero(mass)
    return Curve(level, code, mass[code, level])
