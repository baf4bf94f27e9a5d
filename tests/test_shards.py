"""Shards: one memory layout, whatever the rows came as."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp

from atoll import wire
from atoll.errors import InvalidData
from atoll.shards import Shard, as_target, blank, empty_shard, for_good, inputs_of
from atoll.table import Table
from atoll.trees import Tree

X = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    "rows",
    [
        X.tolist(),
        X,
        np.asfortranarray(X),
        X[::-1][::-1],
        X.astype(int),
        X.astype(object),
        pd.DataFrame(X),
        pl.DataFrame(X),
    ],
    ids=["list", "array", "fortran", "strided", "int", "object", "pandas", "polars"],
)
def test_dense_rows_become_c_ordered_doubles(rows):
    shard = Shard.of("n", rows)
    assert shard.X.dtype == np.float64
    assert shard.X.flags.c_contiguous
    assert (shard.X == X).all()
    assert (shard.n_rows, shard.n_features) == (4, 3)
    assert shard.ids.tolist() == [0, 1, 2, 3]


def test_floats_keep_their_width():
    assert Shard.of("n", X.astype(np.float32)).X.dtype == np.float32
    assert Shard.of("n", X.astype(np.float16)).X.dtype == np.float64


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.coo_array, sp.csr_array])
def test_sparse_rows_become_csr_with_sorted_indices(kind):
    shard = Shard.of("n", kind(X))
    assert shard.X.format == "csr"
    assert shard.X.has_sorted_indices
    assert (shard.X.toarray() == X).all()


def test_frames_give_their_column_names():
    assert Shard.of("n", pd.DataFrame(X, columns=["a", "b", "c"])).feature_names == ("a", "b", "c")
    assert Shard.of("n", pl.DataFrame(X, schema=["a", "b", "c"])).feature_names == ("a", "b", "c")
    assert Shard.of("n", pd.DataFrame(X)).feature_names is None


@pytest.mark.parametrize("rows", [X[0], X[:2] * 1j, np.array([["2020-01-01"]], "M8[D]"), np.array([[{}]])])
def test_rows_that_cannot_be_used_name_their_node(rows):
    with pytest.raises(InvalidData, match=r"(?s)node 'here'"):
        Shard.of("here", rows)


def test_what_a_network_takes_is_kept_as_it_is():
    images = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    shard = Shard.of("here", images)
    assert (shard.n_rows, shard.n_features) == (2, 0)
    assert inputs_of(shard) is not None
    assert np.array_equal(inputs_of(shard.take(np.array([1]))), images[1:])
    two = Shard.of("here", {"image": images, "words": np.array([[1, 2], [3, 4]])})
    assert {n: a.dtype.kind for n, a in inputs_of(two).items()} == {"image": "f", "words": "i"}
    with pytest.raises(InvalidData, match=r"(?s)number of rows.*node 'here'"):
        Shard.of("here", {"a": images, "b": images[:1]})
    with pytest.raises(InvalidData, match="holds no numbers"):
        Shard.of("here", np.array([[["x"]]]))


@pytest.mark.parametrize("rows", [[["a", "b"]], np.array([["x", 1]], dtype=object), np.array([[2**53 + 1]])])
def test_what_no_float_holds_is_kept_as_it_is(rows):
    kept = Shard.of("here", rows).X
    assert kept.rows().tolist() == np.asarray(rows).tolist()


@pytest.mark.parametrize("rows", [np.array([[1, True]], dtype=object), [["1", "2.5"]], np.array([[2**53]])])
def test_what_python_makes_a_float_of_becomes_one(rows):
    assert Shard.of("here", rows).X.dtype == np.float64


def test_lengths_must_agree():
    with pytest.raises(InvalidData, match=r"(?s)differ in length.*4 and 3"):
        Shard.of("n", X, [1, 2, 3])


@pytest.mark.parametrize(
    ("y", "kind"),
    [([1, 2], "i"), ([1.5, 2], "f"), ([True, False], "b"), (["a", "bc"], "U"), (np.array(["a", "b"], object), "U"),
     (pd.Series(["a", "b"]), "U"), (pd.Categorical(["a", "b"]), "U"), (np.array([1, 2], object), "i"),
     (np.array([1, 2.5], object), "f"), (np.array([True, False], object), "b")],
)  # fmt: skip
def test_targets_become_something_that_travels(y, kind):
    assert as_target(y).dtype.kind == kind


@pytest.mark.parametrize(
    "y", [np.array(["a", 1], object), np.array(["a", None], object), np.array(["a", np.nan], object),
          np.array([True, 2], object), np.array(["2020-01-01"], "M8[D]"), np.array([object()], object)],
)  # fmt: skip
def test_labels_of_mixed_type_are_refused(y):
    with pytest.raises(InvalidData, match="labels of mixed type"):
        as_target(y)


def test_text_that_came_as_objects_is_given_back_as_such():
    assert Shard.of("n", X, np.array(list("abab"), object)).labels().dtype == object
    assert Shard.of("n", X, np.array(list("abab"))).labels().dtype.kind == "U"


@pytest.mark.parametrize("rows", [X, sp.csr_matrix(X)], ids=["dense", "sparse"])
def test_a_shard_travels(rows):
    y, ids, names = np.array(list("abab"), object), np.array([9, 3, 5, 1]), ["a", "b", "c"]
    shard = Shard.of("n", rows, y, ids=ids, feature_names=names, columns={"sample_weight": np.ones(4)})
    again = Shard.from_tree("n", wire.decode(wire.encode(shard.to_tree()), Tree))
    assert (again.X != shard.X).sum() == 0
    assert (again.y == shard.y).all()
    assert (again.ids == shard.ids).all()
    assert (again.feature_names, again.object_text, list(again.columns)) == (("a", "b", "c"), True, ["sample_weight"])


def test_taking_rows_takes_everything_with_them():
    shard = Shard.of("n", X, [0, 1, 2, 3], columns={"w": np.arange(4.0)}).take(np.array([2, 0]), "m")
    assert (shard.name, shard.y.tolist(), shard.ids.tolist(), shard.columns["w"].tolist()) == (
        "m",
        [2, 0],
        [2, 0],
        [2, 0],
    )


def test_what_is_made_once_is_kept_and_bounded():
    shard, made = Shard.of("n", X), []
    for key in [1, 2, 1, 1, *range(3, 20), 1]:
        shard.memo(key, lambda k=key: made.append(k) or k + 0.5)
    assert made == [1, 2, *range(3, 20), 1]
    assert len(shard._memo) == 8
    assert pickle.loads(pickle.dumps(shard))._memo == {}


@pytest.mark.parametrize("rows", [X, sp.csr_matrix(X)], ids=["dense", "sparse"])
def test_an_empty_shard_looks_like_the_others(rows):
    empty = empty_shard(Shard.of("n", rows, list("abab"), columns={"w": np.arange(4.0)}))
    assert (empty.n_rows, empty.n_features, empty.y.dtype.kind, len(empty.columns["w"])) == (0, 3, "U", 0)
    assert blank().n_features == 0


def test_rows_are_for_good_where_nobody_can_write_to_them(tmp_path):
    rows = np.arange(6.0)
    seen = rows[2:]
    seen.flags.writeable = False
    assert not for_good(rows)
    assert not for_good(seen)  # who holds `rows` can
    assert for_good(np.frombuffer(rows.tobytes()).reshape(2, 3)[1:])
    assert not for_good(np.frombuffer(bytearray(rows.tobytes())))
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert not for_good(mapped)  # the file may be written to
    assert not for_good(mapped[1:])
    assert not for_good(np.asarray(mapped))


FRAME = pd.DataFrame({"city": ["b", None, "a", "b"], "n": [1, 2, 3, 4], "x": [0.5, np.nan, 1, 2]})


@pytest.mark.parametrize("frame", [FRAME, pl.from_pandas(FRAME)], ids=["pandas", "polars"])
def test_a_frame_with_text_becomes_a_table(frame):
    shard = Shard.of("n", frame, [0, 1, 0, 1])
    assert isinstance(shard.X, Table)
    assert (shard.n_rows, shard.n_features, shard.feature_names) == (4, 3, ("city", "n", "x"))
    assert shard.X.names == shard.feature_names
    assert type(shard.X.frame()) is type(frame)


@pytest.mark.parametrize(
    "rows",
    [
        FRAME[["n", "x"]],
        FRAME[["n"]].astype("Int64"),
        FRAME[["n"]].astype("int32[pyarrow]"),
        FRAME[["n"]] > 2,
        pl.DataFrame({"a": [1, None], "b": [True, None]}),
        pd.DataFrame({"a": [1, None], "b": pd.array([True, None])}, dtype=object),
        X.astype(int),
    ],
    ids=["floats and ints", "nullable", "arrow", "bools", "polars", "objects", "array"],
)
def test_numbers_become_floats_unless_they_are_wanted_as_they_are(rows):
    shard = Shard.of("n", rows)
    assert shard.X.dtype == np.float64
    assert shard.X.flags.c_contiguous
    raw = Shard.of("n", rows, raw=True)
    assert isinstance(raw.X, Table)
    np.testing.assert_array_equal(raw.X.matrix(), shard.X)


@pytest.mark.parametrize(
    "rows", [X, X.astype(np.float32), pd.DataFrame(X, columns=list("abc")), pl.DataFrame(X), sp.csr_matrix(X)],
    ids=["doubles", "floats", "pandas", "polars", "sparse"],
)  # fmt: skip
def test_floats_are_a_matrix_either_way(rows):
    plain, raw = Shard.of("n", rows), Shard.of("n", rows, raw=True)
    assert type(plain.X) is type(raw.X)
    assert not isinstance(raw.X, Table)
    assert (plain.X != raw.X).sum() == 0
    assert plain.feature_names == raw.feature_names


@pytest.mark.parametrize("rows", [[["a", "b"]], np.array([["a", "b"]]), np.array([["x", 1]], dtype=object)])
def test_text_that_is_wanted_as_it_is_needs_no_frame(rows):
    shard = Shard.of("n", rows, raw=True)
    assert shard.X.rows().tolist() == np.asarray(rows).tolist()
    assert shard.X.dtype == (rows.dtype if isinstance(rows, np.ndarray) else object)


def test_a_table_is_left_alone():
    table = Table.of(np.array([[1, 2]]))
    assert Shard.of("n", table).X.columns is table.columns
    assert Shard.of("n", table, feature_names=["a", "b"]).X.names == ("a", "b")


def test_a_frame_that_cannot_be_used_names_node_and_column():
    with pytest.raises(InvalidData, match="column 'day' of node 'here' holds dates"):
        Shard.of("here", pd.DataFrame({"day": pd.to_datetime(["2020-01-01"])}))


def test_a_shard_of_columns_travels():
    shard = Shard.of("n", FRAME, list("abab"), ids=np.array([9, 3, 5, 1]), columns={"sample_weight": np.ones(4)})
    again = Shard.from_tree("n", wire.decode(wire.encode(shard.to_tree()), Tree))
    pd.testing.assert_frame_equal(again.X.frame(), FRAME)
    assert (again.feature_names, again.X.names) == (shard.feature_names, shard.X.names)
    assert shard.nbytes == again.nbytes > shard.X.nbytes
    taken = shard.take(np.array([2, 0]), "m")
    assert taken.X.frame().city.tolist() == ["a", "b"]
    assert (taken.ids.tolist(), taken.n_rows) == ([5, 9], 2)
    assert empty_shard(shard).X.form == shard.X.form


@pytest.mark.parametrize("rows", [FRAME, X, sp.csr_matrix(X)], ids=["table", "dense", "sparse"])
def test_columns_are_selected_by_position(rows):
    shard = Shard.of("n", rows, feature_names=["p", "q", "r"]).select([2, 0])
    assert shard.feature_names == ("r", "p")
    if isinstance(shard.X, Table):
        assert shard.X.names == ("r", "p")
        assert shard.X.column(1).tolist()[0] == "b"
    else:
        dense = shard.X.toarray() if sp.issparse(shard.X) else shard.X
        np.testing.assert_array_equal(dense, X[:, [2, 0]])
        assert sp.issparse(shard.X) or shard.X.flags.c_contiguous
