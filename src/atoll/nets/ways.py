"""The ways to compute the local training of several nodes at once, by name."""

from __future__ import annotations

from collections.abc import Callable

from atoll.algorithms import Algorithm, Local
from atoll.algorithms.local import n_steps
from atoll.errors import UnknownName, closest, explain
from atoll.nets.implicit import pays
from atoll.nets.implicit import total as implicit
from atoll.nets.parts import Net, Sums
from atoll.nets.stacked import total as stacked

__all__ = ["NAMES", "WAYS", "Way", "chosen", "together"]

Way = Callable[..., Sums | None]

WAYS: dict[str, Way] = {"implicit": implicit, "stacked": stacked}
NAMES = ("auto", "sequential", *sorted(WAYS))


def chosen(way: str, net: Net, algorithm: Algorithm, local: Local, n_rows: int, device: str) -> str:
    """Which way a training takes: a function of what is trained and how, never of engine or workers.

    Parameters
    ----------
    way : str
        ``"auto"``, or the way that was asked for.
    net : Net
        What is trained.
    algorithm : Algorithm
        How.
    local : Local
        What nodes do between exchanges.
    n_rows : int
        Rows of a typical node.
    device : str
        Where it is computed.

    Returns
    -------
    str

    Raises
    ------
    UnknownName
        If there is no such way.
    """
    if way not in NAMES:
        raise UnknownName(explain(f"there is no way {way!r} to compute local training", hint=closest(way, NAMES)))
    if way != "auto":
        return way
    if algorithm.in_place and pays(net, local, n_rows):
        return "implicit"
    return "stacked" if device != "cpu" and algorithm.in_place else "sequential"


def together(way: str, net: Net, local: Local, n_rows: int, n: int) -> int:
    """How many of n nodes are computed at once: enough of them to pay, and enough blocks to keep workers busy.

    Parameters
    ----------
    way : str
        How they are computed.
    net : Net
        What is trained.
    local : Local
        What nodes do between exchanges.
    n_rows : int
        Rows of a typical node.
    n : int
        Nodes asked in a round.

    Returns
    -------
    int
        The most nodes of a block.
    """
    if way == "sequential":
        blocks = 32 if n >= 16 else 4
    else:
        shown = n_steps(local, n_rows) * min(local.batch_size or n_rows, n_rows)
        blocks = 2 if n // 4 * shown * net.layout[-1].stop < _WORTH else 4
    return max(1, min(-(-n // blocks), 64))


_WORTH = 1 << 25
"""Rows times parameters below which a block is not worth what it costs besides its arithmetic."""
