"""Nodes in this process, one after the other: deterministic, nothing to set up."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

from atoll.engines.base import Done, Pending, Remote, engines
from atoll.engines.mixing import deliver, outbox, settle
from atoll.errors import InvalidData, explain
from atoll.memory import Store
from atoll.messages import Exchange
from atoll.shards import Shard
from atoll.topology import is_mix
from atoll.worker import assemble, block

__all__ = ["InProcess"]


class InProcess:
    """Runs every node in the calling thread."""

    def __init__(self) -> None:
        self._keys = itertools.count()
        self._attached: dict[str, tuple[tuple[Shard, ...], Store]] = {}

    def attach(self, rows: Sequence[Shard] | Remote) -> str:
        """Keep references to the shards."""
        if isinstance(rows, Remote):
            hint = "Federation.connect finds the engine that asks such nodes"
            raise InvalidData(explain("this engine takes rows, not the name of a data set", got=rows.data, hint=hint))
        key = f"inprocess-{next(self._keys)}"
        self._attached[key] = (tuple(rows), Store())
        return key

    def submit(self, key: str, x: Exchange) -> Pending:
        """Answer at once. With a deadline, a node is not started after it has passed."""
        start = time.monotonic()
        shards, memory = self._attached[key]
        deadline = None if x.rule.late == "wait" else x.rule.deadline
        until = None if deadline is None else start + deadline
        answers = block(x, range(len(x.cohort)), shards, memory, until=until)
        if is_mix(x.plan):
            answers, sent = outbox(answers)
            mixed = deliver(x, answers.accepted, answers.accepted, sent.trees, memory)
            return Done(settle(x, [answers], [mixed], time.monotonic() - start))
        return Done(assemble(x, [answers], time.monotonic() - start))

    def held(self, key: str) -> Sequence[Shard]:
        """The shards themselves."""
        return self._attached[key][0]

    def detach(self, key: str) -> None:
        """Forget the shards and what their nodes kept."""
        self._attached.pop(key, None)

    def close(self) -> None:
        """Forget everything."""
        self._attached.clear()


@engines.register("inprocess")
def _make(n_workers: int | None) -> InProcess:
    return InProcess()
