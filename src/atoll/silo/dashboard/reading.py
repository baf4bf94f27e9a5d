"""From a path to a page: what it shows is read from the broker, and can then be drawn in any thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from atoll import __version__
from atoll.silo.api import counts_rows
from atoll.silo.dashboard import pages
from atoll.silo.dashboard.seen import NodeSeen, Overview, RunSeen
from atoll.silo.errors import NotFound, SiloError

if TYPE_CHECKING:
    from atoll.silo.broker import Broker

__all__ = ["Page", "page"]

_EVENTS = 12  # on the first page
_A_PAGE = 200  # events of the log
_ROUNDS = 10_000


class Page(NamedTuple):
    """What a browser gets.

    Attributes
    ----------
    status : int
        Of HTTP.
    body : str
        HTML.
    """

    status: int
    body: str


def page(broker: Broker, federation: str, path: str, query: Mapping[str, str]) -> Callable[[], Page]:
    """Read what a path shows; call the result to draw it.

    Parameters
    ----------
    broker : Broker
        Asked in the thread that calls this, and not afterwards.
    federation : str
        Fingerprint of the coordinator's signing key.
    path : str
        As the browser sent it, coded.
    query : mapping of str to str
        ``before``: the number of an event, in the log.

    Returns
    -------
    callable
        Takes nothing, gives the `Page`; for any thread.
    """
    now = time.time()
    kind, *names = [unquote(part) for part in path.strip("/").split("/")]
    try:
        if not kind:
            return partial(_drawn, pages.overview, _overview(broker, federation, now))
        if kind == "log":
            return partial(_drawn, pages.log, *_log(broker, query.get("before", "")))
        if kind == "runs" and len(names) == 2:
            return partial(_drawn, pages.run, _run(broker, *names), now)
        if kind == "nodes" and len(names) == 1:
            return partial(_drawn, pages.node, _node(broker, *names), now)
        raise NotFound("there is no such page")
    except SiloError as error:
        return partial(_refused, error)


def _drawn(draw: Callable[..., str], *seen: object) -> Page:
    return Page(200, draw(*seen))


def _refused(error: SiloError) -> Page:
    return Page(error.status, pages.message(error.title, str(error)))


def _overview(broker: Broker, federation: str, now: float) -> Overview:
    events = tuple(reversed(broker.events(-1, _EVENTS)))
    runs = tuple(run for run in broker.runs() if not counts_rows(run.name))
    return Overview(federation, __version__, now, tuple(broker.nodes()), runs, events)


def _log(broker: Broker, before: str) -> tuple[tuple[object, ...], int | None]:
    """One page of events, the latest first, and where the next begins."""
    if before and not (before.isascii() and before.isdigit() and len(before) < 19):
        raise NotFound("there is no such page")
    if not before:
        found = broker.events(-1, _A_PAGE)
    else:
        found = [e for e in broker.events(max(int(before) - _A_PAGE - 1, 0), _A_PAGE) if e.number < int(before)]
    older = found[0].number if found and found[0].number > 1 else None
    return tuple(reversed(found)), older


def _run(broker: Broker, owner: str, name: str) -> RunSeen:
    rounds = tuple(broker.rounds(owner, name, limit=_ROUNDS))
    status = next(run for run in broker.runs() if (run.owner, run.name) == (owner, name))
    left = tuple(d for d in broker.disclosed() if (d.owner, d.run) == (owner, name))
    return RunSeen(status, rounds, left)


def _node(broker: Broker, name: str) -> NodeSeen:
    found = next((node for node in broker.nodes() if node.name == name), None)
    if found is None:
        raise NotFound("there is no node of this name")
    return NodeSeen(found, tuple(broker.disclosed(name)))
