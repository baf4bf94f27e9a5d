"""Tables: what scikit-learn sees of a frame, it sees of the table made of it."""

from __future__ import annotations

import importlib
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.utils.validation import check_array

from atoll import wire
from atoll.errors import InvalidData, MissingExtra, SchemaMismatch
from atoll.table import NA, NAN, NONE, Column, Form, Kind, Table, common
from atoll.trees import Tree

DAYS = pd.to_datetime(["2020-01-01", "2020-01-02", None])


def series(values, dtype=None):
    return pd.Series(values, dtype=dtype)


PANDAS = {
    "str": series(["b", None, "a"]),
    "object": series(["b", None, np.nan], object),
    "string": series(["b", None, "a"], "string"),
    "arrow string": series(["b", None, "a"], pd.ArrowDtype(pa.large_string())),
    "category": series(["b", None, "a"], "category"),
    "ordered category": series(pd.Categorical(["b", "a", "b"], ["z", "b", "a"], ordered=True)),
    "category of numbers": series([3, None, 1], "category"),
    "int": series([3, 1, 2]),
    "int8": series([3, 1, 2], "int8"),
    "uint64": series([3, 1, 2**63], "uint64"),
    "Int64": series([3, None, 2], "Int64"),
    "arrow int": series([3, None, 2], "int64[pyarrow]"),
    "float": series([3.5, None, 2.0]),
    "float32": series([3.5, None, 2.0], "float32"),
    "Float64": series([3.5, None, 2.0], "Float64"),
    "bool": series([True, False, True]),
    "boolean": series([True, None, False], "boolean"),
    "object ints": series([3, None, 1], object),
    "object floats": series([3.5, None, 1.0], object),
    "object bools": series([True, None, False], object),
    "object bytes": series([b"b\xff", None, b"a"], object),
    "nothing": series([None, None, None], object),
    "empty text": series(["", " ", "a"]),
}


def told(array):
    """Type and values of an array, NaN, None and NA kept apart."""
    return array.dtype, [repr(v) for v in array.tolist()]


def as_scikit_learn_sees(column):
    return check_array(column, ensure_2d=False, dtype=None, ensure_all_finite=False)


@pytest.mark.parametrize("kind", PANDAS)
def test_a_column_of_pandas_is_what_scikit_learn_sees(kind):
    table = Table.of(pd.DataFrame({"x": PANDAS[kind]}))
    assert told(table.column(0)) == told(as_scikit_learn_sees(PANDAS[kind]))


@pytest.mark.parametrize("kind", sorted(set(PANDAS) - {"ordered category", "category of numbers"}))
def test_a_frame_of_pandas_comes_back(kind):
    frame = pd.DataFrame({"x": PANDAS[kind], "y": [1, 2, 3]})
    pd.testing.assert_frame_equal(Table.of(frame).frame(), frame)


@pytest.mark.parametrize("kind", ["ordered category", "category of numbers"])
def test_categories_come_back_with_those_that_occur(kind):
    back = Table.of(pd.DataFrame({"x": PANDAS[kind]})).frame()["x"]
    assert back.dtype == "category"
    assert back.astype(object).map(repr).tolist() == [
        repr(v) for v in as_scikit_learn_sees(PANDAS[kind]).astype(object)
    ]


POLARS = {
    "text": pl.Series(["b", None, "a"]),
    "categorical": pl.Series(["b", None, "a"], dtype=pl.Categorical),
    "enum": pl.Series(["b", None, "a"], dtype=pl.Enum(["a", "b", "z"])),
    "bool": pl.Series([True, None, False]),
    "int": pl.Series([3, None, 1]),
    "int8": pl.Series([3, 2, 1], dtype=pl.Int8),
    "float32": pl.Series([3.5, None, 1.0], dtype=pl.Float32),
    "binary": pl.Series([b"x", None, b"y"]),
}


@pytest.mark.parametrize("other", [None, "int8", "text"])
@pytest.mark.parametrize("kind", POLARS)
def test_a_frame_of_polars_is_one_array_to_scikit_learn(kind, other):
    frame = pl.DataFrame({"x": POLARS[kind]} | ({} if other is None else {"y": POLARS[other]}))
    table, seen = Table.of(frame), as_scikit_learn_sees(frame)
    for i in range(len(frame.columns)):
        assert told(table.column(i)) == told(seen[:, i])
    again = check_array(table.rows(), dtype=None, ensure_all_finite=False)
    assert [told(c) for c in again.T] == [told(c) for c in seen.T]


@pytest.mark.parametrize(
    "array",
    [
        np.array([["b", 1, 2.5, None], ["a", 2, np.nan, True]], dtype=object),
        np.array([["b", "bb"], ["", "a"]]),
        np.array([["b", "bb"], ["", "a"]]).astype("U9"),
        np.array([[b"b", b"bb"], [b"", b"a\xff"]]),
        np.array([[b"b", 1], [None, 2]], dtype=object),
        np.array([[1, 2], [3, 4]], dtype=np.int16),
        np.array([[True, False]]),
        np.array([[1.5, np.nan]], dtype=np.float32),
    ],
    ids=["objects", "text", "wide text", "bytes", "objects with bytes", "ints", "bools", "floats"],
)
def test_an_array_comes_back_to_the_letter(array):
    rows = Table.of(array).rows()
    assert rows.dtype == array.dtype
    assert told(rows) == told(array)


REFUSED = [
    (series(DAYS), "dates"),
    (series(DAYS, object), "dates"),
    (series(DAYS).astype("category"), "dates"),
    (series(DAYS).dt.tz_localize("UTC"), "dates"),
    (series(pd.period_range("2020", periods=3)), "dates"),
    (series(DAYS - DAYS[0]), "durations"),
    (series(pd.array([1, 2, 3]).astype("duration[s][pyarrow]")), "durations"),
    (series(pd.interval_range(0, 3)), "intervals"),
    (series([1j, 2, 3]), "complex numbers"),
    (series([[1], [2], [3]], object), "nested values"),
    (series([(1, 2), (3,), ()], object), "nested values"),
    (series(["a", 1, None], object), "text and numbers"),
    (series(["a", b"a", None], object), "text and bytes"),
    (series([2**70, 1, 2], object), "whole numbers of more than 64 bits"),
    (series([pd.Timestamp("2020").time(), None, None], object), "times"),
    (series(["a\0", "b", "c"], object), "ends with a null character"),
    (series([Column, 1, 2], object), "objects of class type"),
]


@pytest.mark.parametrize(("column", "what"), REFUSED, ids=[f"{i}-{what}" for i, (_, what) in enumerate(REFUSED)])
def test_a_column_that_cannot_be_used_is_refused_by_name(column, what):
    with pytest.raises(InvalidData, match=rf"(?s)column 'when' of node 'lyon' (holds )?.*{what}.*next:"):
        Table.of(pd.DataFrame({"ok": [1, 2, 3], "when": column}), where="node 'lyon'")


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (pl.Series([DAYS[0]]), "dates"),
        (pl.Series([DAYS[0].date()]), "dates"),
        (pl.Series([DAYS[0].time()]), "times"),
        (pl.Series([DAYS[1] - DAYS[0]]), "durations"),
        (pl.Series([[1, 2]]), "nested values"),
        (pl.Series([{"a": 1}]), "nested values"),
    ],
    ids=["datetime", "date", "time", "duration", "list", "struct"],
)
def test_columns_of_polars_are_refused_likewise(column, what):
    with pytest.raises(InvalidData, match=rf"column 'when' of X holds {what}"):
        Table.of(pl.DataFrame({"when": column}))


def test_arrays_are_refused_by_position():
    with pytest.raises(InvalidData, match="column 1 of X holds dates"):
        Table.of(np.array([[1, DAYS[0]]], dtype=object))
    with pytest.raises(InvalidData, match="two-dimensional"):
        Table.of(np.array(["a"]))


def mixed():
    return pd.DataFrame({"city": ["b", None, "a", "b"], "n": [1, 2, 3, 4], "x": [0.5, np.nan, 1, 2], "t": [True] * 4})


@pytest.mark.parametrize("rows", [np.array([2, 0]), slice(1, 3), slice(None, None, 2), np.array([True, False] * 2)])
def test_rows_are_taken_as_of_an_array(rows):
    table = Table.of(mixed())[rows]
    pd.testing.assert_frame_equal(table.frame(), mixed().iloc[rows].reset_index(drop=True))
    assert len(table) == table.n_rows == table.shape[0]


def test_a_slice_copies_nothing():
    table = Table.of(mixed())
    assert all(np.shares_memory(a.values, b.values) for a, b in zip(table.columns, table[1:3].columns, strict=True))


def test_columns_are_selected_by_position():
    part = Table.of(mixed()).select([2, 0])
    assert part.names == ("x", "city")
    pd.testing.assert_frame_equal(part.frame(), mixed()[["x", "city"]])


def test_a_table_travels():
    table = Table.of(mixed().assign(raw=[b"a", None, b"b", b"\xff"]))
    again = Table.from_tree(wire.decode(wire.encode(table.to_tree()), Tree), table.names)
    assert again.form == table.form
    pd.testing.assert_frame_equal(again.frame(), table.frame())
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(table)).frame(), table.frame())


def test_numbers_become_a_matrix():
    table = Table.of(mixed()[["n", "x", "t"]].assign(o=series([1, None, 2.5, True], object)))
    expected = [[1, 0.5, 1, 1], [2, np.nan, 1, np.nan], [3, 1, 1, 2.5], [4, 2, 1, 1]]
    np.testing.assert_array_equal(table.matrix(), np.array(expected))
    assert table.matrix().dtype == np.float64
    assert table.matrix().flags.c_contiguous
    assert Table.of(pd.DataFrame({"a": series([1, 2], "float32")})).matrix().dtype == np.float32


@pytest.mark.parametrize("rows", [slice(None), slice(0, 0)])
def test_text_becomes_no_matrix(rows):
    with pytest.raises(InvalidData, match=r"(?s)column 'city' holds text.*next: +encode it in a pipeline"):
        Table.of(mixed())[rows].matrix()


@pytest.mark.parametrize("kind", PANDAS)
def test_an_empty_table_has_the_form_of_the_full_one(kind):
    form = Table.of(pd.DataFrame({"x": PANDAS[kind]})).form
    empty, one = Table.empty(form), Table.specimen(form)
    assert (empty.n_rows, one.n_rows) == (0, 1)
    assert one.column(0).dtype == empty.column(0).dtype == as_scikit_learn_sees(PANDAS[kind]).dtype
    assert Form.read(form.write()) == form
    if form.columns[0].holds != "nothing":
        assert (
            empty.form
            == one.form
            == form._replace(columns=(form.columns[0]._replace(dtype=one.form.columns[0].dtype),))
        )


INT, FLOAT = Kind("numbers", "<i8", False, "int64"), Kind("numbers", "<f8", False, "float64")
TEXT, WIDE = Kind("text", "<U1", True, "str"), Kind("text", "<U7", True, "category")
BLANK, ABSENT = Kind("nothing", "<f8", False, "float64"), Kind("nothing", "<f8", True, "object")
BOXED = Kind("numbers", "<i8", True, "object")


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([INT, INT], INT),
        ([INT, FLOAT], FLOAT),
        ([INT, BLANK], FLOAT),
        ([INT, INT._replace(declared="")], INT),
        ([FLOAT, INT._replace(declared="")], FLOAT),
        ([TEXT, WIDE], WIDE._replace(declared="object")),
        ([TEXT, BLANK], TEXT),
        ([ABSENT, WIDE], WIDE),
        ([BLANK, ABSENT], Kind("nothing", "<f8", True, "object")),
        ([INT, BOXED], BOXED),
        ([INT, ABSENT], INT._replace(coded=True)),
        ([INT, TEXT], None),
        ([TEXT, TEXT._replace(holds="bytes")], None),
    ],
)
def test_the_kind_that_all_nodes_have_in_common(kinds, expected):
    assert common(kinds) == expected
    assert common(kinds[::-1]) == expected


def test_tables_are_stacked_by_name():
    first = Table.of(pd.DataFrame({"city": ["b", "a"], "n": [1, 2], "gone": [None, None]}))
    second = Table.of(pd.DataFrame({"gone": ["x", "y"], "n": [2.5, np.nan], "city": [np.nan, "c"]}))
    whole = Table.stacked([first, second])
    assert whole.frame().astype(object).map(repr).to_numpy().tolist() == [
        ["'b'", "1.0", "nan"], ["'a'", "2.0", "nan"], ["nan", "2.5", "'x'"], ["'c'", "nan", "'y'"],
    ]  # fmt: skip
    assert whole.form.columns[0].holds == "text"
    with pytest.raises(SchemaMismatch, match="holds numbers in column 'city'"):
        Table.stacked([first, Table.of(pd.DataFrame({"city": [1, 2], "n": [1, 2], "gone": [1, 2]}))])


def test_arranging_changes_no_value():
    """Every column in every kind that it may become."""
    column = Column.of(np.array([3, 1, 2]))
    assert told(column.become(FLOAT).values) == told(np.array([3.0, 1.0, 2.0]))
    assert told(column.become(BOXED).objects()) == told(np.array([3, 1, 2], dtype=object))
    gaps = Column.of(np.array([np.nan, 2.0, np.nan]))
    assert told(gaps.become(BOXED._replace(dtype="<f8")).objects()) == told(np.array([np.nan, 2.0, np.nan], object))
    assert told(Column.of(np.full(2, np.nan)).become(TEXT).objects()) == told(np.array([np.nan, np.nan], object))
    assert told(Column.of(np.array([None, 2], object)).become(FLOAT).values) == told(np.array([np.nan, 2.0]))


def test_missing_values_remember_how_they_were_written():
    column = Column.of(np.array(["a", None, np.nan, pd.NA, float("nan")], dtype=object))
    assert column.values.tolist() == [0, NONE, NAN, NA, NAN]
    assert told(column.objects()) == told(np.array(["a", None, np.nan, pd.NA, np.nan], dtype=object))


def test_frames_need_their_library(monkeypatch):
    table, real = Table.of(pl.DataFrame({"a": ["x"]})), importlib.import_module

    def without(name, *args):
        if name == "polars":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr("atoll.table.table.importlib.import_module", without)
    with pytest.raises(MissingExtra, match=r"(?s)polars.*pip install 'atoll\[frames\]'"):
        table.rows()


def test_bytes_are_counted():
    table = Table.of(np.array([["a", 1], ["b", 2]], dtype=object))
    assert table.nbytes == 2 * 4 + 2 * 4 + 2 * 4 + 2 * 8  # codes and levels of both columns
