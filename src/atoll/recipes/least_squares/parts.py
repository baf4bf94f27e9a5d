"""Cross-validation from summaries: rows that always go together make a part, and each fold is a union of parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedKFold, check_cv

from atoll.combine import Triangle
from atoll.errors import NotAvailable, explain
from atoll.recipes.least_squares.summary import NUMBERS, Summary, summary
from atoll.rounds import Rounds
from atoll.trees import Array, Tree

__all__ = ["Parts", "joined", "refused", "split", "summaries"]

_WHOLE = np.iinfo(np.int64).max // 8


class Parts(NamedTuple):
    """Which rows belong to which part, and the splits made of them.

    Attributes
    ----------
    start, part : ndarray of shape (c, runs), int64
        Rows with an id from ``start[c, i]`` on, up to the next, belong to ``part[c, i]``; c is their class, or 0 where
        there is one line for all.
    train, test : ndarray of shape (S, K), bool
        The parts on which each of S splits trains and tests.
    sizes : ndarray of shape (K,), int64
        Rows of each part.
    """

    start: Array
    part: Array
    train: Array
    test: Array
    sizes: Array

    def payload(self) -> Tree:
        """What nodes need to know."""
        return {"start": self.start, "part": self.part}


def split(cv: Any, n: int, what: str) -> Parts:
    """The parts of a cross-validation that looks at nothing but the number of rows.

    Parameters
    ----------
    cv : int, splitter or iterable
        As scikit-learn takes it for a regressor.
    n : int
        Rows; their ids are 0 to n - 1.
    what : str
        The estimator, for the error.

    Raises
    ------
    NotAvailable
        If the splitter looks at targets, or trains on a row several times.
    ValueError
        In scikit-learn's words, for more folds than rows.
    """
    splitter = check_cv(cv, classifier=False)
    if isinstance(splitter, StratifiedKFold) or "Stratified" in type(splitter).__name__:
        raise refused(what, splitter)
    return _parts([*splitter.split(np.zeros((n, 1)))], n, what)


def refused(what: str, cv: Any) -> NotAvailable:
    """The error for a cross-validation that cannot be held over nodes."""
    return NotAvailable(
        explain(
            f"{what} over nodes cannot split rows this way",
            got=repr(cv),
            expected="a splitter that looks only at how many rows there are, and takes each at most once",
            hint="search from outside: GridSearchCV over Distributed, or Federation.search",
        )
    )


def _parts(splits: Iterable[tuple[Array, Array]], n: int, what: str) -> Parts:
    code = np.zeros(n, dtype=np.int64)
    members = [np.zeros(n, dtype=np.int64) for _ in splits]
    for member, (train, test) in zip(members, splits, strict=True):
        np.add.at(member, train, 1)
        if (member > 1).any() or len(np.unique(test)) < len(np.asarray(test)):
            raise refused(what, "rows that are taken several times")
        member[test] += 2
        if code.max(initial=0) > _WHOLE:
            code = np.unique(code, return_inverse=True)[1]
        code = code * 4 + member
    _, first, label = np.unique(code, return_index=True, return_inverse=True)
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(label)) + 1])
    member = np.stack([m[first] for m in members])
    return Parts(cuts[None], label[cuts][None], (member & 1) > 0, (member & 2) > 0, np.bincount(label))


def summaries(rounds: Rounds, parts: Parts, settings: Mapping[str, Any] = NUMBERS) -> list[Summary]:
    """Ask for a summary of each part; one round.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows.
    parts : Parts
        Which rows belong together.
    settings : mapping
        `targets` and `n_classes`, as for the operation `linear.folds`.

    Returns
    -------
    list of Summary

    Raises
    ------
    NotAvailable
        If ids are not those of the rows of this run, or a part is a single row of somebody else.
    """
    n, K = rounds.schema.n_rows, len(parts.sizes)
    if rounds.run.trust == "federated" and parts.sizes.min() < 2:
        hint = "take fewer folds"
        raise NotAvailable(explain("a fold of one row would tell that row", got=f"{K} parts of {n} rows", hint=hint))
    asked = {**settings, "n_parts": K, "n_rows": n}
    tree = rounds.round("linear.folds", parts.payload(), combine=Triangle(), settings=asked)
    return [
        summary(rounds.schema, R, mean, settings, int(size))
        for R, mean, size in zip(tree["R"], tree["centre"], parts.sizes, strict=True)
    ]


def joined(chosen: Iterable[Summary]) -> Summary:
    """The summary of the rows of several summaries together."""
    every, combine = list(chosen), Triangle()
    tree = combine.finish(reduce(combine.add, [{"R": s.R, "centre": s.mean} for s in every]))
    return every[0]._replace(n=sum(s.n for s in every), R=tree["R"], mean=tree["centre"])
