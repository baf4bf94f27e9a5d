"""A table: columns of one length, their names, and what scikit-learn makes of them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from atoll.errors import InvalidData, MissingExtra, SchemaMismatch, explain
from atoll.table.column import Column, Kind, common, plain_dtype
from atoll.table.intake import read_columns
from atoll.trees import Array, Tree

__all__ = ["Form", "Table"]


class Form(NamedTuple):
    """What a table is, apart from its rows.

    Attributes
    ----------
    columns : tuple of Kind
        One per column.
    names : tuple of str, or None
        Names of the columns, where all are text.
    source : {"pandas", "polars", "array"}
        What the rows came as.
    boxed : bool
        Whether coded columns are Python objects to scikit-learn; otherwise they are an array of text.
    """

    columns: tuple[Kind, ...]
    names: tuple[str, ...] | None
    source: str
    boxed: bool

    @classmethod
    def agreed(cls, nodes: Sequence[str], forms: Sequence[Form]) -> Form:
        """The form that takes the rows of all nodes; its columns stand as on the first node.

        Parameters
        ----------
        nodes : sequence of str
            Names of the nodes.
        forms : sequence of Form
            One per node, with the same names.

        Raises
        ------
        SchemaMismatch
            Naming the node and the column, where one holds text and another numbers.
        """
        first, sources = forms[0], [f.source for f in forms if f.source != "array"]
        orders = [f.order(first.names) for f in forms]
        columns = []
        for i in range(len(first.columns)):
            kinds = [f.columns[order[i]] for f, order in zip(forms, orders, strict=True)]
            kind = common(kinds)
            if kind is None:
                raise SchemaMismatch(_unlike(nodes, kinds, first.label(i)))
            columns.append(kind)
        return cls(tuple(columns), first.names, (sources or ["array"])[0], any(f.boxed for f in forms))

    def order(self, names: Sequence[str] | None) -> list[int]:
        """Where the columns of some names stand."""
        if names is None or self.names is None:
            return list(range(len(self.columns)))
        place = {name: i for i, name in enumerate(self.names)}
        return [place[name] for name in names]

    def label(self, i: int) -> str:
        """A column as messages call it."""
        return f"column {self.names[i]!r}" if self.names is not None else f"column {i}"

    def first_text(self) -> str | None:
        """The first column that holds text or bytes, as messages call it; None without one."""
        return next((self.label(i) for i, k in enumerate(self.columns) if k.holds in ("text", "bytes")), None)

    def write(self) -> dict[str, Any]:
        """Plain values, from which `read` makes the form again."""
        return {**self._asdict(), "columns": [list(k) for k in self.columns], "names": self.names and list(self.names)}

    @classmethod
    def read(cls, written: dict[str, Any]) -> Form:
        """A form out of the values that `write` gives."""
        names = written["names"]
        columns = tuple(Kind(*k) for k in written["columns"])
        return cls(columns, None if names is None else tuple(names), written["source"], written["boxed"])


def _unlike(nodes: Sequence[str], kinds: Sequence[Kind], label: str) -> str:
    full = [(node, k.holds) for node, k in zip(nodes, kinds, strict=True) if k.holds != "nothing"]
    first = full[0]
    node, holds = next(item for item in full if item[1] != first[1])
    return explain(
        f"node {node!r} holds {holds} in {label}", got=holds, expected=f"{first[1]}, as on node {first[0]!r}",
        hint="bring the data of the nodes into the same form",
    )  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Columns of one length.

    Attributes
    ----------
    columns : tuple of Column
        In order.
    n_rows : int
        Rows.
    names : tuple of str, or None
        Names of the columns, where all are text.
    source : {"pandas", "polars", "array"}
        What the rows came as; scikit-learn sees a frame of pandas column by column, anything else as one array.
    boxed : bool
        Whether coded columns are Python objects to scikit-learn; otherwise they are an array of text.
    """

    columns: tuple[Column, ...]
    n_rows: int
    names: tuple[str, ...] | None = None
    source: str = "array"
    boxed: bool = True

    @classmethod
    def of(cls, X: Any, *, names: Sequence[str] | None = None, where: str = "X") -> Table:
        """A table out of a data frame, or out of an array of numbers, text or Python objects.

        Parameters
        ----------
        X : pandas or polars DataFrame, or ndarray of shape (n, d)
            Rows.
        names : sequence of str, optional
            Names of the columns; those of a data frame by default.
        where : str
            Named in errors.

        Raises
        ------
        InvalidData
            For columns of dates, durations, nested values and the like; names the column.
        """
        columns, own, source, boxed = read_columns(X, where)
        given = own if names is None else tuple(names)
        return cls(tuple(columns), len(X), given, source, boxed)

    @classmethod
    def empty(cls, form: Form) -> Table:
        """A table without rows, of some form."""
        columns = tuple(Column.empty(kind) for kind in form.columns)
        return cls(columns, 0, form.names, form.source, form.boxed)

    @classmethod
    def specimen(cls, form: Form) -> Table:
        """A table of one row made up, of some form: zeros, and the text ``x``."""
        empty = cls.empty(form)
        return replace(empty, columns=tuple(c.specimen() for c in empty.columns), n_rows=1)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_rows, len(self.columns)

    @property
    def form(self) -> Form:
        """What this table is, apart from its rows."""
        return Form(tuple(c.kind for c in self.columns), self.names, self.source, self.boxed)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(c.values.nbytes + (0 if c.levels is None else c.levels.nbytes) for c in self.columns)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the one array that scikit-learn sees, where it sees one: numbers, text, or objects."""
        if self.boxed and any(c.levels is not None for c in self.columns):
            return np.dtype(object)
        parts = [plain_dtype(c) for c in self.columns]
        return np.result_type(*parts) if parts else np.dtype(np.float64)

    def column(self, i: int) -> Array:
        """One column as scikit-learn's encoders see it, shape (n,)."""
        column = self.columns[i]
        if self.source == "pandas":
            return column.values if column.levels is None else column.objects()
        dtype = self.dtype
        if dtype.kind == "O":
            return column.objects()
        return column.plain().astype(dtype, copy=False)

    def rows(self) -> Any:
        """The rows as scikit-learn is given them: a data frame where they came as one, otherwise an array (n, d)."""
        if self.source != "array":
            return self.frame()
        array = np.empty(self.shape, dtype=self.dtype)
        for i in range(len(self.columns)):
            array[:, i] = self.column(i)
        return array

    def frame(self) -> Any:
        """A data frame of polars where the rows came from there, otherwise of pandas.

        Raises
        ------
        MissingExtra
            If that library is not installed.
        """
        polars = self.source == "polars"
        library = _library("polars" if polars else "pandas")
        names: Sequence[Any] = range(len(self.columns)) if self.names is None else self.names
        if polars:
            parts = [_polars_series(library, str(n), c) for n, c in zip(names, self.columns, strict=True)]
            return library.DataFrame(parts)
        frame = library.DataFrame({i: _pandas_series(library, c) for i, c in enumerate(self.columns)})
        frame = frame if len(self.columns) else library.DataFrame(index=range(self.n_rows))
        frame.columns = library.RangeIndex(len(names)) if self.names is None else library.Index(names)
        return frame

    def matrix(self) -> Array:
        """All columns as a matrix of floats, NaN where a value is missing: float32 where all are, otherwise float64.

        Raises
        ------
        InvalidData
            If a column holds text; names the first.
        """
        form = self.form
        text = form.first_text()
        if text is not None:
            hint = "encode it in a pipeline: ColumnTransformer with OneHotEncoder or OrdinalEncoder, then the estimator"
            raise InvalidData(explain(f"{text} holds text, and this estimator takes numbers", hint=hint))
        dtypes = {k.dtype for k in form.columns}
        narrow = len(dtypes) == 1 and np.dtype(next(iter(dtypes))) == np.float32
        matrix = np.empty(self.shape, dtype=np.float32 if narrow else np.float64)
        for i, column in enumerate(self.columns):
            matrix[:, i] = column.numbers()
        return matrix

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, rows: Array | slice) -> Table:
        """Some of the rows, by index or slice, as an array gives them."""
        columns = tuple(c.take(rows) for c in self.columns)
        n = len(range(*rows.indices(self.n_rows))) if isinstance(rows, slice) else len(np.arange(self.n_rows)[rows])
        return replace(self, columns=columns, n_rows=n)

    def select(self, which: Sequence[int]) -> Table:
        """Some of the columns, by position."""
        names = None if self.names is None else tuple(self.names[i] for i in which)
        return replace(self, columns=tuple(self.columns[i] for i in which), names=names)

    def arranged(self, form: Form) -> Table:
        """The same rows in the form that nodes agreed on: the order of its columns, and their kinds."""
        columns = [self.columns[i] for i in self.form.order(form.names)]
        made = tuple(c.become(k) for c, k in zip(columns, form.columns, strict=True))
        return Table(made, self.n_rows, form.names, form.source, form.boxed)

    def with_names(self, names: Sequence[str] | None) -> Table:
        """The same columns under other names."""
        return replace(self, names=None if names is None else tuple(names))

    @staticmethod
    def stacked(tables: Sequence[Table]) -> Table:
        """The rows of several tables below each other."""
        form = Form.agreed([str(i) for i in range(len(tables))], [t.form for t in tables])
        alike = [t.arranged(form) for t in tables]
        columns = [_joined([t.columns[i] for t in alike]) for i in range(len(form.columns))]
        return Table(tuple(columns), sum(t.n_rows for t in tables), form.names, form.source, form.boxed)

    def to_tree(self) -> Tree:
        """All arrays by name, to travel; names of columns go beside them. `from_tree` is the inverse."""
        tree = {f"{i}.values": c.values for i, c in enumerate(self.columns)}
        tree |= {f"{i}.levels": c.levels for i, c in enumerate(self.columns) if c.levels is not None}
        tree["declared"] = np.asarray([c.declared for c in self.columns], dtype=np.str_)
        tree["binary"] = np.array([c.binary for c in self.columns], dtype=bool)
        tree["source"] = np.array([self.source])
        tree["boxed"] = np.array([self.boxed])
        tree["rows"] = np.array([self.n_rows], dtype=np.int64)
        return tree

    @classmethod
    def from_tree(cls, tree: Tree, names: tuple[str, ...] | None = None) -> Table:
        """A table on the arrays of `to_tree`, without copying them."""
        told = enumerate(zip(tree["declared"].tolist(), tree["binary"].tolist(), strict=True))
        columns = tuple(
            Column(tree[f"{i}.values"], tree.get(f"{i}.levels"), name, binary) for i, (name, binary) in told
        )
        return cls(columns, int(tree["rows"][0]), names, str(tree["source"][0]), bool(tree["boxed"][0]))


def _joined(columns: Sequence[Column]) -> Column:
    """Columns of one kind below each other."""
    first = columns[0]
    if first.levels is None:
        return first._replace(values=np.concatenate([c.values for c in columns]))
    parts = [c.levels for c in columns if c.levels is not None]
    levels = np.unique(np.concatenate(parts))
    codes = []
    for column, own in zip(columns, parts, strict=True):
        table = np.concatenate([np.searchsorted(levels, own), [-3, -2, -1]]).astype(np.int32)
        codes.append(table[column.values])
    return first._replace(values=np.concatenate(codes), levels=levels)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        hint = "pip install 'atoll[frames]'"
        raise MissingExtra(explain(f"this needs a data frame of {name}, which is not installed", hint=hint)) from None


def _pandas_series(library: Any, column: Column) -> Any:
    """A column as pandas had it; as objects where its type has no name that pandas can read."""
    values = column.values if column.levels is None else column.objects()
    series = library.Series(values, dtype=values.dtype)
    if column.declared in ("", str(values.dtype)):
        return series
    try:
        return series.astype(column.declared)
    except (TypeError, ValueError):
        return series


def _polars_series(library: Any, name: str, column: Column) -> Any:
    """A column as polars had it; an Enum comes back as text."""
    objects = column.objects().tolist()
    if column.levels is None and column.values.dtype.kind == "f" and column.declared.startswith(("Int", "UInt")):
        objects = [None if v != v else int(v) for v in objects]
    kind = getattr(library, column.declared.partition("(")[0], None)
    kind = library.String if column.declared.startswith("Enum") else kind
    return library.Series(name, objects, dtype=kind, strict=False)
