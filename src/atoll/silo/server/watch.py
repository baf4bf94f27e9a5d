"""What people and programs look at: events, health, metrics, the description of all paths, and the pages."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

import msgspec

from atoll.errors import explain
from atoll.silo.errors import Malformed, NotFound, SiloError, Unauthenticated, Unavailable, codes, problem
from atoll.silo.server.metrics import KIND
from atoll.silo.server.replies import Reply, as_bytes
from atoll.silo.server.requests import Request
from atoll.silo.server.service import Service
from atoll.silo.server.sessions import SESSION_HOURS, cookie

__all__ = ["asset", "errors_page", "events", "health", "live", "log_in", "metrics", "page", "ready"]

_AT_ONCE = 500  # events that are read together
_BEAT = 15.0  # seconds between signs of life on a stream
_BREATH = 0.3  # seconds between two changes that a page is told of
_LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
_HTML = b"text/html; charset=utf-8"
_STREAM = b"text/event-stream"
_STREAM_HEADERS = ((b"x-accel-buffering", b"no"),)
_POLICY = (
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
_encode = msgspec.json.Encoder().encode


async def health(service: Service, request: Request) -> Reply:
    """Whether the process answers."""
    return as_bytes(b"ok\n", b"text/plain; charset=utf-8")


async def ready(service: Service, request: Request) -> Reply:
    """Whether the coordinator can take something in: its writer runs and its last commit went well."""
    if service.topics.closing or not service.writer.alive:
        raise Unavailable("the coordinator is going down")
    if service.writer.broken:
        raise Unavailable(explain("the last commit failed", got=service.writer.broken))
    return as_bytes(b"ready\n", b"text/plain; charset=utf-8")


async def metrics(service: Service, request: Request) -> Reply:
    """Numbers for Prometheus; members only, and programs on this machine where no proxy stands between."""
    if request.member is None and (service.settings.behind_proxy or request.peer not in _LOOPBACK):
        raise Unauthenticated(explain("numbers are for members, and for programs on the coordinator's machine"))
    now = await service.writer.call(service.broker.stats)
    own = {
        "polls_waiting": service.topics.waiting,
        "nodes_polling": service.presence.polling,
        "addresses_failing": len(service.failures),
        "writer_batches": service.writer.batches,
        "writer_calls": service.writer.calls,
        "writer_waiting": service.writer.waiting,
    }
    return as_bytes(service.metrics.text({**now, **own}).encode(), KIND)


async def events(service: Service, request: Request) -> Reply:
    """What happens, as it happens: server-sent events, from a number on."""
    after = _event(request.query(("after",)).get("after", "0"))
    last = request.headers.get("last-event-id")
    return Reply(200, _STREAM, _stream(service, request, after if last is None else _event(last)), _STREAM_HEADERS)


def _event(told: str) -> int:
    if not (told.isascii() and told.isdigit() and len(told) < 16):
        raise Malformed(explain("events are numbered from 1", got=told[:40]))
    return int(told)


async def live(service: Service, request: Request) -> Reply:
    """Tells a page that something has changed, so that it fetches itself again."""
    return Reply(200, _STREAM, _changes(service, request), _STREAM_HEADERS)


async def _stream(service: Service, request: Request, after: int) -> AsyncIterator[bytes]:
    topics = ("events", f"member:{request.sender.name}")
    with service.topics.listening(*topics) as bell:
        request.hung_up_rings(bell)
        yield b"retry: 1000\n\n"
        while True:
            found = await service.writer.call(service.broker.events, after, _AT_ONCE)
            if found:
                after = found[-1].number
                yield b"".join(b"id: %d\ndata: %b\n\n" % (event.number, _encode(event)) for event in found)
            try:
                rang = bool(found) or await service.rest(bell, _BEAT, request.sender)
            except SiloError as error:
                yield b"event: ended\ndata: %b\n\n" % _encode(problem(error))
                return
            if not rang:
                yield b": here\n\n"


async def _changes(service: Service, request: Request) -> AsyncIterator[bytes]:
    topics = ("events", "members", "progress", f"member:{request.sender.name}")
    with service.topics.listening(*topics) as bell:
        request.hung_up_rings(bell)
        yield b"retry: 1000\n\n"
        while True:
            try:
                rang = await service.rest(bell, _BEAT, request.sender)
                service.session(request)
            except SiloError:
                yield b"event: ended\ndata:\n\n"
                return
            yield b"event: changed\ndata:\n\n" if rang else b": here\n\n"
            await asyncio.sleep(_BREATH)


async def log_in(service: Service, request: Request) -> Reply:
    """Open the dashboard: a URL that works once becomes a cookie.

    The answer is a page that goes on by itself, not a redirection: browsers do not send a strict cookie along when
    somebody else's page led here.
    """
    service.failures.refuse(request)
    try:
        login = bytes.fromhex(request.params["secret"])
    except ValueError:
        raise NotFound(explain("this is no login", hint="atoll coordinator login prints a new one")) from None
    secret, header = cookie()
    expires = service.clock() + SESSION_HOURS * 3600
    await service.writer.call(service.broker.open_session, login, secret, expires)
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/">'
        '<title>Logged in</title><p>You are logged in. <a href="/">Go on to the coordinator.</a></p></html>'
    )
    return Reply(200, _HTML, body.encode(), (*_POLICY, (b"set-cookie", header.encode())))


async def page(service: Service, request: Request) -> Reply:
    """A page of the dashboard, for whoever is logged in: read by the writer, drawn in another thread."""
    dashboard = await _dashboard(service)
    query, path = request.query(("before",)), request.target.partition("?")[0]
    federation = service.settings.federation
    draw = await service.writer.call(dashboard.page, service.broker, federation, path, query)
    drawn = await service.in_hand(draw)
    told = ("cache-control", "x-content-type-options")  # by every answer
    headers = tuple((name.encode(), value.encode()) for name, value in dashboard.HEADERS.items() if name not in told)
    return Reply(drawn.status, _HTML, drawn.body.encode(), headers)


async def _dashboard(service: Service) -> Any:
    """The pages, which are loaded when the first one is wanted."""
    return await service.in_hand(import_module, "atoll.silo.dashboard")


async def asset(service: Service, request: Request) -> Reply:
    """A style or a script of the pages."""
    found = (await _dashboard(service)).asset(request.params["name"])
    if found is None:
        raise NotFound(explain("there is no such file", got=request.params["name"][:80]))
    return as_bytes(found.content, found.kind.encode())


async def errors_page(service: Service, request: Request) -> Reply:
    """What every code means, and what to do."""
    parts = [
        f'<h2 id="{code}">{code}</h2><p>{html.escape(kind.title)} (HTTP {kind.status}).</p>'
        f"<p>What to do: {html.escape(kind.hint)}.</p>"
        for code, kind in sorted(codes.items())
    ]
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Errors</title><h1>What is refused</h1>'
    return Reply(200, _HTML, (head + "".join(parts) + "</html>").encode(), _POLICY)
