"""Splitting rows over nodes, and saying how uneven the result is.

- `split` takes labels (or a number of rows), a number of nodes and the name of a partition, and gives row numbers per
  node;
- `by_column` does so by a column of node ids;
- `report` counts the labels of every node and measures how far they are from the pooled ones;
- `partitions` is the registry of names: a new partition is one function that says which node each row goes to.

Sizes are exact, every node has at least `min_rows` rows, and every call ends: no partition draws again until it is
lucky.
"""

from __future__ import annotations

from atoll.partition.labels import Labels, encode, range_names
from atoll.partition.schemes import partitions
from atoll.partition.splitting import by_column, split
from atoll.partition.summary import PartitionReport, report

__all__ = ["Labels", "PartitionReport", "by_column", "encode", "partitions", "range_names", "report", "split"]
