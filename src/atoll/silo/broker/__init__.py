"""What the coordinator knows, durably: members, runs, exchanges, answers, events in SQLite, and blobs on disk.

One thread, the writer, calls a `Broker`; only what says "any thread" may be called from others. Every method is one
transaction of its own, or a part of the one that `batch` opens. What a method returned is durable when it returns, or,
within a batch, when that ends. An error of one call undoes that call alone; `DiskFull` at the end of a batch undoes all
of it.

A broker is built in layers, each a part of the next: `store` (transactions), `blobs`, `members`, `nodes`, `runs`,
`exchanges`, `answers`, `broker`.
"""

from __future__ import annotations

from atoll.silo.broker.answers import LATE
from atoll.silo.broker.blobs import Uploads
from atoll.silo.broker.broker import Broker
from atoll.silo.broker.jobs import Examination, FoldJob
from atoll.silo.broker.types import Disclosed, Found, Known, RoundStatus, Stored

__all__ = [
    "LATE",
    "Broker",
    "Disclosed",
    "Examination",
    "FoldJob",
    "Found",
    "Known",
    "RoundStatus",
    "Stored",
    "Uploads",
]
