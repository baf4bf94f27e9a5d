"""What a person sees while a long call runs: one line per round, and who is missing."""

from __future__ import annotations

import sys
from typing import Protocol

from atoll.run import Row, human_bytes

__all__ = ["Lines", "Progress", "Silent", "reporter"]


class Progress(Protocol):
    """Told about every round of a run."""

    def start(self, title: str) -> None:
        """A call begins."""
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

    def round(self, row: Row) -> None:
        """Say nothing."""

    def stop(self) -> None:
        """Say nothing."""


class Lines:
    """One line per round on the standard error stream, by rich, refreshed in place while a call runs."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._status = self._console.status("")

    def start(self, title: str) -> None:
        """Show a spinner with the title."""
        self._status.update(f"[bold]{title}[/]")
        self._status.start()

    def round(self, row: Row) -> None:
        """Print the line of a round."""
        nodes = f"{row.answered}/{row.asked} nodes"
        moved = f"{human_bytes(row.bytes_up)} up, {human_bytes(row.bytes_down)} down"
        self._console.print(f"[dim]{row.number:>5}[/]  {row.op:<26} {nodes:>14}  {moved:<28} {row.seconds:7.3f} s")
        for node, why in row.refused.items():
            self._console.print(f"       [yellow]{node}[/]: {why.splitlines()[0]}", highlight=False)

    def stop(self) -> None:
        """End the spinner."""
        self._status.stop()


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
    return Lines()
