from __future__ import annotations

import builtins
import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn.datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.datasets import Dataset, datasets, load, open_rows, read_table
from atoll.errors import InvalidData, MissingExtra, UnknownName
from atoll.table import Table


@pytest.fixture
def save(tmp_path: Path) -> Any:
    """Write text or bytes into a file and give its path."""

    def write(content: str | bytes, name: str = "data.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refusal(path: Path | str, target: str | None = "y", **options: Any) -> str:
    with pytest.raises(InvalidData) as caught:
        read_table(path, target, **options)
    return str(caught.value)


# Bundled


def test_the_bundled_data_sets() -> None:
    assert list(datasets) == ["breast_cancer", "diabetes", "digits", "iris", "wine"]


@pytest.mark.parametrize("name", list(datasets))
def test_bundled_data_are_those_of_scikit_learn(name: str) -> None:
    bunch = getattr(sklearn.datasets, f"load_{name}")()
    data = load(name)
    np.testing.assert_array_equal(data.X, bunch.data)
    np.testing.assert_array_equal(data.y, bunch.target)
    assert data.name == name
    assert data.X.dtype == np.float64
    assert data.X.flags.c_contiguous
    assert data.y.dtype == (np.float64 if name == "diabetes" else np.int64)
    assert data.task == ("regression" if name == "diabetes" else "classification")
    assert data.feature_names == tuple(bunch.feature_names)
    assert name in data.source
    assert data.node is None
    if data.task == "classification":
        assert data.target_names == tuple(map(str, bunch.target_names))
    else:
        assert data.target_names == ("disease progression",)


def test_an_unknown_data_set() -> None:
    with pytest.raises(UnknownName, match=r"unknown data set 'irsi'\n.*did you mean 'iris'"):
        load("irsi")


# Tables that can be read

IRIS = "sepal length,sepal width,species\n5.1,3.5,setosa\n7.0,3.2,versicolor\n6.3,3.3,virginica\n4.9,3,setosa\n"


def test_a_table_with_text_as_target(save: Any) -> None:
    path = save(IRIS, "my iris.csv")
    data = read_table(path, "species")
    assert data.name == "my iris"
    assert data.source == str(path)
    assert data.X.tolist() == [[5.1, 3.5], [7.0, 3.2], [6.3, 3.3], [4.9, 3.0]]
    assert data.X.dtype == np.float64
    assert data.X.flags.c_contiguous
    assert data.y.tolist() == ["setosa", "versicolor", "virginica", "setosa"]
    assert data.y.dtype.kind == "U"
    assert data.feature_names == ("sepal length", "sepal width")
    assert data.target_names == ("setosa", "versicolor", "virginica")
    assert data.task == "classification"
    assert data.node is None


@pytest.mark.parametrize(
    ("values", "dtype", "task", "names"),
    [
        (["0", "2", "1"], np.int64, "classification", ("0", "1", "2")),
        (["1.0", "10.0", "2.0"], np.int64, "classification", ("1", "2", "10")),
        (["-1", "1", "1"], np.int64, "classification", ("-1", "1")),
        (["true", "False", "TRUE"], np.int64, "classification", ("0", "1")),
        (["0.5", "1", "2"], np.float64, "regression", ("y",)),
        (["1e300", "1", "2"], np.float64, "regression", ("y",)),
        (["a", "1", "2"], np.str_, "classification", ("1", "2", "a")),
        (["NA", "none", "x"], np.str_, "classification", ("NA", "none", "x")),
        ([" a ", "a", "b"], np.str_, "classification", ("a", "b")),
    ],
)
def test_targets(save: Any, values: list[str], dtype: type, task: str, names: tuple[str, ...]) -> None:
    data = read_table(save("x,y\n" + "".join(f"{i},{v}\n" for i, v in enumerate(values))), "y")
    assert np.issubdtype(data.y.dtype, dtype)
    assert data.task == task
    assert data.target_names == names


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_separators_line_ends_and_byte_order_marks(save: Any, delimiter: str, end: str, mark: str) -> None:
    text = mark + IRIS.replace(",", delimiter).replace("\n", end)
    data = read_table(save(text, "a.txt"), "species")
    assert data.feature_names == ("sepal length", "sepal width")
    assert data.X[3].tolist() == [4.9, 3.0]


def test_the_separator_is_the_one_of_the_header(save: Any) -> None:
    data = read_table(save('a;"b, c, or d";y\n1;2;u,v\n3;4;w\n'), "y")
    assert data.feature_names == ("a", "b, c, or d")
    assert data.y.tolist() == ["u,v", "w"]


def test_quotes_spaces_blank_lines_and_no_last_line_end(save: Any) -> None:
    text = '\n a , "b",y\n\n 1 , 2 , "x, and\nmore"\n\n"3","4",z'
    data = read_table(save(text), "y")
    assert data.feature_names == ("a", "b")
    assert data.X.tolist() == [[1, 2], [3, 4]]
    assert data.y.tolist() == ["x, and\nmore", "z"]


def test_truth_values_are_numbers(save: Any) -> None:
    data = read_table(save("a,y\ntrue,u\nFALSE,v\n True ,w\n"), "y")
    assert data.X.tolist() == [[1], [0], [1]]


def test_columns_drop_and_node(save: Any) -> None:
    path = save("id,a,b,site,y\nr1,1,2,rome,u\nr2,3,4,oslo,v\n")
    assert read_table(path, "y", columns=["b", "a"]).X.tolist() == [[2, 1], [4, 3]]
    assert read_table(path, "y", columns="b").feature_names == ("b",)
    assert read_table(path, "y", columns=["a", "b", "a"]).feature_names == ("a", "b")
    assert read_table(path, "y", drop=["id", "site"]).feature_names == ("a", "b")
    data = read_table(path, "y", drop="id", node="site")
    assert data.feature_names == ("a", "b")
    assert data.node is not None
    assert data.node.tolist() == ["rome", "oslo"]
    assert read_table(path, "a", columns=["b"], node="site").node is not None


@pytest.mark.parametrize(
    ("ids", "expected"),
    [(["10", "2"], [10, 2]), (["010", "2"], ["010", "2"]), (["1.0", "2"], ["1.0", "2"]), (["-1", "2"], ["-1", "2"]),
     (["²", "2"], ["²", "2"]), (["9" * 30, "2"], ["9" * 30, "2"]), ([" a ", "NA"], ["a", "NA"])],
)  # fmt: skip
def test_node_ids_are_numbers_only_where_nothing_is_lost(save: Any, ids: list[str], expected: list[Any]) -> None:
    data = read_table(save(f"x,y,site\n1,0,{ids[0]}\n2,1,{ids[1]}\n"), "y", node="site")
    assert data.node is not None
    assert data.node.tolist() == expected


def test_columns_that_pandas_numbers_are_a_header(save: Any) -> None:
    data = read_table(save("0,1,2,y\n1.5,2,3,a\n"), "y")
    assert data.feature_names == ("0", "1", "2")


def test_a_file_of_more_than_one_chunk(save: Any) -> None:
    n = 150_000
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3)).round(6)
    lines = [f"{a},{b},{c},{i % 7},s{i % 3}" for i, (a, b, c) in enumerate(X.tolist())]
    data = read_table(save("\n".join(["a,b,c,y,site", *lines])), "y", node="site")
    np.testing.assert_array_equal(data.X, X)
    np.testing.assert_array_equal(data.y, np.arange(n) % 7)
    lines[140_001] = "1,,3,4,s0"
    assert "column 'b': 1, the first in line 140003" in refusal(
        save("\n".join(["a,b,c,y,site", *lines])), drop=["site"]
    )


@settings(max_examples=200)
@given(st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**50), 2**50)), min_size=1))
def test_numbers_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, int]]
) -> None:
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_text("a,b,y\n" + "".join(f"{a!r},{b},c\n" for a, b in rows))
    assert read_table(path, "y").X.tolist() == [[a, float(b)] for a, b in rows]


# Tables that cannot


def test_a_file_that_is_not_there(save: Any, tmp_path: Path) -> None:
    path = save(IRIS, "iris.csv")
    assert "did you mean 'iris.csv'?" in refusal(path.with_name("iriss.csv"))
    assert "no such file" in refusal(path.with_name("iriss.csv"))
    assert "there is no folder" in refusal(tmp_path / "none" / "x.csv")
    assert "this is a folder" in refusal(tmp_path)
    assert f"{str(tmp_path)!r} holds: iris.csv" in refusal(tmp_path / "zzzzzzzz.parquet")
    path.rename(path.with_suffix(".xlsx"))
    assert f"{str(tmp_path)!r} holds no .csv, .tsv, .txt, .parquet file: iris.xlsx" in refusal(path)
    path.with_suffix(".xlsx").unlink()
    assert "it is empty" in refusal(path)
    np.save(tmp_path / "rows.npy", np.zeros((2, 2)))
    with pytest.raises(InvalidData, match=r"did you mean 'rows\.npy'"):
        open_rows(tmp_path / "row.npy")


def test_a_file_of_another_kind(save: Any) -> None:
    message = refusal(save("x", "data.xlsx"))
    assert "cannot read this kind of file" in message
    assert ".csv, .tsv, .txt, .parquet" in message


@pytest.mark.parametrize("content", ["", "\n\n", " \n", "\ufeff", '""\n'])
def test_an_empty_file(save: Any, content: str) -> None:
    assert "the file is empty" in refusal(save(content))


def test_a_header_and_no_rows(save: Any) -> None:
    assert "a header and no rows" in refusal(save("a,y\n\n"))


@pytest.mark.parametrize("first", ["5.1,3.5,1.4,0.2,setosa", "5.1,3.5,1.4,0.2", "6,148,33.6,50,1", "-1,0,1"])
def test_a_file_without_header(save: Any, first: str) -> None:
    message = refusal(save(f"{first}\n4.9,3,1.4,0.2,setosa\n"))
    assert "the file has no header" in message
    assert "line 1" in message


def test_names_that_are_no_names(save: Any) -> None:
    assert "two columns are named 'a'" in refusal(save("a,b,a,y\n1,2,3,4\n"))
    assert "two columns are named '0'" in refusal(save("0,5,0,7\n1,2,3,4\n"))
    message = refusal(save(",a,y\n0,1,2\n"))
    assert "column 1 has no name" in message
    assert "index=False" in message


def test_columns_that_are_not_there(save: Any) -> None:
    path = save(IRIS)
    message = refusal(path, "specis")
    assert "there is no target column 'specis'" in message
    assert "did you mean 'species'?" in message
    assert "there is no node column 'site'" in refusal(path, "species", node="site")
    assert "there is no column 'petal'" in refusal(path, "species", columns=["petal"])
    assert "did you mean 'sepal width'" in refusal(path, "species", drop=["sepal widht"])


def test_columns_in_two_roles(save: Any) -> None:
    path = save("a,b,site,y\n1,2,3,4\n")
    assert "'y' cannot be a feature too" in refusal(path, columns=["a", "y"])
    assert "node column 'site' cannot be a feature too" in refusal(path, columns=["a", "site"], node="site")
    assert "target column 'y' cannot be dropped" in refusal(path, drop=["y"])
    assert "cannot be both target and node" in refusal(path, node="y")
    for options in ({"columns": []}, {"drop": ["a", "b", "site"]}, {"columns": ["a"], "drop": ["a"]}):
        assert "no feature columns are left" in refusal(path, **options)


def test_a_ragged_row(save: Any) -> None:
    message = refusal(save('a,b,y\n1,2,"two\nlines"\n\n1,2\n1,2,3\n'))
    assert "a row has another number of columns than the header" in message
    assert "got:      2: 1, 2" in message
    assert "expected: 3" in message
    assert "line 5" in message
    assert "got:      4" in refusal(save("a,b,y\n1,2,3,4\n"))


def test_quotation_marks_that_do_not_match(save: Any) -> None:
    message = refusal(save('a,y\n1,u\n2,"v\n3,w\n'))
    assert "cannot be split into columns" in message
    assert "line 3" in message
    assert "line 2" in refusal(save('a,y\n"1"2,u\n'))
    assert "cannot be split into columns" in refusal(save(f'a,y\n1,"{"v" * 200_000}"\n'))
    assert "cannot be split into columns" in refusal(save("a" * 200_000))


@pytest.mark.parametrize("content", [b"a,y\n1,caf\xe9\n", IRIS.encode("utf-16"), b"PAR1\xff\xfe\x00"])
def test_a_file_that_is_not_utf8(save: Any, content: bytes) -> None:
    message = refusal(save(content))
    assert "not UTF-8 text" in message
    assert "save it as UTF-8" in message


def test_text_among_the_features(save: Any) -> None:
    message = refusal(save("a,colour,b,size,y\n1,red,2,3,0\n\n1,blue,2,XL,1\n"))
    assert "features must be numbers" in message
    assert "column 'colour', such as 'red' in line 2; column 'size', such as 'XL' in line 4" in message
    assert "sklearn.preprocessing.OneHotEncoder" in message
    assert "columns=, drop=, or --drop" in message
    assert "data.csv" in message


@pytest.mark.parametrize("value", ["1_000", "0x10", "1 000", "twelve", "1,5", "1.2.3"])
def test_what_looks_like_a_number_and_is_none(save: Any, value: str) -> None:
    assert f"such as {value!r} in line 3" in refusal(save(f"a;y\n1;0\n{value};1\n"))


def test_decimal_commas_have_their_own_hint(save: Any) -> None:
    assert "write decimals with a point" in refusal(save("a;b;y\n1,5;2,5;u\n2,5;3;v\n"))
    assert "write decimals with a point" not in refusal(save("a;b;y\n1,5;red;u\n"))


@pytest.mark.parametrize("gap", ["", " ", "NA", "n/a", "NaN", "nan", "null", "None", "?"])
def test_missing_values(save: Any, gap: str) -> None:
    message = refusal(save(f"a,b,c,y\n1,2,3,u\n1,{gap},3,v\n{gap},{gap},3,w\n"))
    assert "values are missing" in message
    assert "column 'a': 1, the first in line 4; column 'b': 2, the first in line 3" in message
    assert "fill them in or drop these rows" in message


@pytest.mark.parametrize("value", ["inf", "-inf", "Infinity", "1e999"])
def test_infinite_values(save: Any, value: str) -> None:
    message = refusal(save(f"a,b,y\n1,2,u\n1,{value},v\n"))
    assert "values are infinite" in message
    assert f"column 'b': 1, the first ({value}) in line 3" in message


def test_of_many_columns_at_fault_ten_are_named(save: Any) -> None:
    names = [f"c{i}" for i in range(14)]
    message = refusal(save(",".join([*names, "y"]) + "\n" + ",".join(["x"] * 14 + ["0"]) + "\n"))
    assert "'c9'" in message
    assert "'c10'" not in message
    assert "and 4 more columns" in message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1", "", "2"], "column 'y': 1, the first in line 3"),
        (["1", "NA", "?"], "column 'y': 2, the first in line 3"),
        (["a", "", "b"], "column 'y': 1, the first in line 3"),
        (["a", "nan", "NaN"], "column 'y': 2, the first in line 3"),
        (["1.5", "inf", "2"], "values are infinite"),
    ],
)
def test_targets_that_cannot_be_used(save: Any, values: list[str], message: str) -> None:
    text = refusal(save("x,y\n" + "".join(f"{i},{v}\n" for i, v in enumerate(values))))
    assert message in text
    assert "leave the column out" not in text


def test_a_missing_node_id(save: Any) -> None:
    assert "column 'site': 1, the first in line 3" in refusal(save("x,y,site\n1,0,a\n2,1,\n"), node="site")


def test_a_column_that_is_not_used_may_hold_anything(save: Any) -> None:
    path = save("a,b,c,y\n1,,red,u\n2,inf,,v\n")
    assert read_table(path, "y", columns=["a"]).X.tolist() == [[1], [2]]
    assert read_table(path, "y", drop=["b", "c"]).X.tolist() == [[1], [2]]


# Parquet

FRAME = pd.DataFrame(
    {
        "sepal.length": [5.1, 7.0, 6.3],
        "count": np.array([1, 2, 3], dtype=np.uint8),
        "flag": [True, False, True],
        "small": np.array([1, 2, 3], dtype=np.float32),
        "site": ["rome", "oslo", "rome"],
        "species": pd.Categorical(["setosa", "virginica", "setosa"]),
    }
)


def saved(frame: pd.DataFrame, tmp_path: Path, **options: Any) -> Path:
    path = tmp_path / "data.parquet"
    frame.to_parquet(path, **options)
    return path


def test_a_parquet_file(tmp_path: Path) -> None:
    data = read_table(saved(FRAME, tmp_path), "species", node="site")
    assert data.feature_names == ("sepal.length", "count", "flag", "small")
    assert data.X.tolist() == [[5.1, 1, 1, 1], [7, 2, 0, 2], [6.3, 3, 1, 3]]
    assert data.X.dtype == np.float64
    assert data.y.tolist() == ["setosa", "virginica", "setosa"]
    assert data.target_names == ("setosa", "virginica")
    assert data.node is not None
    assert data.node.tolist() == ["rome", "oslo", "rome"]


def test_a_parquet_file_written_by_polars_with_several_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pl.DataFrame({"a": range(1000), "y": ["u", "v"] * 500}).write_parquet(path, row_group_size=100)
    data = read_table(path, "y")
    assert data.X[:, 0].tolist() == list(range(1000))
    assert data.y[:2].tolist() == ["u", "v"]


@pytest.mark.parametrize(
    ("target", "dtype", "task"),
    [([1, 2, 1], np.int64, "classification"), ([1.0, 2.0, 1.0], np.int64, "classification"),
     ([1.5, 2.0, 1.0], np.float64, "regression"), ([True, False, True], np.int64, "classification"),
     (["1", "2", "1"], np.int64, "classification"), (["a", "b", "a"], np.str_, "classification")],
)  # fmt: skip
def test_parquet_targets(tmp_path: Path, target: list[Any], dtype: type, task: str) -> None:
    data = read_table(saved(pd.DataFrame({"a": [1, 2, 3], "y": target}), tmp_path), "y")
    assert np.issubdtype(data.y.dtype, dtype)
    assert data.task == task


def test_the_index_of_a_frame_is_no_feature(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "y": ["u", "v"]}, index=["r1", "r2"])
    assert read_table(saved(frame, tmp_path), "y").feature_names == ("a",)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["red", "blue", "red"], "column 'x', such as 'red' in row 1"),
        (pd.Categorical(["red", "blue", "red"]), "column 'x', such as 'red' in row 1"),
        (
            pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"]),
            "column 'x', such as '2020-01-01 00:00:00' in row 1",
        ),
        ([1.0, None, None], "column 'x': 2, the first in row 2"),
        (pd.array([1, None, 3], dtype="Int64"), "column 'x': 1, the first in row 2"),
        (pd.array([True, None, False], dtype="boolean"), "column 'x': 1, the first in row 2"),
        ([1.0, 2.0, float("inf")], "column 'x': 1, the first (inf) in row 3"),
    ],
)
def test_parquet_features_that_cannot_be_used(tmp_path: Path, column: Any, message: str) -> None:
    assert message in refusal(saved(pd.DataFrame({"a": [1, 2, 3], "x": column, "y": [0, 1, 0]}), tmp_path))


def test_parquet_targets_that_cannot_be_used(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [0, 1], "y": ["u", None], "z": [1.0, None]})
    path = saved(frame, tmp_path)
    assert "column 'y': 1, the first in row 2" in refusal(path, "y", columns=["a"])
    assert "column 'z': 1, the first in row 2" in refusal(path, "z", columns=["a"])
    assert "column 'y': 1, the first in row 2" in refusal(path, "b", drop=["z"], node="y")
    assert "did you mean 'y'" in refusal(path, "yy")


def test_parquet_files_that_are_none_or_empty(save: Any, tmp_path: Path) -> None:
    assert "not a Parquet file that can be read" in refusal(save("a,y\n1,2\n", "x.parquet"))
    assert "not a Parquet file that can be read" in refusal(save("", "x.parquet"))
    assert "columns and no rows" in refusal(saved(FRAME.iloc[:0], tmp_path), "species", drop=["site"])


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    path = saved(pd.DataFrame({"a": np.arange(1000.0), "y": np.arange(1000) % 2}), tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "not a Parquet file that can be read" in refusal(path)


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(FRAME, tmp_path)

    def refuse(name: str, *args: Any) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'atoll[frames]'")):
        read_table(path, "species")


def test_csv_needs_no_pyarrow(save: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(IRIS)
    real = builtins.__import__

    def guarded(name: str, *args: Any, **options: Any) -> Any:
        assert not name.startswith(("pyarrow", "pandas", "polars"))
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", guarded)
    assert isinstance(read_table(path, "species"), Dataset)


# Without a target


def test_a_table_without_target(save: Any, tmp_path: Path) -> None:
    saved(pd.DataFrame({"a": [1, 2], "site": ["u", "v"]}), tmp_path)
    for path in (save("a,site\n1,u\n2,v\n"), tmp_path / "data.parquet"):
        data = read_table(path, node="site")
        assert data.X.tolist() == [[1], [2]]
        assert data.y is None
        assert data.target_names == ()
        assert data.task == "none"
        assert data.node is not None
        assert data.node.tolist() == ["u", "v"]
    assert "cannot be a feature too" in refusal(tmp_path / "data.csv", None, columns=["site"], node="site")


def test_many_columns(save: Any) -> None:
    X = np.random.default_rng(0).random((150, 3000)).round(4)
    text = "\n".join([",".join(f"c{j}" for j in range(3000)), *(",".join(map(str, row)) for row in X.tolist())])
    np.testing.assert_array_equal(read_table(save(text)).X, X)


# Kinds


MIXED = "city,n,x,ok,gone,y\nbern,1,1.5,true,,a\n,2,,false,,b\n oslo,3,2.0,TRUE,,a\nNA,4,3,false,,b\n"


def test_kinds_are_kept_as_pandas_would_read_them(save: Any) -> None:
    data = read_table(save(MIXED), "y", kinds=True)
    assert isinstance(data.X, Table)
    assert (len(data.X), data.feature_names) == (4, ("city", "n", "x", "ok", "gone"))
    expected = pd.DataFrame(
        {
            "city": ["bern", None, "oslo", "NA"],
            "n": [1, 2, 3, 4],
            "x": [1.5, np.nan, 2.0, 3.0],
            "ok": [True, False, True, False],
            "gone": [np.nan] * 4,
        }
    )
    pd.testing.assert_frame_equal(data.X.frame(), expected)
    assert data.y.tolist() == list("abab")


def test_columns_are_whole_where_every_value_is_written_so(save: Any) -> None:
    text = "a,b,c,d,e,y\n1,1.0,-3,9007199254740993,true,u\n2,2,+4,1,1,v\n"
    kinds = [k.dtype for k in read_table(save(text), "y", kinds=True).X.form.columns]
    assert kinds == ["<i8", "<f8", "<i8", "<f8", "<f8"]


def test_text_is_found_wherever_it_begins(save: Any) -> None:
    lines = [f"{i},{'007' if i == 3 else i},{'x' if i == 30_000 else i}" for i in range(40_000)]
    data = read_table(save("y,a,b\n" + "\n".join(lines) + "\n"), "y", kinds=True)
    assert [k.holds for k in data.X.form.columns] == ["numbers", "text"]
    b = data.X.column(1)
    assert (b[3], b[29_999], b[30_000], b[-1]) == ("3", "29999", "x", "39999")


@pytest.mark.parametrize("values", ["2020-01-31\n2021-1-1", "31.12.2020\n", "1/2/99\nnan", "2020-01-31T10:20:30Z\n"])
def test_dates_are_refused_by_name(save: Any, values: str) -> None:
    rows = "".join(f"{value},1\n" for value in values.split("\n"))
    with pytest.raises(InvalidData, match=r"(?s)column 'when' of .*data.csv holds dates.*days since a start"):
        read_table(save("when,y\n" + rows), "y", kinds=True)


def test_what_looks_like_a_date_once_is_text(save: Any) -> None:
    data = read_table(save("a,y\n2020-01-31,1\nnever,2\n"), "y", kinds=True)
    assert data.X.column(0).tolist() == ["2020-01-31", "never"]


def test_infinity_is_refused_with_kinds_too(save: Any) -> None:
    assert "values are infinite" in refusal(save("a,b,y\n1,x,1\ninf,y,2\n"), kinds=True)


@pytest.mark.parametrize("nullable", [False, True])
def test_parquet_keeps_its_kinds(tmp_path: Path, nullable: bool) -> None:
    frame = pd.DataFrame(
        {
            "city": ["bern", None, " oslo"],
            "kind": pd.Categorical(["u", "v", None], ["w", "v", "u"]),
            "n": np.array([1, 2, 3], dtype=np.int16),
            "x": [1.5, np.nan, 2.0],
            "f": np.array([1, 2, 3], dtype=np.float32),
            "ok": [True, False, True],
            "y": list("aba"),
        }
    )
    if nullable:
        frame = frame.assign(n=pd.array([1, None, 3], dtype="Int16"), ok=pd.array([True, None, False]))
    path = tmp_path / "a.parquet"
    frame.to_parquet(path)
    table = read_table(path, "y", kinds=True).X
    assert [k.holds for k in table.form.columns] == ["text", "text", *["numbers"] * 4]
    expected = frame.drop(columns="y")
    expected["kind"] = expected["kind"].cat.remove_unused_categories().astype(object).astype("category")
    if nullable:
        expected = expected.assign(n=expected.n.astype(float), ok=pd.Series([True, None, False], dtype=object))
    got = table.frame()
    for name in expected:
        assert [repr(v) for v in got[name]] == [repr(v) for v in expected[name]], name
    assert got.dtypes["kind"] == "category"


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (pd.to_datetime(["2020-01-01"]), "dates"),
        (pd.to_timedelta([1], unit="s"), "durations"),
        (pd.Series([pd.Timestamp("2020").time()]), "times"),
        (pd.Series([[1, 2]]), "nested values"),
    ],
)
def test_columns_of_parquet_are_refused_by_name(tmp_path: Path, column: Any, what: str) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"when": column, "y": [1]}).to_parquet(path)
    with pytest.raises(InvalidData, match=f"column 'when' of .* holds {what}"):
        read_table(path, "y", kinds=True)
