"""`describe`: what a person would ask of a data frame, asked of rows that stay on their nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atoll.blas import one_thread
from atoll.combine import Each, Extrema, Moments, Sum, Union
from atoll.evaluation.description import ColumnSummary, Description
from atoll.evaluation.imbalance import count_classes
from atoll.operations.summary import targets
from atoll.partition import PartitionReport
from atoll.recipes.quantiles import quantiles
from atoll.rounds import Rounds
from atoll.schema import Schema
from atoll.table import Kind
from atoll.trees import Array, Tree
from atoll.views import codes, columns, numbers

__all__ = ["describe"]

_Columns = dict[str, ColumnSummary]
_QUARTILES = np.array([0.25, 0.5, 0.75])


def describe(rounds: Rounds, *, per_node: bool = True) -> Description:
    """Describe the rows of nodes that have met.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows.
    per_node : bool, default=True
        Whether nodes tell about their own rows, or only what is common to all is formed.

    Returns
    -------
    Description
    """
    with one_thread():
        schema = rounds.schema
        names = [str(n) for n in schema.feature_names or range(schema.n_features)]
        kinds = schema.columns or ()
        categories = [i for i, kind in enumerate(kinds) if _is_category(kind)]
        quantities = [i for i in range(schema.n_features) if i not in categories]
        pooled, each = _described(rounds, names, quantities, categories, per_node)
        own, own_each, imbalance = _target(rounds, schema, per_node)
    nodes = {n: {**each.get(n, {}), **own_each.get(n, {})} for n in schema.nodes} if per_node else {}
    return Description(schema.nodes, schema.rows, {**pooled, **own}, nodes, imbalance, rounds.run)


def _is_category(kind: Kind) -> bool:
    """Text, what was declared to be categories, truth values, and objects that are all missing."""
    if np.dtype(kind.dtype).kind == "b" or kind.declared in ("category", "bool", "boolean"):
        return True
    return kind.coded and kind.holds != "numbers"


def _described(
    rounds: Rounds, names: Sequence[str], quantities: Sequence[int], categories: Sequence[int], per_node: bool
) -> tuple[_Columns, dict[str, _Columns]]:
    """Columns of numbers and of categories, in the order of the rows."""
    found: _Columns = {}
    each: dict[str, _Columns] = {n: {} for n in rounds.schema.nodes}
    if quantities:
        seen = rounds.through(columns(quantities), numbers()) if categories or rounds.schema.form else rounds
        part, own = _numbers(seen, [names[i] for i in quantities], per_node)
        found |= part
        _join(each, own)
    if categories:
        part, own = _categories(rounds.through(columns(categories)), [names[i] for i in categories], per_node)
        found |= part
        _join(each, own)
    order = [n for n in names if n in found]
    return {n: found[n] for n in order}, {node: {n: own[n] for n in order if n in own} for node, own in each.items()}


def _join(each: dict[str, _Columns], more: Mapping[str, _Columns]) -> None:
    for node, own in more.items():
        each[node] |= own


def _numbers(rounds: Rounds, names: Sequence[str], per_node: bool) -> tuple[_Columns, dict[str, _Columns]]:
    moments = rounds.round("columns.moments", combine=Moments(), settings={"weighted": False})
    ends = rounds.round("columns.extrema", combine=Extrema())
    some = moments["n"] > 0
    quartiles = np.full((3, len(names)), np.nan)
    if some.any():
        seen = rounds if some.all() else rounds.through(columns(np.flatnonzero(some)))
        quartiles[:, some] = quantiles(seen, _QUARTILES)
    tree = {
        "count": moments["n"], "mean": moments["mean"], "m2": moments["m2"],
        "min": ends["min"], "max": ends["max"], **dict(zip(("25%", "50%", "75%"), quartiles, strict=True)),
    }  # fmt: skip
    pooled = _quantities(names, tree, rounds.schema.n_rows)
    if not per_node:
        return pooled, {}
    told = rounds.round("summary.numbers", combine=Each())
    return pooled, {
        node: _quantities(names, {n: a[i] for n, a in told.items()}, rows)
        for i, (node, rows) in enumerate(_answered(rounds))
    }


def _quantities(names: Sequence[str], tree: Tree, rows: int) -> _Columns:
    found = {}
    for j, name in enumerate(names):
        n = int(tree["count"][j])
        values = {
            s: float(tree[s][j]) if n else float("nan") for s in ("mean", "m2", "min", "25%", "50%", "75%", "max")
        }
        std = float(np.sqrt(values["m2"] / (n - 1))) if n > 1 else float("nan")
        found[name] = ColumnSummary(
            n, rows - n, mean=values["mean"], std=std, min=values["min"], q25=values["25%"], q50=values["50%"],
            q75=values["75%"], max=values["max"],
        )  # fmt: skip
    return found


def _categories(rounds: Rounds, names: Sequence[str], per_node: bool) -> tuple[_Columns, dict[str, _Columns]]:
    values = rounds.round("categories.values", combine=Union())
    agreed = {name: array for name, array in values.items() if name != "missing"}
    op, combine = ("summary.values", Each()) if per_node else ("categories.counts", Sum())
    told = rounds.round(op, agreed, combine=combine)
    if not per_node:
        return _counted(names, agreed, told), {}
    each = {
        node: _counted(names, agreed, {n: a[i] for n, a in told.items()})
        for i, (node, _) in enumerate(_answered(rounds))
    }
    return _counted(names, agreed, {n: a.sum(axis=0) for n, a in told.items()}), each


def _counted(names: Sequence[str], agreed: Tree, told: Tree) -> _Columns:
    return {
        name: _category(agreed[str(j)], told[str(j)], int(told["missing"][j].sum())) for j, name in enumerate(names)
    }


def _category(values: Array, counts: Array, missing: int) -> ColumnSummary:
    n = int(counts.sum())
    top: Any = values[np.argmax(counts)].item() if n else float("nan")
    return ColumnSummary(n, missing, int((counts > 0).sum()), top, int(counts.max()) if n else float("nan"))


def _target(
    rounds: Rounds, schema: Schema, per_node: bool
) -> tuple[_Columns, dict[str, _Columns], PartitionReport | None]:
    """The target as a column, and who has how much of it."""
    if not schema.target_dtype:
        return {}, {}, None
    names = [f"target {i}" for i in range(schema.n_outputs)] if schema.n_outputs else ["target"]
    pooled: _Columns = {}
    each: dict[str, _Columns] = {}
    if schema.target_dtype not in ("U", "O") and np.dtype(schema.target_dtype).kind in "iuf":
        pooled, each = _numbers(rounds.through(targets()), names, per_node)
    if not per_node:
        return pooled or {names[0]: _labels(rounds)}, {}, None
    imbalance = count_classes(rounds)
    if not pooled:
        classes = np.array(imbalance.classes)
        pooled = {names[0]: _category(classes, imbalance.counts.sum(axis=0), 0)}
        own = zip(imbalance.names, imbalance.counts, strict=True)
        each = {node: {names[0]: _category(classes, counts, 0)} for node, counts in own}
    return pooled, each, imbalance


def _labels(rounds: Rounds) -> ColumnSummary:
    schema = rounds.meet(classes=True)
    seen = rounds.through(codes(schema.classes))
    counts = seen.round("describe.labels", combine=Sum(), settings={"n_classes": schema.n_classes})["count.0"]
    return _category(schema.classes[0].astype(np.str_), counts, 0)


def _answered(rounds: Rounds) -> list[tuple[str, int]]:
    """Name and rows of the nodes whose answers are in the last round."""
    refused, schema = rounds.run.rows[-1].refused, rounds.schema
    return [(n, r) for n, r in zip(schema.nodes, schema.rows, strict=True) if n not in refused]
