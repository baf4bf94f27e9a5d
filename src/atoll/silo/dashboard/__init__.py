"""The coordinator's pages: read-only, complete without scripts, nothing loaded from elsewhere.

`reading` finds out what a path shows, `seen` is that as plain values, `pages` draws it; `served` is what a browser is
told and given with it.
"""

from __future__ import annotations

from atoll.silo.dashboard.pages import log, message, node, overview, run, run_path
from atoll.silo.dashboard.reading import Page, page
from atoll.silo.dashboard.seen import NodeSeen, Overview, RunSeen
from atoll.silo.dashboard.served import HEADERS, Asset, asset

__all__ = [
    "HEADERS",
    "Asset",
    "NodeSeen",
    "Overview",
    "Page",
    "RunSeen",
    "asset",
    "log",
    "message",
    "node",
    "overview",
    "page",
    "run",
    "run_path",
]
