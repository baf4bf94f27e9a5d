"""Time several programs so that the comparison holds on a noisy machine: they take turns, medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

__all__ = ["report", "take_turns"]


_REST = 0.3
"""Seconds of rest before a turn: threads of the program before still spin for a moment, in case there is more to do."""


def take_turns(programs: Mapping[str, Callable[[], object]], turns: int = 5) -> dict[str, list[float]]:
    """Run every program once unmeasured, then `turns` times each, one after the other.

    Returns
    -------
    dict of str to list of float
        Seconds per run.
    """
    for program in programs.values():
        program()
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(turns):
        for name, program in programs.items():
            time.sleep(_REST)
            start = time.perf_counter()
            program()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def report(title: str, seconds: Mapping[str, list[float]], against: str) -> None:
    """Print medians, spreads, and how many times faster each program is than the one named `against`."""
    base = statistics.median(seconds[against])
    print(title)
    for name, values in seconds.items():
        middle = statistics.median(values)
        spread = f"{min(values) * 1e3:9.1f} … {max(values) * 1e3:.1f}"
        print(f"  {name:<44} median {middle * 1e3:9.1f} ms  ({spread})  {base / middle:5.2f}x")
