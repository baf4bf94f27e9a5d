"""Who has how many rows of which class, asked of nodes that have met."""

from __future__ import annotations

import numpy as np

from atoll.combine import Each, Extrema
from atoll.errors import NotAvailable, explain
from atoll.operations.summary import MANY, targets
from atoll.partition import PartitionReport, range_names
from atoll.recipes.quantiles import order_statistics
from atoll.rounds import Rounds
from atoll.trees import Array
from atoll.views import codes

__all__ = ["count_classes"]

_BINS = 10


def count_classes(rounds: Rounds) -> PartitionReport:
    """Rows of each class on each node; of a quantity, rows in each tenth of it.

    Parameters
    ----------
    rounds : Rounds
        Nodes that have met; they meet again to tell their classes.

    Returns
    -------
    PartitionReport

    Raises
    ------
    NotAvailable
        If the rows have no labels to count.
    """
    dtype = rounds.schema.target_dtype
    if not dtype:
        raise NotAvailable(explain("these rows have no labels to count", hint="give y to simulate or from_shards"))
    if dtype not in ("U", "O") and np.dtype(dtype).kind == "f" and _is_quantity(rounds):
        return _tenths(rounds)
    schema = rounds.meet(classes=True)
    counted = rounds.through(codes(schema.classes)).round(
        "describe.labels", combine=Each(), settings={"n_classes": schema.n_classes}
    )
    return _report(rounds, schema.classes[0].tolist(), counted["count.0"])


def _is_quantity(rounds: Rounds) -> bool:
    most = rounds.round("summary.target", combine=Extrema())["max_distinct"]
    return bool(most[0] > MANY)


def _tenths(rounds: Rounds) -> PartitionReport:
    """Ten ranges of about equal size; those in which there are no rows are left out."""
    seen = rounds.through(targets())
    n, d = rounds.schema.n_rows, seen.schema.n_features
    ranks = np.ceil(n * np.linspace(0, 1, _BINS + 1)[1:-1] - 1).astype(np.int64)
    edges = np.unique(order_statistics(seen, np.repeat(ranks[:, None], d, axis=1))[:, 0])
    threshold = np.repeat(edges[:, None, None], d, axis=2)
    settings = {"by_class": False, "stored": False, "weighted": False, "last": True}
    below = seen.round("quantiles.count_below", {"threshold": threshold}, combine=Each(), settings=settings)["count"]
    rows = np.asarray(rounds.schema.rows)[_answered(rounds)]
    upto = np.column_stack([below[:, 0, 0].reshape(-1, len(edges)), rows])
    counts = np.diff(upto, axis=1, prepend=0)
    used = counts.any(axis=0)
    return _report(rounds, np.array(range_names(edges))[used].tolist(), counts[:, used].ravel())


def _answered(rounds: Rounds) -> list[int]:
    refused = rounds.run.rows[-1].refused
    return [i for i, name in enumerate(rounds.schema.nodes) if name not in refused]


def _report(rounds: Rounds, classes: list[object], counts: Array) -> PartitionReport:
    names = [rounds.schema.nodes[i] for i in _answered(rounds)]
    return PartitionReport.from_counts(names, classes, counts.reshape(len(names), len(classes)))
