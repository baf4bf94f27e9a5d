"""Round 0: what all nodes agree on before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from atoll.errors import InvalidData, SchemaMismatch, explain
from atoll.shards import Shard, empty_shard
from atoll.trees import Array, Tree

__all__ = ["Schema", "agree"]


class Schema(NamedTuple):
    """What all nodes agree on.

    Attributes
    ----------
    nodes : tuple of str
        Names, in order of their numbers.
    rows : tuple of int
        Rows per node.
    n_features : int
        Columns.
    feature_names : tuple of str or None
        Where the data had names.
    dtype : str
        Of the columns: the widest of the nodes'.
    sparse : bool
        Whether rows are sparse.
    n_outputs : int
        0: `y` has one dimension; otherwise its number of columns.
    target_dtype : str
        `""` without targets; `"U"` for text, `"O"` for text that is given back as Python objects.
    classes : tuple of ndarray
        The union of classes, sorted, one array per output; empty unless asked for.
    """

    nodes: tuple[str, ...]
    rows: tuple[int, ...]
    n_features: int
    feature_names: tuple[str, ...] | None
    dtype: str
    sparse: bool
    n_outputs: int
    target_dtype: str
    classes: tuple[Array, ...]

    @property
    def n_rows(self) -> int:
        """Rows of all nodes."""
        return sum(self.rows)

    @property
    def n_classes(self) -> list[int]:
        """Classes per output."""
        return [len(c) for c in self.classes]

    def empty(self) -> Shard:
        """A shard without rows that looks like every node's."""
        y = None
        if self.target_dtype:
            shape = (0, self.n_outputs) if self.n_outputs else (0,)
            y = np.zeros(shape, dtype="U1" if self.target_dtype in _TEXT else self.target_dtype)
        X = np.zeros((0, self.n_features), dtype=self.dtype)
        if self.sparse:
            import scipy.sparse as sp

            return empty_shard(Shard.of("(empty)", sp.csr_matrix(X), y, feature_names=self.feature_names))
        return empty_shard(Shard.of("(empty)", X, y, feature_names=self.feature_names))


def agree(nodes: Sequence[str], answers: Tree) -> Schema:
    """Hold the answers of all nodes against each other.

    Parameters
    ----------
    nodes : sequence of str
        Names of the nodes that answered, in order.
    answers : Tree
        Their `describe.schema` answers, joined in node order.

    Returns
    -------
    Schema

    Raises
    ------
    SchemaMismatch
        Naming the node and, where there is one, the column that does not fit.
    InvalidData
        If a node has no rows.
    """
    rows = tuple(int(n) for n in answers["rows"])
    if not all(rows):
        empty = ", ".join(repr(n) for n, r in zip(nodes, rows, strict=True) if not r)
        raise InvalidData(explain("a node has no rows", where=f"node {empty}", hint="leave it out"))
    names = _names(nodes, answers)
    _same(nodes, answers["features"], "has another number of columns")
    _same(nodes, answers["sparse"], "is sparse where others are dense", words=("dense", "sparse"))
    _same(nodes, answers["outputs"], "has another number of targets")
    kinds = [_kind(t) for t in answers["target"]]
    _same(nodes, np.asarray(kinds), "has labels of another type")
    dtype = np.result_type(*[np.dtype(str(d)) for d in answers["dtype"]])
    target = _widest(answers["target"].tolist())
    return Schema(
        nodes=tuple(nodes),
        rows=rows,
        n_features=int(answers["features"][0]),
        feature_names=names,
        dtype=dtype.str,
        sparse=bool(answers["sparse"][0]),
        n_outputs=int(answers["outputs"][0]),
        target_dtype=target,
        classes=_union(answers, target),
    )


_TEXT = ("U", "O")


def _widest(dtypes: list[str]) -> str:
    if dtypes[0] in ("", *_TEXT):
        return "O" if "O" in dtypes else dtypes[0]
    return str(np.result_type(*dtypes).str)


def _kind(dtype: str) -> str:
    return (
        "" if not dtype else "text" if dtype in _TEXT else "truth values" if np.dtype(dtype).kind == "b" else "numbers"
    )


def _same(nodes: Sequence[str], values: Array, what: str, words: Sequence[str] | None = None) -> None:
    for node, value in zip(nodes, values, strict=True):
        if value != values[0]:
            shown = [words[int(v)] if words else (str(v) or "none") for v in (value, values[0])]
            raise SchemaMismatch(
                explain(
                    f"node {node!r} {what}", got=shown[0], expected=f"{shown[1]}, as on node {nodes[0]!r}",
                    hint="bring the data of the nodes into the same form",
                )
            )  # fmt: skip


def _names(nodes: Sequence[str], answers: Tree) -> tuple[str, ...] | None:
    ends = np.cumsum(answers["named"])
    columns = [tuple(str(n) for n in part) for part in np.split(answers["names"], ends[:-1])]
    first = columns[0]
    for node, own in zip(nodes, columns, strict=True):
        if own != first:
            raise SchemaMismatch(_difference(node, own, nodes[0], first))
    return first or None


def _difference(node: str, own: tuple[str, ...], other: str, expected: tuple[str, ...]) -> str:
    missing, extra = [c for c in expected if c not in own], [c for c in own if c not in expected]
    if not own or not expected:
        named, bare = (node, other) if own else (other, node)
        return explain(
            f"node {named!r} names its columns and node {bare!r} does not", hint="give data frames everywhere"
        )
    what = [f"lacks column {missing[0]!r}"] if missing else []
    what += [f"has the column {extra[0]!r} that others lack"] if extra else []
    if not what:
        i = next(i for i, (a, b) in enumerate(zip(own, expected, strict=True)) if a != b)
        what = [f"has column {own[i]!r} where others have {expected[i]!r}"]
    return explain(
        f"node {node!r} " + " and ".join(what),
        got=", ".join(own),
        expected=f"{', '.join(expected)} (node {other!r})",
        hint="rename, add or reorder the columns of this node",
    )


def _union(answers: Tree, target: str) -> tuple[Array, ...]:
    """The union of classes per output, in the dtype of the target."""
    counts = answers["n_classes"]
    if not len(counts):
        return ()
    if target in _TEXT:
        values = answers["text"].astype(object if target == "O" else np.str_)
    else:
        values = np.concatenate([answers["integer"].astype(target), answers["real"].astype(target)])
    outputs = max(1, int(answers["outputs"][0]))
    parts = np.split(values, np.cumsum(counts)[:-1])
    return tuple(np.unique(np.concatenate(parts[i::outputs])) for i in range(outputs))
