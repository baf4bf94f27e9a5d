"""Rows of a data set are those that a script would have that reads the same file with pandas."""

from __future__ import annotations

import sqlite3

import numpy as np
import pandas as pd
import pytest

from atoll import Federation
from atoll.errors import AtollError, InvalidData
from atoll.shards import on_file
from atoll.silo.errors import ColumnMissing, Malformed, NotFound
from atoll.silo.node import tables
from atoll.silo.node.folder import Folder
from atoll.silo.node.rows import Rows, Seen, project
from atoll.silo.node.sources import Source, parse, read_source
from atoll.silo.node.tables import load

FRAMES = {
    "numbers and text labels": (pd.DataFrame({"a": [1.5, 2.0, 3.25], "b": [1, 2, 3], "t": ["u", "v", "u"]}), "t"),
    "whole numbers": (pd.DataFrame({"a": [1, 2, 3], "b": [4, 5, 6], "t": [0, 1, 0]}), "t"),
    "a quantity": (pd.DataFrame({"a": [1, 2, 3], "t": [0.5, 1.0, 2.0]}), "t"),
    "a quantity of whole values": (pd.DataFrame({"a": [1, 2, 3], "t": [1.0, 2.0, 3.0]}), "t"),
    "truth values": (pd.DataFrame({"a": [True, False, True], "b": [0.1, 0.2, 0.3], "t": [True, False, True]}), "t"),
    "text among the features": (pd.DataFrame({"a": ["x", "y", "x"], "b": [1, 2, 3], "t": [0, 1, 0]}), "t"),
    "missing values": (pd.DataFrame({"a": [1.0, np.nan, 3.0], "b": [1, 2, 3], "t": ["u", "v", "u"]}), "t"),
    "missing text": (pd.DataFrame({"a": ["x", None, "z"], "b": [1, 2, 3], "t": ["u", "v", "u"]}), "t"),
    "no targets": (pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [1, 2, 3]}), ""),
    "two targets": (pd.DataFrame({"a": [1.0, 2.0, 3.0], "s": [1, 2, 3], "t": [0.5, 1.5, 2.5]}), ["s", "t"]),
    "two targets of text": (
        pd.DataFrame({"a": [1.0, 2.0, 3.0], "s": ["u", "v", "u"], "t": ["x", "y", "y"]}),
        ["s", "t"],
    ),
    "the target comes first": (pd.DataFrame({"t": ["u", "v", "u"], "a": [1.0, 2.0, 3.0]}), "t"),
    "one row": (pd.DataFrame({"a": [1.5], "t": ["u"]}), "t"),
    "many digits": (pd.DataFrame({"a": np.random.default_rng(0).normal(size=50) * 1e-7, "t": range(50)}), "t"),
}


def as_script(frame, target):
    """The shard of somebody who hands a data frame over."""
    parts = (frame,) if not target else (frame.drop(columns=target), frame[target])
    return Federation.from_shards([parts], names=["b"])._shards[0]


def same(a, b):
    left, right = a.to_tree(), b.to_tree()
    assert left.keys() == right.keys()
    for name in left:
        if name == "table.declared":
            continue
        assert left[name].dtype == right[name].dtype, name
        assert np.array_equal(left[name], right[name], equal_nan=left[name].dtype.kind == "f"), name
    assert (a.feature_names, a.object_text, a.name) == (b.feature_names, b.object_text, b.name)


class TestFiles:
    @pytest.mark.parametrize("kind", FRAMES)
    def test_csv(self, tmp_path, kind):
        frame, target = FRAMES[kind]
        frame.to_csv(tmp_path / "x.csv", index=False)
        read = pd.read_csv(tmp_path / "x.csv")
        loaded = load("x", "b", Source(file=str(tmp_path / "x.csv"), target=target))
        same(loaded.shard, as_script(read, target))

    @pytest.mark.parametrize("kind", FRAMES)
    @pytest.mark.parametrize("mapped", [0, 1 << 30])
    def test_parquet(self, tmp_path, monkeypatch, kind, mapped):
        monkeypatch.setattr(tables, "MAPPED", mapped)
        frame, target = FRAMES[kind]
        frame.to_parquet(tmp_path / "x.parquet", index=False)
        read = pd.read_parquet(tmp_path / "x.parquet")
        loaded = load("x", "b", Source(file=str(tmp_path / "x.parquet"), target=target))
        same(loaded.shard, as_script(read, target))
        numbers = not any(word in kind for word in ("text among", "missing"))
        assert on_file(loaded.shard.X) == (numbers and not mapped)

    @pytest.mark.parametrize("separator", [";", "\t", "|"])
    def test_other_separators(self, tmp_path, separator):
        frame, target = FRAMES["numbers and text labels"]
        frame.to_csv(tmp_path / "x.tsv", index=False, sep=separator)
        same(load("x", "b", Source(file=str(tmp_path / "x.tsv"), target=target)).shard, as_script(frame, target))

    def test_some_columns_and_weights(self, tmp_path):
        frame, _ = FRAMES["numbers and text labels"]
        frame["w"] = [1, 2, 3]
        frame.to_csv(tmp_path / "x.csv", index=False)
        source = Source(file=str(tmp_path / "x.csv"), target="t", columns=["b"], weight="w")
        shard = load("x", "b", source).shard
        want = Federation.from_shards([(frame[["b"]], frame["t"], frame["w"])], names=["b"])._shards[0]
        same(shard, want)
        dropped = load("x", "b", Source(file=str(tmp_path / "x.csv"), target="t", drop=["a"], weight="w")).shard
        same(dropped, want)

    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
    def test_arrays(self, tmp_path, dtype):
        X, y = np.arange(12).reshape(6, 2).astype(dtype), np.arange(6) % 2
        np.save(tmp_path / "X.npy", X)
        np.save(tmp_path / "y.npy", y)
        _, source = parse("x=X.npy:y.npy", tmp_path)
        shard = load("x", "b", source).shard
        want = Federation.from_shards([(X, y)], names=["b"])._shards[0]
        same(shard, want)
        assert on_file(shard.X) == (dtype != np.int64)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "empty"),
            ("a,t\n", "no rows"),
            ("a,t\n1,u\n2\n", "number of columns"),
            ("a,a,t\n1,2,u\n", "named 'a'"),
            ("1,2,3\n4,5,6\n", "no column 't'"),
            ("a,t\ninf,u\n", "infinite"),
            ("a,t\n2020-01-01,u\n2020-01-02,v\n", "dates"),
            ("t\nu\n", "no feature"),
            ("a,t\n1,u\n2,\n", "labels"),
            ("a,t\n1,\x00\n", "u"),
        ],
    )
    def test_files_that_cannot_be_used(self, tmp_path, text, message):
        (tmp_path / "x.csv").write_text(text)
        if "\x00" in text:
            assert load("x", "b", Source(file=str(tmp_path / "x.csv"), target="t")).shard.n_rows == 1
            return
        with pytest.raises(InvalidData, match=message):
            load("x", "b", Source(file=str(tmp_path / "x.csv"), target="t"))

    @pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
    @pytest.mark.parametrize(
        "wrong", [{"target": "T"}, {"target": ["t", "T"]}, {"columns": ["A"]}, {"weight": "W"}, {"drop": ["D"]}]
    )
    def test_a_column_that_is_missing_is_named(self, tmp_path, name, wrong):
        frame, _ = FRAMES["numbers and text labels"]
        frame.to_csv(tmp_path / "x.csv", index=False)
        frame.to_parquet(tmp_path / "x.parquet", index=False)
        missing = next(iter(wrong.values()))
        missing = missing if isinstance(missing, str) else missing[-1]
        with pytest.raises(ColumnMissing, match=repr(missing)):
            load("x", "b", Source(file=str(tmp_path / name), **wrong))


class TestLoaders:
    def write(self, tmp_path, body):
        (tmp_path / "mine.py").write_text(f"import numpy as np\nimport pandas as pd\ndef rows():\n    {body}\n")
        return parse("x=py:mine.py:rows", tmp_path)[1]

    def test_arrays(self, tmp_path):
        source = self.write(tmp_path, "return np.eye(3), np.array(['u', 'v', 'u'])")
        want = Federation.from_shards([(np.eye(3), np.array(["u", "v", "u"]))], names=["b"])._shards[0]
        same(load("x", "b", source).shard, want)

    def test_weights(self, tmp_path):
        source = self.write(tmp_path, "return np.eye(3), [0, 1, 0], [1, 2, 3]")
        assert load("x", "b", source).shard.columns["sample_weight"].tolist() == [1.0, 2.0, 3.0]

    def test_rows_alone(self, tmp_path):
        assert load("x", "b", self.write(tmp_path, "return np.eye(3)")).shard.y is None

    def test_a_frame_and_its_target(self, tmp_path):
        from msgspec.structs import replace

        frame, target = FRAMES["text among the features"]
        frame.to_pickle(tmp_path / "x.pickle")
        source = self.write(tmp_path, f"return pd.read_pickle({str(tmp_path / 'x.pickle')!r})")
        same(load("x", "b", replace(source, target=target)).shard, as_script(frame, target))

    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            ("return ()", InvalidData),
            ("return 1, 2, 3, 4", InvalidData),
            ("return np.eye(3), [0, 1]", AtollError),
            ("return np.eye(3), [0, 1, 0], [1.0]", AtollError),
            ("return np.zeros((0, 3))", InvalidData),
            ("raise RuntimeError('secret')", RuntimeError),
        ],
    )
    def test_that_cannot_be_used(self, tmp_path, body, kind):
        with pytest.raises(kind):
            load("x", "b", self.write(tmp_path, body))

    @pytest.mark.parametrize("place", ["no_such_module:rows", "json:no_such", "/no/such.py:rows"])
    def test_that_are_not_there(self, place):
        with pytest.raises(Malformed, match="not there"):
            load("x", "b", Source(python=place))


class TestSql:
    @pytest.fixture
    def url(self, tmp_path):
        base = sqlite3.connect(tmp_path / "x.db")
        base.execute("create table rows (a real, b integer, c text, t text, m integer)")
        base.executemany(
            "insert into rows values (?, ?, ?, ?, ?)",
            [(0.1, 1, "x", "u", 1), (0.2, 2, "y", "v", None), (0.3, 3, "x", "u", 3)],
        )
        base.commit()
        base.close()
        return f"sqlite:///{tmp_path / 'x.db'}"

    @pytest.mark.parametrize("columns", ["a, b, t", "a, b, c, t", "a, m, t", "b, t"])
    def test_as_pandas_reads_it(self, tmp_path, url, columns):
        query = f"select {columns} from rows order by a"
        _, source = parse(f"x=sql:{url}#{query}#t")
        base = sqlite3.connect(tmp_path / "x.db")
        frame = pd.read_sql(query, base)
        base.close()
        same(load("x", "b", source).shard, as_script(frame, "t"))

    @pytest.mark.parametrize(
        "query", ["delete from rows", "insert into rows values (1,2,3,4,5)", "drop table rows", "update rows set a = 0"]
    )
    def test_nothing_is_written(self, tmp_path, url, query):
        with pytest.raises(InvalidData):
            load("x", "b", Source(sql=url, query=query))
        base = sqlite3.connect(tmp_path / "x.db")
        assert base.execute("select count(*), sum(a) from rows").fetchone() == (3, pytest.approx(0.6))
        base.close()

    @pytest.mark.parametrize(
        ("query", "kind"),
        [
            ("select nothing from rows", InvalidData),
            ("select * from no_such", InvalidData),
            ("select a from rows where 0", InvalidData),
            ("select a, a from rows", InvalidData),
            ("select", InvalidData),
            ("select a, b as B from rows", ColumnMissing),
        ],
    )
    def test_queries_that_cannot_be_used(self, url, query, kind):
        with pytest.raises(kind):
            load("x", "b", Source(sql=url, query=query, target="t"))

    @pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/x.db", "nodialect://host/name"])
    def test_urls_that_cannot_be_used(self, url):
        with pytest.raises(AtollError):
            load("x", "b", Source(sql=url, query="select 1"))

    def test_passwords_come_from_the_environment_and_are_not_told(self, tmp_path, url, monkeypatch):
        monkeypatch.setenv("PLACE", str(tmp_path / "x.db"))
        assert load("x", "b", Source(sql="sqlite:///${PLACE}", query="select a from rows")).shard.n_rows == 3
        with pytest.raises(Malformed, match="no variable NOTHING"):
            load("x", "b", Source(sql="sqlite:///${NOTHING}", query="select a from rows"))
        assert "secret" not in Source(sql="postgresql://me:secret@host/db", query="select 1").said()


class TestSources:
    @pytest.mark.parametrize(
        ("text", "want"),
        [
            ("iris=iris.csv:species", Source(file="/d/iris.csv", target="species")),
            ("iris=/x/iris.csv", Source(file="/x/iris.csv")),
            ("iris=a:b/iris.csv:the species", Source(file="/d/a:b/iris.csv", target="the species")),
            ("iris=iris.parquet:a,b", Source(file="/d/iris.parquet", target=["a", "b"])),
            ("x=X.npy", Source(file="/d/X.npy")),
            ("x=X.npy:y.npy", Source(file="/d/X.npy", target="/d/y.npy")),
            ("x=sql:sqlite:///f.db#select a::int#t", Source(sql="sqlite:///f.db", query="select a::int", target="t")),
            ("x=sql:sqlite:///f.db#select 1", Source(sql="sqlite:///f.db", query="select 1")),
            ("x=py:pack.mod:rows", Source(python="pack.mod:rows")),
            ("x=py:mod.py:rows", Source(python="/d/mod.py:rows")),
        ],
    )  # fmt: skip
    def test_are_read_and_written_again(self, tmp_path, text, want):
        name, source = parse(text, "/d")
        assert source == want
        folder = Folder(tmp_path)
        folder.write_data({name: source, "o.ther": source})
        assert folder.data() == {name: source, "o.ther": source}

    @pytest.mark.parametrize(
        "text",
        ["", "iris", "iris=", "=iris.csv", "a b=iris.csv", "iris=iris.xls", "iris=iris.csv.gz:t", "x=sql:nothing",
         "x=sql:sqlite:///f.db#", "x=py:module", "x=py::f", "x=py:m:not-a-name", ".x=iris.csv", "x" * 65 + "=iris.csv"],
    )  # fmt: skip
    def test_that_cannot_be_read(self, text):
        with pytest.raises(Malformed):
            parse(text)

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ({}, "one place"),
            ({"file": "x.csv", "sql": "sqlite://", "query": "select 1"}, "one place"),
            ({"sql": "sqlite://"}, "one place"),
            ({"query": "select 1", "file": "x.csv"}, "one place"),
            ({"file": 3}, "wrong kind"),
            ({"file": "x.csv", "show": "yes"}, "wrong kind"),
            ({"file": "x.csv", "traget": "t"}, "did you mean 'target'"),
        ],
    )
    def test_tables_that_cannot_be_read(self, table, message):
        with pytest.raises(Malformed, match=message):
            read_source("x", table, "node.toml")

    @pytest.mark.parametrize(
        "text", ["[data", "name = 3", "data = 3", "[data]\nx = 3", "\xff", "[data.'a b']\nfile='x.csv'"]
    )
    def test_files_that_cannot_be_read(self, tmp_path, text):
        (tmp_path / "node.toml").write_text(text, encoding="latin-1")
        with pytest.raises(Malformed):
            Folder(tmp_path).data()


class TestHolding:
    def test_a_data_set_that_is_not_there(self):
        with pytest.raises(NotFound, match="no data set 'x'"):
            Rows("b", dict).get("x")

    def test_some_columns_only(self, tmp_path):
        frame, target = FRAMES["text among the features"]
        frame.to_csv(tmp_path / "x.csv", index=False)
        held = Rows("b", lambda: {"x": Source(file=str(tmp_path / "x.csv"), target=target)}).get("x")
        assert project(held, None, "x") is held.shard
        some = project(held, ("b", "t"), "x")
        assert some.feature_names == ("b",)
        assert some.y.tolist() == [0, 1, 0]
        assert project(held, ("a", "b"), "x").y is None
        with pytest.raises(ColumnMissing, match="'c'"):
            project(held, ("a", "c"), "x")

    def test_columns_without_names_are_counted(self, tmp_path):
        np.save(tmp_path / "X.npy", np.arange(6.0).reshape(2, 3))
        held = Rows("b", lambda: {"x": Source(file=str(tmp_path / "X.npy"))}).get("x")
        assert project(held, ("0", "2"), "x").X.tolist() == [[0.0, 2.0], [3.0, 5.0]]

    def test_what_runs_have_seen_is_bounded_and_survives(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Seen, "LIMIT", 5)
        seen = Seen(tmp_path / "seen.json")
        for i in range(20):
            seen.check("k", f"run-{i}", "x", "v1", "b")
        again = Seen(tmp_path / "seen.json")
        assert len(again._known.runs) == 5
        (tmp_path / "seen.json").write_text("{")
        Seen(tmp_path / "seen.json").check("k", "run", "x", "v1", "b")
