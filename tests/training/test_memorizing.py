"""kNN-Per: FedAvg with a memory of each node's own rows beside it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import SGDRegressor
from sklearn.neural_network import MLPRegressor

from atoll import Distributed, Federation, train
from atoll.algorithms import fedavg, knn_per, sgd
from atoll.algorithms.memorizing import _apart, _best_share, _labels, _probabilities, _votes
from atoll.context import Ctx
from atoll.engines.inprocess import InProcess
from atoll.errors import InvalidData, NodeValueError
from atoll.operations.training import SETTLED
from training.softmax import Softmax, trained

LOCAL = sgd(lr=0.2, epochs=1, batch_size=16)


def blobs(n: int, turned: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three clusters of rows in the plane; their labels are turned round, from node to node."""
    rng = np.random.default_rng(seed)
    which = rng.integers(3, size=n)
    X = np.array([[0, 3], [3, -2], [-3, -2]])[which] + 0.5 * rng.standard_normal((n, 2))
    return X, ((which + turned) % 3).astype(float)


def sites(n: int = 60) -> Federation:
    return Federation.from_shards([blobs(n, i, i) for i in range(3)], names=["a", "b", "c"])


def kept(run, node):
    engine, key = run.link.live()
    return engine._attached[key][1].read(node, run._state.base[node])[SETTLED]


def test_training_is_that_of_fedavg_and_as_fast():
    one, other = (trained(sites(), a, LOCAL, 3, 3)[0] for a in (fedavg(), knn_per()))
    assert np.array_equal(one.model.w, other.model.w)
    assert knn_per().plain


def test_without_a_share_it_is_fedavg():
    one, other = (trained(sites(), a, LOCAL, 3, 3)[0] for a in (fedavg(), knn_per(share=0)))
    assert other.judge(True).loss == pytest.approx(one.judge(False).loss, rel=1e-12)
    assert other.judge(True).accuracy == one.judge(False).accuracy


def test_where_labels_mean_different_things_memory_helps_every_node():
    done, run = trained(sites(), knn_per(), LOCAL, 5, 3)
    assert done.judge(False).accuracy < 0.5
    assert done.judge(True).accuracy > 0.95
    assert min(kept(run, node)["share"][0] for node in range(3)) > 0.4


def test_what_a_node_says_by_hand():
    k, scale, share = 4, 0.3, 0.6
    federation = sites(20)
    done, _ = trained(federation, knn_per(k=k, scale=scale, share=share), LOCAL, 2, 3)
    loss = right = 0.0
    for shard in federation._shards:
        model = softmax(Softmax(3).logits(shard.X, done.model.w), axis=1)
        for x, y, p in zip(shard.X, shard.y.astype(int), model, strict=True):
            d2 = ((shard.X - x) ** 2).sum(axis=1)
            near = np.argsort(d2, kind="stable")[:k]
            votes = np.bincount(shard.y[near].astype(int), np.exp(-d2[near] / (2 * scale)), minlength=3)
            mixed = share * votes / votes.sum() + (1 - share) * p
            loss, right = loss - np.log(mixed[y]), right + (mixed.argmax() == y)
    judged = done.judge(True)
    assert judged.loss == pytest.approx(loss / 60, rel=1e-10)
    assert judged.accuracy == right / 60


def test_the_share_is_chosen_on_rows_that_are_left_out():
    """On labels without any meaning a row's neighbours, itself not among them, know nothing: the model is as good."""
    rng = np.random.default_rng(0)
    rows = [(rng.standard_normal((200, 2)), (rng.random(200) < 0.1).astype(float)) for _ in range(2)]
    done, run = trained(Federation.from_shards(rows), knn_per(k=1), LOCAL, 3, 2)
    assert max(kept(run, node)["share"][0] for node in range(2)) < 0.6
    assert done.judge(True).accuracy < 0.95, "rows that are remembered are not simply repeated"


def test_capacity_bounds_what_is_remembered():
    _, run = trained(sites(), knn_per(capacity=10), LOCAL, 1, 3)
    assert [len(kept(run, node)["labels"]) for node in range(3)] == [10] * 3
    assert kept(run, 0)["features"].shape == (10, 2)


def test_a_node_of_one_row_uses_the_model():
    X, y = blobs(30, 0, 0)
    _, run = trained(Federation.from_shards([(X, y), (X[:1], y[:1])]), knn_per(), LOCAL, 1, 3)
    assert kept(run, 1)["share"][0] == 0
    assert len(kept(run, 1)["labels"]) == 1


def test_votes_far_from_everything_are_still_divided_by_their_sum():
    store, labels = np.array([[0.0], [1.0]]), np.array([0, 1])
    far = _votes(store, labels, np.array([[1e6]]), 2, 2, 1.0)
    assert far.sum() == pytest.approx(1)
    assert far[0, 1] > 0.99
    assert _votes(store[:0], labels[:0], np.array([[0.0]]), 2, 2, 1.0).tolist() == [[0, 0]]


def test_of_several_shares_the_least_loss_then_the_smallest():
    labels = np.array([0, 1])
    sure, unsure = np.eye(2), np.array([[0.6, 0.4], [0.4, 0.6]])
    assert _best_share(sure, unsure, labels, 11) == 1
    assert _best_share(unsure, sure, labels, 11) == 0
    assert _best_share(unsure, unsure, labels, 11) == 0
    assert _best_share(unsure, unsure[::-1], labels, 11) == 1


def test_votes_weigh_by_distance_columns_and_scale():
    store, labels = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([0, 1])
    near = _votes(store, labels, np.array([[0.0, 0.0]]), 2, 2, 5.0)
    np.testing.assert_allclose(near[0, 1] / near[0, 0], np.exp(-25 / (2 * 5.0)), rtol=1e-12)


def test_of_one_output_the_first_class_has_the_rest():
    np.testing.assert_allclose(_probabilities(np.array([[0.7]])), [[1 / (1 + np.exp(0.7)), 1 / (1 + np.exp(-0.7))]])


@pytest.mark.parametrize(
    ("n", "share", "out"), [(10, 0.3, 3), (10, 0.01, 1), (4, 1.0, 3), (2, 0.5, 1), (1, 0.5, 0), (9, 0.0, 0)]
)
def test_how_many_rows_choose_the_share(n, share, out):
    store, left_out = _apart(n, share, Ctx(0, 0, 0, 0, {}, {}, (0,)))
    assert len(left_out) == out
    assert sorted([*store, *left_out]) == list(range(n))


@pytest.mark.parametrize(
    ("targets", "said"),
    [(None, "none"), (np.zeros((3, 2)), r"float64 of shape \(3, 2\)"), (np.array([0, 3]), "from 0 to 2")],
    ids=["none", "columns", "class"],
)
def test_labels_that_are_no_class_numbers(targets, said):
    with pytest.raises(InvalidData, match=said):
        _labels(targets, 3)


def test_what_it_cannot_remember_is_refused():
    for settings in (
        {"k": 0},
        {"k": 2.5},
        {"scale": 0},
        {"validation": 1.5},
        {"share": 2.0},
        {"grid": 1},
        {"capacity": 0},
    ):
        with pytest.raises(InvalidData):
            knn_per(**settings)
    X, _ = blobs(20, 0, 0)
    with pytest.raises(NodeValueError, match="class numbers"):
        trained(Federation.from_shards([(X, np.linspace(0, 2, 20))]), knn_per(), LOCAL, 1, 3)


@pytest.mark.parametrize("estimator", [MLPRegressor(), SGDRegressor()], ids=["net", "linear"])
def test_numbers_are_refused_before_anybody_is_asked(estimator, monkeypatch):
    monkeypatch.setattr(InProcess, "submit", lambda *_: pytest.fail("a node was asked"))
    with pytest.raises(InvalidData, match=f"knn_per lets rows vote for their classes, and {type(estimator).__name__}"):
        Distributed(estimator, 2, method=knn_per(), local=sgd()).fit(np.eye(4), np.arange(4.0))


def test_a_loss_of_numbers_is_refused_before_anybody_is_asked(monkeypatch):
    torch = pytest.importorskip("torch")
    sites = Federation.from_shards([(np.eye(4, dtype=np.float32), np.arange(4, dtype=np.float32))])
    monkeypatch.setattr(InProcess, "submit", lambda *_: pytest.fail("a node was asked"))
    with pytest.raises(InvalidData, match="and MSELoss is for numbers"):
        train(torch.nn.Linear(4, 1), torch.nn.MSELoss(), sites, knn_per())
