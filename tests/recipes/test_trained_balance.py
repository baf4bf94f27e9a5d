"""Unequal classes and callbacks under the wrappers: scikit-learn's perceptrons and linear models, and skorch nets."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from atoll import Distributed, Federated, Federation
from atoll.algorithms import fedprox, sgd
from atoll.engines.inprocess import InProcess
from atoll.errors import AtollError, InvalidData, UnknownName
from atoll.topology import gossip
from atoll.training import checkpoint, early_stopping
from cases import data

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, y = data("iris")
Z = StandardScaler().fit_transform(X)
FEW = np.r_[0:50, 50:60, 100:106]  # the second and third class are rare, and overlap
A, B = Z[FEW], y[FEW]
NET = MLPClassifier((6,), learning_rate_init=0.02, max_iter=40, random_state=0)
ROWS = SGDClassifier(loss="log_loss", max_iter=30, random_state=0)
STEADY = clone(ROWS).set_params(learning_rate="constant", eta0=0.02)
WEIGHTS = compute_class_weight("balanced", classes=np.arange(3), y=B)[B]


RNG = np.random.default_rng(0)
RARE = (RNG.random(600) < 0.06).astype(int)
R = RNG.standard_normal((600, 2)) + 1.5 * RARE[:, None]


def recalls(model, rows=R):
    said = model.predict(rows)
    return [float((said[c == RARE] == c).mean()) for c in (0, 1)]


class TestBalance:
    @pytest.mark.parametrize("kind", ["reweight", "logits", "sampler"])
    @pytest.mark.parametrize("estimator", [NET, STEADY], ids=["net", "linear"])
    def test_rare_classes_are_found(self, estimator, kind):
        plain = Distributed(estimator, 3, random_state=0).fit(R, RARE)
        answered = clone(plain).set_params(balance=kind).fit(R, RARE)
        assert recalls(plain)[1] < 0.55
        assert min(recalls(answered)) > 0.75
        assert "describe.labels" in {row.op for row in answered.run_.rows}

    @pytest.mark.parametrize("local", [None, sgd(lr=0.1, batch_size=None)], ids=["own steps", "plain steps"])
    def test_a_net_s_weights_are_those_of_rows_over_a_whole_batch(self, local):
        """They sum to the rows in all, so over all rows at once scikit-learn's weights of rows do the same."""
        estimator = clone(NET).set_params(batch_size=len(B), solver="sgd")
        settings = {"rounds": 5, "local": local, "random_state": 0}
        by_class = Distributed(estimator, 1, balance="reweight", **settings).fit(A, B)
        by_row = Distributed(estimator, 1, **settings).fit(A, B, sample_weight=WEIGHTS)
        for a, b in zip(by_class.coefs_, by_row.coefs_, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)

    def test_a_mean_over_weighted_rows_divides_by_the_weights_of_rows_alone(self):
        """One step, with weights of rows besides: scikit-learn divides by the products, and moves by that less."""
        own = np.linspace(1, 2, len(B))

        def moved(weights, rate, **settings):
            model = Distributed(NET, 1, rounds=1, local=sgd(lr=rate, batch_size=None), random_state=0, **settings)
            return model.fit(A, B, sample_weight=weights).coefs_[0]

        start = moved(own, 1e-12)
        by_class, by_row = moved(own, 0.1, balance="reweight"), moved(own * WEIGHTS, 0.1)
        scale = (own * WEIGHTS).sum() / own.sum()
        assert abs(scale - 1) > 0.05
        np.testing.assert_allclose(by_class - start, scale * (by_row - start), rtol=1e-6, atol=1e-9)

    def test_a_linear_model_s_weights_are_those_of_rows(self):
        estimator = clone(ROWS).set_params(shuffle=False, tol=None, max_iter=5)
        model = Distributed(estimator, 1, balance="reweight").fit(A, B)
        pooled = clone(estimator).fit(A, B, sample_weight=WEIGHTS)
        np.testing.assert_allclose(model.coef_, pooled.coef_, rtol=1e-7)
        np.testing.assert_allclose(model.intercept_, pooled.intercept_, rtol=1e-7)

    @pytest.mark.parametrize("targets", [B, B > 0], ids=["several", "two"])
    def test_adjusted_logits_shift_a_linear_model_s_intercepts(self, targets):
        """Steps see the intercepts with the log odds of the classes on top: scikit-learn's, from there."""
        estimator = clone(ROWS).set_params(shuffle=False, tol=None, max_iter=1)
        model = Distributed(estimator, 1, balance="logits").fit(A, targets)
        share = np.bincount(targets.astype(int)) / len(targets)
        odds = np.log(share / (1 - share))[0 if targets is B else 1 :]
        pooled = clone(estimator).fit(A, targets, coef_init=np.zeros((len(odds), 4)), intercept_init=odds.copy())
        np.testing.assert_allclose(model.coef_, pooled.coef_, rtol=1e-7)
        np.testing.assert_allclose(model.intercept_, pooled.intercept_ - odds, rtol=1e-7)

    @pytest.mark.parametrize("targets", [B, B > 0], ids=["several", "two"])
    def test_adjusted_logits_shift_a_net_s_last_intercepts(self, targets):
        estimator = clone(NET).set_params(shuffle=False, max_iter=1, solver="sgd", momentum=0.0, batch_size=20)
        model = Distributed(estimator, 1, balance="logits").fit(A, targets)
        counts = np.bincount(targets.astype(int))
        shift = np.log(counts / len(targets)) if targets is B else np.log(counts[1:] / counts[0])
        pooled = clone(estimator).set_params(warm_start=True, learning_rate_init=1e-12).fit(A, targets)
        pooled.set_params(learning_rate_init=estimator.learning_rate_init)
        pooled.intercepts_[-1] = pooled.intercepts_[-1] + shift
        pooled.fit(A, targets)
        for a, b in zip(model.coefs_, pooled.coefs_, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(model.intercepts_[-1], pooled.intercepts_[-1] - shift, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("method", ["scaffold", "ditto", fedprox(mu=0.1)], ids=str)
    def test_with_methods_that_bend_steps(self, method):
        local = sgd(lr=0.2, batch_size=5)
        model = Distributed(NET, 3, method=method, local=local, rounds=10, balance="reweight", random_state=0)
        model.fit(R, RARE)
        assert min(recalls(model)) > 0.7

    def test_round_a_ring_and_in_processes_it_is_the_same(self):
        star, again = (
            Distributed(NET, 3, balance="sampler", rounds=4, random_state=0, engine=engine).fit(A, B)
            for engine in ("inprocess", "processes")
        )
        ring = Distributed(NET, 3, balance="sampler", rounds=4, random_state=0, topology="ring").fit(A, B)
        np.testing.assert_array_equal(star.coefs_[0], again.coefs_[0])
        np.testing.assert_allclose(star.coefs_[0], ring.coefs_[0], rtol=1e-9)

    def test_with_rows_held_back_and_in_a_pipeline(self):
        pipe = make_pipeline(StandardScaler(), clone(NET).set_params(early_stopping=True))
        assert Distributed(pipe, 2, balance="reweight", random_state=0).fit(X[FEW], B).score(X[FEW], B) > 0.7

    @pytest.mark.parametrize(
        ("estimator", "settings", "said"),
        [
            (NET, {"balance": "smote"}, "unknown answer to unequal classes"),
            (MLPRegressor(), {"balance": "reweight"}, "MLPRegressor knows none"),
            (SGDRegressor(), {"balance": "reweight"}, "SGDRegressor knows none"),
            (SGDClassifier(), {"balance": "logits"}, "has 'hinge'"),
            (Ridge(), {"balance": "logits"}, "Ridge is not trained in rounds"),
            (NET, {"balance": "logits", "topology": gossip("ring")}, "is for training with a server"),
            (NET, {"callbacks": ["no function"]}, "called after every round"),
            (NET, {"callbacks": print}, "callbacks are several"),
        ],
        ids=["unknown", "regressor", "linear regressor", "hinge", "exact", "gossip", "text", "one"],
    )
    def test_what_contradicts_itself_is_refused_before_anybody_is_asked(self, estimator, settings, said, monkeypatch):
        monkeypatch.setattr(InProcess, "submit", lambda *_: pytest.fail("a node was asked"))
        with pytest.raises((InvalidData, UnknownName), match=said):
            Distributed(estimator, 3, **settings).fit(A, B)

    def test_several_labels_are_refused(self):
        with pytest.raises(InvalidData, match="several labels"):
            Distributed(NET, 2, balance="reweight").fit(Z, (Z[:, :3] > 0).astype(int))


class TestNets:
    """skorch nets; `atoll.train` and its losses."""

    torch = pytest.importorskip("torch")
    skorch = pytest.importorskip("skorch")

    def net(self, criterion, *last, columns=4):
        self.torch.manual_seed(0)
        module = self.torch.nn.Sequential(self.torch.nn.Linear(columns, 3), *last)
        return self.skorch.NeuralNetClassifier(
            module, criterion=criterion, lr=0.2, batch_size=8, max_epochs=20, iterator_train__shuffle=True, verbose=0
        )

    @pytest.mark.parametrize("kind", ["reweight", "logits", "sampler"])
    def test_rare_classes_are_found(self, kind):
        net, rows = self.net(self.torch.nn.CrossEntropyLoss, columns=2), R.astype(np.float32)
        plain = Distributed(net, 3, random_state=0).fit(rows, RARE)
        answered = clone(plain).set_params(balance=kind).fit(rows, RARE)
        assert recalls(plain, rows)[1] < 0.55
        assert min(recalls(answered, rows)) > 0.75

    def test_a_loss_of_probabilities_has_no_logits(self):
        net = self.net(self.torch.nn.NLLLoss, self.torch.nn.Softmax(dim=1))
        with pytest.raises(InvalidData, match="adjusted before a softmax"):
            Distributed(net, 2, balance="logits").fit(A.astype(np.float32), B)
        assert Distributed(net, 2, balance="reweight").fit(A.astype(np.float32), B).run_.rounds > 20

    def test_a_loss_of_shares_is_not_weighted_by_class(self):
        from atoll import train

        sites = Federation.simulate(A.astype(np.float32), (B > 0).astype(int), n_nodes=2)
        with pytest.raises(AtollError, match="BCEWithLogitsLoss takes shares"):
            train(self.torch.nn.Linear(4, 1), self.torch.nn.BCEWithLogitsLoss(), sites, balance="reweight")

    def test_callbacks_are_called(self):
        seen = []
        net = self.net(self.torch.nn.CrossEntropyLoss)
        fitted = Distributed(net, 2, callbacks=[lambda t: seen.append(t.step) or t.step == 4]).fit(
            A.astype(np.float32), B
        )
        assert seen == [1, 2, 3, 4]
        assert len(fitted.estimator_.history) == 4


class TestCallbacks:
    @pytest.mark.parametrize("estimator", [NET, ROWS], ids=["net", "linear"])
    def test_they_see_every_round_and_may_end_it(self, estimator):
        seen = []

        def third(trained):
            seen.append((trained.step, len(trained.losses), trained.run.estimator))
            return trained.step == 3

        model = Distributed(estimator, 3, callbacks=[third]).fit(A, B)
        assert [s[:2] for s in seen] == [(1, 1), (2, 2), (3, 3)]
        assert seen[0][2] == type(estimator).__name__
        assert model.n_iter_ == 3

    def test_those_of_atoll_training(self, tmp_path):
        pytest.importorskip("safetensors")
        stop = early_stopping(patience=3, min_delta=0.05)
        model = Federated(NET, callbacks=[stop, checkpoint(tmp_path, keep=None)]).fit(A, B, node=np.arange(66) % 3)
        assert 3 < model.n_iter_ < 40
        assert len(list(tmp_path.glob("round-*.safetensors"))) == model.n_iter_

    def test_the_conventions_of_scikit_learn(self):
        model = Distributed(NET, 2, balance="reweight", callbacks=[print])
        assert model.get_params(deep=False)["callbacks"] == [print]
        assert clone(model).callbacks == [print]
        assert clone(model).balance == "reweight"
        assert "balance='reweight'" in repr(model)
        fitted = pickle.loads(pickle.dumps(Distributed(NET, 2, balance="logits", rounds=2).fit(A, B)))
        assert fitted.balance == "logits"
