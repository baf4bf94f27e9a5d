"""What an evaluation found: for all rows, per node, the worst node, and per class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

import numpy as np

from atoll.display import aligned, data_frame, html_table, middle_left_out, shown
from atoll.errors import InvalidData, explain
from atoll.run import Run
from atoll.trees import Array

__all__ = ["Evaluation", "Worst"]

_MOST_LINES = 30
_MOST_DRAWN = 40


class Worst(NamedTuple):
    """Where a metric is lowest.

    Attributes
    ----------
    node : str
        Its name; empty where the metric is undefined on all nodes.
    value : float
        The metric there.
    lacks : tuple
        Classes of which it has no rows; the metric is over the others.
    """

    node: str
    value: float
    lacks: tuple[Any, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How good a model is. Greater is better for every metric: losses are negative, as in scikit-learn.

    Attributes
    ----------
    model : str
        What was evaluated.
    pooled : dict of str to float
        Each metric over all rows, as scikit-learn computes it on pooled ones.
    nodes : tuple of str
        Names of the nodes that answered.
    rows : ndarray of shape (n_nodes,), int64
        Rows of each.
    per_node : dict of str to ndarray of shape (n_nodes,)
        Each metric on each node's own rows, NaN where it is undefined; empty where only sums were formed. Means over
        classes are over those that the node has rows of.
    bounds : dict of str to (float, float)
        Between what a metric lies whose scores were counted in ranges.
    classes : tuple
        Labels; empty where answers are numbers.
    per_class : dict of str to ndarray of shape (k,)
        `precision`, `recall`, `f1` and `rows` of each class, NaN where undefined.
    confusion : ndarray of shape (k, k), int64, or None
        Rows by class (down) and answer (across).
    confusions : ndarray of shape (n_nodes, k, k), int64, or None
        The same of each node.
    silent : tuple of str
        Nodes that left a question unanswered, as the rule of the rounds allowed.
    run : Run or None
        The record of what left the nodes for this.
    """

    model: str
    pooled: Mapping[str, float]
    nodes: tuple[str, ...]
    rows: Array
    per_node: Mapping[str, Array] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    classes: tuple[Any, ...] = ()
    per_class: Mapping[str, Array] = field(default_factory=dict)
    confusion: Array | None = None
    confusions: Array | None = None
    silent: tuple[str, ...] = ()
    run: Run | None = None

    @property
    def worst(self) -> dict[str, Worst]:
        """The node on which each metric is lowest, among those on which it is defined."""
        return {name: self._worst(values) for name, values in self.per_node.items()}

    def _worst(self, values: Array) -> Worst:
        if np.isnan(values).all():
            return Worst("", float("nan"))
        at = int(np.nanargmin(values))
        return Worst(self.nodes[at], float(values[at]), self.lacking.get(self.nodes[at], ()))

    @property
    def undefined(self) -> dict[str, tuple[str, ...]]:
        """The nodes on which a metric is undefined, for metrics that have such nodes."""
        found = {name: tuple(np.array(self.nodes)[np.isnan(v)].tolist()) for name, v in self.per_node.items()}
        return {name: nodes for name, nodes in found.items() if nodes}

    @property
    def lacking(self) -> dict[str, tuple[Any, ...]]:
        """The classes of which a node has no rows, for nodes that lack some."""
        if self.confusions is None:
            return {}
        none = self.confusions.sum(axis=2) == 0
        found = {n: tuple(c for c, no in zip(self.classes, row, strict=True) if no)
                 for n, row in zip(self.nodes, none, strict=True)}  # fmt: skip
        return {node: classes for node, classes in found.items() if classes}

    @property
    def recalls(self) -> Array:
        """The share of each class that is recognised on each node: shape (n_nodes, k), NaN where it has no rows."""
        counts = np.zeros((0, 0, 0)) if self.confusions is None else self.confusions
        with np.errstate(invalid="ignore"):
            return np.asarray(np.diagonal(counts, axis1=1, axis2=2) / counts.sum(axis=2))

    def to_frame(self, by: str = "node") -> Any:
        """The numbers as a pandas data frame.

        Parameters
        ----------
        by : {"node", "class"}, default="node"
            What the rows are: all rows and then each node, or each class.

        Returns
        -------
        DataFrame

        Raises
        ------
        MissingExtra
            If pandas is not installed.
        """
        if by not in ("node", "class"):
            raise InvalidData(explain("expected a table by node or by class", got=repr(by), expected="node or class"))
        if by == "class":
            return data_frame(self.per_class, self.classes, "class")
        nodes = self.nodes if self.per_node else ()
        columns: dict[str, list[Any]] = {"rows": [int(self.rows.sum()), *self.rows.tolist()][: len(nodes) + 1]}
        columns |= {n: [value, *self.per_node.get(n, np.zeros(0)).tolist()] for n, value in self.pooled.items()}
        return data_frame(columns, ["all rows", *nodes], "node")

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain values, ready for JSON; None where undefined.

        Returns
        -------
        dict
            `model`, `metrics` (by name: `all`, `worst`, `bounds`), `nodes`, `rows`, `per_node`, `classes`, `per_class`,
            `confusion`.
        """
        worst = self.worst
        metrics: dict[str, dict[str, Any]] = {n: {"all": _plain(value)} for n, value in self.pooled.items()}
        for name, one in worst.items():
            metrics[name]["worst"] = {**one._asdict(), "value": _plain(one.value), "lacks": list(one.lacks)}
        for name, ends in self.bounds.items():
            metrics[name]["bounds"] = list(ends)
        return {
            "model": self.model, "metrics": metrics, "nodes": list(self.nodes), "rows": self.rows.tolist(),
            "per_node": {name: list(map(_plain, v.tolist())) for name, v in self.per_node.items()},
            "classes": list(self.classes),
            "per_class": {name: list(map(_plain, v.tolist())) for name, v in self.per_class.items()},
            "confusion": None if self.confusion is None else self.confusion.tolist(),
        }  # fmt: skip

    def to_svg(self) -> str:
        """A picture: recall of each class on each node, or the first metric of each node.

        Returns
        -------
        str
            An ``<svg>`` element; empty where there are no nodes to tell apart, or too many.
        """
        from atoll import svg  # drawn rarely, loaded then

        if not self.per_node or not 1 < len(self.nodes) <= _MOST_DRAWN:
            return ""
        if self.confusions is not None and 1 < len(self.classes) <= _MOST_DRAWN:
            title = "Recall of each class on each node"
            return svg.heatmap(self.recalls, self.nodes, self.classes, title=title, x_label="class", y_label="node")
        name, values = next(iter(self.per_node.items()))
        return svg.bars(self.nodes, values, title=f"{name} on each node")

    def summary(self) -> list[list[str]]:
        """A table: each metric over all rows, and on the worst node; its first row is the header."""
        worst, bounded = self.worst, bool(self.bounds)
        head = ["metric", "all rows", *(["bounds"] if bounded else []), *(["worst node"] if worst else [])]
        body = []
        for name, value in self.pooled.items():
            line = [name, shown(value + 0.0)]
            line += [" to ".join(map(shown, self.bounds[name])) if name in self.bounds else ""] if bounded else []
            body.append([*line, *([_in_words(worst[name], self.per_node[name])] if worst else [])])
        return [head, *body]

    def by_node(self) -> list[list[str]]:
        """A table: each metric on each node; its first row is the header."""
        head = ["node", "rows", *self.per_node]
        columns = [self.nodes, map(str, self.rows.tolist())]
        columns += [[shown(v + 0.0) for v in values.tolist()] for values in self.per_node.values()]
        return [head, *map(list, zip(*columns, strict=True))]

    def by_class(self) -> list[list[str]]:
        """A table: precision, recall and F of each class; its first row is the header."""
        table = self.per_class
        body = [
            [str(c), str(n), *(shown(float(v)) for v in values)]
            for c, n, *values in zip(
                self.classes, table["rows"].tolist(), table["precision"], table["recall"], table["f1"], strict=True
            )
        ]
        return [["class", "rows", "precision", "recall", "f1"], *body]

    def notes(self) -> list[str]:
        """What a person should know: where a metric is undefined, and why."""
        found: dict[tuple[str, ...], list[str]] = {}
        for name, nodes in self.undefined.items():
            found.setdefault(nodes, []).append(name)
        said = [f"{', '.join(names)}: undefined on {_listed(nodes)}" for nodes, names in found.items()]
        lacking = self.lacking
        if lacking:
            some = [f"{node} has no rows of {_listed(list(map(str, c)))}" for node, c in list(lacking.items())[:5]]
            more = f"; {len(lacking) - 5} more nodes lack classes" if len(lacking) > 5 else ""
            said.append("; ".join(some) + more)
        return [*said, f"no answer from {_listed(self.silent)}"] if self.silent else said

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={shown(value)}" for name, value in self.pooled.items())
        return f"Evaluation({self.model}, {values})"

    def __str__(self) -> str:
        parts = [self._headline(), aligned(self.summary())]
        if self.per_node and len(self.nodes) > 1:
            head, *body = self.by_node()
            parts += ["", aligned([head, *middle_left_out(body, _MOST_LINES)])]
        if self.classes:
            head, *body = self.by_class()
            parts += ["", aligned([head, *middle_left_out(body, _MOST_LINES)])]
        return "\n".join([*parts, *(f"note: {note}" for note in self.notes())])

    def _headline(self) -> str:
        rows, nodes = int(self.rows.sum()), len(self.nodes)
        return f"{self.model} on {rows} rows of {nodes} node{'s' if nodes != 1 else ''}"

    def _repr_html_(self) -> str:
        parts = [f"<p>{escape(self._headline())}</p>", html_table(self.summary())]
        if self.per_node and len(self.nodes) > 1:
            head, *body = self.by_node()
            parts += [self.to_svg(), html_table([head, *middle_left_out(body, _MOST_LINES)])]
        if self.classes:
            head, *body = self.by_class()
            parts.append(html_table([head, *middle_left_out(body, _MOST_LINES)]))
        parts += [f"<p>{escape(note)}</p>" for note in self.notes()]
        return f'<div class="atoll-evaluation">{"".join(parts)}</div>'


def _in_words(worst: Worst, values: Array) -> str:
    if not worst.node:
        return "undefined"
    if len(values) > 1 and (values == worst.value).all():
        return f"{shown(worst.value + 0.0)} (every node)"
    some = f"{len(worst.lacks)} classes" if len(worst.lacks) > 1 else f"class {worst.lacks[0]}" if worst.lacks else ""
    return f"{shown(worst.value + 0.0)} ({worst.node}{f', without {some}' if some else ''})"


def _listed(names: Any) -> str:
    most = 5
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _plain(value: float) -> float | int | None:
    return value if np.isfinite(value) else None
