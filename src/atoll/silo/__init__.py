"""Real silos: a coordinator, nodes that keep their rows, and a driver that asks them, over a network that fails.

- `api`, `tasks`: what is said over HTTP, and what a requester signs;
- `errors`: everything that can be refused, each with a code;
- `keys`, `tokens`, `signing`, `home`: who is who, and where secrets lie;
- `broker`: what the coordinator knows, durably; `fold` adds contributions in bounded memory;
- `server`: the coordinator's one port; `dashboard`: its pages;
- `client`: requests that are pinned, signed, repeated until answered, and resumed;
- `node`: the agent at the rows, and its owner's policy and log;
- `engine`: where nodes run, seen from a script.
"""

from __future__ import annotations

__all__: list[str] = []
