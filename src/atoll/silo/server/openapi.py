"""The description of all paths (OpenAPI 3.1), made from the routing table and the types of the bodies."""

from __future__ import annotations

import re
from functools import cache
from importlib import metadata
from typing import Any

import msgspec

from atoll.silo.errors import codes
from atoll.silo.server.details import BODIES, PAGES, STATIC, errors_of, parameter
from atoll.silo.server.replies import Reply, as_bytes
from atoll.silo.server.requests import Request
from atoll.silo.server.routes import ROUTES, Route
from atoll.silo.server.service import Service

__all__ = ["answer", "document"]

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "hint"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": sorted(codes)},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
        "more": {"type": "object"},
    },
}
_SIGNED = (
    "HTTP Message Signatures (RFC 9421), Ed25519, over @method, @path, @query and, with a body, content-digest "
    "(RFC 9530, sha-256); nonce is EPOCH.SEQUENCE."
)
_SECURITY = {
    "signature": {"type": "apiKey", "in": "header", "name": "Signature", "description": _SIGNED},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "__Host-atoll", "description": "A browser that is logged in."},
}
_USES: dict[str, list[dict[str, list[str]]]] = {
    "signature": [{"signature": []}],
    "either": [{"signature": []}, {"cookie": []}],
    "cookie": [{"cookie": []}],
    "open": [],
}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "application/octet-stream": {"type": "string", "format": "binary"},
    "application/json": {"type": "object"},
}


async def answer(service: Service, request: Request) -> Reply:
    """The document."""
    request.query(())
    return as_bytes(_written(), b"application/json")


@cache
def _written() -> bytes:
    return msgspec.json.encode(document())


def document() -> dict[str, Any]:
    """Describe every path, as OpenAPI 3.1 has it."""
    bodies = [kind for route in ROUTES for kind in (route.takes, route.gives, *_others(route)) if _is_type(kind)]
    schemas, components = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    told = dict(zip(map(_key, bodies), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    refusals: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, told, refusals)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Atoll coordinator", "version": metadata.version("atoll")},
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "responses": refusals,
            "securitySchemes": _SECURITY,
        },
    }


def _operation(route: Route, told: dict[str, Any], refusals: dict[str, dict[str, Any]]) -> dict[str, Any]:
    roles = f" For: {', '.join(route.roles)}." if route.roles else ""
    operation: dict[str, Any] = {
        "summary": route.told,
        "description": f"{route.told}{roles}",
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "security": _USES[route.access] or ([{}, {"signature": []}] if route.roles else []),
        "parameters": _parameters(route),
        "responses": {
            "200": {"description": "Well.", "content": _content(route, (route.gives,), told)},
            **({"206": _part(told, route)} if "Range" in route.headers else {}),
            **{status: _refusal(route, status, found, refusals) for status, found in errors_of(route).items()},
        },
    }
    if route.takes is not None:
        content = _content(route, (route.takes, *_others(route)), told)
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _others(route: Route) -> tuple[Any, ...]:
    return BODIES.get(f"{route.method} {route.path}", ())


def _parameters(route: Route) -> list[dict[str, Any]]:
    names = [("path", name) for name in re.findall(r"{(\w+)}", route.path)]
    names += [("query", name) for name in route.query] + [("header", name) for name in route.headers]
    return [parameter(route, place, name) for place, name in names]


def _part(told: dict[str, Any], route: Route) -> dict[str, Any]:
    header = {"required": True, "schema": {"type": "string"}}
    content = _content(route, (route.gives,), told)
    return {"description": "The range that was asked for.", "headers": {"Content-Range": header}, "content": content}


def _refusal(route: Route, status: str, found: list[str], refusals: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What is answered with one status: a problem with one of some codes, and to browsers a page; kept for others."""
    page = route.access == "cookie" and status in PAGES
    name = ".".join((*found, "page") if page else found)
    code = {"properties": {"code": {"enum": found}, "status": {"const": int(status)}}}
    schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, code]}
    content: dict[str, Any] = {"application/problem+json": {"schema": schema}}
    if page:
        content["text/html"] = {"schema": {"type": "string"}}
    described: dict[str, Any] = {"description": "; ".join(f"{c}: {codes[c].title}" for c in found), "content": content}
    if {"rate", "unavailable"} & set(found):
        seconds = {"type": "integer", "minimum": 0}
        described["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": seconds}}
    refusals[name] = described
    return {"$ref": f"#/components/responses/{name}"}


def _content(route: Route, kinds: tuple[Any, ...], told: dict[str, Any]) -> dict[str, Any]:
    """What a body may be, by media type; several types of JSON are one of them."""
    found: dict[str, Any] = {}
    schemas = [told[_key(kind)] for kind in kinds if not isinstance(kind, str)]
    if schemas:
        found["application/json"] = {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}
    for kind in kinds:
        if isinstance(kind, str):
            names = STATIC if route.path.startswith("/static/") else (kind,)
            found.update({name: {"schema": _SCHEMAS.get(name, {"type": "string"})} for name in names})
    return found


def _is_type(kind: object) -> bool:
    return kind is not None and not isinstance(kind, str)


def _key(kind: object) -> str:
    return repr(kind)
