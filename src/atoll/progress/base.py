"""What a person sees while a long call runs: one line per round, and who is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

from atoll.run import Row

__all__ = ["Progress", "Silent", "reporter"]


class Progress(Protocol):
    """Told about every round of a run."""

    def start(self, title: str) -> None:
        """A call begins."""
        ...

    def waiting(self, op: str, missing: Callable[[], list[str]], deadline: float | None) -> None:
        """A round has begun; `missing` names the nodes that have not answered yet."""
        ...

    def round(self, row: Row) -> None:
        """A round has ended."""
        ...

    def stop(self) -> None:
        """The call has ended, or was interrupted."""
        ...


class Silent:
    """Says nothing."""

    def start(self, title: str) -> None:
        """Say nothing."""

    def waiting(self, op: str, missing: Callable[[], list[str]], deadline: float | None) -> None:
        """Say nothing."""

    def round(self, row: Row) -> None:
        """Say nothing."""

    def stop(self) -> None:
        """Say nothing."""


def reporter(verbose: int | None) -> Progress:
    """The reporter for a verbosity.

    Parameters
    ----------
    verbose : int or None
        0 is silent; 1 prints; None prints only on a terminal.

    Returns
    -------
    Progress
    """
    if verbose == 0 or (verbose is None and not sys.stderr.isatty()):
        return Silent()
    from atoll.progress.lines import Lines

    return Lines()
