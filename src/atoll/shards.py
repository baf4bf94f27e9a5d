"""One node's rows, in one memory layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sp

from atoll.errors import InvalidData, explain
from atoll.table import Table, given_as, is_frame
from atoll.trees import Array, Tree, nbytes

__all__ = [
    "Shard",
    "as_rows",
    "as_target",
    "blank",
    "empty_shard",
    "for_good",
    "inputs_of",
    "is_sparse",
    "on_file",
    "outputs",
    "stacked",
    "weight_names",
    "weights",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """One node's rows.

    Attributes
    ----------
    name : str
        The node's name; nodes are numbered by sorted name.
    X : ndarray of shape (n, d), scipy CSR matrix of shape (n, d), or Table
        float32 or float64, C-contiguous (or with sorted indices); a table where there is text, or where rows are kept
        as they were given.
    y : ndarray of shape (n,) or (n, n_outputs), or None
        Targets: numbers, booleans, or text (dtype U).
    ids : ndarray of shape (n,), int64
        Global row ids, distinct over the federation; ties are ordered by them.
    feature_names : tuple of str, or None
        As the data frame had them.
    columns : Tree
        Further arrays with one entry per row (`sample_weight`, label codes of a view, …).
    object_text : bool
        Whether text labels came as Python objects, so that classes and predictions are given back as such.
    given : tuple of str, or None
        NumPy's names for what the columns of a matrix were given as, where some were whole numbers or truth values.
    """

    name: str
    X: Any
    y: Array | None
    ids: Array
    feature_names: tuple[str, ...] | None = None
    columns: Tree = field(default_factory=dict)
    object_text: bool = False
    given: tuple[str, ...] | None = None
    _memo: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        name: str,
        X: Any,
        y: object = None,
        *,
        ids: Array | None = None,
        feature_names: Sequence[str] | None = None,
        columns: Tree | None = None,
        raw: bool = False,
    ) -> Shard:
        """Bring rows into the one memory layout.

        Parameters
        ----------
        name : str
            The node's name.
        X : array-like or sparse matrix of shape (n, d)
            Anything numeric, or a data frame. Data frames give their column names. For neural networks also an array
            of shape (n, ...), or a mapping of names to arrays with one entry per row; see `inputs_of`.
        y : array-like of shape (n,) or (n, n_outputs), optional
            Targets.
        ids : ndarray of shape (n,), optional
            Global row ids; 0 … n − 1 by default.
        feature_names : sequence of str, optional
            Defaults to those of a data frame.
        columns : Tree, optional
            Further arrays with one entry per row.
        raw : bool, default=False
            Whether whole numbers, truth values and objects stay what they are, in a `Table`, for estimators that tell
            them apart. Otherwise they become floats, and only a data frame with text becomes a table.

        Raises
        ------
        InvalidData
            If X cannot be used or is not two-dimensional, or X and y differ in length; names the node.
        """
        X, inputs = _apart(X, where=f"node {name!r}")
        matrix = as_rows(X, where=f"node {name!r}", raw=raw)
        n = matrix.shape[0]
        target = None if y is None else as_target(y, where=f"node {name!r}")
        if target is not None and len(target) != n:
            raise InvalidData(explain("X and y differ in length", got=f"{n} and {len(target)}", where=f"node {name!r}"))
        names = feature_names if feature_names is not None else _column_names(X)
        names = None if names is None else tuple(names)
        return cls(
            name=str(name),
            X=matrix.with_names(names) if isinstance(matrix, Table) else matrix,
            y=target,
            ids=np.arange(n, dtype=np.int64) if ids is None else np.ascontiguousarray(ids, dtype=np.int64),
            feature_names=names,
            columns={**inputs, **(columns or {})},
            object_text=target is not None and target.dtype.kind == "U" and np.asarray(y).dtype.kind == "O",
            given=given_as(X, matrix.shape[1]) if isinstance(matrix, np.ndarray) else None,
        )

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.X.shape[0])

    @property
    def n_features(self) -> int:
        """Number of columns of X."""
        return int(self.X.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return nbytes(self.to_tree())

    def labels(self) -> Array | None:
        """The targets as they were given: text as Python objects where it came as such."""
        return self.y.astype(object) if self.y is not None and self.object_text else self.y

    def with_columns(self, **columns: Array) -> Shard:
        """The same rows with further columns."""
        return replace(self, columns={**self.columns, **columns})

    def with_rows(self, X: Any) -> Shard:
        """Other values for the same rows, as a transformer makes them; targets, ids and columns stay."""
        rows = as_rows(X, where=f"node {self.name!r}", raw=True)
        return replace(self, X=rows, feature_names=_column_names(X), given=None)

    def select(self, which: Sequence[int] | Array) -> Shard:
        """Some of the columns, by position."""
        at = [int(i) for i in which]
        names = None if self.feature_names is None else tuple(self.feature_names[i] for i in at)
        if isinstance(self.X, Table):
            return replace(self, X=self.X.select(at), feature_names=names)
        X = self.X[:, at]
        given = None if self.given is None else tuple(self.given[i] for i in at)
        return replace(self, X=X.tocsr() if is_sparse(X) else np.ascontiguousarray(X), feature_names=names, given=given)

    def take(self, rows: Array | slice, name: str | None = None) -> Shard:
        """Some of the rows, by index or slice; ids and columns go with them."""
        return replace(
            self,
            name=self.name if name is None else name,
            X=self.X[rows],
            y=None if self.y is None else self.y[rows],
            ids=self.ids[rows],
            columns={n: a[rows] for n, a in self.columns.items()},
        )

    def memo(self, key: object, make: Callable[[], T]) -> T:
        """What `make` returns, made once per shard and key: an index over the rows, the rows as a view shows them.

        At most 8 things are kept, the least recently used goes first.
        """
        memo = self._memo
        value = memo.pop(key, None)
        if value is None:
            value = make()
        memo[key] = value
        if len(memo) > 8:
            memo.pop(next(iter(memo)), None)
        return value  # type: ignore[no-any-return]

    def forget(self, key: object) -> None:
        """Give up what `memo` keeps under a key, if it is still there."""
        self._memo.pop(key, None)

    def to_tree(self) -> Tree:
        """All arrays by name, to travel to a local worker; `from_tree` is the inverse."""
        if is_sparse(self.X):
            shape = np.asarray(self.X.shape, dtype=np.int64)
            tree = {"X.data": self.X.data, "X.indices": self.X.indices, "X.indptr": self.X.indptr, "X.shape": shape}
        elif isinstance(self.X, Table):
            tree = {f"table.{n}": a for n, a in self.X.to_tree().items()}
        else:
            tree = {"X": self.X}
        if self.y is not None:
            tree["y"] = self.y
        tree["ids"] = self.ids
        tree["object_text"] = np.array([self.object_text])
        if self.feature_names is not None:
            tree["names"] = np.asarray(self.feature_names, dtype=np.str_)
        if self.given is not None:
            tree["given"] = np.asarray(self.given, dtype=np.str_)
        return tree | {f"column.{n}": a for n, a in self.columns.items()}

    @classmethod
    def from_tree(cls, name: str, tree: Tree) -> Shard:
        """Rebuild a shard on the arrays of `to_tree`, without copying them."""
        names = tuple(str(n) for n in tree["names"]) if "names" in tree else None
        if "X" in tree:
            X: Any = tree["X"]
        elif "table.rows" in tree:
            parts = {n.removeprefix("table."): a for n, a in tree.items() if n.startswith("table.")}
            X = Table.from_tree(parts, names)
        else:
            rows, columns = tree["X.shape"].tolist()
            arrays = (tree["X.data"], tree["X.indices"], tree["X.indptr"])
            X = sp.csr_matrix(arrays, shape=(rows, columns), copy=False)
            X.has_sorted_indices = True
        more = {n.removeprefix("column."): a for n, a in tree.items() if n.startswith("column.")}
        given = tuple(tree["given"].tolist()) if "given" in tree else None
        return cls(name, X, tree.get("y"), tree["ids"], names, more, bool(tree["object_text"][0]), given)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_memo"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _memo={})


def is_sparse(X: object) -> bool:
    """Whether rows are a scipy sparse matrix or array."""
    return bool(sp.issparse(X))


def on_file(X: object) -> bool:
    """Whether rows are mapped from a file and need not fit memory; they are then asked about piece by piece."""
    return isinstance(X, np.memmap)


def for_good(array: Array) -> bool:
    """Whether numbers cannot change any more: nobody may write to them, nor to the file in which they lie.

    So it is with rows in the memory that local workers share: what is found out about them holds from then on.
    """
    held: object = array
    while isinstance(held, np.ndarray):
        if held.flags.writeable or on_file(held):
            return False
        held = held.base
    return True


def stacked(parts: Sequence[Any]) -> Any:
    """The rows of several shards below each other.

    Parameters
    ----------
    parts : sequence of ndarray, csr_matrix or Table
        Their `X`; either all are tables or none is.

    Returns
    -------
    ndarray, csr_matrix or Table
    """
    if isinstance(parts[0], Table):
        return Table.stacked(parts)
    return sp.vstack(parts, format="csr") if is_sparse(parts[0]) else np.concatenate(parts)


_INPUT = "input."


def _apart(X: Any, where: str) -> tuple[Any, Tree]:
    """Inputs of a neural network are kept as columns; what is a matrix, or is to become one, is left alone."""
    if isinstance(X, Mapping) and not is_frame(X):
        inputs = {f"{_INPUT}{name}": np.ascontiguousarray(a) for name, a in X.items()}
        lengths = {name.removeprefix(_INPUT): len(a) for name, a in inputs.items()}
        if len(set(lengths.values())) != 1:
            raise InvalidData(explain("inputs differ in their number of rows", got=lengths, where=where))
    elif getattr(X, "ndim", 2) > 2:
        inputs = {f"{_INPUT}X": np.ascontiguousarray(X)}
    else:
        return X, {}
    strange = [name for name, a in inputs.items() if a.dtype.kind not in "biuf"]
    if strange:
        what = f"input {strange[0].removeprefix(_INPUT)!r} holds no numbers"
        raise InvalidData(explain(what, got=str(inputs[strange[0]].dtype), where=where))
    return np.zeros((len(next(iter(inputs.values()))), 0), dtype=np.float32), inputs


def inputs_of(shard: Shard) -> Array | Tree:
    """What a neural network is given of a node's rows.

    Parameters
    ----------
    shard : Shard
        The node's rows.

    Returns
    -------
    ndarray of shape (n, ...) or dict of str to ndarray
        The matrix, or what came in place of one.

    Raises
    ------
    InvalidData
        If rows hold text, or are sparse.
    """
    X = shard.X
    if type(X) is np.ndarray and not shard.columns:
        return X
    inputs = {n.removeprefix(_INPUT): a for n, a in shard.columns.items() if n.startswith(_INPUT)}
    if inputs:
        return inputs["X"] if set(inputs) == {"X"} else inputs
    if isinstance(X, Table):
        return X.matrix()
    if is_sparse(X):
        raise InvalidData(explain("a neural network takes dense rows", got="a sparse matrix", hint="use X.toarray()"))
    whole: Array = X
    return whole


def weights(shard: Shard) -> Array | None:
    """The sample weights of a node's rows, float64 of shape (n,); None where every row counts once."""
    return shard.columns.get("sample_weight")


def weight_names(shard: Shard) -> tuple[str, ...]:
    """The columns with weights of rows: ``sample_weight``, and ``step__sample_weight`` for a step of a pipeline."""
    return tuple(sorted(name for name in shard.columns if name.endswith("sample_weight")))


def outputs(y: Array | None) -> int:
    """How many columns targets have; 0 where they have one dimension, or there are none."""
    return 0 if y is None or y.ndim == 1 else int(y.shape[1])


def blank() -> Shard:
    """A shard of which nothing is known yet: no rows, no columns. Its answers are the contract of round 0."""
    return Shard.of("(blank)", np.zeros((0, 0)))


def empty_shard(like: Shard) -> Shard:
    """A shard without rows that has the columns and dtypes of another; its answers are the contract of a round."""
    return replace(like.take(np.zeros(0, dtype=np.intp)), name="(empty)")


def _column_names(X: object) -> tuple[str, ...] | None:
    if isinstance(X, Table):
        return X.names
    columns = getattr(X, "columns", None)
    if columns is None:
        return None
    names = tuple(columns)
    return names if all(isinstance(n, str) for n in names) else None


def as_rows(X: Any, where: str = "X", raw: bool = False) -> Any:
    """Bring rows into the memory layout of a shard.

    Parameters
    ----------
    X : array-like, sparse matrix, data frame or Table of shape (n, d)
        Rows. A table is left alone.
    where : str
        Named in errors.
    raw : bool, default=False
        Whether whole numbers, truth values and objects stay what they are, in a table; otherwise what is a float to
        Python becomes one, and only rows with text, or with whole numbers beyond 2**53, are a table.

    Returns
    -------
    ndarray, csr_matrix or Table

    Raises
    ------
    InvalidData
        If X cannot be used or is not two-dimensional.
    """
    if isinstance(X, Table):
        return X
    if is_sparse(X):
        matrix = sp.csr_matrix(X, dtype=_float(X.dtype), copy=False)
        if not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        return matrix
    if is_frame(X) and not _is_matrix(X, raw):
        table = Table.of(X, where=where)
        return table if raw or table.form.first_text() is not None else table.matrix()
    if on_file(X) and X.ndim == 2 and X.dtype == _float(X.dtype) and X.flags.c_contiguous:
        return X
    array = np.asarray(X)
    if array.ndim != 2:
        hint = "reshape(-1, 1) for one feature, reshape(1, -1) for one row"
        raise InvalidData(explain("X must be two-dimensional", got=f"{array.ndim} dimensions", where=where, hint=hint))
    if array.dtype.kind != "f" and (raw or not _are_floats(array)):
        given = array if hasattr(X, "dtype") or array.dtype.kind != "U" else np.asarray(X, dtype=object)
        return Table.of(given, where=where)
    return np.ascontiguousarray(array, dtype=_float(array.dtype))


def _are_floats(array: Array) -> bool:
    """Whether float64 holds all values: not text or dates, nor whole numbers that would not be told apart."""
    kind = array.dtype.kind
    if kind in "iu":
        small = array.dtype.itemsize < 8 or not array.size
        return small or (int(array.min()) >= -(2**53) and int(array.max()) <= 2**53)
    if kind not in "OSU":
        return kind == "b"
    try:
        array.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True


def _is_matrix(frame: Any, raw: bool) -> bool:
    """Whether a data frame is an array of numbers as it stands; a raw one only where all are floats of one width."""
    pandas = hasattr(frame, "iloc")
    kinds = {str(dtype) for dtype in frame.dtypes}
    if raw:
        return kinds in ([{"float32"}, {"float64"}] if pandas else [{"Float32"}, {"Float64"}])
    starts = ("float", "int", "uint", "bool") if pandas else ("Float", "Int", "UInt")
    return all(kind.startswith(starts) and "[" not in kind and kind != "boolean" for kind in kinds)


def _float(dtype: Any) -> Any:
    return dtype if dtype in (np.dtype(np.float32), np.dtype(np.float64)) else np.dtype(np.float64)


def as_target(y: object, where: str = "y") -> Array:
    """Bring targets into an array that can travel: numbers, booleans, or text.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, n_outputs)
        Targets. Object arrays must hold text only, or numbers only.
    where : str
        Named in the error.

    Returns
    -------
    ndarray
        dtype of kind b, i, u, f, or U.

    Raises
    ------
    InvalidData
        If labels are of mixed type, missing, or of a kind that cannot travel, or have another number of dimensions.
    """
    array = np.asarray(y)
    if array.ndim not in (1, 2):
        expected = "one per row, or a row of them"
        raise InvalidData(
            explain("targets of another shape", got=f"{array.ndim} dimensions", expected=expected, where=where)
        )
    if array.dtype.kind in "biufU":
        return np.ascontiguousarray(array)
    kinds = (
        sorted({type(v).__name__ for v in array.ravel().tolist()}) if array.dtype.kind == "O" else [str(array.dtype)]
    )
    if kinds == ["str"]:
        return np.ascontiguousarray(array.astype(np.str_))
    numeric = {"int", "float", "bool"}
    if set(kinds) <= numeric and ("bool" not in kinds or kinds == ["bool"]):
        return np.ascontiguousarray(np.asarray(array.tolist()))
    hint = "fill or drop rows without a label" if "NoneType" in kinds or "nan" in kinds else "convert y to one type"
    raise InvalidData(
        explain(
            "labels of mixed type", got=", ".join(kinds), expected="all text or all numbers", where=where, hint=hint
        )
    )
