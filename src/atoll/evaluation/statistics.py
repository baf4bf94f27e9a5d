"""What the nodes are asked about models' answers, and what comes back: for all rows, and for those of each node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from atoll.combine import Combine, Each, Extrema, Moments, Sum, close
from atoll.rounds import Rounds
from atoll.trees import Array, Tree

__all__ = ["Answers", "Curve", "Known", "Statistics", "asked", "gather"]


class Answers(NamedTuple):
    """Rows with the answers of some models beside them, and what these are.

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
    n_models : int
        How many models answered.
    """

    rounds: Rounds
    classes: Array | None
    n_outputs: int = 1
    n_scores: int = 1
    weighted: bool = False
    n_models: int = 1

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


class Known(NamedTuple):
    """What is known about the answers of one model.

    Attributes
    ----------
    pooled : Statistics
        Of all rows.
    nodes : dict of str to Statistics
        By node; empty unless asked for.
    """

    pooled: Statistics
    nodes: dict[str, Statistics]


_COMBINES: dict[str, Combine] = {
    "metrics.confusion": Sum(),
    "metrics.histogram": Sum(),
    "metrics.largest": Extrema(),
    "metrics.losses": Sum(),
    "metrics.spread": Moments(),
}


def gather(answers: Answers, needs: Iterable[str], *, per_node: bool, bins: int | None = None) -> list[Known]:
    """Ask the nodes for everything that some metrics need, of all models at once.

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
    list of Known
        One for each model; every number is what it would be had that model been asked alone.
    """
    wanted = set(needs)
    found = [_unknown(answers, per_node) for _ in range(answers.n_models)]
    for kind in ("confusion", "spread", "largest"):
        if kind in wanted:
            _ask(answers, f"metrics.{kind}", found)
    losses = sorted(n.removeprefix("losses.") for n in wanted if n.startswith("losses."))
    if losses:
        _ask(answers, "metrics.losses", found, losses=losses)
    for column in sorted(n.removeprefix("scores.") for n in wanted if n.startswith("scores.")):
        if bins is None:
            _sort(answers, column, found)
        else:
            _count(answers, column, bins, found)
    return found


def asked(needs: Iterable[str], bins: int | None = None) -> tuple[str, ...]:
    """The operations by which `gather` gets what is needed.

    Parameters
    ----------
    needs, bins
        As for `gather`.

    Returns
    -------
    tuple of str
        Sorted.

    Examples
    --------
    >>> from atoll.evaluation.statistics import asked
    >>> asked({"confusion", "losses.log_loss", "scores.predict_proba"})
    ('metrics.confusion', 'metrics.losses', 'metrics.scores')
    """
    wanted = set(needs)
    found = {need.partition(".")[0] for need in wanted}
    if "scores" in found and bins is not None:
        found = found - {"scores"} | {"histogram"} | ({"range"} if wanted & {"scores.decision_function"} else set())
    return tuple(sorted(f"metrics.{kind}" for kind in found))


def _unknown(answers: Answers, per_node: bool) -> Known:
    names = answers.rounds.schema.nodes if per_node else ()
    pooled, *nodes = (Statistics(answers.classes, answers.weighted, node) for node in (False, *(True for _ in names)))
    return Known(pooled, dict(zip(names, nodes, strict=True)))


def _settings(answers: Answers, **more: Any) -> dict[str, Any]:
    own = answers._asdict()
    plain = {n: own[n] for n in ("n_models", "n_outputs", "n_scores", "weighted")}
    return {**plain, "n_classes": answers.n_classes, **more}


def _ask(answers: Answers, op: str, found: Sequence[Known], payload: Tree | None = None, **more: Any) -> None:
    """One question: added up, or joined and then added in the same order, so that both give the same bits."""
    natural, settings = _COMBINES[op], _settings(answers, **more)
    if not found[0].nodes:
        total = answers.rounds.round(op, payload, combine=natural, settings=settings)
    else:
        got = answers.rounds.round(op, payload, combine=Each(), settings=settings)
        own = [{name: array[i : i + 1] for name, array in got.items()} for i in range(len(next(iter(got.values()))))]
        total = natural.finish(close(natural.add, [(i, i + 1, t) for i, t in enumerate(own)], len(own)) or {})
        for name, tree in zip(_answered(answers), own, strict=True):
            for i, known in enumerate(found):
                known.nodes[name].sums[op] = _of_model(tree, i)
    for i, known in enumerate(found):
        known.pooled.sums[op] = _of_model(total, i)


def _of_model(tree: Tree, i: int) -> Tree:
    return {name: array[:, i] for name, array in tree.items()}


def _answered(answers: Answers) -> list[str]:
    """Names of the nodes whose answers are in the last round."""
    refused = answers.rounds.run.rows[-1].refused
    return [name for name in answers.rounds.schema.nodes if name not in refused]


def _sort(answers: Answers, column: str, found: Sequence[Known]) -> None:
    got = answers.rounds.round("metrics.scores", combine=Each(), settings=_settings(answers, scores=column))
    ends = np.cumsum(got["length"].ravel())[:-1]
    parts = iter([Curve(*part) for part in zip(*(np.split(got[n], ends) for n in Curve._fields), strict=True)])
    by_node = [[list(islice(parts, answers.n_scores)) for _ in found] for _ in got["length"]]
    for i, known in enumerate(found):
        own = [models[i] for models in by_node]
        known.pooled.curves[column] = [_joined(one) for one in zip(*own, strict=True)]
        for name, curves in zip(_answered(answers), own, strict=True) if known.nodes else ():
            known.nodes[name].curves[column] = curves


def _joined(curves: Iterable[Curve]) -> Curve:
    return Curve(*(np.concatenate(part) for part in zip(*curves, strict=True)))


def _count(answers: Answers, column: str, bins: int, found: Sequence[Known]) -> None:
    ends = {"low": np.zeros((len(found), answers.n_scores)), "high": np.ones((len(found), answers.n_scores))}
    if column != "predict_proba":
        got = answers.rounds.round("metrics.range", combine=Extrema(), settings=_settings(answers, scores=column))
        ends = {"low": got["min"][0], "high": got["max"][0]}
    _ask(answers, "metrics.histogram", found, ends, scores=column, bins=bins)
    for one in (one for known in found for one in (known.pooled, *known.nodes.values())):
        counted = one.sums.pop("metrics.histogram", None)
        if counted is not None:
            one.curves[column] = [_ranges(mass) for mass in counted["mass"][0]]


def _ranges(mass: Array) -> Curve:
    code, level = np.nonzero(mass)
    return Curve(level, code, mass[code, level])
