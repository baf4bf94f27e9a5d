"""Where nodes run.

Live engines belong to the process: they start at first use, are shared by all federations that name them alike, and end
with the process. Others plug in through the entry-point group ``atoll.engines``.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from atoll.engines.base import Done, Engine, Pending, Remote, Reporting, engines
from atoll.engines.inprocess import InProcess
from atoll.errors import MissingExtra, explain

__all__ = [
    "Done",
    "Engine",
    "InProcess",
    "Pending",
    "Remote",
    "Reporting",
    "close_all",
    "engines",
    "find",
    "live",
]


@engines.register("processes")
def _processes(n_workers: int | None) -> Engine:
    from atoll.engines.processes import make  # with subprocesses, sockets and the wire format, once they are wanted

    return make(n_workers)


_SILOS = "silos"  # a plug-in that Atoll itself brings
_lock = threading.Lock()
_live: dict[tuple[str, int | None], Engine] = {}


def live(name: str, n_workers: int | None = None) -> Engine:
    """The running engine of this name, started now if it is not.

    Parameters
    ----------
    name : str
        ``inprocess``, ``processes``, or what an installed plug-in registers.
    n_workers : int, optional
        Workers, where the engine has any; None: one per core.

    Raises
    ------
    UnknownName
        With the nearest names.
    """
    make = find(name)
    with _lock:
        engine = _live.get((name, n_workers))
        if engine is None:
            engine = _live[name, n_workers] = make(n_workers)
        return engine


def find(name: str) -> Callable[[int | None], Engine]:
    """What makes the engine of this name; nothing is started.

    Raises
    ------
    UnknownName
        With the nearest names.
    MissingExtra
        If it needs a package that is not installed.
    """
    if name in engines:
        return engines[name]
    for entry in entry_points(group="atoll.engines"):
        if entry.name == name:
            return engines.add(name, _loaded(entry))
    if name == _SILOS:
        hint = "install atoll again: pip install 'atoll[silo]', or in a checkout make setup"
        raise MissingExtra(explain("this installation does not know how to reach silos", hint=hint))
    return engines[name]


def _loaded(entry: EntryPoint) -> Callable[[int | None], Engine]:
    try:
        make: Callable[[int | None], Engine] = entry.load()
    except ImportError as error:
        hint = "pip install 'atoll[silo]'" if entry.value.startswith("atoll.") else None
        what = f"engine {entry.name!r} needs a package that is not installed"
        raise MissingExtra(explain(what, got=error, hint=hint)) from None
    return make


@atexit.register
def close_all() -> None:
    """End every running engine; the next use starts a new one."""
    with _lock:
        running = list(_live.values())
        _live.clear()
    for engine in running:
        engine.close()


def _forget() -> None:
    """After a fork: the workers belong to the parent."""
    _live.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
