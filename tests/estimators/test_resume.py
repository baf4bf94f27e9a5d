"""`resume=` of the wrappers: a fit that goes on from a checkpoint is the fit that never ended."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, Perceptron, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from atoll import Distributed, Federated, Federation
from atoll.algorithms import fedavgm, scaffold, sgd
from atoll.errors import InvalidData
from atoll.training import checkpoint

pytest.importorskip("safetensors")
X, Y = load_iris(return_X_y=True)
STEPS = sgd(lr=0.05, batch_size=10)
pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer", "ignore:Maximum number of iteration")


def numbers(fitted):
    last = fitted[-1] if hasattr(fitted, "steps") else fitted
    own = vars(last)
    arrays = [own[name] for name in ("coefs_", "intercepts_", "coef_", "intercept_") if name in own]
    return np.concatenate([np.ravel(a) for each in arrays for a in (each if isinstance(each, list) else [each])])


CASES = {
    "mlp": (MLPClassifier((6,), max_iter=9, random_state=1), {}),
    "mlp, sgd": (MLPClassifier((6,), max_iter=9, solver="sgd", learning_rate="adaptive", tol=1.0, random_state=1), {}),
    "mlp of numbers": (MLPRegressor(hidden_layer_sizes=(6,), max_iter=9, random_state=1), {}),
    "linear": (SGDClassifier(max_iter=9, tol=None, random_state=1), {}),
    "linear, adaptive": (SGDRegressor(max_iter=9, eta0=0.01, learning_rate="adaptive", tol=10.0, random_state=1), {}),
    "perceptron": (Perceptron(max_iter=9, tol=None, random_state=1), {}),
    "at the server": (MLPClassifier((6,), random_state=1), {"method": fedavgm(), "local": STEPS, "rounds": 9}),
    "one at a time": (MLPClassifier((6,), random_state=1), {"rounds": 9, "nodes_per_round": 1, "random_state": 5}),
    "balanced": (MLPClassifier((6,), max_iter=9, random_state=1), {"balance": "reweight"}),
    "in a pipeline": (make_pipeline(StandardScaler(), MLPClassifier((6,), max_iter=9, random_state=1)), {}),
}


@pytest.mark.parametrize("n_nodes", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_it_goes_on_with_the_same_bits(case, n_nodes, tmp_path):
    estimator, how = CASES[case]
    whole = Distributed(estimator, n_nodes, callbacks=[checkpoint(tmp_path, keep=None)], **how).fit(X, Y)
    half = tmp_path / "round-00004.safetensors"
    rest = Distributed(estimator, n_nodes, resume=half, **how).fit(X, Y)
    assert numbers(rest.estimator_).tobytes() == numbers(whole.estimator_).tobytes()
    assert rest.run_.notes[:2] == ["goes on after round 4", *whole.run_.notes[:1]]
    assert [row.round for row in rest.run_.training] == [row.round for row in whole.run_.training][4:]
    if n_nodes > 1 and case.startswith("mlp"):
        assert rest.estimator_.loss_curve_ == whole.estimator_.loss_curve_
        assert rest.estimator_.n_iter_ == whole.estimator_.n_iter_


def test_from_a_folder_over_a_federation_in_workers(tmp_path):
    net = MLPClassifier((6,), random_state=1)
    sites = Federation.simulate(X, Y, n_nodes=4, partition="label", random_state=2)
    Federated(net, rounds=3, callbacks=[checkpoint(tmp_path)]).fit(sites)
    there = Federation.simulate(
        X, Y, n_nodes=4, partition="label", random_state=2, topology="tree", engine="processes", n_workers=2
    )
    rest, whole = Federated(net, rounds=6, resume=tmp_path).fit(there), Federated(net, rounds=6).fit(sites)
    assert numbers(rest.estimator_).tobytes() == numbers(whole.estimator_).tobytes()


def test_a_skorch_net_goes_on(tmp_path):
    skorch = pytest.importorskip("skorch")
    torch = pytest.importorskip("torch")
    net = skorch.NeuralNetClassifier(
        torch.nn.Linear, module__in_features=4, module__out_features=3, criterion=torch.nn.CrossEntropyLoss,
        max_epochs=6, lr=0.05, verbose=0, train_split=None,
    )  # fmt: skip
    x = X.astype(np.float32)
    whole = Distributed(net, 3, callbacks=[checkpoint(tmp_path, keep=None)]).fit(x, Y)
    rest = Distributed(net, 3, resume=tmp_path / "round-00002.safetensors").fit(x, Y)
    assert rest.estimator_.predict_proba(x).tobytes() == whole.estimator_.predict_proba(x).tobytes()
    assert len(rest.estimator_.history) == 6


def test_what_is_other_than_it_was_is_noted(tmp_path):
    net = MLPClassifier((6,), random_state=1)
    Distributed(net, 3, rounds=2, callbacks=[checkpoint(tmp_path)]).fit(X, Y)
    rest = Distributed(net, 2, rounds=3, resume=tmp_path).fit(X, Y)
    assert "nodes was 3" in rest.run_.notes


@pytest.mark.parametrize(
    ("estimator", "how", "said"),
    [
        (MLPClassifier((7,)), {}, "another shape"),
        (MLPClassifier((6,)), {"random_state": 4}, "(?s)with its seed.*random_state=0"),
        (MLPClassifier((6,)), {"rounds": 1}, "later round"),
        (MLPClassifier((6,)), {"method": fedavgm()}, "another method"),
        (MLPClassifier((6,)), {"topology": "ring"}, "a checkpoint has what a server knows"),
        (MLPClassifier((6,), early_stopping=True), {}, "scores of held back rows"),
        (MLPClassifier((6,)), {"resume": "nowhere"}, "there is no checkpoint"),
        (SGDClassifier(), {}, "another model"),
        (LinearRegression(), {}, "is not trained in rounds"),
        (CalibratedClassifierCV(MLPClassifier((6,))), {}, "several, or one of a part"),
    ],
    ids=["shape", "seed", "rounds", "method", "ring", "held", "nowhere", "model", "exact", "folds"],
)
def test_what_does_not_go_on_is_refused(tmp_path, estimator, how, said):
    Distributed(MLPClassifier((6,)), 3, rounds=2, callbacks=[checkpoint(tmp_path)]).fit(X, Y)
    with pytest.raises(InvalidData, match=said):
        Distributed(estimator, 3, **{"resume": tmp_path, **how}).fit(X, Y)


def test_where_nodes_keep_something_a_journal_goes_on(tmp_path):
    how = {"method": scaffold(), "local": STEPS, "rounds": 2}
    Distributed(MLPClassifier((6,)), 3, callbacks=[checkpoint(tmp_path)], **how).fit(X, Y)
    with pytest.raises(InvalidData, match="give the federation a journal"):
        Distributed(MLPClassifier((6,)), 3, resume=tmp_path, **how).fit(X, Y)


def test_the_conventions_of_scikit_learn(tmp_path):
    model = Distributed(MLPClassifier(), resume=tmp_path)
    assert clone(model).resume == model.get_params()["resume"] == tmp_path
    assert pickle.loads(pickle.dumps(Federated(MLPClassifier(), resume="folder"))).resume == "folder"
