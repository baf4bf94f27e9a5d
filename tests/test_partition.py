from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from sklearn.datasets import load_diabetes, load_digits, load_iris

from atoll.errors import InvalidData, UnknownName
from atoll.partition import Labels, PartitionReport, by_column, encode, partitions, report, split
from atoll.partition.rounding import apportion, draw_shares, fit_margins, round_table
from atoll.specs import Spec, read

NAMES = ["classes", "dirichlet", "dirichlet-by-node", "iid", "label", "quantity", "shards"]
ALPHAS = [1e-300, 1e-8, 0.01, 0.5, 1.0, 100.0, 1e8, 1e300]


def check_partition(parts: list[np.ndarray], n_rows: int, n_nodes: int, min_rows: int = 1) -> None:
    assert len(parts) == n_nodes
    assert all(part.dtype == np.int64 for part in parts)
    assert all((np.diff(part) > 0).all() for part in parts)
    assert min(map(len, parts)) >= min_rows
    assert np.sort(np.concatenate(parts)).tolist() == list(range(n_rows))


def sizes(parts: list[np.ndarray]) -> list[int]:
    return [len(part) for part in parts]


def pieces_of(y: np.ndarray, part: np.ndarray, order: np.ndarray) -> int:
    """Contiguous runs that a node's rows form in an order."""
    place = np.empty(len(order), dtype=int)
    place[order] = np.arange(len(order))
    return int((np.diff(np.sort(place[part])) > 1).sum()) + 1


def test_the_named_partitions_are_all_there() -> None:
    assert list(partitions) == NAMES


# Exact sizes, the floor, and an end: for every partition


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], int, int, str, dict[str, Any], int]:
    """Labels (of one class, or of more than a node has rows), nodes, floor, partition, settings, seed."""
    labels = draw(st.lists(st.integers(0, draw(st.sampled_from([0, 1, 3, 40]))), min_size=1, max_size=60))
    min_rows = draw(st.integers(1, 3).filter(lambda m: m <= len(labels)))
    most = len(labels) // min_rows
    n_nodes = draw(st.one_of(st.just(most), st.integers(1, most)))
    name = draw(st.sampled_from(NAMES))
    choices: dict[str, list[dict[str, Any]]] = {
        "dirichlet": [{"alpha": a} for a in ALPHAS],
        "dirichlet-by-node": [{"alpha": a} for a in ALPHAS],
        "quantity": [*({"alpha": a} for a in ALPHAS), *({"sigma": s} for s in (1e-8, 1.0, 1e8))],
        "shards": [{"per_node": s} for s in (1, 2, 5, 10**9)],
        "classes": [{"per_node": c} for c in (1, 2, 5, 10**9)],
    }
    return labels, n_nodes, min_rows, name, draw(st.sampled_from(choices.get(name, [{}]))), draw(st.integers(0, 2**32))


@settings(max_examples=2000)
@given(problems())
def test_every_partition_covers_all_rows_once_and_keeps_the_floor(
    problem: tuple[list[int], int, int, str, dict[str, Any], int],
) -> None:
    labels, n_nodes, min_rows, name, chosen, seed = problem
    try:
        parts = split(labels, n_nodes, name, random_state=seed, min_rows=min_rows, **chosen)
    except InvalidData:
        # Only `classes` may refuse: too few places for the classes, or a floor that they cannot fill.
        assert name == "classes"
        assert len(set(labels)) > n_nodes * chosen["per_node"] or min_rows > 1
        return
    check_partition(parts, len(labels), n_nodes, min_rows)
    if name in {"iid", "label", "shards", "dirichlet-by-node"}:
        assert max(sizes(parts)) - min(sizes(parts)) <= 1
    if name == "classes":
        assert max(len({labels[i] for i in part}) for part in parts) <= chosen["per_node"]


@pytest.mark.parametrize("name", NAMES)
def test_as_many_nodes_as_rows(name: str) -> None:
    parts = split(load_iris().target, 150, name, random_state=0)
    assert sizes(parts) == [1] * 150


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("name", ["dirichlet", "dirichlet-by-node", "quantity"])
def test_any_concentration_with_many_nodes(name: str, alpha: float) -> None:
    y = load_digits().target
    for seed in range(3):
        check_partition(split(y, 300, name, alpha=alpha, random_state=seed, min_rows=5), len(y), 300, 5)


# Whole rows out of shares


tables = st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32), st.sampled_from([1e-8, 0.05, 1.0, 1e8]))


def draw_table(n_rows: int, n_columns: int, seed: int, alpha: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A seed that may be nearly all zero, and margins that may be hard to reach from it."""
    rng = np.random.default_rng(seed)
    total = max(n_rows, n_columns) + int(rng.integers(0, 200))
    rows = apportion(rng.random(n_rows) ** 4, total, 1)
    columns = apportion(rng.random(n_columns) ** 4, total, 1)
    return draw_shares(np.full(n_rows * n_columns, alpha), 1, rng).reshape(n_rows, n_columns), rows, columns


@settings(max_examples=1000)
@given(tables)
def test_margins_are_reached_whatever_the_seed(table: tuple[int, int, int, float]) -> None:
    seed, rows, columns = draw_table(*table)
    fitted = fit_margins(seed, rows, columns)
    assert fitted.min() >= 0
    np.testing.assert_allclose(fitted.sum(axis=1), rows, rtol=1e-12)
    np.testing.assert_allclose(fitted.sum(axis=0), columns, rtol=1e-12)


@settings(max_examples=1000)
@given(tables)
def test_rounding_keeps_both_margins_and_moves_no_cell_by_one(table: tuple[int, int, int, float]) -> None:
    seed, rows, columns = draw_table(*table)
    expected = fit_margins(seed, rows, columns)
    rounded = round_table(expected, np.random.default_rng(table[2]))
    assert rounded.sum(axis=1).tolist() == rows.tolist()
    assert rounded.sum(axis=0).tolist() == columns.tolist()
    assert np.abs(rounded - expected).max() < 1 + 1e-6
    assert (rounded >= 0).all()


def test_fitting_keeps_the_odds_ratios_of_the_seed() -> None:
    # What proportional fitting is for (Deming & Stephan 1940): only the margins change.
    seed = np.array([[4.0, 1.0], [1.0, 2.0]])
    fitted = fit_margins(seed, np.array([30, 70]), np.array([60, 40]))
    ratio = fitted[0, 0] * fitted[1, 1] / (fitted[0, 1] * fitted[1, 0])
    assert ratio == pytest.approx(8.0, rel=1e-6)


def test_rounding_is_without_bias() -> None:
    rng = np.random.default_rng(0)
    expected = fit_margins(rng.random((4, 3)), np.array([3, 4, 5, 6]), np.array([6, 6, 6]))
    mean = np.mean([round_table(expected, rng) for _ in range(4000)], axis=0)
    # A cell is a coin of variance at most 1/4: five standard errors of 4000 tosses.
    np.testing.assert_allclose(mean, expected, atol=5 * 0.5 / math.sqrt(4000))


def test_rounding_what_is_whole_changes_nothing() -> None:
    table = np.array([[3.0, 0.0], [1.0, 5.0]])
    assert round_table(table, np.random.default_rng(0)).tolist() == [[3, 0], [1, 5]]


@pytest.mark.parametrize(
    ("weights", "total", "floor", "expected"),
    [
        ([1, 1, 1], 10, 0, [4, 3, 3]),
        ([5, 3, 2], 10, 0, [5, 3, 2]),
        ([0, 0], 5, 0, [3, 2]),
        ([0.5, 0.3, 0.2], 7, 0, [4, 2, 1]),  # 3.5, 2.1, 1.4: the largest remainder gets the odd one
        ([1, 0, 0], 10, 2, [6, 2, 2]),
        ([100, 10, 1], 12, 3, [6, 3, 3]),
        ([1, 2, 3], 9, 3, [3, 3, 3]),
    ],
)
def test_apportion_by_hand(weights: list[float], total: int, floor: int, expected: list[int]) -> None:
    assert apportion(np.array(weights, dtype=float), total, floor).tolist() == expected


@settings(max_examples=500)
@given(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-300, 1e9)), min_size=1, max_size=20),
    st.integers(0, 5),
    st.integers(0, 10_000),
)
def test_apportion_is_exact_and_keeps_the_floor(weights: list[float], floor: int, more: int) -> None:
    total = floor * len(weights) + more
    given_out = apportion(np.array(weights), total, floor)
    assert given_out.sum() == total
    assert given_out.min() >= floor


@pytest.mark.parametrize("alpha", ALPHAS)
def test_dirichlet_shares_are_shares(alpha: float) -> None:
    shares = draw_shares(np.full(5, alpha), 200, np.random.default_rng(0))
    assert np.isfinite(shares).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    if alpha <= 1e-8:
        np.testing.assert_allclose(np.sort(shares, axis=1)[:, -1], 1)
    if alpha >= 1e8:
        np.testing.assert_allclose(shares, 0.2, rtol=1e-3)


def test_dirichlet_shares_have_the_moments_of_the_distribution() -> None:
    # Mean a_i / a_0 and variance a_i (a_0 - a_i) / (a_0² (a_0 + 1)); Kotz, Balakrishnan & Johnson, chapter 49.
    a = np.array([0.05, 0.5, 2.0])
    shares = draw_shares(a, 400_000, np.random.default_rng(1))
    mean, variance = a / a.sum(), a * (a.sum() - a) / (a.sum() ** 2 * (a.sum() + 1))
    np.testing.assert_allclose(shares.mean(axis=0), mean, atol=5 * np.sqrt(variance.max() / 400_000))
    np.testing.assert_allclose(shares.var(axis=0), variance, rtol=0.05)


# What each name means


def test_iid_is_a_random_permutation_in_equal_pieces() -> None:
    parts = split(103, 10, random_state=0)
    assert sorted(sizes(parts)) == [10] * 7 + [11] * 3
    assert parts[0].tolist() != list(range(11))
    counts = np.zeros(20)
    for seed in range(400):
        counts[split(20, 4, random_state=seed)[0]] += 1
    # Each row is on node 0 in a quarter of the draws: five standard deviations of a binomial.
    assert np.abs(counts - 100).max() < 5 * math.sqrt(400 * 0.25 * 0.75)


def test_label_sorts_stably_and_cuts_equally() -> None:
    assert [p.tolist() for p in split(["b", "a", "b", "a", "b"], 2, "label")] == [[0, 1, 3], [2, 4]]
    y = load_iris().target
    assert [np.unique(y[p]).tolist() for p in split(y, 3, "label")] == [[0], [1], [2]]


def test_label_sorts_a_regression_target_by_value() -> None:
    y = load_diabetes().target
    parts = split(y, 7, "label")
    assert all(y[a].max() <= y[b].min() for a, b in pairwise(parts))


@pytest.mark.parametrize("c", [1, 2, 3, 10])
def test_classes_holds_at_most_c_classes_and_about_equal_sizes(c: int) -> None:
    y = load_digits().target
    seen = set()
    for seed in range(5):
        parts = split(y, 10, f"classes={c}", random_state=seed)
        held = [frozenset(y[p].tolist()) for p in parts]
        seen.update(held)
        assert {len(h) for h in held} == {c}
        assert max(sizes(parts)) <= 1.2 * min(sizes(parts))
    assert len(seen) > 10 or c in {1, 10}


def test_classes_shares_a_class_equally_between_its_holders() -> None:
    y = np.repeat([0, 1], [60, 30])
    counts = report(y, split(y, 3, "classes=1", random_state=0)).counts
    assert sorted(counts.tolist()) == [[0, 30], [30, 0], [30, 0]]


def test_classes_gives_a_rare_class_a_home() -> None:
    y = np.repeat([0, 1, 2], [1000, 500, 1])
    parts = split(y, 4, "classes", per_node=1, random_state=0)
    check_partition(parts, 1501, 4)
    assert min(sizes(parts)) == 1


def test_classes_keeps_a_floor_that_equal_sharing_would_break() -> None:
    # Class 2 has two rows: the node that holds it must take more of its other class than its equal part.
    y = np.repeat([0, 1, 2], [20, 20, 2])
    for seed in range(20):
        parts = split(y, 4, "classes=2", random_state=seed, min_rows=8)
        check_partition(parts, 42, 4, 8)
        assert max(len(set(y[p].tolist())) for p in parts) <= 2


def test_classes_refuses_what_cannot_be() -> None:
    with pytest.raises(InvalidData, match="cannot hold 10 classes") as caught:
        split(load_digits().target, 4, "classes=2")
    assert "per_node of at least 3" in str(caught.value)
    with pytest.raises(InvalidData, match="cannot give every node 5 rows") as caught:
        split([0] * 9 + [1], 2, "classes=1", min_rows=5)
    assert "n_samples=10" in str(caught.value)


def test_dirichlet_with_a_large_alpha_is_near_the_pooled_mix() -> None:
    y = load_digits().target
    for name in ("dirichlet", "dirichlet-by-node"):
        counts = report(y, split(y, 9, name, alpha=1e8, random_state=0)).counts
        assert np.abs(counts - np.bincount(y) / 9).max() <= 1.01


def test_dirichlet_with_a_small_alpha_gives_each_class_to_one_node() -> None:
    y = load_digits().target
    counts = report(y, split(y, 20, "dirichlet", alpha=1e-8, random_state=1)).counts
    # All but the one row that the floor gives to each of the other nodes.
    assert (counts.max(axis=0) >= np.bincount(y) - 20).all()
    assert np.sort(counts.sum(axis=1))[:10].tolist() == [1] * 10


def test_dirichlet_by_node_with_a_small_alpha_gives_nodes_one_class_as_far_as_equal_sizes_allow() -> None:
    # Each of 100 nodes wants one of two classes; those who want the more wanted one share the rest of the other.
    y = np.repeat([0, 1], 500)
    for seed in range(10):
        parts = split(y, 100, "dirichlet-by-node", alpha=1e-8, random_state=seed)
        assert sizes(parts) == [10] * 100
        counts = report(y, parts).counts
        # The more wanted class is wanted by at most 50 + 5 · 5 nodes (five standard deviations of a fair coin).
        assert (counts.max(axis=1) == 10).sum() >= 25
        assert np.minimum(counts[:, 0], counts[:, 1]).sum() <= 250


def test_dirichlet_variants_differ_in_sizes() -> None:
    y = load_digits().target
    by_class = report(y, split(y, 10, "dirichlet(alpha=0.3)", random_state=0))
    by_node = report(y, split(y, 10, "dirichlet-by-node(alpha=0.3)", random_state=0))
    assert by_class.gini > 0.1
    assert by_node.gini < 0.002


def test_dirichlet_shares_of_a_class_follow_the_distribution() -> None:
    # Yurochkin et al.: a class's shares are Dir_J(alpha), so each has variance (J - 1) / (J² (J alpha + 1)).
    y = np.zeros(3000, dtype=int)
    shares = np.array([sizes(split(y, 4, "dirichlet(alpha=1)", random_state=seed)) for seed in range(600)]) / 3000
    assert shares.mean() == pytest.approx(0.25)
    assert shares.var() == pytest.approx(3 / (16 * 5), rel=0.15)


def test_dirichlet_by_node_follows_the_pooled_mix() -> None:
    # Hsu et al.: the mean of Dir(alpha · prior) is the prior.
    y = np.repeat([0, 1, 2], [800, 150, 50])
    first = [report(y, split(y, 5, "dirichlet-by-node(alpha=5)", random_state=s)).counts[0] for s in range(200)]
    np.testing.assert_allclose(np.mean(first, axis=0) / 200, [0.8, 0.15, 0.05], atol=0.05)


def test_shards_gives_each_node_so_many_pieces_of_the_sorted_rows() -> None:
    y = load_digits().target
    order = np.argsort(y, kind="stable")
    for per_node in (1, 2, 4):
        parts = split(y, 20, "shards", per_node=per_node, random_state=0)
        assert max(sizes(parts)) - min(sizes(parts)) <= 1
        # Neighbouring pieces on one node look like one.
        assert max(pieces_of(y, part, order) for part in parts) <= per_node
        assert sum(pieces_of(y, part, order) for part in parts) >= 20 * per_node * 0.8
    assert sizes(split(60_000, 1, "iid")) == [60_000]


def test_quantity_spreads_sizes_and_not_labels() -> None:
    y = load_digits().target
    for chosen in ({}, {"alpha": 0.5}, {"sigma": 1.5}):
        result = report(y, split(y, 6, "quantity", random_state=3, **chosen))
        assert result.gini > 0.25
        assert result.total_variation[np.argmax(result.rows)] < 0.1
    assert report(y, split(y, 6, "quantity", sigma=1e-9)).gini < 0.01
    assert report(y, split(y, 6, "quantity", alpha=1e9)).gini < 0.01


def test_quantity_takes_one_kind_of_size() -> None:
    with pytest.raises(InvalidData, match="not both"):
        split(10, 2, "quantity", alpha=1, sigma=1)


# Seeds


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_rows(name: str) -> None:
    y = load_iris().target
    once, again = split(y, 7, name, random_state=5), split(y, 7, name, random_state=5)
    assert [p.tolist() for p in once] == [p.tolist() for p in again]
    other = split(y, 7, name, random_state=6)
    assert name == "label" or [p.tolist() for p in once] != [p.tolist() for p in other]


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_generators_are_drawn_from(make: Callable[[int], Any]) -> None:
    state = make(0)
    first, second = split(50, 2, random_state=state)[0], split(50, 2, random_state=state)[0]
    assert first.tolist() == split(50, 2, random_state=make(0))[0].tolist()
    assert first.tolist() != second.tolist()


def test_none_is_a_seed_and_numpy_integers_are_integers() -> None:
    assert split(50, 2)[0].tolist() == split(50, 2, random_state=0)[0].tolist()
    assert split(50, 2, random_state=np.int64(3))[0].tolist() == split(50, 2, random_state=3)[0].tolist()


@pytest.mark.parametrize("seed", ["7", 1.5, True, object()])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(InvalidData, match="bad random_state"):
        split(10, 2, random_state=seed)


# Names and settings as text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("iid", Spec("iid", {})),
        (" iid ", Spec("iid", {})),
        ("iid()", Spec("iid", {})),
        ("classes=2", Spec("classes", {"per_node": 2})),
        ("classes = 2", Spec("classes", {"per_node": 2})),
        ("classes(2)", Spec("classes", {"per_node": 2})),
        ("dirichlet(alpha=0.3)", Spec("dirichlet", {"alpha": 0.3})),
        ("dirichlet=0.3", Spec("dirichlet", {"alpha": 0.3})),
        ("dirichlet-by-node( alpha = 1e-3 )", Spec("dirichlet-by-node", {"alpha": 1e-3})),
        ("shards(per_node=2)", Spec("shards", {"per_node": 2})),
        ("quantity(sigma=1)", Spec("quantity", {"sigma": 1})),
        ("quantity(alpha=0.5)", Spec("quantity", {"alpha": 0.5})),
    ],
)
def test_partitions_as_text(text: str, expected: Spec) -> None:
    assert read(partitions, text) == expected


def test_text_spec_and_keywords_are_the_same() -> None:
    y = load_iris().target
    as_keyword = split(y, 4, "dirichlet", alpha=0.3, random_state=0)
    for other in (
        split(y, 4, "dirichlet(alpha=0.3)", random_state=0),
        split(y, 4, Spec("dirichlet", {"alpha": 0.3}), random_state=0),
        split(y, 4, "dirichlet(alpha=99)", random_state=0, alpha=0.3),
    ):
        assert [p.tolist() for p in other] == [p.tolist() for p in as_keyword]


@pytest.mark.parametrize(
    "text",
    ["dirichlet(alpha=)", "dirichlet(alpha=x)", "dirichlet(0.1, 0.2)", "iid(3)", "iid=3", "dirichlet(alpha=1)(2)",
     "dirichlet(**{'alpha': 1})", "dirichlet(alpha=__import__('os'))", "dirichlet(" + "(" * 500 + ")"],
)  # fmt: skip
def test_text_that_cannot_be_read(text: str) -> None:
    with pytest.raises((InvalidData, UnknownName)):
        split([0, 1], 2, text)


def test_unknown_names_are_answered_with_near_ones() -> None:
    with pytest.raises(UnknownName, match="did you mean 'dirichlet'"):
        split([0, 1], 2, "dirichlett(alpha=1)")
    with pytest.raises(UnknownName, match="known: classes, dirichlet"):
        split([0, 1], 2, "???")
    with pytest.raises(UnknownName, match=r"no setting 'alpa'\n.*did you mean 'alpha'"):
        split([0, 1], 2, "dirichlet", alpa=1)
    with pytest.raises(UnknownName, match="no settings at all"):
        split([0, 1], 2, "iid", alpha=1)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "1", None, True, [1]])
def test_settings_out_of_range(value: Any) -> None:
    for name in ("dirichlet", "dirichlet-by-node"):
        with pytest.raises(InvalidData, match="bad alpha"):
            split([0, 1], 2, name, alpha=value)
    with pytest.raises(InvalidData, match="bad sigma"):
        split(2, 2, "quantity", sigma=0 if value is None else value)


@pytest.mark.parametrize("value", [0, -1, 1.5, "1", None, True])
@pytest.mark.parametrize("name", ["shards", "classes"])
def test_counts_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(InvalidData, match="bad per_node"):
        split([0, 1], 2, name, per_node=value)


def test_a_partition_of_ones_own() -> None:
    def odd_even(labels: Labels, n_nodes: int, min_rows: int, rng: np.random.Generator) -> np.ndarray:
        return np.arange(labels.n_rows) % n_nodes

    partitions.add("odd-even", odd_even)
    try:
        assert [p.tolist() for p in split(5, 2, "odd-even")] == [[0, 2, 4], [1, 3]]
    finally:
        del partitions._known["odd-even"]


# Rows and nodes


def test_more_nodes_than_rows() -> None:
    for name in NAMES:
        with pytest.raises(InvalidData, match="n_samples=1 is not enough for 2 nodes"):
            split([0], 2, name)
    with pytest.raises(InvalidData, match="n_samples=0 "):
        split([], 1)
    with pytest.raises(InvalidData, match="at most 3 nodes"):
        split(10, 4, min_rows=3)


@pytest.mark.parametrize("n_nodes", [0, -2, 1.5, "3", None, True])
def test_what_is_no_number_of_nodes(n_nodes: Any) -> None:
    with pytest.raises(InvalidData, match="bad n_nodes"):
        split(10, n_nodes)


@pytest.mark.parametrize("min_rows", [0, -1, 0.5, None])
def test_what_is_no_floor(min_rows: Any) -> None:
    with pytest.raises(InvalidData, match="bad min_rows"):
        split(10, 2, min_rows=min_rows)


def test_numpy_integers_are_numbers_too() -> None:
    check_partition(split(np.int64(10), np.int32(2), min_rows=np.int8(2)), 10, 2)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"iid", "quantity"}))
def test_rows_without_labels_need_another_partition(name: str) -> None:
    with pytest.raises(InvalidData, match=f"'{name}' needs labels") as caught:
        split(10, 2, name)
    assert "'iid' or 'quantity'" in str(caught.value)


def test_nothing_to_split() -> None:
    with pytest.raises(InvalidData, match="nothing to split"):
        split(None, 2)


# Labels of all kinds


@pytest.mark.parametrize(
    "y",
    [
        ["b", "a", "b", "c"],
        np.array(["b", "a", "b", "c"]),
        np.array(["b", "a", "b", "c"], dtype=object),
        pd.Series(["b", "a", "b", "c"], index=[9, 9, 1, 0]),
        pd.Series(["b", "a", "b", "c"], dtype="category"),
        pd.DataFrame({"first": ["b", "a", "b", "c"], "second": [1, 2, 3, 4]}),
        np.array([1, 0, 1, 2]),
        np.array([1.0, 0.0, 1.0, 2.0]),
        np.array([1, 0.0, 1, 2], dtype=object),
        np.array([[1, 5], [0, 4], [1, 3], [2, 2]]),
        np.array([b"b", b"a", b"b", b"c"]),
        np.array(["2021", "2020", "2021", "2022"], dtype="datetime64[Y]"),
    ],
)
def test_labels_of_any_type(y: Any) -> None:
    assert encode(y).codes.tolist() == [1, 0, 1, 2]
    assert encode(y).order.tolist() == [1, 0, 2, 3]
    assert [p.tolist() for p in split(y, 2, "label")] == [[0, 1], [2, 3]]


def test_booleans_are_classes() -> None:
    assert encode([True, False, True]).names == ("False", "True")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["a", 1], "mixed type\n.*int, str"),
        (["a", None], "a label is missing\n.*1 of 2"),
        (np.array(["a", float("nan")], dtype=object), "a label is missing"),
        ([1.0, float("nan")], "a label is missing\n.*1 of 2 rows.*\n.*row 1"),
        (pd.Series(["a", pd.NA]), "a label is missing"),
        (pd.Series(["a", pd.NA], dtype="string"), "a label is missing"),
        (np.array(["2020", "NaT"], dtype="datetime64[Y]"), "a label is missing"),
        ([1.0, float("inf")], "infinite\n.*row 1"),
        (np.zeros((2, 0)), "one label per row"),
        ("text", "one label per row"),
    ],
)
def test_labels_that_cannot_be_used(y: Any, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        split(y, 2, "label")


def test_floats_with_many_values_are_binned_by_decile() -> None:
    y = load_diabetes().target
    labels = encode(y)
    assert len(labels.names) == 10
    assert labels.names[0] == "≤ 60"
    assert labels.names[-1] == "> 265"
    counts = np.bincount(labels.codes)
    assert counts.sum() == 442
    assert counts.min() >= 40
    assert (labels.codes[np.argsort(y, kind="stable")][1:] >= labels.codes[np.argsort(y, kind="stable")][:-1]).all()
    # Twenty values are classes, one more is a quantity.
    assert len(encode(np.arange(20) / 2).names) == 20
    assert len(encode(np.arange(21) / 2).names) == 10


@pytest.mark.parametrize(
    "y", [np.r_[np.zeros(500), np.arange(30.0)], 1e9 + np.arange(40.0), np.r_[np.arange(30.0), np.full(99, 30.0)]]
)
def test_bins_are_never_empty_and_have_names_of_their_own(y: np.ndarray) -> None:
    labels = encode(y)
    assert np.bincount(labels.codes).min() >= 1
    assert len(set(labels.names)) == len(labels.names) == labels.codes.max() + 1


# By a column of node ids


def test_by_column_sorts_by_id() -> None:
    names, parts = by_column(np.array([10, 2, 10, 1]))
    assert names == ("1", "2", "10")
    assert [p.tolist() for p in parts] == [[3], [1], [0, 2]]
    names, parts = by_column(pd.Series(["rome", "oslo", "rome"]))
    assert names == ("oslo", "rome")


def test_split_by_a_column() -> None:
    ids = ["rome", "oslo", "rome"]
    for n_nodes in (None, 2):
        assert [p.tolist() for p in split(3, n_nodes, ids)] == [[1], [0, 2]]
        assert [p.tolist() for p in split([0, 1, 0], n_nodes, np.array(ids, dtype=object))] == [[1], [0, 2]]


@pytest.mark.parametrize(
    ("n_nodes", "ids", "more", "message"),
    [
        (3, ["a", "b"], {}, "do not agree\n.*n_nodes=3, 2 distinct"),
        (2, ["a", "b", "c"], {}, "one node id per row"),
        (2, ["a", None], {}, "a node id is missing"),
        (2, ["a", 1], {}, "the node ids are of mixed type"),
        (0, ["a", "b"], {}, "bad n_nodes"),
        (None, ["a", "b"], {"min_rows": 2}, "node 'a' has too few rows"),
        (None, None, {}, "one node id per row"),
    ],
)
def test_ids_that_cannot_be_used(n_nodes: Any, ids: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        split(2, n_nodes, ids, **more)


def test_ids_take_no_settings() -> None:
    with pytest.raises(UnknownName, match="no settings"):
        split(2, 2, ["a", "b"], alpha=1)


# The report


COUNTS = [[3, 1, 0], [0, 0, 4], [1, 0, 0]]


def test_report_by_hand() -> None:
    result = PartitionReport.from_counts(["a", "b", "c"], ["x", "y", "z"], COUNTS)
    assert result.rows.tolist() == [4, 4, 1]
    # Pooled shares are 4/9, 1/9, 4/9.
    np.testing.assert_allclose(
        result.total_variation,
        [(3 / 4 - 4 / 9 + 1 / 4 - 1 / 9 + 4 / 9) / 2, (4 / 9 + 1 / 9 + 1 - 4 / 9) / 2, (1 - 4 / 9 + 1 / 9 + 4 / 9) / 2],
    )
    pooled = np.array([4, 1, 4]) / 9
    distances = [jensenshannon(np.array(row) / sum(row), pooled, base=2) for row in COUNTS]
    np.testing.assert_allclose(result.jensen_shannon, np.square(distances), rtol=1e-12)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    np.testing.assert_allclose(result.effective_classes, [math.exp(entropy), 1, 1])
    # Mean absolute difference over twice the mean: (2 · (0 + 3 + 3)) / 9 / (2 · 3).
    assert result.gini == pytest.approx(12 / 9 / 6)


def test_report_counts_labels() -> None:
    y = np.array(["x", "x", "x", "y", "z", "z", "z", "z", "x"])
    result = report(y, [[0, 1, 2, 3], [4, 5, 6, 7], [8]], names=["a", "b", "c"])
    assert result.counts.tolist() == COUNTS
    assert result.classes == ("x", "y", "z")
    assert report(9, [[0, 1], range(2, 9)]).counts.tolist() == [[2], [7]]
    assert report(load_diabetes().target, split(442, 3)).counts.shape == (3, 10)


@settings(max_examples=200)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32))
def test_report_stays_in_range(n_nodes: int, n_classes: int, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 9, (n_nodes, n_classes)) + np.eye(n_nodes, n_classes, dtype=int)
    counts[:, 0] += 1
    result = PartitionReport.from_counts(range(n_nodes), range(n_classes), counts)
    assert (result.total_variation >= 0).all()
    assert (result.total_variation <= 1).all()
    assert (result.jensen_shannon >= -1e-12).all()
    assert (result.jensen_shannon <= result.total_variation + 1e-12).all()
    assert (result.effective_classes >= 1 - 1e-12).all()
    assert (result.effective_classes <= n_classes + 1e-12).all()
    assert -1e-12 <= result.gini <= 1 - 1 / n_nodes
    differences = np.abs(result.rows[:, None] - result.rows[None, :]).mean()
    assert result.gini == pytest.approx(differences / (2 * result.rows.mean()), abs=1e-12)


def test_report_of_nodes_without_rows() -> None:
    result = PartitionReport.from_counts(["a", "b"], ["x", "y"], [[2, 2], [0, 0]])
    assert result.to_dict()["total_variation"] == result.to_dict()["jensen_shannon"] == [0.0, None]
    assert result.effective_classes.tolist() == pytest.approx([2.0, 0.0])
    assert result.gini == pytest.approx(0.5)
    assert "–" in str(result)
    assert PartitionReport.from_counts(["a"], ["x"], [[0]]).gini == 0
    assert "0 rows over 1 node, 1 class" in str(PartitionReport.from_counts(["a"], ["x"], [[0]]))


def test_report_as_text() -> None:
    assert str(PartitionReport.from_counts(["a", "b", "c"], ["x", "y", "z"], COUNTS)).splitlines() == [
        "9 rows over 3 nodes, 3 classes; Gini of the sizes 0.22",
        "node  rows  x  y  z  variation  divergence  effective classes",
        "a        4  3  1  0       0.44        0.27               1.75",
        "b        4  0  0  4       0.56        0.36               1.00",
        "c        1  1  0  0       0.56        0.36               1.00",
        "all      9  4  1  4                                      2.62",
    ]
    assert repr(PartitionReport.from_counts(["a"], ["x"], [[1]])) == "PartitionReport(1 node, 1 row)"


def test_a_long_report_is_shortened_and_adds_up() -> None:
    counts = np.arange(100 * 25).reshape(100, 25)
    result = PartitionReport.from_counts(range(100), [f"class {k} with a long name" for k in range(25)], counts)
    lines = str(result).splitlines()
    assert len(lines) == 1 + 1 + 30 + 1 + 1
    assert "16 others" in lines[1]
    assert len({len(line) for line in lines[1:-1]}) == 1
    numbers = [int(cell) for cell in lines[2].split()[1:-3]]
    assert numbers[0] == sum(numbers[1:]) == counts[0].sum()


def test_report_as_plain_values() -> None:
    result = PartitionReport.from_counts(["a", "b", "c"], ["x", "y", "z"], COUNTS)
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["nodes"] == ["a", "b", "c"]
    assert plain["counts"] == COUNTS
    assert plain["rows"] == [4, 4, 1]
    assert plain["gini"] == pytest.approx(2 / 9)
    distances = {"total_variation", "jensen_shannon"}
    assert set(plain) == {"nodes", "classes", "counts", "rows", "effective_classes", "gini"} | distances


def test_report_as_html_escapes_and_is_well_formed() -> None:
    result = PartitionReport.from_counts(["<script>alert(1)</script>", 'a"b'], ["x&y", "<b>"], [[1, 2], [3, 4]])
    html = result._repr_html_()
    assert "<script" not in html
    assert "<b>" not in html
    root = ElementTree.fromstring(html)
    cells = ["".join(cell.itertext()) for cell in root.iter("td")]
    assert cells[:6] == ["3", "1", "2", "0.07", "0.00", "1.89"]
    assert [cell.text for cell in root.iter("th")][:4] == ["node", "rows", "x&y", "<b>"]
    assert len(list(root.iter("{http://www.w3.org/2000/svg}svg"))) == 1


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([[1, 2]], "one count per node and class"),
        ([[1, -1], [0, 0]], "whole numbers from 0"),
        ([[1.5, 0], [0, 0]], "whole numbers from 0"),
        ([["1", "2"], ["3", "4"]], "whole numbers from 0"),
        ([[float("nan"), 0], [0, 0]], "whole numbers from 0"),
    ],
)
def test_what_is_no_count(counts: Any, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        PartitionReport.from_counts(["a", "b"], ["x", "y"], counts)


def test_report_refuses_rows_that_are_not_there() -> None:
    with pytest.raises(InvalidData, match=r"do not exist\n.*1 to 3\n.*0 to 2\n.*node 1"):
        report([0, 1, 1], [[0], [1, 3]])
    with pytest.raises(InvalidData, match="one name per node"):
        report([0, 1], [[0], [1]], names=["a"])


@settings(max_examples=300)
@given(st.lists(st.sampled_from([0, 1, 2]), min_size=2, max_size=40), st.integers(1, 2), st.integers(0, 99))
@example([0, 1], 2, 0)
def test_a_report_of_a_split_counts_every_row(labels: list[int], n_nodes: int, seed: int) -> None:
    for name in ("iid", "dirichlet", "label"):
        result = report(labels, split(labels, n_nodes, name, random_state=seed))
        assert result.counts.sum(axis=0).tolist() == np.unique(labels, return_counts=True)[1].tolist()
