"""What the description of all paths says besides the table: the form of parameters, and the errors of each path."""

from __future__ import annotations

from typing import Any

from atoll.silo import api
from atoll.silo.errors import codes
from atoll.silo.server.routes import Route

__all__ = ["BODIES", "OWN", "PAGES", "STATIC", "errors_of", "parameter"]

_NUMBER = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
_NAME = {"type": "string", "minLength": 1}
_SHA = {"type": "string", "pattern": "^[0-9a-f]{64}$"}

_PATH: dict[str, dict[str, Any]] = {
    "digest": {**_SHA, "description": "SHA-256, hexadecimal."},
    "exchange": {**_NAME, "description": "An exchange, as an assignment names it."},
    "number": {**_NUMBER, "description": "Of an exchange within its run, from 0."},
    "position": {"type": "integer", "minimum": 0, "maximum": 10**9 - 1, "description": "Within the cohort."},
    "secret": {"type": "string", "pattern": "^([0-9a-f]{2})+$", "description": "As the login URL has it."},
}
_QUERY: dict[str, dict[str, Any]] = {
    "after": {**_NUMBER, "description": "Only what has a higher number."},
    "beat": {
        "type": "number",
        "minimum": 0.1,
        "maximum": 3600,
        "description": "Seconds between empty lines that the sender sends over this connection while it waits.",
    },
    "before": {"type": "string", "pattern": "^[0-9]{0,18}$", "description": "Only what has a lower number."},
    "have": {
        "type": "string",
        "pattern": "^([0-9A-Za-z._-]{1,80}/[0-9]{1,9}(,[0-9A-Za-z._-]{1,80}/[0-9]{1,9})*)?$",
        "description": "Tasks that are known already, as EXCHANGE/POSITION, by commas.",
    },
    "owner": {**_NAME, "description": "Whose run; one's own by default."},
    "running": {"enum": ["yes", "no"], "description": "Whether a run that has not ended is given up first."},
    "wait": {"type": "number", "minimum": 0, "description": "Seconds that the answer may take; held up to a bound."},
}
_HEADER: dict[str, dict[str, Any]] = {
    "Atoll-Body": {"enum": ["tree", "named", "refusal"], "description": "What the body is; a tree by default."},
    "Last-Event-ID": {**_NUMBER, "description": "As `after`, from a stream that was cut."},
    "Range": {"type": "string", "pattern": "^bytes=([0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})$"},
    "Upload-Offset": {"type": "integer", "minimum": 0, "description": "Where the chunk begins."},
}
_STATE_BODY = {"enum": ["bytes", "named"], "description": "What the body is; bytes by default."}

BODIES: dict[str, tuple[Any, ...]] = {
    "POST /v1/answers/{exchange}/{position}": (api.Named, api.Refusal),
    "PUT /v1/runs/{name}/state": (api.Named,),
}
"""By method and path: JSON that may stand in place of bytes."""

STATIC = ("text/css", "text/javascript")
"""Media types of what the pages use."""

PAGES = ("401", "404")
"""Statuses that a browser is told with a page."""

_EVERYWHERE = ("malformed", "encoding", "too-large", "unavailable")
_KNOWN = ("unauthenticated", "bad-signature", "replayed", "stale-epoch", "clock", "revoked", "rate", "disk-full")
_TOKEN = ("token-unknown", "token-used", "token-expired")

OWN: dict[str, tuple[str, ...]] = {
    "POST /v1/join": (
        "unauthenticated", "bad-signature", "clock", "digest", "rate", "version", "token-mistyped", *_TOKEN,
        "token-name", "conflict", "disk-full",
    ),
    "POST /v1/invites": ("conflict",),
    "POST /v1/answers/{exchange}/{position}": ("contract",),
    "POST /v1/uploads": ("conflict",),
    "PATCH /v1/uploads/{digest}": ("conflict",),
    "PUT /v1/runs/{name}": ("wrong-run",),
    "DELETE /v1/runs/{name}": ("wrong-run",),
    "POST /v1/runs/{name}/exchanges": (
        "other-question", "wrong-run", "wrong-round", "wrong-federation", "unsupported", "expired-task",
    ),
    "GET /v1/runs/{name}/exchanges/{number}": ("wrong-run",),
    "GET /log": ("not-found",),
    "GET /login/{secret}": ("rate", "disk-full", *_TOKEN),
}  # fmt: skip
"""By method and path: codes that it may answer with, besides those that its kind of access and body bring."""


def parameter(route: Route, place: str, name: str) -> dict[str, Any]:
    """Describe one parameter of a path.

    Parameters
    ----------
    route : Route
        The path.
    place : {"path", "query", "header"}
        Where it stands.
    name : str
        As it is written there.
    """
    known = {"path": _PATH, "query": _QUERY, "header": _HEADER}[place]
    told = dict(_STATE_BODY if (name, route.method) == ("Atoll-Body", "PUT") else known.get(name, _NAME))
    description = told.pop("description", None)
    found = {"name": name, "in": place, "required": place == "path" or name == "Upload-Offset", "schema": told}
    return found if description is None else {**found, "description": description}


def errors_of(route: Route) -> dict[str, list[str]]:
    """Codes that a path may answer with, by HTTP status; a mistake of the coordinator's (500) is not among them."""
    found = {*_EVERYWHERE, *OWN.get(f"{route.method} {route.path}", ())}
    if route.access in ("signature", "either") or (route.access == "open" and route.roles):
        found |= {*_KNOWN, "forbidden"}
    if route.access == "cookie":
        found |= {"unauthenticated", "rate", "disk-full"}
    if route.takes is not None:
        found |= {"truncated", "digest"}
    if "{" in route.path:
        found.add("not-found")
    by_status: dict[str, list[str]] = {}
    for code in sorted(found):
        by_status.setdefault(str(codes[code].status), []).append(code)
    return dict(sorted(by_status.items()))
