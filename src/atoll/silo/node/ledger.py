"""What was answered and how much of today's is used up, told by the log: there is no second count that could differ."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from atoll.silo.node.log import seconds
from atoll.silo.node.policy import Used

__all__ = ["WINDOW", "Ledger"]

WINDOW = 7 * 86400.0
"""Seconds for which answered tasks are remembered; older tasks are refused as expired."""


class Ledger:
    """Counts over the entries of a log.

    Parameters
    ----------
    entries : iterable of dict
        Of the last `WINDOW` seconds, in any order.
    """

    def __init__(self, entries: Iterable[dict[str, Any]] = ()) -> None:
        self._answered: dict[tuple[str, int], tuple[str, float]] = {}
        self._used: dict[tuple[str, str, str], list[int]] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: dict[str, Any]) -> None:
        """Count an entry; an answer that is given again, since it may have been lost, counts once."""
        if entry.get("event") != "answered":
            return
        task, when = (entry["task"], entry["position"]), seconds(entry)
        if task in self._answered:
            return
        self._answered[task] = (entry["exchange"], when)
        count = self._used.setdefault((_day(when), entry["key"], entry["data"]), [0, 0])
        count[0] += 1
        count[1] += entry["bytes"]
        if len(self._answered) % 4096 == 0:
            self._forget(when)

    def answered(self, task: str, position: int) -> str | None:
        """The exchange for which a task was answered before; None if it was not."""
        found = self._answered.get((task, position))
        return None if found is None else found[0]

    def used(self, key: str, data: str, now: float) -> Used:
        """What somebody has had of a data set today."""
        return Used(*self._used.get((_day(now), key, data), (0, 0)))

    def _forget(self, now: float) -> None:
        self._answered = {task: found for task, found in self._answered.items() if found[1] > now - WINDOW}
        self._used = {day: count for day, count in self._used.items() if day[0] == _day(now)}


def _day(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).date().isoformat()
