"""scikit-learn's trained estimators over nodes: over one node its own fit, over several the methods of averaging."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Perceptron, Ridge, SGDClassifier, SGDRegressor
from sklearn.model_selection import GridSearchCV, cross_validate, train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from atoll import Distributed, Federated, Federation
from atoll.algorithms import fedadam, fedavg, fedper, fedprox, optimizer, own, scaffold, sgd
from atoll.engines.inprocess import InProcess
from atoll.errors import InvalidData, NodeValueError, UnknownName
from cases import data

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, y = data("iris")
Z = StandardScaler().fit_transform(X)
NUMBERS = Z[:, 0] + Z[:, 1] ** 2
NET = MLPClassifier((6,), max_iter=8, random_state=0)
ROWS = SGDClassifier(max_iter=8, random_state=0)


def over(estimator, n_nodes=3, **settings):
    return Distributed(estimator, n_nodes, random_state=0, **settings)


def same(model, pooled, names, rtol=1e-9):
    for name in names:
        got, expected = getattr(model, name), getattr(pooled, name)
        pairs = zip(got, expected, strict=True) if isinstance(expected, list) else [(got, expected)]
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12, err_msg=name)
            assert np.shape(a) == np.shape(b), name


NETS = {
    "adam": {"solver": "adam", "max_iter": 12},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.1, "max_iter": 12},
    "no momentum": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.1, "max_iter": 6},
    "in order": {"solver": "sgd", "shuffle": False, "batch_size": 32, "max_iter": 6},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 1.0, "max_iter": 6},
    "adaptive": {
        "solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.5, "tol": 0.1, "n_iter_no_change": 1,
        "max_iter": 60,
    },
    "ends early": {"solver": "adam", "tol": 1e-2, "n_iter_no_change": 3, "max_iter": 300},
}  # fmt: skip


@pytest.mark.parametrize("case", NETS)
def test_over_one_node_a_perceptron_is_scikit_learns_fit(case):
    """Law 2: the same weights, losses and number of epochs; rounding comes from one division a round."""
    estimator = MLPClassifier((6,), random_state=4, **{"batch_size": 40, **NETS[case]})
    model, pooled = over(estimator, 1).fit(X, y), clone(estimator).fit(X, y)
    assert vars(model._model).keys() == vars(pooled).keys()
    assert (model.n_iter_, model.t_, model.out_activation_) == (pooled.n_iter_, pooled.t_, pooled.out_activation_)
    same(model, pooled, ["coefs_", "intercepts_", "loss_curve_", "loss_", "best_loss_"])
    assert np.array_equal(model.predict(X), pooled.predict(X))


@pytest.mark.parametrize(
    "targets",
    [y > 0, np.array(["c", "a", "b"])[y], (Z[:, :3] > 0).astype(int), np.zeros(150)],
    ids=["binary", "text", "labels", "one class"],
)
def test_over_one_node_all_kinds_of_classes_are_scikit_learns(targets):
    model, pooled = over(NET, 1).fit(X, targets), clone(NET).fit(X, targets)
    same(model, pooled, ["coefs_", "intercepts_"])
    assert np.array_equal(model.classes_, pooled.classes_)
    assert np.array_equal(model.predict(X), pooled.predict(X))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_over_one_node_a_regressor_is_scikit_learns_fit(several, weighted):
    estimator = MLPRegressor(hidden_layer_sizes=(6, 4), max_iter=8, random_state=1)
    targets = Z[:, :2] if several else NUMBERS
    weights = {"sample_weight": np.linspace(1, 9, 150)} if weighted else {}
    model, pooled = over(estimator, 1).fit(Z, targets, **weights), clone(estimator).fit(Z, targets, **weights)
    same(model, pooled, ["coefs_", "intercepts_", "loss_curve_"])
    assert model.predict(Z).shape == targets.shape


def test_scikit_learn_goes_on_from_there():
    model, pooled = over(NET, 1).fit(X, y).estimator_, clone(NET).fit(X, y)
    for _ in range(2):
        model.partial_fit(X, y)
        pooled.partial_fit(X, y)
    same(model, pooled, ["coefs_", "intercepts_", "t_"])


def test_warm_starts_are_scikit_learns():
    estimator = clone(NET).set_params(warm_start=True, max_iter=3)
    model, pooled = over(estimator, 1), clone(estimator)
    for _ in range(2):
        model.fit(X, y)
        pooled.fit(X, y)
    same(model, pooled, ["coefs_", "intercepts_", "loss_curve_", "t_"])
    with pytest.raises(ValueError, match="same classes"):
        model.fit(X, np.where(y == 2, 1, y))
    with pytest.raises(InvalidData, match="same layers"):
        model.set_params(estimator__hidden_layer_sizes=(7,)).fit(X, y)


LINEAR = {
    "hinge": SGDClassifier(),
    "two classes": SGDClassifier(loss="log_loss", class_weight={False: 2.0, True: 0.5}),
    "balanced": SGDClassifier(loss="modified_huber", class_weight="balanced", penalty=None),
    "perceptron": Perceptron(),
    "regressor": SGDRegressor(loss="huber", learning_rate="constant"),
    "passive": SGDRegressor(loss="epsilon_insensitive", learning_rate="pa1", eta0=1.0, penalty=None),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", LINEAR)
def test_over_one_node_rows_in_order_are_scikit_learns_fit(case, weighted):
    estimator = clone(LINEAR[case]).set_params(max_iter=5, tol=None, shuffle=False)
    targets = NUMBERS if isinstance(estimator, SGDRegressor) else y == 1 if case == "two classes" else y
    weights = {"sample_weight": np.linspace(0.5, 2, 150)} if weighted else {}
    model, pooled = over(estimator, 1).fit(Z, targets, **weights), clone(estimator).fit(Z, targets, **weights)
    assert vars(model._model).keys() == vars(pooled).keys()
    same(model, pooled, ["coef_", "intercept_", "n_iter_", "t_"], rtol=1e-7)  # the first steps are as long as 10


def test_nodes_learn_what_the_pooled_rows_teach():
    """Digits on five nodes, shuffled and sorted by label."""
    D, t = load_digits(return_X_y=True)
    A, B, a, b = train_test_split(D / 16, t, random_state=0)
    net = MLPClassifier((30,), solver="sgd", learning_rate_init=0.2, max_iter=40, random_state=0)
    linear = SGDClassifier(loss="log_loss", learning_rate="adaptive", eta0=0.1, max_iter=40, random_state=0)
    for estimator in (net, linear):
        pooled = clone(estimator).fit(A, a).score(B, b)
        for partition, less in (("iid", 0.03), ("label", 0.07)):
            assert over(estimator, 5, partition=partition).fit(A, a).score(B, b) > pooled - less


@pytest.mark.parametrize("estimator", [NET, ROWS], ids=lambda e: type(e).__name__)
def test_sparse_rows_are_dense_rows(estimator):
    """A linear model's intercept learns more slowly from sparse rows, as in scikit-learn; so it has none here."""
    if isinstance(estimator, SGDClassifier):
        estimator = clone(estimator).set_params(fit_intercept=False)
    dense, sparse = (over(estimator).fit(rows, y) for rows in (X, sp.csr_matrix(X)))
    np.testing.assert_allclose(dense.predict(X), sparse.predict(X))
    what = "coefs_" if isinstance(estimator, MLPClassifier) else "coef_"
    np.testing.assert_allclose(getattr(dense, what)[0], getattr(sparse, what)[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("estimator", [NET, ROWS], ids=lambda e: type(e).__name__)
def test_single_precision_stays_single(estimator):
    model = over(estimator).fit(X.astype(np.float32), y)
    assert (model.coefs_ if estimator is NET else model.coef_)[0].dtype == np.float32


def test_weights_count_as_a_node_s_share():
    """Rows of weight zero are rows that are not there, where nodes are told apart by them."""
    node, weights = np.arange(150) % 3, np.where(np.arange(150) % 3 == 2, 0.0, 40.0)
    half = node < 2
    plain = {"local": sgd(lr=0.1, batch_size=None), "rounds": 5}
    all_of_them = Federated(NET, **plain).fit(X, y, node=node, sample_weight=weights)
    two = Federated(NET, **plain).fit(X[half], y[half], node=node[half])
    # scikit-learn's penalty is divided by the sum of the weights
    np.testing.assert_allclose(all_of_them.coefs_[0], two.coefs_[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("estimator", [NET, MLPClassifier((6,), solver="sgd", momentum=0.0, random_state=0), ROWS])
@pytest.mark.parametrize("method", [fedavg(server_lr=0.5), fedadam(), "fedavgm", "trained"], ids=str)
def test_methods_that_act_at_the_server_go_with_own_steps(estimator, method):
    model = over(estimator, method=method, rounds=3).fit(Z, y)
    assert model.n_iter_ == 3
    assert model.run_.rounds == 4


@pytest.mark.parametrize("estimator", [NET, ROWS, SGDRegressor(), MLPRegressor(hidden_layer_sizes=(4,))])
@pytest.mark.parametrize("method", [fedprox(mu=1.0), scaffold(), "fedlin"], ids=str)
def test_methods_that_bend_steps_take_plain_ones(estimator, method):
    targets = NUMBERS if isinstance(estimator, SGDRegressor | MLPRegressor) else y
    plain = over(estimator, local=sgd(lr=0.05, batch_size=20), rounds=3).fit(Z, targets)
    bent = clone(plain).set_params(method=method).fit(Z, targets)
    what = "coef_" if hasattr(plain, "coef_") else "coefs_"
    assert not np.array_equal(getattr(plain, what)[0], getattr(bent, what)[0])
    assert bent.score(Z, targets) > plain.score(Z, targets) - 0.2


def test_a_pull_keeps_nodes_near_the_model_of_all():
    """A strong pull of FedProx, and plain steps without any: the former moves less."""
    free, held = (
        over(NET, method=fedprox(mu=mu), local=sgd(lr=0.05, epochs=10), rounds=1, partition="label").fit(Z, y)
        for mu in (0.0, 10.0)
    )
    first = over(NET, local=sgd(lr=1e-12), rounds=1).fit(Z, y).coefs_[0]
    assert np.linalg.norm(held.coefs_[0] - first) < 0.5 * np.linalg.norm(free.coefs_[0] - first)


def test_more_epochs_in_a_round():
    once, often = (over(NET, local=own(epochs=e), rounds=4).fit(Z, y) for e in (1, 5))
    assert often.loss_ < once.loss_
    assert (often.n_iter_, often.t_) == (4, 4 * 5 * 150)


def test_some_nodes_in_a_round():
    model = over(NET, 5, nodes_per_round=2).fit(Z, y)
    assert [row.asked for row in model.run_] == [5] + [2] * 8


@pytest.mark.parametrize(
    ("estimator", "settings", "said"),
    [
        (MLPClassifier(solver="lbfgs"), {}, "solver='lbfgs' looks at all rows"),
        (SGDRegressor(average=True), {}, "no second, averaged model"),
        (NET, {"method": scaffold()}, "bends or counts plain gradient steps"),
        (ROWS, {"method": fedprox()}, "bends or counts plain gradient steps"),
        (MLPClassifier(solver="sgd"), {"method": scaffold()}, "momentum=0.9"),
        (NET, {"method": fedprox(), "local": own()}, "bends or counts"),
        (NET, {"method": fedper}, "call it: fedper"),
        (NET, {"rounds": 0}, "rounds must be a whole number"),
        (NET, {"rounds": 2.5}, "rounds must be a whole number"),
        (NET, {"nodes_per_round": 4}, "nodes_per_round is a number of nodes"),
        (NET, {"nodes_per_round": 2, "method": "proxskip", "local": sgd()}, "needs every node"),
        (NET, {"local": "sgd"}, "local says what nodes do"),
        (ROWS, {"local": optimizer("Adam")}, "no torch module"),
        (Ridge(), {"rounds": 3}, "Ridge is not trained in rounds"),
        (Ridge(), {"method": fedavg()}, "Ridge is not trained in rounds"),
        (NET, {"method": "vote", "rounds": 3}, "with method='vote'"),
        (make_pipeline(StandardScaler(), Ridge()), {"local": sgd()}, "Pipeline is not trained in rounds"),
    ],
)
def test_what_contradicts_itself_is_refused_before_anybody_is_asked(estimator, settings, said, monkeypatch):
    monkeypatch.setattr(InProcess, "submit", lambda *_: pytest.fail("a node was asked"))
    with pytest.raises(InvalidData, match=said):
        over(estimator, **settings).fit(X, y)


def test_a_method_that_there_is_not():
    with pytest.raises(UnknownName, match="fedavg"):
        over(NET, method="fedavgg").fit(X, y)


@pytest.mark.parametrize("estimator", [NET, ROWS], ids=lambda e: type(e).__name__)
def test_says_that_it_has_not_converged(estimator):
    with pytest.warns(ConvergenceWarning, match="Maximum"):
        over(estimator).fit(Z, y)


@pytest.mark.parametrize("estimator", [NET, ROWS], ids=lambda e: type(e).__name__)
def test_a_node_whose_rows_count_nothing_is_not_asked(estimator):
    model = Federated(estimator, nodes_per_round=1).fit(X, y, node=y, sample_weight=2.0 * (y > 0))
    asked = {d.node for d in model.run_.disclosures() if d.op == "train.local"}
    assert asked == {"1", "2"}


@pytest.mark.parametrize("estimator", [NET, ROWS], ids=lambda e: type(e).__name__)
def test_a_row_a_node(estimator):
    model = Distributed(estimator, 150).fit(Z, y)
    assert model.run_.rows[-1].answered == 150
    assert np.isfinite(model.coefs_[0] if estimator is NET else model.coef_).all()


def test_one_class_is_refused_as_scikit_learn_does():
    with pytest.raises(ValueError, match="has to be greater than one; got 1 class"):
        over(ROWS).fit(X, np.zeros(150))


def test_rows_that_overflow_are_refused_in_scikit_learns_words():
    with pytest.raises(NodeValueError, match=r"Floating-point under-/overflow occurred[\s\S]*node-0"):
        over(SGDClassifier(eta0=1e300, learning_rate="constant")).fit(1e60 * X, y)


def test_a_loss_that_is_no_number_names_the_nodes():
    with pytest.raises(NodeValueError, match=r"no longer a finite number[\s\S]*node-0"), np.errstate(all="ignore"):
        over(MLPRegressor(solver="sgd", learning_rate_init=1e6, max_iter=30)).fit(1e3 * X, 1e6 * NUMBERS)


def test_a_node_that_lacks_classes_just_works():
    model = Federated(make_pipeline(StandardScaler(), clone(NET).set_params(max_iter=60))).fit(X, y, node=y)
    assert np.array_equal(model.classes_, [0, 1, 2])
    assert len(set(model.predict(X))) > 1


def test_a_step_of_a_pipeline_is_trained_as_asked():
    pipe = make_pipeline(StandardScaler(), clone(NET).set_params(max_iter=30))
    model = over(pipe, method=fedadam(server_lr=0.1), rounds=5).fit(X, y)
    assert model.estimator_[-1].n_iter_ == 5
    alone = over(NET, method=fedadam(server_lr=0.1), rounds=5).fit(Z, y)
    np.testing.assert_allclose(model.predict_proba(X), alone.predict_proba(Z), atol=1e-9)


def test_clones_pickles_and_searches():
    pipe = make_pipeline(StandardScaler(), NET)
    model = over(pipe, method=fedprox(mu=0.01), local=sgd(lr=0.1), rounds=3).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
    assert repr(again.method) == "fedprox(mu=0.01, server_lr=1.0)"
    assert np.array_equal(clone(again).fit(X, y).predict_proba(X), model.predict_proba(X))
    search = GridSearchCV(over(pipe), {"method": [fedavg(), fedadam()], "rounds": [1, 20]}, cv=2).fit(X, y)
    assert search.best_params_["rounds"] == 20
    scores = cross_validate(over(pipe, local=sgd(lr=0.5), rounds=20), X, y, cv=3)["test_score"]
    assert scores.min() > 0.8


def test_a_search_within_the_federation_trains_each_candidate_anew(tmp_path):
    """Several trainings in one run: none takes what another saved for its own."""
    sites = Federation.simulate(Z, y, n_nodes=3, journal=tmp_path)
    net = MLPClassifier((6,), solver="sgd", learning_rate_init=0.5, random_state=0)
    found = sites.search(net, {"max_iter": [1, 40]}, cv=2)
    again = Federation.simulate(Z, y, n_nodes=3, journal=tmp_path).search(net, {"max_iter": [1, 40]}, cv=2)
    scores = found.cv_results_["mean_test_score"]
    assert scores[1] > scores[0] + 0.1
    assert np.array_equal(scores, again.cv_results_["mean_test_score"])


def test_the_seed_of_the_estimator_is_the_seed_of_the_training():
    one, same_seed, other = (over(ROWS.set_params(random_state=s)).fit(X, y).coef_ for s in (1, 1, 2))
    assert np.array_equal(one, same_seed)
    assert not np.array_equal(one, other)
