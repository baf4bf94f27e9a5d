"""How uneven a partition is: labels per node, and four numbers that sum them up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from atoll.display import aligned, html_table, middle_left_out
from atoll.errors import InvalidData, explain
from atoll.partition.labels import encode
from atoll.trees import Array

__all__ = ["PartitionReport", "report"]

_MOST_NODES = 30  # more are left out of the middle of the table
_MOST_CLASSES = 10  # beyond these, the rarest share a column
_MOST_LETTERS = 16


@dataclass(frozen=True, eq=False, repr=False)
class PartitionReport:
    """Labels per node, and how far they are from the pooled ones.

    Made by `report` from labels, or by `from_counts` where only counts leave the nodes.

    Attributes
    ----------
    names : tuple of str
        Names of the nodes.
    classes : tuple of str
        Names of the classes, or of the bins of a regression target.
    counts : ndarray of shape (n_nodes, n_classes), int64
        Rows of each class on each node.

    Examples
    --------
    >>> from atoll.partition import PartitionReport
    >>> print(PartitionReport.from_counts(["oslo", "rome"], ["cat", "dog"], [[3, 1], [0, 4]]))
    8 rows over 2 nodes, 2 classes; Gini of the sizes 0.00
    node  rows  cat  dog  variation  divergence  effective classes
    oslo     4    3    1       0.38        0.11               1.75
    rome     4    0    4       0.38        0.22               1.00
    all      8    3    5                                      1.94
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    counts: Array

    @classmethod
    def from_counts(cls, names: Sequence[Any], classes: Sequence[Any], counts: Any) -> PartitionReport:
        """Make a report from counts alone.

        Parameters
        ----------
        names : sequence of length n_nodes
            Names of the nodes.
        classes : sequence of length n_classes
            Names of the classes.
        counts : array-like of shape (n_nodes, n_classes)
            Rows of each class on each node: whole numbers from 0.

        Returns
        -------
        PartitionReport

        Raises
        ------
        InvalidData
            For counts of another shape, or that are not counts.
        """
        table = np.asarray(counts)
        expected = (len(names), len(classes))
        if table.shape != expected:
            raise InvalidData(
                explain(
                    "expected one count per node and class", got=f"shape {table.shape}", expected=f"shape {expected}"
                )
            )
        if table.size and (table.dtype.kind not in "iuf" or table.min() < 0 or (table != np.floor(table)).any()):
            raise InvalidData(explain("counts of rows are whole numbers from 0", got=f"{table.dtype} {table.tolist()}"))
        return cls(tuple(map(str, names)), tuple(map(str, classes)), table.astype(np.int64))

    @property
    def rows(self) -> Array:
        """Rows of each node: ndarray of shape (n_nodes,), int64."""
        return np.asarray(self.counts.sum(axis=1))

    @property
    def total_variation(self) -> Array:
        """Distance of each node's labels from the pooled ones: ndarray of shape (n_nodes,), float64.

        Half the sum of absolute differences of class shares: 0 where a node has the pooled mix, near 1 where it holds
        a class that is rare elsewhere. NaN for a node without rows.
        """
        with np.errstate(invalid="ignore"):
            shares = self.counts / self.rows[:, None]
            pooled = self.counts.sum(axis=0) / self.counts.sum()
        return np.asarray(np.abs(shares - pooled).sum(axis=1) / 2)

    @property
    def jensen_shannon(self) -> Array:
        """Divergence of each node's labels from the pooled ones, in bits: ndarray of shape (n_nodes,), float64.

        0 where a node has the pooled mix, 1 where they have no class in common; other than the total variation it
        weighs the loss of a rare class. NaN for a node without rows. Lin, "Divergence measures based on the Shannon
        entropy", IEEE Transactions on Information Theory 37 (1991).
        """
        with np.errstate(invalid="ignore"):
            shares = self.counts / self.rows[:, None]
            pooled = self.counts.sum(axis=0) / self.counts.sum()
        return np.asarray(_bits((shares + pooled) / 2) - (_bits(shares) + _bits(pooled)) / 2)

    @property
    def effective_classes(self) -> Array:
        """How many equally frequent classes would be as diverse as each node's: ndarray of shape (n_nodes,), float64.

        The exponential of Shannon's entropy (Hill number of order 1); 0 for a node without rows.
        """
        return _effective(self.counts)

    @property
    def gini(self) -> float:
        """Gini coefficient of the sizes: 0 where all nodes have as many rows, towards 1 where one node has them all."""
        sizes = np.sort(self.rows)
        n, total = len(sizes), int(sizes.sum())
        if total == 0:
            return 0.0
        return float((2 * np.arange(1, n + 1) - n - 1) @ sizes / (n * total))

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, ready for JSON.

        Returns
        -------
        dict
            `nodes`, `classes`, `counts`, `rows`, `total_variation` and `jensen_shannon` (None for a node without rows),
            `effective_classes`, `gini`.
        """
        return {
            "nodes": list(self.names),
            "classes": list(self.classes),
            "counts": self.counts.tolist(),
            "rows": self.rows.tolist(),
            "total_variation": [None if np.isnan(v) else v for v in self.total_variation.tolist()],
            "jensen_shannon": [None if np.isnan(v) else v for v in self.jensen_shannon.tolist()],
            "effective_classes": self.effective_classes.tolist(),
            "gini": self.gini,
        }

    def to_svg(self) -> str:
        """A picture of rows per label per node: one stacked bar per node.

        Returns
        -------
        str
            An ``<svg>`` element.
        """
        from atoll import svg  # drawn rarely, loaded then

        return svg.stacked_bars(
            self.names, self.classes, self.counts, title="Rows per label on each node", x_label="node", y_label="rows"
        )

    def __repr__(self) -> str:
        return f"PartitionReport({_amount(len(self.names), 'node')}, {_amount(int(self.rows.sum()), 'row')})"

    def __str__(self) -> str:
        return f"{self._headline()}\n{aligned(self._table(), width=math.inf)}"

    def _repr_html_(self) -> str:
        table = html_table(self._table())
        return f'<div class="atoll-partition"><p>{escape(self._headline())}</p>{self.to_svg()}{table}</div>'

    def _headline(self) -> str:
        rows, nodes = _amount(int(self.rows.sum()), "row"), _amount(len(self.names), "node")
        return f"{rows} over {nodes}, {_amount(len(self.classes), 'class')}; Gini of the sizes {self.gini:.2f}"

    def _table(self) -> list[list[str]]:
        """Header, nodes and a line for all of them; many nodes or classes are shortened."""
        classes, counts = self._frequent_classes()
        pooled = counts.sum(axis=0, keepdims=True)
        head = ["node", "rows", *map(_short, classes), "variation", "divergence", "effective classes"]
        apart = zip(self.total_variation, self.jensen_shannon, strict=True)
        numbers = zip(self.rows, counts, apart, self.effective_classes, strict=True)
        body = [
            [_short(name), str(n), *map(str, row), *map(_two, distances), f"{effective:.2f}"]
            for name, (n, row, distances, effective) in zip(self.names, numbers, strict=True)
        ]
        effective = _effective(self.counts.sum(axis=0, keepdims=True))[0]
        last = ["all", str(pooled.sum()), *map(str, pooled[0]), "", "", f"{effective:.2f}"]
        return [head, *map(list, middle_left_out(body, _MOST_NODES)), last]

    def _frequent_classes(self) -> tuple[list[str], Array]:
        if len(self.classes) <= _MOST_CLASSES:
            return list(self.classes), self.counts
        frequent = np.argsort(-self.counts.sum(axis=0), kind="stable")[: _MOST_CLASSES - 1]
        kept = np.sort(frequent)
        others = self.counts.sum(axis=1) - self.counts[:, kept].sum(axis=1)
        names = [*(self.classes[k] for k in kept), f"{len(self.classes) - len(kept)} others"]
        return names, np.column_stack([self.counts[:, kept], others])


def report(y: Any, parts: Sequence[Any], names: Sequence[Any] | None = None) -> PartitionReport:
    """Count the labels of every node.

    Parameters
    ----------
    y : array-like of shape (n_rows,), or int
        Labels, as in `split`: floats with more than 20 distinct values are counted in deciles. An int is a number of
        rows without labels, counted as one class.
    parts : sequence of array-like of int
        Row numbers of each node.
    names : sequence of length n_nodes, optional
        Names of the nodes; their numbers by default.

    Returns
    -------
    PartitionReport

    Raises
    ------
    InvalidData
        For row numbers out of range, or as many names as there are not nodes.

    Examples
    --------
    >>> from atoll.partition import report, split
    >>> y = ["cat", "dog"] * 4
    >>> report(y, split(y, 2, "label")).total_variation.tolist()
    [0.5, 0.5]
    """
    labels = encode(y)
    if names is not None and len(names) != len(parts):
        raise InvalidData(
            explain("expected one name per node", got=f"{len(names)} names", expected=f"{len(parts)} nodes")
        )
    codes = np.zeros(labels.n_rows, dtype=np.int64) if labels.codes is None else labels.codes
    counts = np.zeros((len(parts), len(labels.names)), dtype=np.int64)
    for node, part in enumerate(parts):
        rows = np.asarray(part, dtype=np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= labels.n_rows):
            raise InvalidData(
                explain("a node has row numbers that do not exist", got=f"{rows.min()} to {rows.max()}",
                        expected=f"0 to {labels.n_rows - 1}", where=f"node {node}")
            )  # fmt: skip
        counts[node] = np.bincount(codes[rows], minlength=len(labels.names))
    return PartitionReport.from_counts(range(len(parts)) if names is None else names, labels.names, counts)


def _effective(counts: Array) -> Array:
    total = counts.sum(axis=1)
    share = counts / np.maximum(total, 1)[:, None]
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
    return np.asarray(np.where(total > 0, np.exp(entropy), 0.0))


def _bits(shares: Array) -> Array:
    """Shannon's entropy of shares, along the last axis."""
    return np.asarray(-(shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(axis=-1))


def _two(value: float) -> str:
    return "–" if math.isnan(value) else f"{abs(value):.2f}"


def _amount(n: int, noun: str) -> str:
    plural = "classes" if noun == "class" else noun + "s"
    return f"{n} {noun if n == 1 else plural}"


def _short(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else text[: _MOST_LETTERS - 1] + "…"
