"""Folds found by counting are those that scikit-learn cuts from the pooled rows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit

from atoll import Federation
from atoll.errors import UnsupportedEstimator
from atoll.recipes.folds import number_of_folds, plain, splits, stratified
from atoll.shards import Shard
from atoll.views import codes, viewer


def nodes(y, ids, rng, n_nodes=4):
    """Rows of these labels and ids, dealt to nodes at random, and the rounds over them with label codes."""
    X = np.arange(len(y), dtype=float)[:, None]
    parts = np.array_split(rng.permutation(len(y)), n_nodes)
    shards = [Shard.of(f"node-{i}", X[p], y[p], ids=ids[p]) for i, p in enumerate(parts)]
    rounds = Federation(shards).rounds("folds", "federated")
    rounds.meet(classes=True)
    return shards, rounds.through(codes(rounds.schema.classes))


def told(function):
    """What a call returns, or the text of its ValueError; and its warnings."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            answer = function()
        except ValueError as error:
            answer = str(error)
    return answer, [(w.category, str(w.message)) for w in heard]


@pytest.mark.parametrize("seed", range(24))
def test_stratified_folds(seed):
    """Random labels, sorted labels, ids with gaps up to 2**62, classes smaller than the number of folds."""
    print("seed", seed)
    rng = np.random.default_rng(seed)
    n, C, k = int(rng.integers(8, 200)), int(rng.integers(2, 6)), int(rng.integers(2, 6))
    y = rng.integers(0, C, size=n) ** 2
    y = np.sort(y)[::-1] if seed % 3 == 0 else y
    ids = np.arange(n) if seed % 2 else np.sort(rng.choice(2**62, size=n, replace=False))
    _, rounds = nodes(y, ids, rng)
    got, heard = told(lambda: stratified(rounds, k))
    expected, said = told(lambda: list(StratifiedKFold(k).split(y[:, None], y)))
    assert heard == said
    if isinstance(expected, str):
        assert got == expected
        return
    code = np.unique(y, return_inverse=True)[1]
    for i, (_, test) in enumerate(expected):
        assert (np.flatnonzero((got[code, i] <= ids) & (ids < got[code, i + 1])) == test).all()
    assert rounds.run.rounds <= (6 if seed % 2 else 16)


@pytest.mark.parametrize(
    ("y", "k"), [(np.array([0, 0, 1, 1]), 5), (np.array([0, 0, 1, 1, 1]), 4), (np.array([0, 0, 0, 1, 1]), 3)]
)
def test_too_many_folds_are_refused_or_warned_about_in_scikit_learns_words(y, k):
    _, rounds = nodes(y, np.arange(len(y)), np.random.default_rng(0), n_nodes=2)
    got, heard = told(lambda: stratified(rounds, k))
    expected, said = told(lambda: list(StratifiedKFold(k).split(y[:, None], y)))
    assert heard == said
    assert (got == expected) if isinstance(expected, str) else heard


@pytest.mark.parametrize(("n", "k"), [(10, 2), (11, 3), (7, 7), (100, 6)])
def test_plain_folds(n, k):
    edges = plain(n, k)
    assert edges.shape == (1, k + 1)
    for i, (_, test) in enumerate(KFold(k).split(np.zeros(n))):
        assert (np.arange(edges[0, i], edges[0, i + 1]) == test).all()


def test_more_plain_folds_than_rows():
    with pytest.raises(ValueError, match="Cannot have number of splits n_splits=4 greater than the number of samples"):
        plain(3, 4)


MASKS = [(np.arange(30) % 2 == 0, np.arange(30) % 2 == 1)]


@pytest.mark.parametrize(
    "cv",
    [
        None, 3, np.int64(4), StratifiedKFold(3), KFold(3), KFold(4, shuffle=True, random_state=1),
        [(np.arange(20), np.arange(20, 30)), (np.arange(5, 30), np.arange(5))], MASKS,
    ],
    ids=lambda cv: str(cv)[:40],
)  # fmt: skip
def test_views_of_folds_show_what_they_train_on_and_test(cv):
    rng = np.random.default_rng(3)
    y = np.repeat([0, 1, 2], 10)
    shards, rounds = nodes(y, np.arange(30), rng)
    pairs = cv if isinstance(cv, list) else (StratifiedKFold(cv or 5) if not hasattr(cv, "split") else cv).split(y, y)
    got = splits(cv, rounds)
    pairs = list(pairs)
    assert len(got) == len(pairs)
    for specs, expected in zip(got, pairs, strict=True):
        for spec, rows in zip(specs, expected, strict=True):
            see = viewer((codes([np.unique(y)]), spec))
            seen = np.sort(np.concatenate([see(shard).X[:, 0] for shard in shards]))
            assert (seen == np.arange(30.0)[rows]).all()


@pytest.mark.parametrize(
    "cv",
    [
        StratifiedKFold(3, shuffle=True, random_state=0), StratifiedGroupKFold(3), StratifiedShuffleSplit(3),
        KFold(3, shuffle=True),
    ],
    ids=lambda cv: type(cv).__name__,
)  # fmt: skip
def test_splitters_that_need_the_rows_are_refused_by_name(cv):
    y = np.repeat([0, 1], 10)
    _, rounds = nodes(y, np.arange(20), np.random.default_rng(0))
    with pytest.raises(UnsupportedEstimator, match=type(cv).__name__):
        splits(cv, rounds)


def test_the_number_of_folds():
    assert number_of_folds(None) == 5
    assert number_of_folds(7) == 7
    assert number_of_folds(StratifiedKFold(4)) == 4
    with pytest.raises(ValueError, match="at least one train/test split"):
        number_of_folds(1)
