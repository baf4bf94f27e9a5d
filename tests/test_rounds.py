"""Rounds and federations: select, number, ask, judge, decode, finish, record."""

from __future__ import annotations

import gc
import pickle

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from atoll import Federated, Federation, Rule
from atoll.combine import Combine, Each, Extrema, Mean, Moments, Sum
from atoll.engines import live
from atoll.engines.inprocess import InProcess
from atoll.errors import InvalidData, NodeFailed, NodeValueError, QuorumNotMet, UnknownName
from atoll.run import History, human_bytes
from atoll.specs import Spec
from atoll.transforms import fixed_point, identity
from atoll.views import codes
from cases import data

X, y = data("iris")


def federation(**settings):
    return Federation.simulate(X, y, n_nodes=5, partition="label", **settings)


def opened(**settings):
    rounds = federation(**settings).rounds("test")
    rounds.meet(classes=True)
    return rounds


def test_a_round_returns_the_finished_sum():
    assert opened().round("statistics.sums", combine=Mean())["x"] == pytest.approx(X.mean(axis=0), rel=1e-14)


def test_what_is_encoded_is_decoded():
    got = opened().round("statistics.sums", combine=Mean(), transform=[identity(), fixed_point(bits=30)])
    assert got["x"] == pytest.approx(X.mean(axis=0), rel=1e-9)


def test_something_may_stand_between_adding_and_decoding():
    seen = []

    def unmask(raw, accepted):
        seen.append((sorted(raw), accepted))
        return {name: array * 2 for name, array in raw.items()}

    got = opened().round("statistics.sums", combine=Sum(), transform=[fixed_point()], after=unmask)
    assert seen == [(["weight@fixed", "x@fixed"], (0, 1, 2, 3, 4))]
    assert got["weight"][0] == 300.0


def test_kinds_compose_or_say_why_not():
    rounds = opened()
    with pytest.raises(InvalidData, match=r"(?s)Moments is not a plain sum.*fixed_point"):
        rounds.round(
            "statistics.class_moments", combine=Moments(), transform=[fixed_point()], settings={"n_classes": 3}
        )
    gather = Combine(Spec("Sum"), lambda a, b: a, lambda t: t, "gather")
    with pytest.raises(InvalidData, match=r"(?s)needs all contributions at once.*tree"):
        rounds.round("null.ping", combine=gather, plan=Spec("tree", {"fan_out": 2}))


def test_views_are_shared_by_the_rounds_that_see_through_them():
    rounds = opened()
    seen = rounds.through(codes(rounds.schema.classes))
    counts = seen.round("describe.labels", combine=Each(), settings={"n_classes": [3]})["count.0"].reshape(5, 3)
    assert counts.sum(axis=0).tolist() == [50, 50, 50]
    assert [r.number for r in rounds.run] == [0, 1]


def test_arrays_lie_in_rows_for_whoever_is_asked_as_they_do_after_they_travelled(monkeypatch):
    seen, real = [], InProcess.submit

    def submit(self, key, x):
        seen.extend([x.payload["w"], x.each[0]["w"], x.view[0].arrays["values"]])
        return real(self, key, x)

    rounds = opened()
    lying = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    monkeypatch.setattr(InProcess, "submit", submit)
    view = codes(rounds.schema.classes)
    seen_through = rounds.through(view._replace(arrays={**view.arrays, "values": lying}))
    seen_through.round("null.ping", {"w": lying}, combine=Sum(), each={0: {"w": lying}})
    assert len(seen) == 3
    assert all(array.flags.c_contiguous and (array == lying).all() for array in seen)


def test_a_cohort_is_some_nodes():
    rounds = opened()
    assert rounds.round("null.ping", combine=Sum(), cohort=[3, 1])["nodes"][0] == 2
    assert (rounds.run.history[-1].asked, rounds.run.rounds) == (2, 2)
    with pytest.raises(InvalidData, match="nobody is asked"):
        rounds.round("null.ping", combine=Sum(), cohort=[])


def test_the_driver_has_its_own_stream():
    a, b = opened(random_state=1), opened(random_state=2)
    assert a.rng("init").integers(10**9) == opened(random_state=1).rng("init").integers(10**9)
    assert a.rng("init").integers(10**9) != b.rng("init").integers(10**9)


def broken(which, **settings):
    shards = [(X[i::5], y[i::5]) for i in range(5)]
    names = [f"site-{i}" for i in range(5)]
    for i in which:
        rows = X[i::5].copy()
        rows[0, 0] = np.nan
        shards[i] = (rows, y[i::5])
    rounds = Federation.from_shards(shards, names=names, **settings).rounds("test")
    rounds.meet(classes=True)
    return rounds


def test_a_failing_node_ends_the_run_with_its_name_and_reason():
    with pytest.raises(NodeFailed, match=r"(?s)1 of 5 nodes: an error.*not allowed.*round 1 .*site-3"):
        broken([3]).round("statistics.sums", combine=Mean())


def test_the_same_error_is_said_once():
    with pytest.raises(NodeFailed, match=r"(?s)3 of 5 nodes: the same error.*site-0, site-2, site-4") as error:
        broken([0, 2, 4]).round("statistics.extrema", combine=Extrema())
    assert str(error.value).count("not allowed") == 1


def test_a_value_error_on_a_node_is_a_value_error_here():
    rounds = opened()
    with pytest.raises(NodeValueError, match="not among the agreed classes") as error:
        rounds.through(codes([np.array([0, 1])])).round("describe.labels", combine=Sum(), settings={"n_classes": [2]})
    assert isinstance(error.value, ValueError)


def test_a_quorum_goes_on_without_those_that_fail_and_shows_them():
    rounds = broken([3], rule=Rule(quorum=0.8))
    got = rounds.round("statistics.sums", combine=Sum())
    assert got["weight"][0] == 120.0
    row = rounds.run.history[-1]
    assert (row.asked, row.answered, list(row.refused)) == (5, 4, ["site-3"])
    with pytest.raises(NodeFailed):
        broken([3, 4], rule=Rule(quorum=0.8)).round("statistics.sums", combine=Sum())


def test_a_node_that_was_left_out_of_round_0_stays_out():
    """Its rows are in no schema and no count, so they must not be among the neighbours either."""
    shards = [(X[i::5], y[i::5]) for i in range(5)]
    spoilt = X[2::5].copy()
    spoilt[0, 0] = np.nan
    shards[2] = (spoilt, y[2::5])
    sites = Federation.from_shards(shards, rule=Rule(quorum=0.8))
    model = Federated(KNeighborsClassifier(n_neighbors=3)).fit(sites)
    others = np.arange(150) % 5 != 2
    pooled = KNeighborsClassifier(n_neighbors=3).fit(X[others], y[others])
    assert (model.predict(X) == pooled.predict(X)).all()
    assert model.n_samples_fit_ == 120
    assert [(row.asked, row.answered) for row in model.run_] == [(5, 4), (4, 4)]
    assert list(model.run_.history[0].refused) == ["node-2"]


def test_a_deadline_says_who_is_missing_and_which_setting():
    rounds = opened(rule=Rule(deadline=60.0))
    rounds.link.rule = Rule(deadline=1e-9)
    with pytest.raises(
        QuorumNotMet, match=r"(?s)0 of 5 nodes answered in time.*node-0, node-1.*deadline.*raise the deadline"
    ):
        rounds.round("null.ping", combine=Sum())


def test_an_exact_fit_refuses_to_count_rows_in_another_round():
    with pytest.raises(InvalidData, match="counts every row in the round that asked"):
        Federated(KNeighborsClassifier()).fit(federation(rule=Rule(deadline=9.0, late="next")))


class TestFederation:
    def test_nodes_are_numbered_by_sorted_name(self):
        shards = [(X[i : i + 3], y[i : i + 3]) for i in range(3)]
        fed = Federation.from_shards(shards, names=["c", "a", "b"])
        assert fed.names == ("a", "b", "c")
        assert [s.ids.tolist() for s in fed._shards] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
        assert (X[1:4] == fed._shards[0].X).all()

    def test_a_column_of_node_ids_makes_nodes(self):
        site = np.array(["north", "south"])[np.arange(150) % 2]
        fed = Federation.simulate(X, y, partition=site)
        assert fed.names == ("north", "south")
        assert fed._shards[1].ids.tolist() == list(range(1, 150, 2))

    def test_pooled_rows_come_back_in_order(self):
        whole = federation().pooled()
        assert (whole.X == X).all()
        assert (whole.y == y).all()

    def test_the_report_is_made_of_counts(self):
        fed = federation()
        report = fed.report()
        assert np.asarray(report.counts).sum(axis=0).tolist() == [50, 50, 50]
        assert list(report.names) == list(fed.names)

    def test_it_is_a_value(self):
        fed = federation(engine="inprocess")
        fed.live()
        again = pickle.loads(pickle.dumps(fed))
        assert again._attachment is None
        assert (again.pooled().X == X).all()

    def test_shards_are_given_back_when_it_is_collected(self):
        engine = live("inprocess")
        gc.collect()
        before = len(engine._attached)
        fed = federation()
        fed.live()
        assert len(engine._attached) == before + 1
        del fed
        gc.collect()
        assert len(engine._attached) == before

    @pytest.mark.parametrize(
        ("settings", "error", "words"),
        [
            ({"engine": "proceses"}, UnknownName, "did you mean 'processes' or 'inprocess'|did you mean 'processes'"),
            ({"topology": "tre"}, UnknownName, "did you mean 'tree'"),
            ({"topology": "tree(fan=3)"}, UnknownName, "no setting 'fan'"),
            ({"topology": "tree(fan_out=1)"}, InvalidData, "at least 2"),
            ({"rule": Rule(deadline=-1)}, InvalidData, "deadline"),
        ],
    )
    def test_settings_are_checked(self, settings, error, words):
        with pytest.raises(error, match=words):
            federation(**settings).rounds("x").meet(classes=False)

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (lambda: Federation.from_shards([]), "at least one node"),
            (lambda: Federation.from_shards([(X, y), (X, y)], names=["a", "a"]), "(?s)same name.*'a'"),
            (lambda: Federation.from_shards([(X, y)], names=["a", "b"]), "one name per node"),
            (lambda: Federation.from_shards([(X, y), (X[:0], y[:0])]), "node 'node-1'"),
            (lambda: Federation.simulate(X, y, n_nodes=151), "n_samples=150"),
            (lambda: Federation.simulate(X, y, partition=np.zeros(3)), "one entry per row"),
            (lambda: Federation.simulate(X, y, n_nodes=0), "n_nodes"),
        ],
    )
    def test_rows_are_checked(self, call, words):
        with pytest.raises(InvalidData, match=words):
            call()

    def test_more_than_ten_nodes_keep_their_order(self):
        assert Federation.simulate(X, y, n_nodes=12).names[:3] == ("node-00", "node-01", "node-02")

    def test_reprs_escape_what_people_write(self):
        fed = Federation.from_shards([(X, y)], names=["<script>"])
        assert "<script>" not in fed._repr_html_()
        assert "1 nodes" in repr(fed) or "1 node" in repr(fed)


class TestRun:
    def run(self):
        rounds = opened()
        rounds.round("null.ping", combine=Sum())
        return rounds.run

    def test_history_is_a_table(self):
        frame = self.run().history.to_frame()
        assert frame.index.name == "number"
        assert frame.loc[1, "op"] == "null.ping"
        assert frame.loc[1, "bytes_up"] == 40

    def test_slices_are_histories(self):
        history = self.run().history
        assert isinstance(history[-1:], History)
        assert history[-1].op == history[-1:][0].op == "null.ping"
        assert len(history) == 2

    def test_the_record_says_what_left_in_words_and_bytes(self):
        run = self.run()
        assert any("null.ping: a node tells that it is there (40 B)" in line for line in run.in_words())
        assert "null.ping" in run._repr_html_()
        assert run.versions["numpy"] == np.__version__

    def test_a_record_is_a_value(self):
        run = self.run()
        again = pickle.loads(pickle.dumps(run))
        assert again.rows == run.rows
        assert again.disclosures() == run.disclosures()

    @pytest.mark.parametrize(
        ("size", "text"),
        [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (12_345, "12.3 kB"), (5e13, "50.0 TB"), (5e16, "5e+04 TB")],
    )
    def test_sizes_are_readable(self, size, text):
        assert human_bytes(size) == text
