"""The law of the search: any split of the rows gives the same bits, and those of an exhaustive search."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.neighbors import KDTree
from threadpoolctl import threadpool_limits

from atoll.nearest import Metric, build, exact
from atoll.nearest.brute import Blocked, Screened
from nearest import oracle

WAYS = [
    ("brute", "euclidean"), ("brute", "sqeuclidean"), ("brute", "cosine"), ("brute", "manhattan"),
    ("faiss", "l2"), ("faiss", "sqeuclidean"), ("kd_tree", "euclidean"), ("kd_tree", "chebyshev"),
    ("ball_tree", "euclidean"), ("ball_tree", "manhattan"),
]  # fmt: skip

OTHERS = [
    Metric("minkowski", {"p": 3}), Metric("minkowski", {"p": 1.5}), Metric("p", {"p": 4}), Metric("infinity"),
    Metric("minkowski", {"p": 2}, {"w": np.array([0.5, 2.0, 0.0])}), Metric("haversine"), Metric("canberra"),
    Metric("braycurtis"), Metric("dice"), Metric("hamming"), Metric("jaccard"), Metric("russellrao"),
    Metric("seuclidean", {}, {"V": np.array([0.5, 2.0, 1.0])}), Metric("rogerstanimoto"), Metric("sokalsneath"),
    Metric("mahalanobis", {}, {"VI": np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 3.0]])}),
]  # fmt: skip


def _all_distances(X: Any, Q: Any, metric: Metric) -> np.ndarray:
    if metric.name in ("euclidean", "l2", "sqeuclidean"):
        square = exact.block(Q, X, angular=False)
        return square if metric.name == "sqeuclidean" else np.sqrt(square)
    if metric.name == "cosine":
        return exact.block(exact.unit(Q), X, angular=True)
    return Blocked(X, metric)._block(Q, 0, len(X))


@pytest.fixture
def screened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Screen even where all distances are quicker."""
    monkeypatch.setattr(Screened, "_small", lambda self, space, m, k: 4 * k > space.n_rows)


@pytest.mark.parametrize(("method", "name"), WAYS)
@pytest.mark.parametrize("kind", oracle.KINDS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.usefixtures("screened")
def test_any_split_gives_the_bits_of_an_exhaustive_search(kind: str, method: str, name: str, seed: int) -> None:
    rng = np.random.default_rng([seed, oracle.KINDS.index(kind), WAYS.index((method, name))])
    n, m, d = int(rng.choice([5, 40, 300, 1500])), int(rng.choice([1, 3, 20])), int(rng.choice([1, 2, 4, 9, 33]))
    X, Q = oracle.rows(kind, rng, n, m, d)
    if rng.random() < 0.3 and kind not in ("tiny", "small", "big", "huge", "outlier"):
        X = X.astype(np.float32)
    metric, ids, nodes = Metric(name), oracle.numbers(n, rng), oracle.split(n, rng)
    D = _all_distances(X, Q, metric)
    for k in (1, int(rng.choice([2, 5, 20])), int(rng.choice([n, n + 3]))):
        expected = oracle.chosen(D, k, ids)
        for split in ([np.arange(n)], nodes):
            assert oracle.same(oracle.nearest(X, Q, k, ids, split, method, metric), expected), (n, m, d, k, X.dtype)
    for r in (float(rng.choice(D.ravel())), float(np.median(D))):
        expected_hits = oracle.inside(D, r, ids)
        for split in ([np.arange(n)], nodes):
            assert oracle.same(oracle.within(X, Q, r, ids, split, method, metric), expected_hits), (n, m, d, r)


@pytest.mark.parametrize("name", ["euclidean", "cosine", "manhattan"])
@pytest.mark.parametrize("kind", ["holes", "twins", "normal", "constant", "huge"])
@pytest.mark.usefixtures("screened")
def test_sparse_rows(kind: str, name: str) -> None:
    rng = np.random.default_rng(oracle.KINDS.index(kind))
    X, Q = oracle.rows(kind, rng, 300, 15, 12)
    metric, ids = Metric(name), oracle.numbers(300, rng)
    D = _all_distances(X, Q, metric)
    for rows, queries in ((csr_array(X), csr_array(Q)), (csr_array(X), Q), (X, csr_array(Q))):
        for split in ([np.arange(300)], oracle.split(300, rng)):
            for k in (1, 7, 290):
                answer = oracle.nearest(rows, queries, k, ids, split, "brute", metric)
                assert oracle.same(answer, oracle.chosen(D, k, ids)), (k, type(rows))
            r = float(np.sort(D.ravel())[D.size // 10])
            hits = oracle.within(rows, queries, r, ids, split, "brute", metric)
            assert oracle.same(hits, oracle.inside(D, r, ids))


def test_sparse_rows_may_be_in_disorder() -> None:
    X = csr_array(
        (np.array([1.0, 2.0, 3.0, 1.0, 5.0]), np.array([2, 0, 1, 1, 0]), np.array([0, 2, 4, 5])), shape=(3, 3)
    )
    tidy = csr_array(X.toarray())
    for name in ("euclidean", "cosine", "manhattan"):
        messy = build(X, method="brute", metric=Metric(name)).query(X, 2, np.arange(3))
        assert oracle.same(messy, build(tidy, method="brute", metric=Metric(name)).query(tidy, 2, np.arange(3)))
    assert X.indices.tolist() == [2, 0, 1, 1, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["euclidean", "cosine"])
def test_a_large_search_by_every_way(name: str, dtype: type) -> None:
    """Large enough to be screened unasked; with groups of twins and one feature that dwarfs the others."""
    rng = np.random.default_rng(7)
    X, Q = oracle.rows("normal", rng, 6000, 70, 20)
    X[:, 0] *= 1e4
    X[1000:2000] = X[:100].repeat(10, axis=0)
    X, Q = X.astype(dtype), np.concatenate([X[:30], Q]).astype(dtype)
    ids, metric = oracle.numbers(6000, rng), Metric(name)
    expected = oracle.chosen(_all_distances(X, Q.astype(np.float64), metric), 8, ids)
    assert oracle.same(oracle.nearest(X, Q, 8, ids, oracle.split(6000, rng), "brute", metric), expected)
    if name == "euclidean":
        assert oracle.same(oracle.nearest(X, Q, 8, ids, oracle.split(6000, rng), "faiss", metric), expected)


@pytest.mark.parametrize("name", ["euclidean", "cosine"])
def test_threads_and_batches_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, Q = oracle.rows("clusters", np.random.default_rng(8), 3000, 60, 16)
    index, ids = build(X, method="brute", metric=Metric(name)), np.arange(3000)
    whole = index.query(Q, 6, ids)
    for threads in (1, 2):
        with threadpool_limits(threads):
            assert oracle.same(index.query(Q, 6, ids), whole)
    for size in (1, 7, 33):
        parts = [index.query(Q[i : i + size], 6, ids) for i in range(0, 60, size)]
        assert oracle.same([np.concatenate(part) for part in zip(*parts, strict=True)], whole)
    monkeypatch.setattr(Screened, "together", 16)
    assert oracle.same(index.query(Q, 6, ids), whole)


def test_many_twins_are_answered_by_their_smallest_ids() -> None:
    rng = np.random.default_rng(9)
    X = np.repeat(rng.standard_normal((20, 30)), 500, axis=0)
    ids = rng.permutation(10_000).astype(np.int64)
    dist, row = build(X, method="brute", metric=Metric()).query(X[::500], 3, ids)
    assert not dist.any()
    smallest = np.sort(ids.reshape(20, 500), axis=1)[:, :3]
    assert np.array_equal(ids[row], smallest)


@pytest.mark.parametrize(("method", "name"), [*WAYS, ("brute", "nan_euclidean"), ("brute", "jaccard")])
def test_no_rows_and_no_queries(method: str, name: str) -> None:
    X, Q = oracle.rows("normal", np.random.default_rng(0), 9, 4, 3)
    ids = np.arange(9)
    empty = build(X[:0], method=method, metric=Metric(name))
    dist, row = empty.query(Q, 2, ids[:0])
    assert np.isinf(dist).all()
    assert (row == -1).all()
    assert dist.shape == row.shape == (4, 2)
    indptr, dist, row = empty.radius(Q, 1.0, ids[:0])
    assert np.array_equal(indptr, np.zeros(5))
    assert dist.shape == row.shape == (0,)
    full = build(X, method=method, metric=Metric(name))
    assert full.query(Q[:0], 2, ids).dist.shape == (0, 2)
    assert np.array_equal(full.radius(Q[:0], 1.0, ids).indptr, [0])


def test_no_rows_in_sparse_form() -> None:
    for name in ("euclidean", "cosine", "manhattan"):
        index = build(csr_array((0, 5)), method="brute", metric=Metric(name))
        assert (index.query(csr_array((2, 5)), 3, np.arange(0)).row == -1).all()
        assert np.array_equal(index.radius(csr_array((2, 5)), 3.0, np.arange(0)).indptr, [0, 0, 0])


def test_a_distance_equal_to_the_radius_is_within() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), axis=-1).reshape(-1, 3)
    for method in ("brute", "kd_tree", "ball_tree", "faiss"):
        index = build(grid, method=method, metric=Metric(), leaf_size=2)
        for square, count in ((1, 4), (2, 7), (3, 8), (9, 23)):
            # points of the grid 0..3 cubed no further than the root of `square` from its corner, counted by hand
            found = index.radius(np.zeros((1, 3)), float(np.sqrt(square)), np.arange(64))
            assert len(found.row) == sum((p @ p) <= square for p in grid) == found.indptr[1], (method, square, count)


@pytest.mark.parametrize(
    ("method", "metric"),
    [
        (method, metric)
        for method in ("kd_tree", "ball_tree")
        for metric in OTHERS
        if method == "ball_tree" or (metric.name in KDTree.valid_metrics and "w" not in metric.arrays)
    ],
    ids=lambda value: value.name if isinstance(value, Metric) else value,
)
def test_trees_with_other_metrics(method: str, metric: Metric) -> None:
    rng = np.random.default_rng(11)
    d = 2 if metric.name == "haversine" else 3
    for X in (np.round(rng.standard_normal((250, d)), 1), rng.integers(0, 2, (250, d)).astype(float)):
        Q, ids = np.concatenate([X[:20], np.round(rng.standard_normal((10, d)), 1)]), oracle.numbers(250, rng)
        whole = [np.arange(250)]
        for k in (1, 6, 249, 260):
            answer = oracle.nearest(X, Q, k, ids, whole, method, metric)
            assert oracle.same(answer, oracle.nearest(X, Q, k, ids, oracle.split(250, rng), method, metric)), k
            for dist, number in zip(*answer, strict=True):
                assert len({*number[:250].tolist()}) == min(k, 250)
                assert (np.diff(dist[:250]) >= 0).all() or np.isnan(dist).any()
        full = oracle.nearest(X, Q, 250, ids, whole, method, metric)
        for k in (1, 6, 100):
            assert oracle.same(oracle.nearest(X, Q, k, ids, whole, method, metric), [part[:, :k] for part in full]), k
        for r in (float(full[0][3, 40]), float(np.nanmax(full[0])), 3.2):
            query, dist, number = oracle.within(X, Q, r, ids, whole, method, metric)
            order, place = np.nonzero(full[0] <= r)
            assert oracle.same((query, dist, number), (order, full[0][order, place], full[1][order, place])), r
            assert oracle.same(
                (query, dist, number), oracle.within(X, Q, r, ids, oracle.split(250, rng), method, metric)
            )


def _peak(index: Any, Q: np.ndarray, k: int, r: float | None, n: int) -> float:
    tracemalloc.start()
    try:
        answer = index.query(Q, k, np.arange(n)) if r is None else index.radius(Q, r, np.arange(n))
        extra = tracemalloc.get_traced_memory()[1] - sum(part.nbytes for part in answer)
    finally:
        tracemalloc.stop()
    return extra / 2**20


@pytest.mark.parametrize("kind", ["normal", "constant", "clusters", "huge"])
@pytest.mark.parametrize("name", ["euclidean", "cosine"])
def test_memory_is_bounded(kind: str, name: str) -> None:
    X, Q = oracle.rows(kind, np.random.default_rng(0), 6000, 2500 if kind != "huge" else 300, 8)
    for method in ("brute", "faiss") if name == "euclidean" else ("brute",):
        index = build(X, method=method, metric=Metric(name))
        for k in (5, 100):
            assert _peak(index, Q, k, None, 6000) < 64, (method, k)


@pytest.mark.parametrize(("method", "name"), [("brute", "euclidean"), ("brute", "manhattan"), ("kd_tree", "euclidean")])
def test_memory_of_hits_is_bounded_by_the_hits(method: str, name: str) -> None:
    X, Q = oracle.rows("normal", np.random.default_rng(0), 3000, 900, 3)
    index = build(X, method=method, metric=Metric(name))
    assert _peak(index, Q, 0, 100.0, 3000) < 3000 * 900 * 16 / 2**20 + 64
    assert _peak(index, Q, 0, 0.05, 3000) < 64
