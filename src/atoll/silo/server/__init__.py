"""The coordinator's one port: who asks is checked, what is asked goes to the broker, and whoever waits is woken.

- `serve`: a coordinator from its folder; `connection`: what is said about connections;
- `app`, `routes`, `requests`, `replies`: one request; `openapi`: all of them described;
- `people`, `work`, `runs`, `blobs`, `watch`: what answers;
- `service`, `writer`, `waiting`, `presence`, `failures`, `sessions`, `metrics`: what they share.
"""

from __future__ import annotations

from atoll.silo.server.people import invitation
from atoll.silo.server.serve import ADMIN, PORT, Coordinator, Folder

__all__ = ["ADMIN", "PORT", "Coordinator", "Folder", "invitation"]
