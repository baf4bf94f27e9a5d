"""Which path shows what, and what a browser is told with it."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

from atoll.markup import STYLE

__all__ = ["HEADERS", "Asset", "asset"]

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
"""For every page, besides what comes with every answer. Pictures carry their measures as style attributes, so inline
styles are allowed; scripts are not."""

_OWN = """
nav{margin:1rem 0}
a{color:var(--accent)}
progress{width:12rem;max-width:100%;accent-color:var(--accent);vertical-align:middle}
.said:empty{display:none}
.said{position:fixed;bottom:0;left:0;right:0;margin:0;padding:.75rem 1rem;background:var(--tint);text-align:center}
code{font:.875em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
"""


class Asset(NamedTuple):
    """A file that pages use.

    Attributes
    ----------
    kind : str
        Its media type.
    content : bytes
        What is in it.
    """

    kind: str
    content: bytes


@lru_cache(maxsize=8)
def asset(name: str) -> Asset | None:
    """A file under ``/static/``; None where there is no such file."""
    if name == "atoll.css":
        return Asset("text/css; charset=utf-8", (STYLE + _OWN).encode())
    if name == "live.js":
        script = files("atoll.silo.dashboard").joinpath("live.js").read_bytes()
        return Asset("text/javascript; charset=utf-8", script)
    return None
