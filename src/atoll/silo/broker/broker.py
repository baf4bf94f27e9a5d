"""The broker as a whole, and its upkeep."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from time import time

from atoll.silo.api import Event
from atoll.silo.broker.answers import Answers

__all__ = ["Broker"]


class Broker(Answers):
    """The coordinator's memory and its rules.

    Parameters
    ----------
    folder : path-like
        Where it lives: ``broker.sqlite3``, ``blobs/``, ``staging/``. Made when missing.
    federation : str, optional
        Fingerprint of the coordinator's signing key; tasks of another federation are refused. Empty: not looked at.
    lost_after : float, default=60.0
        Seconds that a node may be away before open questions go on without it.
    max_blob : int, default=2**36
        Largest upload in bytes.
    clock : callable, optional
        Unix seconds.

    Attributes
    ----------
    changes : set of str
        What has changed since somebody last cleared it (after each commit): ``"work:NODE"``, ``"exchange:ID"`` (it
        closed or was given up), ``"progress:ID"`` (an answer arrived), ``"nodes"``, ``"events"``, ``"members"``,
        ``"fold"`` (`next_fold` may have something), ``"due"`` (`due` may be earlier than it was).
    uploads : Uploads
        Bytes on their way in.

    Raises
    ------
    Version
        If the folder was written by a newer version.
    Conflict
        If another process has it open.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        federation: str = "",
        lost_after: float = 60.0,
        max_blob: int = 1 << 36,
        clock: Callable[[], float] = time,
    ) -> None:
        super().__init__(Path(folder), max_blob, clock)
        self.federation, self.lost_after = federation, lost_after
        self._forget()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def events(self, after: int = 0, limit: int = 1000) -> list[Event]:
        """What happened, in order; `after` = -1 gives the last `limit`."""
        columns = "SELECT number, time, kind, who, what, run FROM events"
        if after < 0:
            rows = self._all(f"{columns} ORDER BY number DESC LIMIT ?", limit)[::-1]
        else:
            rows = self._all(f"{columns} WHERE number > ? ORDER BY number LIMIT ?", after, limit)
        return [
            Event(number=n, time=at, kind=kind, who=who, what=what, run=run) for n, at, kind, who, what, run in rows
        ]

    def tell(self, kind: str, who: str, what: str, run: str = "") -> None:
        """Add an event."""
        with self._writing("event.stored"):
            self._event(kind, who, what, run)

    def sweep(self, now: float | None = None) -> None:
        """Upkeep, to be called every few minutes: staged uploads of a day ago, old sessions, invitations, events."""
        now = self._clock() if now is None else now
        with self._writing("swept"):
            self._sweep_members(now)
            self._sweep_nodes()
            self._sweep_uploads(now)
            self._prune_events()

    def stats(self) -> dict[str, float]:
        """Counts for metrics: members, nodes here, runs and exchanges by state, answers, bytes kept, bytes free."""
        found: dict[str, float] = {"members": 0, "nodes": 0, "nodes_here": 0}
        for known in self._by_name.values():
            if known.revoked is None:
                found["members"] += 1
                found["nodes"] += known.role == "node"
                found["nodes_here"] += known.role == "node" and self._here(known.name)
        for table in ("runs", "exchanges"):
            sql = f"SELECT state, count(*) FROM {table} GROUP BY state"  # noqa: S608 - two fixed names
            found.update({f"{table}_{state}": count for state, count in self._all(sql)})
        times, size = self._one("SELECT coalesce(sum(times), 0), coalesce(sum(bytes), 0) FROM sent")
        found |= {"answers": times, "answers_bytes": size, "events": self._one("SELECT count(*) FROM events")[0]}
        count, size = self._one("SELECT count(*), coalesce(sum(size), 0) FROM blobs")
        pages = self._one("PRAGMA page_count")[0] * self._one("PRAGMA page_size")[0]
        free = shutil.disk_usage(self.folder).free
        return {**found, "blobs": count, "blobs_bytes": size, "database_bytes": pages, "disk_free_bytes": free}
