"""Where a program that is killed leaves something behind: every persisted step says that it is done.

Nothing happens when a step is reached, unless somebody watches: tests kill the process there, one step after the other.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["reached", "watch"]

_watching: list[Callable[[str], None]] = []


def reached(step: str) -> None:
    """Say that something is persisted now: on disk, or with the other side.

    Parameters
    ----------
    step : str
        Dotted name of the step: ``"coordinator.answer.stored"``.
    """
    for tell in _watching:
        tell(step)


def watch(tell: Callable[[str], None]) -> Callable[[], None]:
    """Have a function called at every step, in the thread that reaches it, until the returned one is called.

    Parameters
    ----------
    tell : callable
        Takes the name of the step.

    Returns
    -------
    callable
        Ends the watch.
    """
    _watching.append(tell)
    return lambda: _watching.remove(tell)
