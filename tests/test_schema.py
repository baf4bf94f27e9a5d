"""Round 0: what fits together is agreed, what does not is named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LinearRegression

from atoll import Federation
from atoll.combine import Mean, Union
from atoll.errors import InvalidData, NodeValueError, SchemaMismatch
from atoll.operations import describe
from atoll.recipes import fit_over
from atoll.shards import Shard


def meet(*shards, names=None, classes=True):
    return Federation.from_shards(list(shards), names=names).rounds("test").meet(classes=classes)


A = np.zeros((3, 2))


def test_classes_are_the_sorted_union_whatever_node_has_which():
    schema = meet((A, [2, 2, 2]), (A, [0, 0, 7]), (A, [2, 0, 1]))
    assert schema.classes[0].tolist() == [0, 1, 2, 7]
    assert (schema.rows, schema.n_rows, schema.n_classes) == ((3, 3, 3), 9, [4])


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ([["b", "a", "long"], ["c", "c", "c"]], "U"),
        ([np.array(list("bab"), object), np.array(list("ccc"), object)], "O"),
        ([[True, False, True], [True, True, True]], "b"),
        ([[1, 2, 3], [1.0, 2.0, 4.0]], "f"),
        ([np.array([1, 2, 3], np.int8), np.array([4, 5, 6], np.int32)], "i"),
    ],
)
def test_classes_have_the_type_of_the_labels(labels, dtype):
    (classes,) = meet(*[(A, y) for y in labels]).classes
    assert classes.dtype.kind == dtype
    assert sorted(set(np.concatenate(labels).tolist())) == classes.tolist()


def test_several_outputs_have_several_unions():
    y = np.array([[0, 5], [1, 5], [0, 6]])
    schema = meet((A, y), (A, y + 1))
    assert [c.tolist() for c in schema.classes] == [[0, 1, 2], [5, 6, 7]]
    assert schema.n_outputs == 2


def test_a_regression_target_is_not_told():
    schema = meet((A, [1.5, 2.5, 3.5]), classes=False)
    assert schema.classes == ()
    assert schema.target_dtype == "<f8"


def test_without_targets():
    schema = meet(A, A, classes=False)
    assert (schema.target_dtype, schema.empty().y) == ("", None)


def test_widths_of_floats_are_widened():
    assert meet((A, [0, 1, 0]), (A.astype(np.float32), [0, 1, 0])).dtype == "<f8"


def frame(*columns):
    return pd.DataFrame(np.zeros((3, len(columns))), columns=list(columns))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (frame("age", "wight"), r"node 'lyon' lacks column 'weight' and has the column 'wight' that others lack"),
        (frame("age"), r"node 'lyon' lacks column 'weight'"),
        (np.zeros((3, 2)), r"names its columns and node 'lyon' does not"),
    ],
)
def test_columns_that_differ_are_named_with_their_node(other, words):
    with pytest.raises(SchemaMismatch, match=words):
        meet((frame("age", "weight"), [0, 1, 0]), (other, [0, 1, 0]), names=["bern", "lyon"])


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ((np.zeros((3, 5)), [0, 1, 0]), "(?s)node 'lyon' has another number of columns.*got: +5.*expected: +2"),
        ((sp.csr_matrix(A), [0, 1, 0]), "(?s)node 'lyon' is sparse where others are dense"),
        ((A, ["a", "b", "a"]), "(?s)node 'lyon' has labels of another type.*text.*numbers"),
        ((A, [True, False, True]), "(?s)node 'lyon' has labels of another type.*truth values"),
        ((A, np.zeros((3, 2), int)), "(?s)node 'lyon' has another number of targets"),
        ((A, None), "(?s)node 'lyon' has labels of another type.*none"),
    ],
)
def test_rows_that_differ_are_named_with_their_node(other, words):
    with pytest.raises(SchemaMismatch, match=words):
        meet((A, [0, 1, 0]), other, names=["bern", "lyon"])


def test_columns_in_another_order_are_put_into_that_of_the_first_node():
    first = pd.DataFrame({"age": [1.0, 2.0], "weight": [10.0, 20.0]})
    for other in (first[["weight", "age"]], first[["weight", "age"]].astype(np.float32)):
        rounds = Federation.from_shards([first, other]).rounds("test")
        schema = rounds.meet(classes=False)
        assert schema.feature_names == ("age", "weight")
        assert rounds.round("statistics.sums", combine=Mean())["x"].tolist() == [1.5, 15.0]
    assert Federation.from_shards([first, first]).rounds("test").meet(classes=False).arranged == ()


def test_a_column_that_stands_there_twice_has_no_other_place():
    first = pd.DataFrame(np.zeros((2, 3)), columns=["a", "a", "b"])
    assert meet(first, first, classes=False).feature_names == ("a", "a", "b")
    with pytest.raises(SchemaMismatch, match="node 'node-1' has column 'b' where others have 'a'"):
        meet(first, first[["b"]].join(first[["a"]]), classes=False)


CITY = {"city": ["b", None], "n": [1, 2]}


def test_tables_agree_on_the_kind_of_each_column():
    other = pd.DataFrame({"x": [1.0, 2.0], "n": [0.5, np.nan], "city": [np.nan, np.nan]})
    schema = meet(pd.DataFrame({**CITY, "x": [1, 2]}), other, classes=False)
    assert [(k.holds, k.dtype, k.coded) for k in schema.columns] == [
        ("text", "<U1", True), ("numbers", "<f8", False), ("numbers", "<f8", False),
    ]  # fmt: skip
    assert (schema.dtype, schema.uneven) == ("|O", True)
    assert schema.empty().X.form == schema.form
    assert meet(pd.DataFrame(CITY), pd.DataFrame(CITY), classes=False).uneven is False


def test_rows_are_arranged_before_anyone_looks_at_them():
    other = pd.DataFrame({"n": [3.5, np.nan], "city": ["a", "b"]})
    rounds = Federation.from_shards([pd.DataFrame(CITY), other]).rounds("test")
    rounds.meet(classes=False)
    found = rounds.raw.round("categories.values", combine=Union())
    assert found["0"].tolist() == ["a", "b"]
    assert found["1"].tolist() == [1.0, 2.0, 3.5]
    assert found["missing"].tolist() == [1, 5]


def test_a_table_of_text_is_no_matrix_to_whoever_asks_for_one():
    rounds = Federation.from_shards([pd.DataFrame(CITY), pd.DataFrame(CITY)]).rounds("test")
    rounds.meet(classes=False)
    with pytest.raises(InvalidData, match=r"(?s)column 'city' holds text.*encode it in a pipeline"):
        fit_over(LinearRegression(), rounds)
    assert len(rounds.run.rows) == 1  # nobody was asked but for round 0


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"city": [1, 2], "n": [1, 2]}, "(?s)node 'lyon' holds numbers in column 'city'.*text, as on node 'bern'"),
        ({"city": ["a", "b"], "n": ["c", "d"]}, "(?s)node 'lyon' holds text in column 'n'.*numbers, as on node 'bern'"),
        ({"city": ["a", "b"]}, "node 'lyon' lacks column 'n'"),
    ],
)
def test_kinds_that_differ_are_named_with_their_node(other, words):
    with pytest.raises(SchemaMismatch, match=words):
        meet(pd.DataFrame(CITY), pd.DataFrame(other), names=["bern", "lyon"], classes=False)


def test_rows_that_may_change_are_looked_at_in_every_round_zero():
    X = np.ones((4, 2))
    rounds = Federation.from_shards([X]).rounds("test")
    for _ in range(2):
        assert rounds.meet(classes=False, ensure_all_finite=True).finite
    X[2, 1] = np.nan
    with pytest.raises(NodeValueError, match="not finite in column 1"):
        rounds.meet(classes=False, ensure_all_finite=True)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, np.finfo(float).max])
def test_rows_that_cannot_change_are_summed_once(value, monkeypatch):
    summed = []
    sums_up = describe._sums_up
    monkeypatch.setattr(describe, "_sums_up", lambda values: summed.append(values.size) or sums_up(values))
    X = np.zeros((4, 2))
    X[:2, 1] = value
    rounds = Federation.from_shards([np.frombuffer(X.tobytes()).reshape(4, 2)]).rounds("test")
    for _ in range(3):
        schema = rounds.meet(classes=False)
        assert (schema.finite, schema.infinite) == (np.isfinite(value), np.isinf(value))
    assert [n for n in summed if n] == [8]
    for _ in range(2 if not np.isfinite(value) else 0):
        with pytest.raises(NodeValueError, match="not finite in column 1"):
            rounds.meet(classes=False, ensure_all_finite=True)


@pytest.mark.parametrize("ensure", [True, "allow-nan"])
def test_values_that_are_not_finite_are_named_in_tables_too(ensure):
    frame = pd.DataFrame({**CITY, "x": [np.inf, np.nan]})
    with pytest.raises(NodeValueError, match=r"(?s)not finite in column 'x'.*node-0"):
        Federation.from_shards([frame]).rounds("test").meet(classes=False, ensure_all_finite=ensure)
    fine = frame.replace(np.inf, 1.0)
    rounds = Federation.from_shards([fine]).rounds("test")
    if ensure is True:
        with pytest.raises(NodeValueError, match=r"(?s)not finite in column 'x'.*nan"):
            rounds.meet(classes=False, ensure_all_finite=ensure)
    else:
        assert rounds.meet(classes=False, ensure_all_finite=ensure).n_rows == 2


def test_an_empty_node_is_refused_before_anything_is_asked():
    with pytest.raises(InvalidData, match="node 'lyon'"):
        meet((A, [0, 1, 0]), (np.zeros((0, 2)), []), names=["bern", "lyon"])


def test_the_empty_shard_looks_like_every_node():
    schema = meet((sp.csr_matrix(np.eye(3)), list("aba")))
    empty = schema.empty()
    assert isinstance(empty, Shard)
    assert (empty.X.shape, empty.y.dtype.kind) == ((0, 3), "U")
