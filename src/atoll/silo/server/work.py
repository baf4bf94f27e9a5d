"""What nodes say and ask: who they are, what there is to do, and their answers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from atoll.errors import explain
from atoll.silo import api
from atoll.silo.errors import Malformed
from atoll.silo.server.replies import Reply, as_json
from atoll.silo.server.requests import Request
from atoll.silo.server.service import Service

if TYPE_CHECKING:
    from atoll.silo.broker import Broker

__all__ = ["HERE", "MAX_ANSWER", "answer", "hello", "nodes", "seconds", "work"]

MAX_ANSWER = 1 << 20
"""Bytes of an answer that comes as it is; larger ones are uploaded first."""

HERE = 10.0
"""Seconds that a node counts as here after a poll was answered, while its connection stands: it asks again at once."""

_MOST_HAVE = 1000
_HAVE = re.compile(r"([0-9A-Za-z._-]{1,80})/([0-9]{1,9})\Z")


def seconds(service: Service, told: str | None) -> float:
    """How long a long poll is held, of what was asked for.

    Raises
    ------
    Malformed
        If that is no number of seconds.
    """
    if told is None:
        return 0.0
    try:
        asked = float(told)
    except ValueError:
        asked = math.nan
    if not asked >= 0:
        raise Malformed(explain("`wait` is a number of seconds from 0", got=told[:40]))
    return min(asked, service.settings.longest_poll)


async def hello(service: Service, request: Request) -> Reply:
    """What a node runs on and offers."""
    request.query(())
    told = await request.json(api.Hello)
    await service.writer.call(_greet, service.broker, request.sender.name, told)
    return as_json(api.Done())


async def nodes(service: Service, request: Request) -> Reply:
    """All nodes: since when they are here, what they run on and offer."""
    request.query(())
    return as_json(await service.writer.call(service.broker.nodes))


async def work(service: Service, request: Request) -> Reply:
    """What a node has to do; with ``wait``, as soon as there is something."""
    query = request.query(("wait", "have", "beat"))
    left, have = seconds(service, query.get("wait")), _have(query.get("have", ""))
    node, clock = request.sender.name, service.clock
    until = clock() + left
    service.presence.poll(node, request.connection, _beat(query.get("beat")))
    gone = True
    try:
        with service.topics.listening(f"work:{node}", f"member:{node}") as bell:
            request.hung_up_rings(bell)
            while True:
                found = await service.writer.call(_ask, service.broker, node, have, max(0.0, until - clock()))
                if found.tasks or clock() >= until:
                    break
                if not await service.rest(bell, until - clock(), request.sender):
                    found = api.Work(tasks=(), time=clock())
                    break
        gone = False
    finally:
        request.hung_up_rings(None)
        service.presence.polled(node, gone=gone)
    return as_json(found)


async def answer(service: Service, request: Request) -> Reply:
    """One node's answer at one position: a written tree, the name of an uploaded one, or why there is none."""
    request.query(())
    node, broker, call = request.sender.name, service.broker, service.writer.call
    exchange, position = request.params["exchange"], _position(request.params["position"])
    kind = request.headers.get("atoll-body", "tree")
    if kind == "refusal":
        told = await request.json(api.Refusal)
        ack = await call(broker.refuse, node, exchange, position, told.code, told.reason)
    elif kind == "named":
        named = await request.json(api.Named)
        examination = await call(broker.examine, node, exchange, position, named.blob)
        if isinstance(examination, api.Ack):
            ack = examination
        else:
            ack = await call(broker.answer, node, exchange, position, await service.in_hand(examination.run))
    elif kind == "tree":
        request.expect_kind("application/octet-stream")
        ack = await call(broker.answer, node, exchange, position, await request.body(MAX_ANSWER))
    else:
        raise Malformed(explain("Atoll-Body says what an answer is", got=kind[:40], expected="tree, named or refusal"))
    return as_json(ack)


def _greet(broker: Broker, node: str, told: api.Hello) -> None:
    broker.hello(node, told)
    broker.seen(node, HERE)


def _ask(broker: Broker, node: str, have: set[tuple[str, int]], left: float) -> api.Work:
    broker.seen(node, left + HERE)
    return broker.work(node, have)


def _beat(told: str | None) -> float:
    """How often a node says that it lives, while it waits; 0: not at all."""
    if told is None:
        return 0.0
    try:
        beat = float(told)
    except ValueError:
        beat = math.nan
    if not 0.1 <= beat <= 3600.0:
        raise Malformed(explain("`beat` is a number of seconds from 0.1 to 3600", got=told[:40]))
    return beat


def _have(told: str) -> set[tuple[str, int]]:
    parts = [part for part in told.split(",") if part]
    if len(parts) > _MOST_HAVE:
        raise Malformed(explain("too many tasks are named", got=len(parts), expected=f"at most {_MOST_HAVE}"))
    return set(_pairs(parts))


def _pairs(parts: Iterable[str]) -> Iterable[tuple[str, int]]:
    for part in parts:
        match = _HAVE.match(part)
        if match is None:
            raise Malformed(explain("`have` names tasks", got=part[:100], expected="EXCHANGE/POSITION,…"))
        yield match[1], int(match[2])


def _position(told: str) -> int:
    if not (told.isascii() and told.isdigit() and len(told) < 10):
        raise Malformed(explain("a position is a whole number", got=told[:40]))
    return int(told)
