"""Distances that were computed beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.neighbors import NearestNeighbors

from atoll.nearest import Metric, build
from nearest import oracle


@pytest.mark.parametrize("seed", range(3))
def test_dense(seed: int) -> None:
    rng = np.random.default_rng(seed)
    D = rng.integers(0, 20, (30, 400)).astype(float)
    for split in ([np.arange(400)], oracle.split(400, rng)):
        parts = []
        for node in split:
            dist, row = build(np.empty((len(node), 400)), method="brute", metric=Metric("precomputed")).query(
                D, 6, node
            )
            parts.append((dist, np.where(row < 0, oracle.LAST, node[row] if len(node) else 0)))
        dist, number = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        order = np.lexsort((number, dist), axis=-1)[:, :6]
        found = np.take_along_axis(dist, order, 1), np.take_along_axis(number, order, 1)
        assert oracle.same(found, oracle.chosen(D, 6, np.arange(400))), seed
        hits = [
            build(np.empty((len(node), 400)), method="brute", metric=Metric("precomputed")).radius(D, 3.0, node)
            for node in split
        ]
        assert sum(len(hit.row) for hit in hits) == (D <= 3).sum()


def test_only_stored_entries_of_a_graph_are_neighbours() -> None:
    rng = np.random.default_rng(5)
    D = np.round(rng.random((12, 40)), 2)
    stored = rng.random(D.shape) < 0.4
    stored[:, :5] = True
    query, row = np.nonzero(stored)
    graph = csr_array((D[query, row], (query, row)), shape=D.shape)
    graph.data[3] = 0.0  # an explicit zero is a neighbour at distance 0
    D[query[3], row[3]] = 0.0
    index = build(np.empty((40, 40)), method="brute", metric=Metric("precomputed"))
    masked = np.where(stored, D, np.inf)
    dist, found = index.query(graph, 4, np.arange(40))
    assert oracle.same((dist, found), oracle.chosen(masked, 4, np.arange(40)))
    few = index.query(graph, 40, np.arange(40))
    assert np.array_equal((few.row >= 0).sum(axis=1), stored.sum(axis=1))
    hits = index.radius(graph, 0.3, np.arange(40))
    assert oracle.same((hits.dist, hits.row), oracle.inside(masked, 0.3, np.arange(40))[1:])
    half = build(np.empty((10, 40)), method="brute", metric=Metric("precomputed"))
    columns = rng.permutation(40)[:10]
    part = half.query(graph, 3, columns)
    expected = oracle.chosen(masked[:, columns], 3, columns)
    missing = np.isinf(expected[0])
    assert np.array_equal(part.row < 0, missing)
    assert np.array_equal(columns[part.row[~missing]], expected[1][~missing])


def test_a_graph_gives_the_neighbours_that_scikit_learn_reads_from_it() -> None:
    X, _ = oracle.rows("normal", np.random.default_rng(6), 50, 1, 3)
    pooled = NearestNeighbors(n_neighbors=5).fit(X)
    graph = csr_array(pooled.kneighbors_graph(X, 9, mode="distance"))
    expected = NearestNeighbors(n_neighbors=5, metric="precomputed").fit(graph).kneighbors(graph)
    found = build(X, method="brute", metric=Metric("precomputed")).query(graph, 5, np.arange(50))
    assert np.array_equal(found.dist, expected[0])
    assert np.array_equal(found.row, expected[1])


def test_nothing_to_read() -> None:
    index = build(np.empty((0, 7)), method="brute", metric=Metric("precomputed"))
    assert (index.query(np.zeros((2, 7)), 3, np.arange(0)).row == -1).all()
    assert np.array_equal(index.radius(csr_array((2, 7)), 1.0, np.arange(0)).indptr, [0, 0, 0])
