"""Numbers agree with scikit-learn's own estimators, for every metric that needs nothing but its parameters."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import load_iris
from sklearn.exceptions import DataConversionWarning
from sklearn.neighbors import VALID_METRICS, BallTree, KDTree, NearestNeighbors

from atoll.errors import InvalidData, MissingExtra, UnknownName
from atoll.nearest import Metric, build, choose_method
from nearest import oracle
from nearest.oracle import effective

PARAMS: dict[str, dict[str, Any]] = {
    "seuclidean": {"V": np.array([0.5, 1.0, 2.0, 4.0])},
    "mahalanobis": {"VI": np.diag([1.0, 2.0, 3.0, 4.0]) + 0.1},
}
BOOLEAN = ("dice", "jaccard", "rogerstanimoto", "russellrao", "sokalsneath", "yule")
BRUTE = [name for name in VALID_METRICS["brute"] if name != "precomputed"]


def _data(name: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    d = 2 if name == "haversine" else 4
    X, Q = rng.standard_normal((150, d)), rng.standard_normal((25, d))
    if name in (*BOOLEAN, "hamming"):
        X, Q = (rng.random((150, 12)) < 0.5).astype(float), (rng.random((25, 12)) < 0.5).astype(float)
        X[0] = Q[0] = 0
    if name == "nan_euclidean":
        X[rng.random(X.shape) < 0.3], Q[rng.random(Q.shape) < 0.3] = np.nan, np.nan
    return X, Q


def _agree(X: Any, Q: Any, method: str, metric: str, p: float = 2, params: dict[str, Any] | None = None) -> None:
    pooled = NearestNeighbors(n_neighbors=7, algorithm=method, metric=metric, p=p, metric_params=params).fit(X)
    assert pooled._fit_method == method
    ours = effective(metric, p=p, metric_params=params)
    rng, n = np.random.default_rng(1), X.shape[0]
    dist, _ = oracle.nearest(X, Q, 7, oracle.numbers(n, rng), oracle.split(n, rng), method, ours)
    expected, _ = pooled.kneighbors(Q)
    np.testing.assert_allclose(dist, expected, rtol=1e-9, atol=1e-11)
    r = float(np.nanmedian(expected)) * (1 + 1e-7)
    found = oracle.within(X, Q, r, np.arange(n), oracle.split(n, rng), method, ours)
    hits, rows = pooled.radius_neighbors(Q, r, sort_results=True)
    assert np.array_equal(np.bincount(found[0], minlength=Q.shape[0]), [len(row) for row in rows])
    np.testing.assert_allclose(found[1], np.concatenate(list(hits)), rtol=1e-9, atol=1e-11)
    for query in range(Q.shape[0]):
        assert set(found[2][found[0] == query].tolist()) == set(rows[query].tolist())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.parametrize("name", BRUTE)
def test_brute_force(name: str) -> None:
    X, Q = _data(name)
    _agree(X, Q, "brute", name, params=PARAMS.get(name))


@pytest.mark.parametrize(
    "name", sorted({*BallTree.valid_metrics} - {"pyfunc", "p", "sokalmichener", "braycurtis", "dice"})
)
def test_ball_tree(name: str) -> None:
    X, Q = _data(name)
    _agree(X, Q, "ball_tree", name, params=PARAMS.get(name))


@pytest.mark.parametrize("name", sorted({*KDTree.valid_metrics} - {"p"}))
def test_kd_tree(name: str) -> None:
    _agree(*_data(name), "kd_tree", name)


@pytest.mark.parametrize("p", [1, 1.5, 3, np.inf])
@pytest.mark.parametrize("method", ["brute", "kd_tree", "ball_tree"])
def test_minkowski(method: str, p: float) -> None:
    X, Q = _data("minkowski")
    _agree(X, Q, method, "minkowski", p=p)
    if method != "kd_tree" and p != np.inf:
        _agree(X, Q, method, "minkowski", p=p, params={"w": np.array([0.5, 0.0, 2.0, 3.0])})


def test_minkowski_below_one_is_no_metric_but_a_distance() -> None:
    X, Q = _data("minkowski")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mind that for 0 < p < 1")
        _agree(X, Q, "brute", "minkowski", p=0.5)


@pytest.mark.parametrize("method", ["brute", "ball_tree"])
def test_a_function_of_the_user(method: str) -> None:
    def distance(x: np.ndarray, y: np.ndarray, power: float = 1.0) -> float:
        return float(np.abs(x - y).max() + power * np.abs(x - y).sum())

    X, Q = _data("euclidean")
    _agree(X[:60], Q[:8], method, distance, params={"power": 0.25})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["euclidean", "l2", "cosine", "manhattan", "l1", "cityblock"])
def test_sparse(name: str) -> None:
    X, Q = oracle.rows("holes", np.random.default_rng(3), 150, 25, 9)
    X[:, 0] += 3
    Q[:, 0] += 3
    _agree(csr_array(X), csr_array(Q), "brute", name)
    _agree(csr_array(X), Q, "brute", name)


@pytest.mark.parametrize("name", ["euclidean", "sqeuclidean", "cosine", "chebyshev"])
def test_many_features_of_float64_and_float32(name: str) -> None:
    X, Q = oracle.rows("normal", np.random.default_rng(4), 2000, 40, 60)
    _agree(X, Q, "brute", name)
    pooled = NearestNeighbors(n_neighbors=4, algorithm="brute", metric=name).fit(X.astype(np.float32))
    expected, _ = pooled.kneighbors(Q.astype(np.float32))
    index = build(X.astype(np.float32), method="brute", metric=Metric(name))
    found = index.query(Q.astype(np.float32), 4, np.arange(2000))
    np.testing.assert_allclose(found.dist, expected, rtol=1e-4 if name == "cosine" else 1e-6)


@pytest.mark.parametrize("name", BOOLEAN)
def test_rows_that_are_not_boolean_are_warned_about(name: str) -> None:
    X, Q = _data(name)
    index = build(X, method="brute", metric=Metric(name))
    with pytest.warns(DataConversionWarning, match=f"converted to boolean for metric {name}"):
        numbers = index.query(Q, 3, np.arange(150))
    truth = build(X > 0, method="brute", metric=Metric(name)).query(Q > 0, 3, np.arange(150))
    assert oracle.same(numbers, truth)


def test_numbers_that_scikit_learn_publishes() -> None:
    """The first three neighbours of the first flower of iris, by scikit-learn 1.9's k-d tree."""
    X = load_iris().data
    for method in ("brute", "kd_tree", "ball_tree", "faiss"):
        dist, row = build(X, method=method, metric=Metric()).query(X[:1], 3, np.arange(150))
        assert row.tolist() == [[0, 17, 4]]
        assert dist == pytest.approx(np.array([[0.0, 0.1, 0.14142136]]), abs=1e-8)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("algorithm", ["auto", "brute", "kd_tree", "ball_tree"])
@pytest.mark.parametrize(
    "name", ["minkowski", "cosine", "canberra", "haversine", "nan_euclidean", "jaccard", "infinity"]
)
def test_the_method_is_the_one_of_the_pooled_fit(name: str, algorithm: str, sparse: bool) -> None:
    for n, d, k in ((7, 2, 3), (8, 2, 3), (60, 2, 30), (60, 2, 29), (60, 15, 3), (60, 16, 3), (60, 4, None), (3, 2, 1)):
        if name == "haversine" and d != 2:
            continue
        for p in (1, 2, 3, 0.5) if name == "minkowski" else (2,):
            X: Any = np.zeros((n, d))
            pooled = NearestNeighbors(n_neighbors=k, algorithm=algorithm, metric=name, p=p)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    expected = pooled.fit(csr_array(X) if sparse else X)._fit_method
                except ValueError as refused:
                    with pytest.raises(ValueError, match=str(refused)[:20].replace("(", ".")):
                        choose_method(n, d, k, algorithm, effective(name, p=p), sparse)
                    continue
                assert choose_method(n, d, k, algorithm, effective(name, p=p), sparse) == expected, (n, d, k, p)


def test_the_method_for_functions_weights_and_precomputed_distances() -> None:
    assert choose_method(100, 3, 5, "auto", effective(lambda x, y: 1.0)) == "ball_tree"
    assert choose_method(100, 30, 5, "auto", effective(lambda x, y: 1.0)) == "brute"
    assert choose_method(100, 3, 5, "auto", effective(metric_params={"w": [1.0, 2.0, 3.0]})) == "ball_tree"
    assert choose_method(100, 100, 5, "auto", effective("precomputed")) == "brute"
    with pytest.raises(ValueError, match="callable"):
        choose_method(100, 3, 5, "kd_tree", effective(lambda x, y: 1.0))


@pytest.mark.parametrize(
    ("metric", "p", "params"),
    [
        ("minkowski", 1, None), ("minkowski", 2, None), ("minkowski", np.inf, None), ("minkowski", 3, None),
        ("minkowski", 2, {"w": np.ones(3)}), ("minkowski", None, {"p": 1}), ("euclidean", 7, None),
        ("seuclidean", 2, {"V": np.ones(3)}), ("minkowski", None, {"p": 4}),
    ],
)  # fmt: skip
def test_effective_metric(metric: str, p: float, params: dict[str, Any] | None) -> None:
    fitted = NearestNeighbors(algorithm="brute", metric=metric, p=p, metric_params=params).fit(np.zeros((9, 3)))
    found = effective(metric, p=p, metric_params=params)
    assert found.name == fitted.effective_metric_
    expected = {name: value for name, value in fitted.effective_metric_params_.items() if value is not None}
    assert found.params.keys() == expected.keys()
    assert all(np.array_equal(found.params[name], value) for name, value in expected.items())


def test_what_is_refused() -> None:
    X = np.zeros((5, 3))
    with pytest.raises(UnknownName, match="did you mean 'kd_tree'"):
        build(X, method="kdtree", metric=Metric())
    with pytest.raises(InvalidData, match="'VI'"):
        build(X, method="brute", metric=Metric("mahalanobis"))
    with pytest.raises(TypeError):
        build(X, method="brute", metric=Metric("seuclidean"))
    with pytest.raises(ValueError, match="Unrecognized metric"):
        build(X, method="brute", metric=Metric("nonsense"))
    for name in ("chebyshev", "sqeuclidean_", "nan_euclidean"):
        with pytest.raises(InvalidData, match="sparse rows"):
            build(csr_array(X), method="brute", metric=Metric(name))
    for method in ("kd_tree", "ball_tree"):
        with pytest.raises(InvalidData, match="sparse"):
            build(csr_array(X), method=method, metric=Metric())
        with pytest.raises(InvalidData, match="sparse queries"):
            build(X, method=method, metric=Metric()).query(csr_array(X), 1, np.arange(5))
    with pytest.raises(InvalidData, match="faiss"):
        build(X, method="faiss", metric=Metric("manhattan"))
    with pytest.raises(InvalidData, match="faiss"):
        build(csr_array(X), method="faiss", metric=Metric())


def test_without_faiss_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtra, match=r"atoll\[faiss\]"):
        build(np.zeros((5, 3)), method="faiss", metric=Metric())


def test_faiss_settings_are_given_back() -> None:
    import faiss

    before = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
    X, Q = oracle.rows("normal", np.random.default_rng(0), 500, 40, 8)
    build(X, method="faiss", metric=Metric()).query(Q, 3, np.arange(500))
    assert (faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold) == before
