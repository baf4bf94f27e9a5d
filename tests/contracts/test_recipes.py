"""Every recipe, over every data set, partition and number of nodes: the laws of docs/architecture.md."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import LabelBinarizer, LabelEncoder

from atoll import Distributed, Federated, Federation, wire
from atoll.engines import close_all
from atoll.engines.base import Done
from atoll.engines.inprocess import InProcess
from atoll.errors import NotAvailable
from atoll.memory import Store
from atoll.messages import Exchange
from atoll.operations import operations
from atoll.recipes import find, supported
from atoll.shards import Shard
from atoll.worker import assemble, block
from cases import LOADERS, PARTITIONS, data, parts, queries
from laws import (
    CLOSE,
    EXAMPLES,
    TRAINED,
    answers,
    apart,
    attributes,
    fitted_numbers,
    forms,
    pooled_fit,
    rounding,
    settled,
    settled_answers,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),  # three rounds, as pooled ones
    pytest.mark.filterwarnings("ignore:self.within_class_std_dev_ has at least 1 zero"),  # as pooled scikit-learn warns
    pytest.mark.filterwarnings(
        "ignore:invalid value encountered in cast"
    ),  # scikit-learn's RadiusNeighborsRegressor, int y
]
EVERY = {**EXAMPLES, **TRAINED}
CASES = [(kind, i) for kind in sorted(EVERY, key=lambda k: k.__name__) for i in range(len(EVERY[kind]))]
GRID = list(itertools.product(LOADERS, PARTITIONS, [1, 2, 5, 10]))
SAMPLE = [
    ("iris", "iid", 1), ("iris", "label", 5), ("iris", "one-row", 2), ("iris", "dirichlet", 10),
    ("wine", "label", 2), ("wine", "one-row", 5), ("diabetes", "iid", 5), ("diabetes", "one-row", 10),
    ("breast_cancer", "dirichlet", 5), ("digits", "label", 10), ("two_targets", "label", 5),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _ended():
    yield
    close_all()


def grid(cases):
    rest = [pytest.param(*c, marks=pytest.mark.thorough) for c in GRID if c not in cases]
    return pytest.mark.parametrize(("name", "partition", "n_nodes"), [*cases, *rest])


@pytest.fixture(params=CASES, ids=lambda c: f"{c[0].__name__}-{c[1]}")
def make(request):
    kind, i = request.param
    return EVERY[kind][i]


@pytest.fixture
def exact(make):
    if not make.exact:
        pytest.skip("another model than that of the pooled rows")
    return make


def federation(name, partition, n_nodes, **settings):
    X, y = data(name)
    shards = [Shard.of(f"node-{i:02d}", X[p], y[p], ids=p) for i, p in enumerate(parts(name, n_nodes, partition))]
    return Federation(shards, **settings)


def fitted(make, name, partition, n_nodes, **settings):
    if name not in make.names:
        pytest.skip(f"not for {name}")
    return Federated(make(name)).fit(federation(name, partition, n_nodes, **settings))


def test_every_supported_estimator_has_an_example():
    of_labels = {LabelBinarizer, LabelEncoder}  # they take no rows; see recipes/test_label.py
    nets = {kind for kind in supported() if kind.__module__.startswith("skorch")}  # see recipes/test_nets.py
    assert set(supported()) - of_labels - nets == set(EVERY)


@grid(SAMPLE)
def test_equal_to_pooled(exact, make, name, partition, n_nodes):
    """Laws 1, 2 and 10: scikit-learn's numbers on the pooled rows, ties apart, and those follow (distance, id)."""
    model, Q = fitted(make, name, partition, n_nodes), queries(name)
    pooled = pooled_fit(make, name)
    got, expected, clear = answers(model, Q), answers(pooled, Q), settled(model.estimator, pooled, name)
    assert got.keys() == expected.keys()
    assert clear.sum() > len(Q) // 2
    for what in expected:
        if what in ("predict", "ids", "hits") and expected[what].dtype.kind != "f":
            same = got[what][clear] == expected[what][clear]
            assert same.all() or (what == "ids" and only_ties_differ(got, expected, clear)), what
        else:
            rows = clear if len(expected[what]) == len(Q) else slice(None)
            atol = rounding(pooled, name) if "distances" in what else make.atol
            np.testing.assert_allclose(got[what][rows], expected[what][rows], rtol=make.close, atol=atol, err_msg=what)


def only_ties_differ(got, expected, clear):
    """Rows at the same distance may stand in another order, for scikit-learn has none."""
    rows = zip(got["distances"][clear], got["ids"][clear], expected["ids"][clear], strict=True)
    return all(
        set(i[d < d[-1]]) == set(e[d < d[-1]]) or np.isclose(d[1:], d[:-1], rtol=CLOSE).any() for d, i, e in rows
    )


@grid(SAMPLE)
def test_fitted_attributes_are_those_of_the_pooled_fit(exact, make, name, partition, n_nodes):
    model, pooled = fitted(make, name, partition, n_nodes), pooled_fit(make, name)
    got = attributes(model._model)
    for what, expected in attributes(pooled).items():
        if what.split("[")[0] in {*make.leave, *find(model.estimator).per_row}:
            continue
        assert (got[what].shape, got[what].dtype) == (expected.shape, expected.dtype), what
        np.testing.assert_allclose(got[what], expected, rtol=make.close, atol=make.atol, err_msg=what)


FORMED = [("iris", "dirichlet", 5), ("diabetes", "label", 5)]


@pytest.mark.filterwarnings("ignore")  # scikit-learn warns of some of these rows; other tests hear whether both do
@pytest.mark.parametrize("form", ["weights", "sparse", "missing"])
@pytest.mark.parametrize(
    ("name", "partition", "n_nodes"),
    [*FORMED, *(pytest.param(n, "one-row", 5, marks=pytest.mark.thorough) for n in LOADERS)],
)
def test_weights_sparse_rows_and_gaps(exact, make, form, name, partition, n_nodes):
    """Law 1 where rows have weights, some of them zero, are sparse, or lack values: what scikit-learn takes of that."""
    rows = forms(make, name).get(form) if name in make.names else None
    pooled = None if rows is None else pooled_fit(make, name, form)
    if rows is None or pooled is None:
        pytest.skip("not for such rows")
    model = Federated(rows.estimator).fit(Federation(rows.shards(name, n_nodes, partition)))
    assert apart(fitted_numbers(make, name, model._model), fitted_numbers(make, name, pooled)) <= make.close
    got, expected = (settled_answers(make, name, m, form) for m in (model, pooled))
    assert apart(got, expected) <= make.close


@grid(SAMPLE[1:4])
def test_ties_are_ordered_by_distance_then_row_id(make, name, partition, n_nodes):
    model = fitted(make, name, partition, n_nodes)
    if not hasattr(model, "kneighbors"):
        pytest.skip("has no neighbours to order")
    distance, index = model.kneighbors(queries(name), n_neighbors=20)
    order = np.lexsort((index, distance), axis=1)
    assert (order == np.arange(20)).all()
    fewer_distance, fewer = model.kneighbors(queries(name), n_neighbors=6)
    assert (fewer == index[:, :6]).all()
    assert (fewer_distance == distance[:, :6]).all()


PLACES = [
    ("inprocess", None, "tree"), ("inprocess", None, "tree(fan_out=3)"), ("inprocess", None, "ring"),
    ("processes", 1, "star"), ("processes", 2, "star"), ("processes", 4, "star"),
    ("processes", 2, "tree"), ("processes", 2, "tree(fan_out=3)"), ("processes", 4, "tree(fan_out=4)"),
]  # fmt: skip
MORE_PLACES = [
    ("processes", workers, plan)
    for workers, plan in itertools.product((1, 2, 4), ("tree", "tree(fan_out=3)", "tree(fan_out=4)", "ring"))
    if ("processes", workers, plan) not in PLACES
]


def same_bits(a, b):
    assert a.keys() == b.keys()
    for what in a:
        assert a[what].dtype == b[what].dtype
        assert a[what].tobytes() == b[what].tobytes(), what


@grid([("iris", "label", 5), ("wine", "one-row", 10), ("diabetes", "dirichlet", 5)])
def test_same_bits_everywhere(make, name, partition, n_nodes, request):
    """Law 3: engines, numbers of workers and reduce plans change no bit."""
    here, Q = fitted(make, name, partition, n_nodes), queries(name)
    expected = answers(here, Q)
    thorough = request.node.get_closest_marker("thorough")
    summed = find(make(name)).trained  # nodes that train sum up round a ring in an order of their own
    for engine, workers, topology in PLACES + (MORE_PLACES if thorough else []):
        if topology == "ring" and summed:
            continue
        there = fitted(make, name, partition, n_nodes, engine=engine, n_workers=workers, topology=topology)
        same_bits(answers(there, Q), expected)
        same_bits(attributes(there._model), attributes(here._model))
        assert [r._replace(seconds=0, links={}) for r in there.run_] == [
            r._replace(seconds=0, links={}) for r in here.run_
        ]


class Shuffled(InProcess):
    """Answers in blocks that arrive in any order."""

    def __init__(self, seed):
        super().__init__()
        self.rng = np.random.default_rng(seed)

    def submit(self, key, x):
        shards, _ = self._attached[key]
        n = len(x.cohort)
        cuts = np.sort(self.rng.integers(0, n + 1, size=3))
        blocks = [block(x, piece.tolist(), shards, Store()) for piece in np.split(np.arange(n), cuts)]
        return Done(assemble(x, [blocks[i] for i in self.rng.permutation(len(blocks))], 0.0))


@pytest.mark.parametrize("topology", ["star", "tree(fan_out=3)"])
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_arrival_changes_no_bit(make, topology, seed, monkeypatch):
    expected = answers(fitted(make, make.home("iris"), "dirichlet", 10), queries(make.home("iris")))
    engine = Shuffled(seed)
    monkeypatch.setattr("atoll.nodes.live", lambda name, n_workers: engine)
    got = answers(fitted(make, make.home("iris"), "dirichlet", 10, topology=topology), queries(make.home("iris")))
    same_bits(got, expected)


def test_what_is_asked_is_data(make, monkeypatch):
    """Law 5: every exchange travels through the wire format and asks the same afterwards."""
    asked = []
    real = InProcess.submit

    def submit(self, key, x):
        again = wire.decode(wire.encode(x), Exchange)
        assert again.digest == x.digest
        asked.append(again.op)
        return real(self, key, again)

    expected = answers(fitted(make, make.home("iris"), "label", 5), queries(make.home("iris")))
    monkeypatch.setattr(InProcess, "submit", submit)
    same_bits(answers(fitted(make, make.home("iris"), "label", 5), queries(make.home("iris"))), expected)
    assert asked[0] == "describe.schema"


class Killed(Exception):
    """Stands for the end of the program."""


def test_a_run_killed_at_any_point_and_run_again_ends_with_the_same_bits(make, tmp_path, monkeypatch):
    """Law 7."""
    Q = queries(make.home("iris"))
    whole = fitted(make, make.home("iris"), "label", 5)
    expected = answers(whole, Q)
    rounds = whole.run_.rounds
    real, asked = InProcess.submit, []

    def counting(self, key, x):
        if len(asked) >= limit:
            raise Killed
        asked.append(x.number)
        return real(self, key, x)

    monkeypatch.setattr(InProcess, "submit", counting)
    for kill_at in sorted({0, 1, 2, rounds // 2, rounds - 1} & set(range(rounds))):
        folder = tmp_path / str(kill_at)
        limit = kill_at
        asked.clear()
        with pytest.raises(Killed):
            answers(fitted(make, make.home("iris"), "label", 5, journal=folder), Q)
        limit = 10**9
        asked.clear()
        again = fitted(make, make.home("iris"), "label", 5, journal=folder)
        same_bits(answers(again, Q), expected)
        assert asked == list(range(kill_at, rounds)), "what was answered before is not asked again"
        asked.clear()
        same_bits(answers(fitted(make, make.home("iris"), "label", 5, journal=folder), Q), expected)
        assert asked == []


def test_what_left_each_node_is_declared_measured_and_shown(make):
    """Law 8."""
    model = fitted(make, make.home("iris"), "label", 5)
    answers(model, queries(make.home("iris")))
    run = model.run_
    left = run.disclosures()
    assert {d.node for d in left} == set(run.nodes)
    assert all(d.what == operations[d.op].discloses for d in left)
    assert sum(d.bytes for d in left) == run.bytes_up == sum(r.bytes_up for r in run)
    assert "what left the nodes" in str(run)
    assert run.trust == "federated"


def test_no_row_leaves_a_node(make, monkeypatch):
    """No contribution holds a training row; noise makes all rows distinct."""
    if make.sends_rows:
        pytest.skip("it declares that chosen rows leave")
    name = make.home("iris")
    X = data(name)[0] + np.random.default_rng(0).random(size=data(name)[0].shape) * 1e-3
    rows = {row.tobytes() for row in X}
    real, leaks = InProcess.submit, []

    def watching(self, key, x):
        for position, shard in enumerate(self._attached[key][0]):
            tree = block(x, [position], {x.cohort[position]: shard}, Store())
            for _, _, part in itertools.chain(*tree.held.values()):
                for array in part.values():
                    flat = np.ascontiguousarray(array, dtype=float).reshape(-1) if array.dtype.kind in "fiu" else []
                    leaks.extend(i for i in range(len(flat) - 3) if flat[i : i + 4].tobytes() in rows)
        return real(self, key, x)

    monkeypatch.setattr(InProcess, "submit", watching)
    estimator = make(name)
    pieces = [p for p in parts(name, 5, "label") if len(p)]
    model = Federated(estimator).fit(Federation.from_shards([(X[p], data(name)[1][p]) for p in pieces]))
    answers(model, queries(name))
    assert leaks == []


def test_one_row_per_node_and_a_node_without_a_class(exact, make):
    """Law 10, at its edge: as many nodes as rows."""
    estimator = make(make.home("iris"))
    X, y = data(make.home("iris"))
    keep = np.arange(0, 150, 5)
    sites = Federation.from_shards([(X[[i]], y[[i]]) for i in keep])
    if "radius" in estimator.get_params():
        estimator.set_params(radius=30.0)
    got = answers(Federated(clone(estimator)).fit(sites), queries(make.home("iris")))
    pooled = clone(estimator).fit(X[keep], y[keep])
    clear = settled(estimator, pooled, make.home("iris"))
    for what, expected in answers(pooled, queries(make.home("iris"))).items():
        if what in ("predict", "predict_proba", "score_samples"):
            np.testing.assert_allclose(got[what][clear], expected[clear], rtol=make.close, atol=make.atol, err_msg=what)


def test_distributed_and_federated_are_one(make):
    X, y = data(make.home("iris"))
    estimator = make(make.home("iris"))
    distributed = Distributed(estimator, n_nodes=5, random_state=3).fit(X, y)
    sites = Federation.simulate(X, y, n_nodes=5, random_state=3)
    same_bits(
        answers(distributed, queries(make.home("iris"))),
        answers(Federated(estimator).fit(sites), queries(make.home("iris"))),
    )


def test_what_has_an_entry_per_row_follows_from_rows_that_are_yours(make):
    name = make.home("iris")
    estimator = make(name)
    expected = find(estimator).per_row
    if not expected:
        pytest.skip("has no such attribute")
    X, y = data(name)
    ordinary, pooled = Distributed(estimator, n_nodes=5).fit(X, y).estimator_, clone(estimator).fit(X, y)
    for what in expected:
        got, wanted = attributes(ordinary), attributes(pooled)
        if what in wanted and what not in make.leave:
            np.testing.assert_allclose(got[what], wanted[what], rtol=make.close, atol=make.atol, err_msg=what)
        with pytest.raises(NotAvailable, match=what):
            getattr(fitted(make, name, "iid", 2), what)


def test_a_fitted_model_is_pickled_as_a_value(make):
    model = fitted(make, make.home("iris"), "label", 5, engine="processes", n_workers=2)
    again = pickle.loads(pickle.dumps(model))
    same_bits(answers(again, queries(make.home("iris"))), answers(model, queries(make.home("iris"))))
