"""`Federation.describe` and `Federation.report`: what pandas says of the pooled rows, whoever holds them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.datasets import load_diabetes, load_iris

from atoll import Federation
from atoll.errors import NotAvailable, UnknownName
from atoll.evaluation.description import STATISTICS
from atoll.partition import report, split

GRID = [("iid", 1), ("label", 3), ("quantity", 7)]


def people(n: int = 240) -> tuple[pd.DataFrame, np.ndarray]:
    """Numbers, whole numbers, categories, truth values and text, some missing; and who is ill."""
    rng = np.random.default_rng(0)
    city = pd.Categorical(rng.choice(["oslo", "rome", "bern"], n, p=[0.5, 0.3, 0.2]))
    frame = pd.DataFrame({
        "age": rng.normal(50, 10, n), "visits": rng.integers(0, 9, n), "city": city, "smoker": rng.random(n) < 0.3,
        "name": rng.choice(list("abcd"), n, p=[0.4, 0.3, 0.2, 0.1]), "far": 1e8 + rng.normal(size=n),
    })  # fmt: skip
    frame.loc[rng.random(n) < 0.1, "age"] = np.nan
    frame.loc[rng.random(n) < 0.1, "name"] = None
    return frame, rng.choice(["ill", "well"], n, p=[0.6, 0.4])


def agrees(found: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Whether a table is what pandas says of a frame; counting what is missing is ours."""
    expected = frame.describe(include="all")
    assert (found.loc["missing"] == frame.isna().sum()).all()
    own = found.drop(index="missing").loc[list(expected.index)]
    assert list(own.columns) == list(expected.columns)
    for column in expected:
        for statistic, value in expected[column].items():
            got = own.loc[statistic, column]
            if isinstance(value, str | bool | np.bool_):
                assert got == value, (column, statistic)
            else:
                assert got == pytest.approx(value, rel=1e-11, nan_ok=True), (column, statistic)


@pytest.mark.parametrize(("partition", "n_nodes"), GRID)
def test_it_is_what_pandas_says_of_the_pooled_rows_and_of_each_node(partition, n_nodes):
    frame, y = people()
    parts = split(y, n_nodes, partition, random_state=0)
    sites = Federation.from_shards([(frame.iloc[p].reset_index(drop=True), y[p]) for p in parts])
    found = sites.describe()
    agrees(found.to_frame().drop(columns="target"), frame)
    for node, part in zip(found.nodes, parts, strict=True):
        own = frame.iloc[part]
        if not any(_tied(own[c]) for c in ("city", "smoker", "name")):
            agrees(found.to_frame(node=node).drop(columns="target"), own)
    labels = pd.Series(y).value_counts()
    assert (found.columns["target"].top, found.columns["target"].freq) == (labels.index[0], labels.iloc[0])


def _tied(column: pd.Series) -> bool:
    """Whether two values are the most frequent ones: pandas names either."""
    counts = column.value_counts().to_numpy()
    return len(counts) > 1 and counts[0] == counts[1]


@pytest.mark.parametrize("form", ["dense", "float32", "sparse"])
def test_matrices(form):
    X, y = load_iris(return_X_y=True)
    X = X.astype(np.float32) if form == "float32" else X
    given = sp.csr_matrix(X * (X > 1)) if form == "sparse" else X
    frame = pd.DataFrame(given.toarray() if form == "sparse" else X, columns=["0", "1", "2", "3"]).astype(float)
    found = Federation.simulate(given, y, n_nodes=4, partition="label").describe()
    agrees(found.to_frame().drop(columns="target"), frame)
    assert found.columns["target"].mean == pytest.approx(y.mean())
    assert found.imbalance.counts.sum(axis=0).tolist() == [50, 50, 50]


def test_sums_alone_tell_nothing_of_a_node():
    frame, y = people()
    sites = Federation.simulate(frame, y, n_nodes=3)
    each, sums = sites.describe(), sites.describe(per_node=False)
    assert sums.by_node == {}
    assert sums.imbalance is None
    pd.testing.assert_frame_equal(sums.to_frame(), each.to_frame(), rtol=1e-12)
    assert not {"summary.numbers", "summary.values"} & {one.op for one in sums.run.disclosures()}
    assert "mean by node" not in str(sums)


def test_columns_without_values():
    X = np.array([[np.nan, 1.0], [np.nan, np.nan], [np.nan, 3.0], [2.0, 4.0]])
    found = Federation.simulate(X, partition=np.array(["a", "a", "b", "b"])).describe()
    assert found.columns["0"].n == 1
    assert np.isnan(found.columns["0"].std)
    assert found.columns["0"].q50 == 2.0
    assert found.by_node["a"]["0"].n == 0
    assert np.isnan(found.by_node["a"]["0"].mean)
    assert found.columns["1"].missing == 1
    nothing = Federation.simulate(np.full((4, 1), np.nan), n_nodes=2).describe()
    assert nothing.columns["0"].n == 0
    assert np.isnan(nothing.columns["0"].q50)
    assert "–" in str(nothing)


def test_frames_in_another_order_are_described_by_name():
    frame, y = people(60)
    halves = [(frame[:30], y[:30]), (frame[30:][["name", "far", "age", "city", "visits", "smoker"]], y[30:])]
    found = Federation.from_shards(halves).describe()
    agrees(found.to_frame().drop(columns="target")[list(frame.columns)], frame)


def test_the_same_bits_in_worker_processes():
    frame, y = people(90)
    here, there = (
        Federation.simulate(frame, y, n_nodes=4, engine=engine, n_workers=2, topology=topology).describe()
        for engine, topology in (("inprocess", "star"), ("processes", "tree"))
    )
    assert json.dumps(here.to_dict()) == json.dumps(there.to_dict())


def test_messages_do_not_grow_with_rows():
    frame, y = people(60)
    sizes = []
    for times in (1, 10):
        many = pd.concat([frame] * times, ignore_index=True)
        sites = Federation.simulate(many, np.tile(y, times), n_nodes=3, partition=np.tile(np.arange(60) % 3, times))
        sizes.append(sites.describe().run.bytes_up)
    assert sizes[1] < 1.2 * sizes[0]


def test_quantities_are_counted_in_tenths_as_a_split_counts_them():
    X, y = load_diabetes(return_X_y=True)
    parts = split(y, 4, "label", random_state=0)
    sites = Federation.from_shards([(X[p], y[p]) for p in parts])
    ours, theirs = sites.report(), report(y, parts, sites.names)
    assert ours.classes == theirs.classes
    assert ours.counts.tolist() == theirs.counts.tolist()
    found = sites.describe()
    assert found.imbalance.counts.tolist() == ours.counts.tolist()
    assert found.columns["target"].q50 == np.median(y)


def test_few_floats_and_several_targets():
    X, y = load_iris(return_X_y=True)
    found = Federation.simulate(X, y + 0.5, n_nodes=3).report()
    assert found.classes == ("0.5", "1.5", "2.5")
    both = Federation.simulate(X, np.column_stack([X[:, 0], y]), n_nodes=3).describe()
    assert list(both.columns)[-2:] == ["target 0", "target 1"]
    assert both.imbalance.counts.sum() == 150


def test_without_targets():
    sites = Federation.simulate(load_iris().data, n_nodes=3)
    assert sites.describe().imbalance is None
    assert "target" not in sites.describe().columns
    with pytest.raises(NotAvailable, match="no labels to count"):
        sites.report()


def test_it_is_shown_as_text_html_frame_and_plain_values():
    frame, y = people(60)
    found = Federation.simulate(frame, y, n_nodes=3, partition="label").describe()
    assert repr(found) == "Description(7 columns, 60 rows, 3 nodes)"
    text = str(found)
    assert text.startswith("60 rows of 3 nodes, 20 each")
    assert "mean by node" in text
    assert "divergence" in text
    page = found._repr_html_()
    assert page.count("<table>") == 3
    assert "<svg" in page
    assert found.to_frame().index.tolist() == list(STATISTICS)
    by_node = found.to_frame(column="age")
    assert by_node.index.tolist() == ["all rows", *found.nodes]
    assert by_node["count"].sum() == 2 * found.columns["age"].n
    with pytest.raises(UnknownName, match="did you mean 'age'"):
        found.to_frame(column="aeg")
    with pytest.raises(UnknownName, match="did you mean 'node-0'"):
        found.to_frame(node="node0")
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["columns"]["age"]["top"] is None
    assert data["columns"]["city"]["top"] in ("oslo", "rome", "bern")


def test_names_of_people_stay_text():
    frame = pd.DataFrame({"<script>": ["<b>", "<b>"]})
    page = Federation.simulate(frame, n_nodes=2).describe()._repr_html_()
    assert "<script>" not in page
    assert "<b>" not in page
