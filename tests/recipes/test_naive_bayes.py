"""Naive Bayes over nodes: every parameter and edge against the fit on the pooled rows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB

from atoll import Distributed, Federated, Federation
from atoll.errors import NodeValueError
from laws import attributes

COUNTING = [MultinomialNB, ComplementNB, BernoulliNB, CategoricalNB]
NODES = {
    "one node": lambda y: np.zeros(len(y), dtype=int),
    "a class each": lambda y: np.unique(y, return_inverse=True)[1],
    "a node of one row": lambda y: (np.arange(len(y)) == 3).astype(int),
    "three": lambda y: np.arange(len(y)) % 3,
}


def rows(seed=0, n=90, d=6, n_classes=3):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    X, y = rng.integers(0, 5, size=(n, d)).astype(float), rng.integers(0, n_classes, size=n)
    X[:, 0] = X[:, 0] * (y + 1)
    X[:, -1] = 2.0
    return X, y, rng.random(n) * (rng.random(n) > 0.2)


def both(estimator, X, y, node, sample_weight=None):
    """Fitted over nodes, and on the pooled rows."""
    weight = {} if sample_weight is None else {"sample_weight": sample_weight}
    over = Federated(clone(estimator)).fit(X, y, node=np.array([f"node-{i}" for i in node]), **weight)
    return over, clone(estimator).fit(X, y, **weight)


def assert_same(over, pooled, rtol=1e-12, atol=1e-13):
    model = over.estimator_
    assert type(model) is type(pooled)
    assert set(vars(model)) == set(vars(pooled))
    got, expected = attributes(model), attributes(pooled)
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert (got[name].shape, got[name].dtype) == (array.shape, array.dtype), name
        np.testing.assert_allclose(got[name], array, rtol=rtol, atol=atol, err_msg=name)
    assert model.classes_.tolist() == pooled.classes_.tolist()
    assert model.classes_.dtype == pooled.classes_.dtype


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("split", NODES.values(), ids=NODES)
@pytest.mark.parametrize("kind", [*COUNTING, GaussianNB])
def test_pooled_over_any_nodes(kind, split, weighted):
    X, y, weight = rows()
    over, pooled = both(kind(), X, y, split(y), weight if weighted else None)
    assert_same(over, pooled)
    np.testing.assert_allclose(over.predict_proba(X), pooled.predict_proba(X), rtol=1e-10)
    np.testing.assert_allclose(over.predict_joint_log_proba(X), pooled.predict_joint_log_proba(X), rtol=1e-10)


@pytest.mark.parametrize(
    "parameters",
    [
        {"alpha": 0.25},
        {"alpha": np.linspace(0.1, 1, 6)},
        {"fit_prior": False},
        {"class_prior": [0.2, 0.3, 0.5]},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", COUNTING)
def test_smoothing_and_priors(kind, parameters):
    if kind in (BernoulliNB, CategoricalNB) and np.ndim(parameters.get("alpha", 0)):
        pytest.skip("scikit-learn's takes one alpha, or as many as there are classes")
    X, y, weight = rows(1)
    assert_same(*both(kind(**parameters), X, y, NODES["three"](y), weight))


@pytest.mark.parametrize("kind", COUNTING)
def test_a_smoothing_too_small_is_raised_with_a_warning(kind):
    X, y, _ = rows(2)
    with pytest.warns(UserWarning, match="alpha too small") as told:
        assert_same(*both(kind(alpha=0, force_alpha=False), X, y, NODES["three"](y)))
    assert len(told) == 2, "one from each fit"


@pytest.mark.parametrize("kind", [MultinomialNB, CategoricalNB])
def test_without_smoothing_numpy_warns_alike(kind):
    X, y, _ = rows(2)
    X[y == 1, 1] = 0.0
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        over, pooled = both(kind(alpha=0), X, y, NODES["three"](y))
    assert_same(over, pooled)


def test_a_smoothing_for_other_columns_is_refused():
    X, y, _ = rows(3)
    for fit in (MultinomialNB(alpha=[1.0, 2.0]).fit, Distributed(MultinomialNB(alpha=[1.0, 2.0])).fit):
        with pytest.raises(ValueError, match=r"should contains `n_features`\. Got 2 elements"):
            fit(X, y)


def test_complement_with_a_second_normalisation():
    X, y, weight = rows(4)
    assert_same(*both(ComplementNB(norm=True), X, y, NODES["a class each"](y), weight))


@pytest.mark.parametrize("threshold", [None, 0.0, 1.5])
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
def test_thresholds(threshold, layout):
    X, y, weight = rows(5)
    X = (X > 2).astype(float) if threshold is None else X
    assert_same(*both(BernoulliNB(binarize=threshold), layout(X), y, NODES["three"](y), weight))


@pytest.mark.parametrize("kind", [MultinomialNB, ComplementNB, BernoulliNB])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_sparse_rows(kind, dtype):
    X, y, weight = rows(6)
    X = sp.csr_matrix(X.astype(dtype) * (np.random.default_rng(6).random(X.shape) < 0.3))
    for w in (None, weight):
        over, pooled = both(kind(), X, y, NODES["three"](y), w)
        assert_same(over, pooled)
        np.testing.assert_allclose(over.predict_proba(X), pooled.predict_proba(X), rtol=1e-10)


@pytest.mark.parametrize("kind", [*COUNTING, GaussianNB])
def test_single_precision(kind):
    X, y, weight = rows(7)
    over, pooled = both(kind(), X.astype(np.float32), y, NODES["three"](y), weight)
    assert_same(over, pooled, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [*COUNTING, GaussianNB])
def test_one_class(kind):
    X, _, weight = rows(8)
    y = np.full(len(X), "only")
    for w in (None, weight):
        over, pooled = both(kind(), X, y, NODES["three"](y), w)
        assert_same(over, pooled)
        assert (over.predict(X) == "only").all()


@pytest.mark.parametrize("labels", [np.array(["b", "a", "c"]), np.array(["b", "a", "c"], dtype=object)], ids=["U", "O"])
@pytest.mark.parametrize("kind", [*COUNTING, GaussianNB])
def test_labels_that_are_text(kind, labels):
    X, y, _ = rows(9)
    over, pooled = both(kind(), X, labels[y], NODES["a class each"](y))
    assert_same(over, pooled)
    assert over.predict(X).tolist() == pooled.predict(X).tolist()


@pytest.mark.parametrize("kind", [MultinomialNB, ComplementNB, CategoricalNB])
def test_negative_values_are_refused(kind):
    X, y, _ = rows(10)
    X[17, 2] = -3.0
    words = f"Negative values in data passed to {kind.__name__} \\(input X\\)"
    with pytest.raises(ValueError, match=words):
        kind().fit(X, y)
    with pytest.raises(ValueError, match=words) as refused:
        both(kind(), X, y, NODES["three"](y))
    assert isinstance(refused.value, NodeValueError) == (kind is not CategoricalNB)


@pytest.mark.parametrize("least", [15, [6, 1, 11, 6, 6, 7]], ids=str)
def test_categories_that_may_come_later(least):
    X, y, weight = rows(11, n_classes=2)
    over, pooled = both(CategoricalNB(min_categories=least), X, y, NODES["three"](y), weight)
    assert_same(over, pooled)
    assert over.n_categories_.max() > X.max() + 1


@pytest.mark.parametrize(
    ("least", "words"), [([[2] * 6], "should have shape"), ([2.5] * 6, "should have integral type")]
)
def test_categories_that_do_not_fit_are_refused(least, words):
    X, y, _ = rows(12)
    for fit in (CategoricalNB(min_categories=least).fit, Distributed(CategoricalNB(min_categories=least)).fit):
        with pytest.raises(ValueError, match=words):
            fit(X, y)


def test_categories_are_whole_numbers_as_scikit_learn_cuts_them():
    X, y, _ = rows(13)
    assert_same(*both(CategoricalNB(), X + np.random.default_rng(13).random(X.shape) * 0.9, y, NODES["three"](y)))
    X[0, 0] = -0.5
    assert_same(*both(CategoricalNB(), X, y, NODES["three"](y)))


@pytest.mark.parametrize("kind", COUNTING)
def test_priors_for_other_classes_are_refused(kind):
    X, y, _ = rows(14)
    with pytest.raises(ValueError, match="Number of priors must match number of classes"):
        Distributed(kind(class_prior=[0.5, 0.5])).fit(X, y)


def test_counts_are_exact():
    """Whole numbers up to 2**53 are added without rounding, over any number of nodes and pieces."""
    rng = np.random.default_rng(15)
    X, y = rng.integers(0, 2**22, size=(40_000, 5)), rng.integers(0, 3, size=40_000)
    for n_nodes in (1, 3):
        over = Distributed(MultinomialNB(), n_nodes=n_nodes).fit(X, y)
        assert (over.feature_count_ == np.stack([X[y == c].sum(axis=0) for c in range(3)])).all()
        assert (over.class_count_ == np.bincount(y)).all()


@pytest.mark.parametrize("priors", [None, [0.2, 0.3, 0.5]], ids=["counted", "given"])
def test_gaussian_priors_and_smoothing(priors):
    X, y, weight = rows(16)
    for w in (None, weight):
        assert_same(*both(GaussianNB(priors=priors, var_smoothing=1e-3), X, y, NODES["three"](y), w))


@pytest.mark.parametrize(
    ("priors", "words"),
    [
        ([0.5, 0.5], "Number of priors must match number of classes."),
        ([0.5, 0.5, 0.5], "The sum of the priors should be 1."),
        ([-0.5, 0.5, 1.0], "Priors must be non-negative."),
    ],
)
def test_gaussian_priors_that_do_not_fit_are_refused_before_any_statistic(priors, words):
    X, y, _ = rows(17)
    with pytest.raises(ValueError, match=words):
        GaussianNB(priors=priors).fit(X, y)
    sites = Federation.simulate(X, y, n_nodes=3)
    with pytest.raises(ValueError, match=words):
        Federated(GaussianNB(priors=priors)).fit(sites)


def test_the_smoothing_of_variances_looks_at_rows_of_weight_zero_too():
    """As scikit-learn's: `epsilon_` is a share of the variance of all rows, whatever their weights."""
    X, y, weight = rows(18)
    X[weight == 0] += 1e3
    over, pooled = both(GaussianNB(), X, y, NODES["three"](y), weight)
    assert_same(over, pooled, rtol=1e-11)
    assert over.epsilon_ > 1e-4


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_a_class_without_weight():
    X, y, weight = rows(19)
    weight[y == 1] = 0.0
    over, pooled = both(GaussianNB(), X, y, NODES["a class each"](y), weight)
    assert_same(over, pooled)
    assert over.theta_[1].tolist() == [0.0] * 6
    for kind in COUNTING:
        assert_same(*both(kind(), X, y, NODES["three"](y), weight))


def test_means_far_from_zero():
    rng = np.random.default_rng(20)
    X, y = rng.normal(size=(90_000, 4)), rng.integers(0, 3, size=90_000)  # nodes answer in pieces
    X += 1e8 + y[:, None]
    over = Distributed(GaussianNB(var_smoothing=0), n_nodes=2).fit(X, y)
    exact = np.stack([(X[y == c] - 1e8).var(axis=0) for c in range(3)])
    np.testing.assert_allclose(over.var_, exact, rtol=1e-9)
    pooled = GaussianNB(var_smoothing=0).fit(X, y)
    np.testing.assert_allclose(over.theta_, pooled.theta_, rtol=1e-14)


def test_classes_far_from_each_other():
    """Each class is centred by itself: the spread of one is not drowned by its distance from another."""
    rng = np.random.default_rng(21)
    X, y = rng.normal(size=(9_000, 3)), rng.integers(0, 3, size=9_000)
    X += np.array([0.0, 1e8, -1e8])[y][:, None]
    over = Distributed(GaussianNB(var_smoothing=0), n_nodes=4).fit(X, y)
    np.testing.assert_allclose(over.var_, GaussianNB(var_smoothing=0).fit(X, y).var_, rtol=1e-9)


def test_an_outlier_of_little_weight_costs_no_digits():
    rng = np.random.default_rng(22)
    X, y, weight = rng.normal(size=(600, 3)), rng.integers(0, 2, size=600), rng.random(600)
    first = np.array([np.flatnonzero(y == c)[0] for c in range(2)])
    X[first], weight[first] = 1e9, [0.0, 1e-300]
    over, pooled = both(GaussianNB(var_smoothing=0), X, y, NODES["one node"](y), weight)
    np.testing.assert_allclose(over.var_, pooled.var_, rtol=1e-12)


def test_a_constant_feature_has_no_spread_at_all():
    X, y, _ = rows(23)
    X[:, 1] = 0.1
    over = Distributed(GaussianNB(), n_nodes=4, partition="label").fit(X, y)
    assert (over.var_[:, [1, 5]] == over.epsilon_).all()
    assert (over.theta_[:, 1] == 0.1).all()


def test_data_frames_and_their_names():
    pd = pytest.importorskip("pandas")
    X, y, _ = rows(24)
    frame = pd.DataFrame(X, columns=list("abcdef"))
    for kind in (*COUNTING, GaussianNB):
        over, pooled = Distributed(kind()).fit(frame, y), kind().fit(frame, y)
        assert_same(over, pooled)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert (over.predict(frame) == pooled.predict(frame)).all()


@pytest.mark.parametrize("kind", [GaussianNB, CategoricalNB])
def test_sparse_rows_are_refused_where_scikit_learn_refuses_them(kind):
    X, y, _ = rows(25)
    for fit in (kind().fit, Distributed(kind()).fit):
        with pytest.raises(TypeError, match="Sparse data was passed"):
            fit(sp.csr_matrix(X), y)


def test_what_leaves_a_node_does_not_grow_with_its_rows():
    for kind in (*COUNTING, GaussianNB):
        few, many = (Distributed(kind(), n_nodes=2).fit(*rows(26, n=n)[:2]).run_.bytes_up for n in (200, 2000))
        assert few == many
