"""The coordinator as an ASGI application: find the path, make sure who asks, answer; what fails becomes a problem."""

from __future__ import annotations

import errno
import logging
import secrets
from time import perf_counter
from typing import Any

from atoll.errors import explain
from atoll.silo.errors import DiskFull, Internal, Malformed, Rate, SiloError, Unauthenticated, Unavailable
from atoll.silo.server.replies import Reply, Send, as_problem, deliver
from atoll.silo.server.requests import Gone, Receive, Request
from atoll.silo.server.routes import Route, find
from atoll.silo.server.service import Service

__all__ = ["App"]

_log = logging.getLogger("atoll.silo")

_LOG_IN = (
    b'<!doctype html><html lang="en"><meta charset="utf-8"><title>Not logged in</title><h1>Not logged in</h1>'
    b"<p>This page is for members. <code>atoll coordinator login</code> on the coordinator's machine, or "
    b"<code>atoll login --page</code> on yours, prints an address that opens it once.</p></html>"
)


class App:
    """Answers requests.

    Parameters
    ----------
    service : Service
        What handlers share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] != "http":
            return
        began = perf_counter()
        route: Route | None = None
        request: Request | None = None
        try:
            request = Request(scope, receive)
            route, request.params = find(request.method, request.target.partition("?")[0])
            await self._admit(route, request)
            reply = await route.handler(self._service, request)
        except Gone:
            return
        except Exception as error:
            reply = self._refusal(error, request, route)
        seconds = -1.0 if route is not None and route.waits else perf_counter() - began
        self._service.metrics.answered("other" if route is None else route.path, reply.status, seconds)
        await self._deliver(reply, send, scope["method"] == "HEAD")

    async def _admit(self, route: Route, request: Request) -> None:
        """Make sure who asks, and that they may."""
        request.expect_plain()
        if route.takes is None and request.has_body:
            raise Malformed(explain("this path takes no body", got=f"{request.method} {request.path[:200]}"))
        signed = "signature" in request.headers
        if route.access == "signature" or (signed and route.roles and route.access != "cookie"):
            await self._service.authenticate(request)
        elif route.access in ("cookie", "either"):
            self._service.session(request)
        if route.roles and request.member is not None:
            self._service.allow(request.member, route.roles)

    def _refusal(self, error: Exception, request: Request | None, route: Route | None) -> Reply:
        """What is answered to an error; a mistake of ours is told by a number, and the log has the rest."""
        if isinstance(error, OSError) and not isinstance(error, SiloError) and error.errno in (
            errno.ENOSPC, errno.EDQUOT,
        ):  # fmt: skip
            error = DiskFull(explain("the coordinator's disk is full"))
        if not isinstance(error, SiloError):
            number = secrets.token_hex(4)
            where = "a request" if request is None else f"{request.method} {request.path!r}"
            _log.error("mistake %s while answering %s", number, where, exc_info=error)
            error = Internal(explain("the coordinator made a mistake", got=f"number {number} in its log"))
        self._service.metrics.refused(error.code)
        if request is not None:
            self._service.failures.count(request, error)
        if route is not None and route.access == "cookie" and isinstance(error, Unauthenticated):
            return Reply(401, b"text/html; charset=utf-8", _LOG_IN)
        close = request is None or request.must_close
        return as_problem(error, retry_after=_retry_after(error), close=close)

    async def _deliver(self, reply: Reply, send: Send, head_only: bool) -> None:
        try:
            await deliver(reply, send, head_only=head_only)
        except Gone:
            pass
        except Exception:
            _log.exception("an answer was cut short")


def _retry_after(error: SiloError) -> int | None:
    if isinstance(error, Unavailable):
        return 1
    if isinstance(error, Rate):
        seconds = error.more.get("seconds")
        return max(1, round(seconds)) if isinstance(seconds, int | float) else 1
    return None
