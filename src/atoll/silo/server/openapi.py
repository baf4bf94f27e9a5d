"""The description of all paths (OpenAPI 3.1), made from the routing table and the types of the bodies."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any

import msgspec

from atoll.silo.errors import codes
from atoll.silo.server.replies import Reply, as_json
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


async def answer(service: Service, request: Request) -> Reply:
    """The document."""
    request.query(())
    return as_json(document())


def document() -> dict[str, Any]:
    """Describe every path, as OpenAPI 3.1 has it."""
    bodies = [kind for route in ROUTES for kind in (route.takes, route.gives) if _is_type(kind)]
    schemas, components = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    told = dict(zip(map(_key, bodies), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, told)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Atoll coordinator", "version": metadata.version("atoll")},
        "paths": paths,
        "components": {"schemas": {**components, "Problem": _PROBLEM}, "securitySchemes": _SECURITY},
    }


def _operation(route: Route, told: dict[str, Any]) -> dict[str, Any]:
    roles = f" For: {', '.join(route.roles)}." if route.roles else ""
    operation: dict[str, Any] = {
        "summary": route.told,
        "description": f"{route.told}{roles}",
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "security": _USES[route.access],
        "parameters": _parameters(route),
        "responses": {
            "200": {"description": "Well.", "content": _content(route.gives, told)},
            "default": {
                "description": "Refused, or failed.",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    }
    if route.takes is not None:
        operation["requestBody"] = {"required": True, "content": _content(route.takes, told)}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    text = {"type": "string"}
    found = [
        {"name": name, "in": "path", "required": True, "schema": text} for name in re.findall(r"{(\w+)}", route.path)
    ]
    found += [{"name": name, "in": "query", "required": False, "schema": text} for name in route.query]
    return found + [{"name": name, "in": "header", "required": False, "schema": text} for name in route.headers]


def _content(kind: object, told: dict[str, Any]) -> dict[str, Any]:
    if isinstance(kind, str):
        return {kind: {"schema": {"type": "string"}}}
    return {"application/json": {"schema": told[_key(kind)]}}


def _is_type(kind: object) -> bool:
    return kind is not None and not isinstance(kind, str)


def _key(kind: object) -> str:
    return repr(kind)
