"""``python -m atoll``: the same as the command ``atoll``."""

from __future__ import annotations

import sys

from atoll.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
