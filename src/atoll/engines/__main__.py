"""``python -m atoll.engines FD``: a worker of the engine ``processes``."""

from __future__ import annotations

from atoll.engines.serve import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
