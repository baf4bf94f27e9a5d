"""The command line: ``atoll demo``, ``atoll run``, ``atoll doctor``.

- `app` finds the command, turns errors into messages and exit codes;
- `options` is the one table of options: the command line and the experiment file are both read by it;
- `demo`, `run` and `doctor` are the commands, `compare` is what the first two share;
- `show` prints.

Nothing heavy is imported before a command runs, so ``--help`` comes at once.
"""

from __future__ import annotations

from atoll.cli.app import main

__all__ = ["main"]
