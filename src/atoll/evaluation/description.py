"""What `describe` found: the statistics of `DataFrame.describe`, of all rows and of each node's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

import numpy as np

from atoll.display import aligned, data_frame, html_table, middle_left_out, shown
from atoll.errors import UnknownName, closest, explain
from atoll.partition import PartitionReport
from atoll.run import Run

__all__ = ["STATISTICS", "ColumnSummary", "Description"]

STATISTICS = ("count", "missing", "unique", "top", "freq", "mean", "std", "min", "25%", "50%", "75%", "max")
"""The rows of the table, as `DataFrame.describe(include="all")` names them, and how many values are missing."""

_MOST_LINES = 60
_NAN = float("nan")


class ColumnSummary(NamedTuple):
    """One column among some rows.

    Attributes
    ----------
    n, missing : int
        Values that are there, and that are not.
    unique : float
        Distinct values; NaN for a column of numbers.
    top : object
        The most frequent value, of several the first in order; NaN for a column of numbers, or without values.
    freq : float
        How often it occurs.
    mean, std, min, q25, q50, q75, max : float
        Of numbers, the spread with one degree of freedom less than values; NaN for categories.
    """

    n: int
    missing: int
    unique: float = _NAN
    top: Any = _NAN
    freq: float = _NAN
    mean: float = _NAN
    std: float = _NAN
    min: float = _NAN
    q25: float = _NAN
    q50: float = _NAN
    q75: float = _NAN
    max: float = _NAN


@dataclass(frozen=True, eq=False, repr=False)
class Description:
    """What the rows of some nodes are like.

    Attributes
    ----------
    nodes : tuple of str
        Names of the nodes.
    rows : tuple of int
        Rows of each.
    columns : dict of str to ColumnSummary
        Each column over all rows; the target comes last, as ``target``.
    by_node : dict of str to dict of str to ColumnSummary
        The same of each node's rows; empty where only sums were formed.
    imbalance : PartitionReport or None
        Who has how many rows of which class; None without targets.
    run : Run or None
        The record of what left the nodes for this.
    """

    nodes: tuple[str, ...]
    rows: tuple[int, ...]
    columns: Mapping[str, ColumnSummary]
    by_node: Mapping[str, Mapping[str, ColumnSummary]] = field(default_factory=dict)
    imbalance: PartitionReport | None = None
    run: Run | None = None

    def to_frame(self, *, node: str | None = None, column: str | None = None) -> Any:
        """The numbers as a pandas data frame, as `DataFrame.describe(include="all")` lays them out.

        Parameters
        ----------
        node : str, optional
            The rows of this node instead of all rows.
        column : str, optional
            One column instead of all of them, with a line for all rows and for each node.

        Returns
        -------
        DataFrame

        Raises
        ------
        UnknownName
            If there is no such node or column.
        MissingExtra
            If pandas is not installed.
        """
        if column is not None:
            lines = {"all rows": _found(self.columns, column, "column")}
            lines |= {name: own[column] for name, own in self.by_node.items()}
            values = {s: [one[i] for one in lines.values()] for i, s in enumerate(STATISTICS)}
            return data_frame(values, list(lines), "node")
        columns = self.columns if node is None else _found(self.by_node, node, "node")
        return data_frame({name: list(one) for name, one in columns.items()}, STATISTICS, "statistic")

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain values, ready for JSON; None where there is none.

        Returns
        -------
        dict
            `nodes`, `rows`, `columns`, `by_node`, `imbalance`.
        """
        return {
            "nodes": list(self.nodes),
            "rows": list(self.rows),
            "columns": _plain(self.columns),
            "by_node": {node: _plain(own) for node, own in self.by_node.items()},
            "imbalance": None if self.imbalance is None else self.imbalance.to_dict(),
        }

    def numbers(self) -> list[list[str]]:
        """A table of the columns of numbers; its first row is the header."""
        head = ["column", "count", "missing", *STATISTICS[5:], *(["mean by node"] if self.by_node else [])]
        body = []
        for name, one in self.columns.items():
            if np.isnan(one.unique):
                line = [name, str(one.n), str(one.missing), *(shown(v + 0.0) for v in one[5:])]
                body.append([*line, *([self._means(name)] if self.by_node else [])])
        return [head, *body]

    def categories(self) -> list[list[str]]:
        """A table of the columns of categories; its first row is the header."""
        found = {name: one for name, one in self.columns.items() if not np.isnan(one.unique)}
        body = [
            [name, "–" if isinstance(one.top, float) else str(one.top), str(one.n), str(one.missing),
             f"{one.unique:.0f}", "–" if np.isnan(one.freq) else f"{one.freq:.0f}"]
            for name, one in found.items()
        ]  # fmt: skip
        return [["column", "top", "count", "missing", "unique", "freq"], *body]

    def _means(self, column: str) -> str:
        """Between what the nodes' means lie."""
        means = [own[column].mean for own in self.by_node.values() if own[column].n]
        return f"{shown(min(means) + 0.0)} to {shown(max(means) + 0.0)}" if means else "–"

    def __repr__(self) -> str:
        return f"Description({len(self.columns)} columns, {sum(self.rows)} rows, {len(self.nodes)} nodes)"

    def __str__(self) -> str:
        parts = [self._headline()]
        for table, words in ((self.numbers(), 1), (self.categories(), 2)):
            if len(table) > 1:
                parts.append(aligned([table[0], *middle_left_out(table[1:], _MOST_LINES)], words))
        if self.imbalance is not None:
            parts.append(str(self.imbalance))
        return "\n\n".join(parts)

    def _headline(self) -> str:
        n = len(self.nodes)
        few, many = min(self.rows), max(self.rows)
        each = f"{few} each" if few == many else f"{few} to {many} each"
        return f"{sum(self.rows)} rows of {n} node{'s' if n != 1 else ''}, {each}"

    def _repr_html_(self) -> str:
        parts = [f"<p>{escape(self._headline())}</p>"]
        for table, words in ((self.numbers(), 1), (self.categories(), 2)):
            if len(table) > 1:
                parts.append(html_table([table[0], *middle_left_out(table[1:], _MOST_LINES)], words))
        if self.imbalance is not None:
            parts.append(self.imbalance._repr_html_())
        return f'<div class="atoll-description">{"".join(parts)}</div>'


def _found(known: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in known:
        raise UnknownName(explain(f"there is no {what} {name!r}", hint=closest(name, known)))
    return known[name]


def _plain(columns: Mapping[str, ColumnSummary]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            s: None if isinstance(v, float) and not np.isfinite(v) else v for s, v in zip(STATISTICS, one, strict=True)
        }
        for name, one in columns.items()
    }
