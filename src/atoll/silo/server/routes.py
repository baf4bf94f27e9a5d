"""Every path of the coordinator in one table: who may use it, what it takes and gives, and what answers it.

`find` reads it for each request, and `atoll.silo.server.openapi` describes it for others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import unquote

from atoll.errors import explain
from atoll.silo import api
from atoll.silo.errors import Malformed, Method, NotFound
from atoll.silo.server import blobs, people, runs, watch, work
from atoll.silo.server.replies import Reply
from atoll.silo.server.requests import Request
from atoll.silo.server.service import Service

__all__ = ["ANYONE", "ROUTES", "Handler", "Route", "find"]

Handler = Callable[[Service, Request], Awaitable[Reply]]

ANYONE: tuple[str, ...] = ()
"""Roles of a path that needs no signature."""

_ADMIN = ("admin",)
_ASKS = ("admin", "researcher")
_NODE = ("node",)
_SEES = ("admin", "researcher", "viewer")
_ALL = ("admin", "researcher", "node", "viewer")
_BRINGS = ("admin", "researcher", "node")


class Route(NamedTuple):
    """One path and method.

    Attributes
    ----------
    method, path : str
        Parts in braces stand for anything but a slash.
    told : str
        What it is for, in a sentence.
    roles : tuple of str
        Who may use it; nobody in particular for `ANYONE`.
    handler : callable
        What answers.
    takes : type or str or None
        The JSON body, or the media type of another one.
    gives : type or str or None
        The JSON answer, or the media type of another one.
    query : tuple of str
        What may stand after the question mark.
    headers : tuple of str
        Headers with a meaning here.
    access : {"signature", "either", "cookie", "open"}
        How the sender is known; "open" looks at a signature only if there is one.
    waits : bool
        Whether the answer may be meant to take long.
    """

    method: str
    path: str
    told: str
    roles: tuple[str, ...]
    handler: Handler
    takes: object = None
    gives: object = None
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    access: str = "signature"
    waits: bool = False


async def _described(service: Service, request: Request) -> Reply:
    from atoll.silo.server import openapi  # made from this table

    return await openapi.answer(service, request)


_BYTES = "application/octet-stream"
_TEXT = "text/plain"
_PAGE = "text/html"
_EVENTS = "text/event-stream"
_JSON = "application/json"
_ANSWER = "/v1/answers/{exchange}/{position}"
_NUMBER = "/v1/runs/{name}/exchanges/{number}"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/healthz", "Whether the process answers.", ANYONE, watch.health, None, _TEXT, access="open"),
    Route("GET", "/readyz", "Whether requests can be carried out.", ANYONE, watch.ready, None, _TEXT, access="open"),
    Route("GET", "/metrics", "Numbers for Prometheus; members, or from the coordinator's own machine.", _ALL,
          watch.metrics, None, _TEXT, access="open"),
    Route("GET", "/v1/about", "Who this coordinator is.", ANYONE, people.about, None, api.About, access="open"),
    Route("POST", "/v1/join", "A token for a membership; signed with the new key.", ANYONE, people.join, api.Join,
          api.Joined, access="open"),
    Route("POST", "/v1/hello", "What a node runs on and offers.", _NODE, work.hello, api.Hello, api.Done),
    Route("GET", "/v1/work", "What a node has to do, as soon as there is something.", _NODE, work.work, None, api.Work,
          ("wait", "have", "beat"), waits=True),
    Route("POST", _ANSWER, "An answer: a written tree, or as Atoll-Body says a Named or a Refusal.", _NODE, work.answer,
          _BYTES, api.Ack, headers=("Atoll-Body",)),
    Route("POST", "/v1/uploads", "Announce bytes; tells how many are here.", _BRINGS, blobs.begin, api.Upload,
          api.Uploaded),
    Route("PATCH", "/v1/uploads/{digest}", "A chunk at an offset.", _BRINGS, blobs.append, _BYTES, api.Uploaded,
          headers=("Upload-Offset",)),
    Route("GET", "/v1/blobs/{digest}", "A blob, or a range of it.", _BRINGS, blobs.blob, None, _BYTES,
          headers=("Range",)),
    Route("PUT", "/v1/runs/{name}", "A run begins, or goes on.", _ASKS, runs.open_run, api.RunOpening, api.Opened),
    Route("POST", "/v1/runs/{name}/exchanges", "A question; repeated, it is the same one.", _ASKS, runs.submit,
          api.Submission, api.State),
    Route("GET", "/v1/runs/{owner}/{name}/rounds", "The rounds of a run, and what they came to.", _SEES, runs.rounds,
          None, list[api.Round], ("after",), access="either"),
    Route("GET", _NUMBER, "How far a question is, as soon as it is closed.", _ASKS, runs.exchange, None, api.State,
          ("wait",), waits=True),
    Route("PUT", "/v1/runs/{name}/state", "What a driver keeps: bytes, or with Atoll-Body a Named.", _ASKS, runs.save,
          _BYTES, api.Named, headers=("Atoll-Body",)),
    Route("GET", "/v1/runs/{name}/state", "The blob of what a driver keeps.", _ASKS, runs.saved, None, api.Named),
    Route("POST", "/v1/runs/{name}/end", "A run is over.", _ASKS, runs.end, api.Ending, api.Done),
    Route("DELETE", "/v1/runs/{name}", "A run of one's own is deleted with its sums; with running=yes also one that "
          "has not ended. An admin may name another owner.", _ASKS, runs.forget, None, api.Done,
          ("owner", "running")),
    Route("GET", "/v1/runs", "All runs.", _SEES, runs.listing, None, list[api.RunStatus], access="either"),
    Route("GET", "/v1/nodes", "All nodes.", _SEES, work.nodes, None, list[api.NodeStatus], access="either"),
    Route("GET", "/v1/members", "Everybody.", ("admin", "viewer"), people.members, None, list[api.Member],
          access="either"),
    Route("DELETE", "/v1/members/{name}", "End a membership, at once.", _ADMIN, people.revoke, None, api.Member),
    Route("POST", "/v1/invites", "A new token.", _ADMIN, people.invite, api.Invite, api.Invitation),
    Route("POST", "/v1/login", "A URL that opens the dashboard once.", _ALL, people.login, None, api.Login),
    Route("GET", "/v1/events", "What happens, as it happens.", _SEES, watch.events, None, _EVENTS, ("after",),
          ("Last-Event-ID",), access="either", waits=True),
    Route("GET", "/openapi.json", "This description.", ANYONE, _described, None, _JSON, access="open"),
    Route("GET", "/errors", "What every code means.", ANYONE, watch.errors_page, None, _PAGE, access="open"),
    Route("GET", "/login/{secret}", "Opens the dashboard, once.", ANYONE, watch.log_in, None, _PAGE, access="open"),
    Route("GET", "/static/{name}", "A style or a script.", ANYONE, watch.asset, None, _TEXT, access="open"),
    Route("GET", "/", "The dashboard.", _ALL, watch.page, None, _PAGE, access="cookie"),
    Route("GET", "/log", "What happened, page by page.", _ALL, watch.page, None, _PAGE, ("before",), access="cookie"),
    Route("GET", "/runs/{owner}/{name}", "One run.", _ALL, watch.page, None, _PAGE, access="cookie"),
    Route("GET", "/nodes/{name}", "One node.", _ALL, watch.page, None, _PAGE, access="cookie"),
    Route("GET", "/live", "Tells a page that something has changed.", _ALL, watch.live, None, _EVENTS, access="cookie",
          waits=True),
)  # fmt: skip

_HEADLESS = {"HEAD": "GET"}


def find(method: str, path: str) -> tuple[Route, dict[str, str]]:
    """The route for a request, and the parts of its path.

    Parameters
    ----------
    method : str
        In capitals; HEAD finds what answers GET.
    path : str
        As sent, without the query; parts are decoded here, so that a coded slash is not one.

    Raises
    ------
    NotFound, Method, Malformed
        If there is no such path; if it does not have this method; if a part is not text.
    """
    fitting, parts = _EXACT.get(path), path.split("/")[1:]
    if fitting is None:
        fitting = [route for route, pattern in _BY_LENGTH.get(len(parts), ()) if _fits(pattern, parts)]
    if not fitting:
        raise NotFound(explain("there is no such path", got=path[:200]))
    method = _HEADLESS.get(method, method)
    for route in fitting:
        if route.method == method:
            return route, _params(route, parts)
    raise Method(explain("the path does not have this method", got=method[:20], expected=[r.method for r in fitting]))


def _tables() -> tuple[dict[str, list[Route]], dict[int, list[tuple[Route, list[str]]]]]:
    """Routes by path where that is one, and by the number of its parts where it is a pattern."""
    exact: dict[str, list[Route]] = {}
    by_length: dict[int, list[tuple[Route, list[str]]]] = {}
    for route in ROUTES:
        if "{" in route.path:
            pattern = route.path.split("/")[1:]
            by_length.setdefault(len(pattern), []).append((route, pattern))
        else:
            exact.setdefault(route.path, []).append(route)
    return exact, by_length


_EXACT, _BY_LENGTH = _tables()


def _fits(pattern: list[str], parts: list[str]) -> bool:
    return all(want == got or (want[:1] == "{" and got != "") for want, got in zip(pattern, parts, strict=True))


def _params(route: Route, parts: list[str]) -> dict[str, str]:
    found = {}
    for want, got in zip(route.path.split("/")[1:], parts, strict=True):
        if want[:1] == "{":
            try:
                found[want[1:-1]] = unquote(got, errors="strict")
            except UnicodeDecodeError:
                raise Malformed(explain("a part of the path is not text", got=got[:100])) from None
    return found
