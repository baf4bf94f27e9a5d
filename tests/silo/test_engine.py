"""Nodes elsewhere, seen from a script: the bits of shards that are here, and what is said where they differ."""

from __future__ import annotations

import gc
import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier

import atoll
from atoll import Distributed, Federated, Federation, Rule
from atoll.algorithms import scaffold, sgd
from atoll.combine import Sum
from atoll.engines import Remote, close_all, live
from atoll.errors import InvalidData, JournalMismatch, MissingExtra, NodeFailed, NotAvailable, Refused
from atoll.recipes import operations_of
from atoll.shards import Shard
from atoll.silo import engine, errors
from atoll.silo.durable import watch
from atoll.specs import Spec
from cases import data, same_bits
from silo.twin import Twin, login

X, Y = data("iris")
ORDER = np.random.default_rng(5).permutation(len(X))
PARTS = dict(zip(["berlin", "accra", "cusco"], np.split(ORDER, [30, 90]), strict=True))
URL = "https://silo.example.org"


def here(**settings):
    return Federation.from_shards([(X[i], Y[i]) for i in PARTS.values()], names=list(PARTS), **settings)


@pytest.fixture
def twin(monkeypatch, tmp_path):
    close_all()
    made = Twin({"iris": [Shard.of(name, X[i], Y[i]) for name, i in PARTS.items()]})
    monkeypatch.setattr(engine, "Client", made.client)
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path))
    login(tmp_path)
    yield made
    close_all()


def connect(**settings):
    return Federation.connect(URL, "iris", verbose=0, **settings)


def test_names_and_rows_are_those_of_shards_with_the_same_names(twin):
    sites = connect()
    assert sites.names == here().names == ("accra", "berlin", "cusco")
    assert sites.remote.rows == (60, 30, 60)
    assert repr(sites) == f"Federation(3 nodes, 30 to 60 rows, data='iris', url='{URL}')"
    assert 'berlin</th><td style="text-align:right">30</td>' in sites._repr_html_()
    assert len(sites) == sites.n_nodes == 3


def test_neighbours_and_their_ids_are_bit_equal_to_shards(twin):
    ours, theirs = (Federated(KNeighborsClassifier(4)).fit(f) for f in (here(), connect()))
    for ask in (lambda m: m.kneighbors(X[::7]), lambda m: (m.predict(X), m.predict_proba(X))):
        for a, b in zip(ask(ours), ask(theirs), strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("estimator", [LogisticRegression(tol=0.05), PCA(2)], ids=["logistic", "pca"])
def test_what_is_fitted_is_bit_equal_to_shards(twin, estimator):
    ours, theirs = (Federated(estimator).fit(f).estimator_ for f in (here(), connect()))
    names = [n for n in vars(ours) if n.endswith("_") and isinstance(getattr(ours, n), np.ndarray)]
    assert names
    for name in names:
        assert getattr(ours, name).tobytes() == getattr(theirs, name).tobytes()


@pytest.mark.parametrize(
    "estimator",
    [MLPClassifier((5,), max_iter=4, random_state=1), SGDClassifier(max_iter=4, tol=None, random_state=1)],
    ids=["mlp", "sgd"],
)
def test_what_is_trained_in_rounds_is_bit_equal_to_shards(twin, estimator):
    ours, theirs = (Federated(estimator, rounds=4).fit(f) for f in (here(), connect()))
    assert ours.predict(X).tobytes() == theirs.predict(X).tobytes()
    name = "coefs_" if hasattr(ours.estimator_, "coefs_") else "coef_"
    for a, b in zip(getattr(ours.estimator_, name), getattr(theirs.estimator_, name), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_the_coordinator_is_told_what_rounds_came_to(twin):
    net = MLPClassifier((5,), random_state=1)
    fitted = Federated(net, rounds=4, local=sgd(lr=0.1, batch_size=10)).fit(connect(run="study"))
    rows = {row.number: row.metrics for row in fitted.run_.rows if row.metrics}
    assert len([number for number, metrics in rows.items() if "loss" in metrics]) == 4
    assert twin.told["study"] == rows
    posts = [path for method, path in twin.said if method == "POST" and "/study/" in path]
    assert len(posts) == len({number for run, number in twin.asked if run == "study"}) + 1, "nothing was said twice"


def test_metrics_that_are_added_later_arrive_and_others_are_left_out(twin, monkeypatch):
    monkeypatch.setattr(engine, "_NUMBERS", 34)
    rounds = connect(run="study").rounds("test")
    many = {f"m{i}": float(i) for i in range(40)}
    with rounds.ending():
        for i in range(5):
            metrics = {"loss": float(i), "nan": np.nan, "long" * 20: 1.0} if i < 3 else many
            rounds.round("statistics.sums", combine=Sum(), step=i, metrics=lambda _, told=metrics: told)
        assert twin.told["study"] == {
            0: {"loss": 0.0},
            1: {"loss": 1.0},
            2: {"loss": 2.0},
            3: dict(list(many.items())[:32]),
        }
        rounds.run.measure(2, validation_loss=0.5)
    assert twin.told["study"][1] == {"loss": 1.0, "validation_loss": 0.5}
    assert twin.told["study"][4] == twin.told["study"][3]
    assert [path for _, path in twin.said].count("/v1/runs/study/end") == 2, "more than fits is said in parts"


def test_a_search_an_evaluation_and_a_description_go_over_silos(twin):
    ours, theirs = here(), connect()
    grid = {"C": [0.1, 1.0]}
    a, b = (f.search(LogisticRegression(tol=0.05), grid, cv="node") for f in (ours, theirs))
    np.testing.assert_array_equal(a.cv_results_["mean_test_score"], b.cv_results_["mean_test_score"])
    a, b = (f.evaluate(a.best_estimator_, ["accuracy"]) for f in (ours, theirs))
    assert a.to_dict() == b.to_dict()
    assert ours.describe().columns == theirs.describe().columns
    assert ours.report().counts.tolist() == theirs.report().counts.tolist()
    assert {run.state for run in twin.runs.values()} == {"done"}


def test_what_a_run_may_ask_is_declared_with_every_question(twin):
    sites = connect(models=[KNeighborsClassifier(), PCA()])
    (task,) = twin.tasks
    assert task.exchange.op == "describe.rows"
    assert task.asks == tuple(sorted({*operations_of(KNeighborsClassifier()), *operations_of(PCA())}))
    model = Federated(KNeighborsClassifier(3)).fit(sites)
    model.predict(X[:5])
    told = [(task.exchange.op, task.asks) for task in twin.tasks[1:]]
    asks = ("describe.schema", "neighbors.nearest")
    assert told == [("describe.schema", asks), ("neighbors.nearest", asks)], "also after the fit has ended"
    Federated(DecisionTreeClassifier(random_state=0), method="vote").fit(connect())
    assert [task.asks for task in twin.tasks[-3:]] == [(), *[("describe.schema", "generic.fit", "generic.vote")] * 2]


@pytest.mark.parametrize("bins", [None, 16])
@pytest.mark.parametrize("scoring", [None, "accuracy", ["roc_auc_ovr", "neg_log_loss"]], ids=str)
def test_an_evaluation_asks_what_it_declares(twin, scoring, bins):
    sites = connect()
    model = GaussianNB().fit(X, Y)
    del twin.tasks[:]
    sites.evaluate(model, scoring, bins=bins)
    declared = {task.asks for task in twin.tasks}
    assert {task.exchange.op for task in twin.tasks} == set(*declared)


def test_an_attach_that_a_person_interrupts_is_over(twin):
    twin.failing = []
    said = twin.get

    def interrupted(*args, **more):
        if twin.asked:
            raise KeyboardInterrupt
        return said(*args, **more)

    twin.get = interrupted
    with pytest.raises(KeyboardInterrupt):
        connect()
    assert [run.state for run in twin.runs.values()] == ["failed"]


def test_every_fit_has_a_name_of_its_own_unless_one_is_given(twin):
    sites = connect()
    for _ in range(2):
        Federated(PCA(1)).fit(sites)
    runs = [name for name, run in twin.runs.items() if run.purpose == "PCA"]
    assert len(set(runs)) == 2
    assert {twin.runs[name].state for name in runs} == {"done"}
    Federated(PCA(1)).fit(connect(run="study"))
    assert twin.runs["study"].purpose == "PCA"


def test_a_program_that_is_run_again_under_its_name_is_answered_from_the_record(twin):
    first = Federated(KNeighborsClassifier(3)).fit(connect(run="study"))
    answers = first.predict(X)
    asked = len(twin.tasks)
    close_all()
    again = Federated(KNeighborsClassifier(3)).fit(connect(run="study"))
    assert again.predict(X).tobytes() == answers.tobytes()
    assert len(twin.tasks) == asked + 1, "only the rows were counted again"
    with pytest.raises(JournalMismatch):
        Federated(PCA(1)).fit(connect(run="study"))


def test_what_was_answered_is_not_brought_again(twin, monkeypatch):
    monkeypatch.setattr(engine.api, "INLINE", 100)
    Federated(LogisticRegression(tol=0.05)).fit(connect(run="study"))
    before = set(twin.blobs)
    close_all()
    Federated(LogisticRegression(tol=0.05)).fit(connect(run="study"))
    brought = [name for name in set(twin.blobs) - before if len(twin.blobs[name]) > 2000]
    assert brought == []


def test_a_run_that_dies_in_the_middle_goes_on(twin):
    whole = Federated(LogisticRegression(tol=0.05)).fit(here()).estimator_

    def died(step):
        if step == "driver.outcome" and len(twin.tasks) == 6:
            raise MemoryError

    ended = watch(died)
    with pytest.raises(MemoryError):
        Federated(LogisticRegression(tol=0.05)).fit(connect(run="study"))
    ended()
    assert twin.runs["study"].state == "failed"
    close_all()
    again = Federated(LogisticRegression(tol=0.05)).fit(connect(run="study")).estimator_
    assert again.coef_.tobytes() == whole.coef_.tobytes()
    assert twin.runs["study"].state == "done"
    numbers = [task.exchange.number for task in twin.tasks if task.exchange.run == "study"]
    assert numbers == list(range(len(numbers))), "every question was carried out once"


def test_interrupting_leaves_the_run_open(twin):
    def pressed(step):
        if step == "driver.submitted" and len(twin.tasks) == 4:
            raise KeyboardInterrupt

    ended = watch(pressed)
    with pytest.raises(KeyboardInterrupt):
        Federated(LogisticRegression(tol=0.05)).fit(connect(run="study"))
    ended()
    assert twin.runs["study"].state == "running"
    Federated(LogisticRegression(tol=0.05)).fit(connect(run="study"))
    assert twin.runs["study"].state == "done"


def test_a_failed_run_says_why(twin):
    sites = connect(run="study")
    twin.away = {"berlin"}
    with pytest.raises(NodeFailed, match="the node is away"):
        Federated(PCA(1)).fit(sites)
    assert twin.runs["study"].state == "failed"
    assert twin.runs["study"].note.startswith("NodeFailed: 1 of 3 nodes")


def test_who_is_missing_is_told_while_one_waits(twin):
    sites = connect()
    twin.slow = 3
    e, key = sites.live()
    rounds = sites.rounds("test")
    seen = []
    rounds.progress.waiting = lambda op, missing, deadline: seen.append(missing)
    rounds.round("statistics.sums", combine=Sum())
    assert seen[0]() == [], "everybody has answered"
    x = twin.tasks[-1].exchange
    twin.slow = 10**9
    pending = e.submit(key, replace(x, number=x.number + 1, run=rounds.run.name))
    assert pending.missing() == [0]
    twin.slow = 1
    assert pending.result().accepted == (0, 1, 2)
    assert pending.missing() == []


def test_a_round_past_its_deadline_ends_after_some_patience(twin):
    sites = connect(rule=Rule(deadline=0.01), patience=0.05)
    e, key = sites.live()
    rounds = sites.rounds("test")
    rounds.round("statistics.sums", combine=Sum())
    twin.slow = 10**9
    x = replace(twin.tasks[-1].exchange, number=1)
    with pytest.raises(errors.Unavailable, match="does not end a round"):
        e.submit(key, x).result()
    assert twin.tasks[-1].expires == pytest.approx(twin.tasks[-1].issued + 0.01 + 3600)


def test_nodes_that_do_not_count_their_rows_end_it_or_are_left_out(twin):
    twin.away = {"berlin"}
    with pytest.raises(NodeFailed, match=r"(?s)the node is away.*berlin"):
        connect()
    with pytest.warns(UserWarning, match="'berlin' does not tell"):
        sites = connect(rule=Rule(quorum=0.5))
    assert sites.names == ("accra", "cusco")
    assert Federated(PCA(1)).fit(sites).estimator_.n_samples_ == 120


def test_nodes_may_be_named(twin):
    sites = connect(nodes=["cusco", "berlin"])
    assert sites.names == ("berlin", "cusco")
    ours = Federation.from_shards([(X[PARTS[n]], Y[PARTS[n]]) for n in sites.names], names=sites.names)
    a, b = (Federated(KNeighborsClassifier(2)).fit(f).kneighbors(X)[1] for f in (ours, sites))
    assert a.tobytes() == b.tobytes()


def test_unknown_names_are_answered_with_near_ones(twin):
    with pytest.raises(errors.NotFound, match=r"(?s)no node offers 'irsi'.*did you mean 'iris'"):
        Federation.connect(URL, "irsi")
    with pytest.raises(errors.NotFound, match=r"(?s)no node 'berlni'.*did you mean 'berlin'"):
        connect(nodes=["berlni"])
    twin.data["wine"] = [Shard.of("accra", X, Y)]
    with pytest.raises(InvalidData, match=r"(?s)which one\?.*iris, wine"):
        Federation.connect(URL)
    with pytest.raises(errors.NotFound, match=r"(?s)'berlin' does not offer 'wine'.*iris"):
        Federation.connect(URL, "wine", nodes=["berlin"])
    del twin.data["wine"]
    assert Federation.connect(URL).remote.data == "iris"
    twin.data.clear()
    with pytest.raises(errors.NotFound, match="no node offers any data"):
        Federation.connect(URL)
    with pytest.raises(errors.NotFound, match=r"(?s)no node offers 'iris'.*has joined with a data set yet: atoll node"):
        Federation.connect(URL, "iris")


def test_one_must_be_logged_in_as_somebody_who_may_ask(twin, tmp_path, monkeypatch):
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path / "empty"))
    with pytest.raises(errors.NotFound, match=r"(?s)no login for this coordinator.*atoll login URL TOKEN"):
        connect()
    login(tmp_path / "other", role="viewer")
    with pytest.raises(errors.Forbidden, match=r"(?s)may not ask.*viewer"):
        connect(home=tmp_path / "other")
    login(tmp_path / "other", name="bo", role="admin")
    connect(home=tmp_path / "other")
    assert twin.tasks[-1].requester == "bo"


def test_a_missing_extra_is_named(twin, monkeypatch):
    from importlib.metadata import EntryPoint

    from atoll import engines

    monkeypatch.setattr(engines.engines, "_known", {})
    lacking = EntryPoint("silos", "atoll.no_such_module:make", "atoll.engines")
    monkeypatch.setattr(engines, "entry_points", lambda group: [lacking])
    with pytest.raises(MissingExtra, match=r"(?s)needs a package.*pip install 'atoll\[silo\]'"):
        connect()
    monkeypatch.setattr(engines, "entry_points", lambda group: [])
    with pytest.raises(MissingExtra, match="make setup"):
        connect()


def test_it_can_be_pickled_without_handles_or_secrets(twin, tmp_path):
    sites = connect()
    model = Federated(KNeighborsClassifier(2)).fit(sites)
    written = pickle.dumps((sites, model))
    secret = (tmp_path.rglob("key").__next__()).read_bytes()
    assert secret.splitlines()[1] not in written
    before = model.predict(X)
    close_all()
    again, same = pickle.loads(written)
    assert again.names == sites.names
    assert same.predict(X).tobytes() == before.tobytes()
    assert Federated(PCA(1)).fit(again).estimator_.n_samples_ == 150


def test_rows_stay_where_they_are(twin):
    sites = connect()
    with pytest.raises(NotAvailable, match="stay on their nodes"):
        sites.pooled()
    with pytest.raises(NotAvailable):
        Federated(KNeighborsClassifier()).fit(sites).to_sklearn()
    with pytest.raises(InvalidData, match=r"(?s)silos have rows of their own.*Federation\.connect"):
        Distributed(PCA(1), n_nodes=2, engine="silos").fit(X)


def test_nodes_of_others_run_no_code_of_the_users(twin):
    sites = connect()
    asked = len(twin.tasks)
    with pytest.raises(Refused, match=r"(?s)no code of yours.*lambda"):
        Federated(KNeighborsClassifier(metric=lambda a, b: abs(a - b).sum())).fit(sites).predict(X[:2])
    assert {task.exchange.op for task in twin.tasks[asked:]} <= {"describe.schema", "describe.finite"}


def test_a_module_is_refused_and_an_installed_one_is_trained_by_name(twin):
    torch = pytest.importorskip("torch")
    from atoll.nets import install
    from atoll.specs import programs

    sites = connect()
    asked = len(twin.tasks)
    net, loss = torch.nn.Linear(4, 3), torch.nn.CrossEntropyLoss()
    with pytest.raises(Refused, match=r"(?s)no code of yours.*atoll\.train\('its name', None"):
        atoll.train(net, loss, sites)
    assert len(twin.tasks) == asked, "no node was asked"
    torch.manual_seed(3)
    shared = torch.nn.Linear(4, 3)
    install("silo-test-linear", lambda: (shared, loss))
    try:
        how = {"local": sgd(lr=0.1, batch_size=10), "rounds": 3, "block": 1, "way": "sequential"}
        ours, theirs = (atoll.train("silo-test-linear", None, f, **how) for f in (here(), sites))
        assert ours.module.weight.detach().numpy().tobytes() == theirs.module.weight.detach().numpy().tobytes()
        assert ours.losses == theirs.losses
        wrote = [task.exchange for task in twin.tasks if task.exchange.op.startswith("train.")]
        assert wrote
        assert not any(name.startswith("program/") for x in wrote for name in x.payload)
        kept = atoll.train("silo-test-linear", None, sites, scaffold(), **how)
        same = atoll.train("silo-test-linear", None, here(), scaffold(), **how)
        assert kept.losses == same.losses
    finally:
        programs._known.pop("silo-test-linear")


def test_nodes_do_not_gossip_and_a_tree_is_a_star(twin):
    sites = connect()
    rounds = sites.rounds("test")
    rounds.meet(classes=True)
    with pytest.raises(errors.Unsupported, match="cannot gossip"):
        rounds.round("null.relay", combine=Sum(), settings={"size": 5}, plan=Spec("gossip", {"graph": "ring"}))
    ours = here(topology="tree(fan_out=2)").rounds("test")
    ours.meet(classes=True)
    for _ in range(2):
        a = ours.round("statistics.sums", combine=Sum(), plan=Spec("tree", {"fan_out": 2}))
        b = rounds.round("statistics.sums", combine=Sum(), plan=Spec("tree", {"fan_out": 2}))
        assert same_bits(a, b)
    assert [note for note in rounds.run.notes if "not each other" in note] == [
        "nodes answered the coordinator, not each other: the sums are those of topology 'tree'"
    ]


def test_runs_in_threads_do_not_meet(twin):
    sites, got = connect(), {}

    def fit(k):
        got[k] = Federated(PCA(k)).fit(sites).estimator_.components_

    threads = [threading.Thread(target=fit, args=(k,)) for k in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in (1, 2, 3):
        assert got[k].tobytes() == Federated(PCA(k)).fit(here()).estimator_.components_.tobytes()


def test_the_norm_of_what_is_trained_may_be_bounded(twin):
    local = sgd(lr=0.1)
    model = MLPClassifier((3,), max_iter=2, random_state=0)
    with pytest.raises(NodeFailed, match="norm"):
        Federated(model, local=local, rounds=1).fit(connect(max_norm=1e-9))
    assert twin.tasks[-1].exchange.expects.max_norm == 1e-9
    Federated(model, local=local, rounds=1).fit(connect(max_norm=1e9))
    with pytest.raises(InvalidData, match="max_norm"):
        connect(max_norm=-1.0)


def test_a_federation_that_is_collected_is_detached(twin):
    sites = connect()
    e, key = sites.live()
    del sites
    gc.collect()
    with pytest.raises(KeyError):
        e.remote(key)


def test_states_are_kept_at_the_coordinator(twin):
    sites = connect(run="study")
    rounds = sites.rounds("test")
    assert rounds.saved() is None
    for size in (3, 100_000):
        rounds.save(2, {"w": np.arange(float(size))})
        again = sites.rounds("test").saved()
        assert again is not None
        assert again[0] == 2
        assert same_bits(again[1], {"w": np.arange(float(size))})


def test_the_engine_takes_nothing_but_remote_rows(twin):
    e = live("silos")
    with pytest.raises(InvalidData, match="rows of their own"):
        e.attach([Shard.of("a", X, Y)])
    assert e.held(e.attach(Remote(URL))) == ()
