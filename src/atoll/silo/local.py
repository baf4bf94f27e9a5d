"""A federation of real processes on this machine: a coordinator, nodes with files of their own, and somebody who asks.

For a first look and for tests; what the processes do is what they would do on machines far apart.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from atoll.errors import explain
from atoll.silo import api
from atoll.silo.client import Client
from atoll.silo.errors import Unavailable
from atoll.silo.home import Profile
from atoll.silo.joining import join
from atoll.silo.node.join import join as become_node
from atoll.silo.node.join import read_allowance
from atoll.silo.node.sources import parse

__all__ = ["Site", "asked", "began", "coordinator", "environment", "federation", "here", "invited", "node"]

T = TypeVar("T")
_SECONDS = 60.0
_LOOK = 0.02


class Site(NamedTuple):
    """Where a federation is.

    Attributes
    ----------
    url : str
        Of the coordinator.
    home : Path
        Of logins and nodes.
    folder : Path
        Of the coordinator.
    processes : dict of str to Popen
        By name; ``coordinator`` is one.
    """

    url: str
    home: Path
    folder: Path
    processes: dict[str, subprocess.Popen[str]]


def environment(home: Path) -> dict[str, str]:
    """What the processes of a federation are started with; several share the cores, so each has one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "ATOLL_HOME": str(home), "PYTHONUNBUFFERED": "1"}


def began(home: Path, log: Path, *words: str) -> subprocess.Popen[str]:
    """Start a command that goes on; what it says goes into a file."""
    with open(log, "a") as file:
        command = [sys.executable, "-m", "atoll", *words]
        return subprocess.Popen(command, env=environment(home), stdout=file, stderr=file, text=True)


@contextmanager
def coordinator(place: Path, *words: str) -> Iterator[Site]:
    """A coordinator in a process of its own, at any free port; it is ended with the context.

    Parameters
    ----------
    place : Path
        Folder for everything; made when missing.
    *words : str
        Further options of ``atoll coordinator start``.

    Raises
    ------
    Unavailable
        If it does not come up; what it said is in the message.
    """
    home, folder, log = place / "home", place / "coordinator", place / "coordinator.log"
    home.mkdir(parents=True, exist_ok=True)
    (folder / "address").unlink(missing_ok=True)
    process = began(home, log, "coordinator", "start", str(folder), "--port", "0", *words)
    try:
        url = _address(folder / "address", process, log)
        yield Site(url, home, folder, {"coordinator": process})
    finally:
        _end(process)


def asked(site: Site, ask: Callable[[Client], T]) -> T:
    """Ask the coordinator as its admin."""
    client = Client(Profile(site.folder / "admin"), patience=_SECONDS)
    try:
        return ask(client)
    finally:
        client.close()


def invited(site: Site, name: str, role: api.Role) -> str:
    """A token for somebody."""
    told = api.Invite(name=name, role=role)
    return asked(site, lambda client: client.post("/v1/invites", api.Invitation, told)).token


def node(site: Site, name: str, data: str, allow: Sequence[str]) -> None:
    """Join as a node in this process, and begin to answer in another.

    Parameters
    ----------
    site : Site
        The federation.
    name : str
        Of the node.
    data : str
        As for ``atoll node join --data``.
    allow : sequence of str
        As for ``atoll node join --allow``.
    """
    what, source = parse(data)
    where = site.home / "nodes" / name
    rules = [read_allowance(words) for words in allow]
    become_node(site.url, invited(site, name, "node"), {what: source}, folder=where, allow=rules)
    site.processes[name] = began(site.home, site.home / f"{name}.log", "node", "run", str(where))


def here(site: Site, names: Iterable[str]) -> None:
    """Wait until nodes have said what they offer.

    Raises
    ------
    Unavailable
        If one does not.
    """
    until, missing = time.monotonic() + _SECONDS, set(names)
    while missing:
        found = asked(site, lambda client: client.get("/v1/nodes", list[api.NodeStatus]))
        missing -= {status.name for status in found if status.state == "here" and status.data}
        if missing and time.monotonic() > until:
            raise Unavailable(explain("nodes do not come up", got=", ".join(sorted(missing)), where=site.home))
        time.sleep(_LOOK)


@contextmanager
def federation(place: Path, files: Mapping[str, str], *words: str, allow: Sequence[str] = ()) -> Iterator[Site]:
    """A coordinator, a node per file, and a researcher named ada who is logged in.

    Parameters
    ----------
    place : Path
        Folder for everything.
    files : mapping of str to str
        Node name to its data, as for ``atoll node join --data``.
    *words : str
        Further options of ``atoll coordinator start``.
    allow : sequence of str, optional
        What nodes allow, as for ``atoll node join --allow``; by default everything that ada asks.
    """
    with ExitStack() as stack:
        site = stack.enter_context(coordinator(place, *words))
        join(invited(site, "ada", "researcher"), url=site.url, home=site.home)
        stack.callback(lambda: _end(*[process for name, process in site.processes.items() if name != "coordinator"]))
        for name, data in files.items():
            node(site, name, data, allow or ("ada:*:*",))
        here(site, files)
        yield site


def _address(file: Path, process: subprocess.Popen[str], log: Path) -> str:
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until and process.poll() is None:
        if file.exists() and (url := file.read_text().strip()):
            return url
        time.sleep(_LOOK)
    raise Unavailable(explain("the coordinator does not come up", got=log.read_text()[-2000:], where=log))


def _end(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
