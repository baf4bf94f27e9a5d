"""The agent at the rows, and its owner's policy and log.

- `folder`, `sources`: what lies in a node's folder, and which data sets it offers;
- `join`: how it becomes a node; `service`: how it is started with the machine;
- `agent`: asks the coordinator for work, and answers; `check`: what makes a task one to answer;
- `policy`, `requests`, `ledger`: what the owner allows, what was asked in vain, and how much of today's is used up;
- `log`: every decision and every byte that left, in a chain of hashes;
- `rows`, `tables`, `sql`: rows as a script would have them; `memory`: what a run leaves here between its rounds.
"""

from __future__ import annotations

__all__: list[str] = []
