"""A driver to be killed: ``_drive.py URL HOME DATA``. Prints the number and the time of every round that has ended."""

from __future__ import annotations

import sys
import time

from atoll import Federation
from atoll.combine import Sum

__all__ = ["drive"]

ROUNDS, SECONDS = 10_000, 0.1


def drive(url: str, home: str, data: str) -> None:
    """Hold short rounds under one run name, without end."""
    federation = Federation.connect(url, data, home=home, run="killed", patience=120.0, verbose=0)
    rounds = federation.rounds("null")
    with rounds.ending():
        for number in range(ROUNDS):
            rounds.round("null.sleep", combine=Sum(), settings={"seconds": SECONDS})
            print(number, time.monotonic(), flush=True)


if __name__ == "__main__":
    drive(*sys.argv[1:4])
