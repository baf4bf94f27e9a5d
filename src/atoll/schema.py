"""Round 0: what all nodes agree on before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from atoll.errors import InvalidData, SchemaMismatch, explain
from atoll.shards import Shard, empty_shard, is_sparse, outputs, weight_names
from atoll.specs import Spec
from atoll.table import Form, Kind, Table
from atoll.trees import Array, Tree
from atoll.views import arrange

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
        Of the columns: the widest of the nodes'; of a table what it is as one array, ``|O`` where there is text.
    sparse : bool
        Whether rows are sparse.
    n_outputs : int
        0: `y` has one dimension; otherwise its number of columns.
    target_dtype : str
        `""` without targets; `"U"` for text, `"O"` for text that is given back as Python objects.
    classes : tuple of ndarray
        The union of classes, sorted, one array per output; empty unless asked for.
    weights : tuple of str
        Names of the columns with weights of rows: ``sample_weight``, and those for one step of a pipeline.
    weightless : tuple of str
        Those of `weights` that are zero for every row.
    finite : bool
        Whether no value was missing or infinite in the rows as they were given.
    infinite : bool
        Whether some value was infinite there.
    form : Form or None
        Where rows are tables: what their columns are.
    uneven : bool
        Whether columns of a node stand in another order, or are of another type, than agreed.
    given : tuple of str or None
        NumPy's names for what the columns of a matrix were given as, where some were whole numbers or truth values on
        every node.
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
    weights: tuple[str, ...] = ()
    weightless: tuple[str, ...] = ()
    finite: bool = True
    infinite: bool = False
    form: Form | None = None
    uneven: bool = False
    given: tuple[str, ...] | None = None

    @property
    def columns(self) -> tuple[Kind, ...] | None:
        """What each column is, where rows are tables; None where they are a matrix."""
        return None if self.form is None else self.form.columns

    @property
    def arranged(self) -> tuple[Spec, ...]:
        """The view through which rows of all nodes look alike; empty where they do so as they are."""
        return (arrange(self.feature_names, self.form),) if self.uneven else ()

    @property
    def n_rows(self) -> int:
        """Rows of all nodes."""
        return sum(self.rows)

    @property
    def n_classes(self) -> list[int]:
        """Classes per output."""
        return [len(c) for c in self.classes]

    @property
    def weighted(self) -> bool:
        """Whether rows have sample weights."""
        return "sample_weight" in self.weights

    def empty(self) -> Shard:
        """A shard without rows that looks like every node's."""
        y = None
        if self.target_dtype:
            shape = (0, self.n_outputs) if self.n_outputs else (0,)
            y = np.zeros(shape, dtype="U1" if self.target_dtype in _TEXT else self.target_dtype)
        columns = {name: np.zeros(0) for name in self.weights}
        if self.form is not None:
            X: Any = Table.empty(self.form)
        else:
            made: Any = sp.csr_matrix if self.sparse else np.zeros
            X = made((0, self.n_features), dtype=self.dtype)
        whole = Shard.of("(empty)", X, y, feature_names=self.feature_names, columns=columns, raw=True)
        return replace(empty_shard(whole), given=self.given)

    def seen(self, empty: Shard) -> Schema:
        """The same nodes with rows as a view shows them.

        Parameters
        ----------
        empty : Shard
            What the view makes of `empty()`.

        Returns
        -------
        Schema
        """
        return self._replace(
            n_features=empty.n_features, feature_names=empty.feature_names, dtype=empty.X.dtype.str,
            sparse=is_sparse(empty.X), weights=weight_names(empty), n_outputs=outputs(empty.y),
            form=empty.X.form if isinstance(empty.X, Table) else None, uneven=False, given=empty.given,
        )  # fmt: skip


def agree(nodes: Sequence[str], answers: Tree, *, empty: bool = False) -> Schema:
    """Hold the answers of all nodes against each other.

    Parameters
    ----------
    nodes : sequence of str
        Names of the nodes that answered, in order.
    answers : Tree
        Their `describe.schema` answers, joined in node order.
    empty : bool, default=False
        Whether a node may have no rows, as when a view leaves some out.

    Returns
    -------
    Schema

    Raises
    ------
    SchemaMismatch
        Naming the node and, where there is one, the column that does not fit.
    InvalidData
        If a node has no rows, or none has.
    """
    rows = tuple(int(n) for n in answers["rows"])
    if not (any(rows) if empty else all(rows)):
        without = ", ".join(repr(n) for n, r in zip(nodes, rows, strict=True) if not r)
        raise InvalidData(explain("a node has no rows", where=f"node {without}", hint="leave it out"))
    own = _names(nodes, answers)
    _same(nodes, answers["features"], "has another number of columns")
    _same(nodes, answers["sparse"], "is sparse where others are dense", words=("dense", "sparse"))
    _same(nodes, answers["outputs"], "has another number of targets")
    kinds = [_kind(t) for t in answers["target"]]
    _same(nodes, np.asarray(kinds), "has labels of another type")
    form, mixed = _form(nodes, answers, own)
    target = _widest(answers["target"].tolist())
    return Schema(
        nodes=tuple(nodes),
        rows=rows,
        n_features=int(answers["features"][0]),
        feature_names=own[0],
        dtype=_dtype(answers, form),
        sparse=bool(answers["sparse"][0]),
        n_outputs=int(answers["outputs"][0]),
        target_dtype=target,
        classes=_union(answers, target),
        weights=tuple(np.unique(answers["weights"]).tolist()),
        weightless=tuple(np.setdiff1d(answers["weights"], answers["weighing"]).tolist()),
        finite=bool((answers["wildest"] == 0).all()),
        infinite=bool((answers["wildest"] == 2).any()),
        form=form,
        uneven=mixed or len(set(own)) > 1,
        given=None if form is not None else _given(answers, own),
    )


def _dtype(answers: Tree, form: Form | None) -> str:
    if form is not None:
        return Table.empty(form).dtype.str
    return np.result_type(*[np.dtype(str(d)) for d in answers["dtype"]]).str


def _form(nodes: Sequence[str], answers: Tree, names: Sequence[tuple[str, ...] | None]) -> tuple[Form | None, bool]:
    """What the columns are where a node has a table, and whether one differs from that."""
    d, told = int(answers["features"][0]), iter(answers["columns"].tolist())
    came = [str(x).split() for x in answers["dtype"]]
    if all(len(words) == 1 for words in came):
        return None, False
    forms = []
    for words, own, some in zip(came, names, answers["told"], strict=True):
        kinds = tuple(Kind(h, t, c == "True", n) for h, t, c, n in (next(told) for _ in range(d if some else 0)))
        kinds = kinds or (Kind("numbers", words[0], False, ""),) * d
        source, text = words if len(words) == 2 else ("array", "text")
        forms.append(Form(kinds, own, source, text == "objects"))
    agreed = Form.agreed(nodes, forms)
    return agreed, any(form != agreed for form in forms)


def _given(answers: Tree, names: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """What columns of numbers were given as on all nodes that have rows; None where that is floats."""
    if not answers["told"].any():
        return None
    told, d = iter(answers["columns"].tolist()), int(answers["features"][0])
    nodes = []
    for own, some, rows in zip(names, answers["told"], answers["rows"], strict=True):
        dtypes = [next(told)[1] for _ in range(d)] if some else ["<f8"] * d
        if rows:
            place = {name: i for i, name in enumerate(own or ())}
            nodes.append([dtypes[place[name]] for name in names[0]] if names[0] and own != names[0] else dtypes)
    agreed = tuple(np.result_type(*map(np.dtype, column)).str for column in zip(*nodes, strict=True))
    return agreed if any(np.dtype(dtype).kind in "biu" for dtype in agreed) else None


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


def _names(nodes: Sequence[str], answers: Tree) -> list[tuple[str, ...] | None]:
    """The names of each node's columns: the same ones, in any order unless one stands there twice."""
    ends = np.cumsum(answers["named"])
    columns = [tuple(str(n) for n in part) for part in np.split(answers["names"], ends[:-1])]
    first = columns[0]
    for node, own in zip(nodes, columns, strict=True):
        if own != first and (sorted(own) != sorted(first) or len(set(own)) < len(own)):
            raise SchemaMismatch(_difference(node, own, nodes[0], first))
    return [own or None for own in columns]


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
        hint="rename, add or leave out columns of this node",
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
