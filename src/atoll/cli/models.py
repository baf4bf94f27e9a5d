"""``atoll models``: what can be fitted over nodes, how, and what it costs."""

from __future__ import annotations

from argparse import Namespace

from rich.table import Table

from atoll.catalogue import Entry, catalogue
from atoll.cli import show
from atoll.errors import UnknownName, closest, explain
from atoll.recipes import generic_ways, supported
from atoll.run import human_bytes

__all__ = ["execute"]


def execute(args: Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    args : Namespace
        What was given.

    Returns
    -------
    int
        Exit status.

    Raises
    ------
    UnknownName
        If there is no such estimator; with the nearest one.
    """
    known = [kind.__name__ for kind in supported(by_name=True)]
    for name in args.estimator or ():
        if name not in known:
            raise UnknownName(explain(f"Atoll has no recipe for {name!r}", hint=closest(name, known)))
    found = catalogue(args.features or 10, args.classes or 2, args.estimator)
    if args.json:
        show.emit_json({"models": [entry._asdict() for entry in found]})
        return 0
    show.render(_table(found))
    if args.estimator:
        show.emit(
            "".join(f"{e.estimator} ({e.method}): a node tells {'; '.join(e.leaves)}\n" for e in found if e.leaves)
        )
    else:
        ways = ", ".join(f"method={name!r}" for name in generic_ways())
        show.emit(f"Any other classifier or regressor: {ways}. What leaves a node: atoll models --estimator NAME\n")
    return 0


def _table(found: list[Entry]) -> Table:
    table = Table(title="What can be fitted over nodes", title_justify="left", box=None, pad_edge=False)
    for heading in ("module", "estimator", "method", "how"):
        table.add_column(heading, no_wrap=True)
    table.add_column("rounds", justify="right")
    table.add_column("bytes a node sends", justify="right")
    module = ""
    for e in found:
        shown = e.module if e.module != module else ""
        module = e.module
        rounds = "–" if e.rounds is None else f"{e.rounds}{' + 1 a call' if e.asks else ''}"
        sent = "–" if e.bytes_up is None else human_bytes(e.bytes_up)
        table.add_row(shown, e.estimator, e.method, e.kind, rounds, sent)
    return table
