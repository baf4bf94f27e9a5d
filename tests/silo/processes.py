"""A federation of real processes: a coordinator, nodes with files of their own, and somebody who asks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from atoll.silo import api
from atoll.silo.client import Client
from atoll.silo.home import Profile
from atoll.silo.joining import join
from atoll.silo.node.join import join as become_node
from atoll.silo.node.join import read_allowance
from atoll.silo.node.sources import parse

__all__ = ["Site", "asked", "atoll", "began", "coordinator", "federation", "here", "invited", "node"]

T = TypeVar("T")
_SECONDS = 30.0


class Site(NamedTuple):
    """Where a federation is.

    Attributes
    ----------
    url : str
        Of the coordinator.
    home : Path
        Of logins and nodes; to be in ``ATOLL_HOME``.
    folder : Path
        Of the coordinator.
    processes : dict of str to Popen
        By name; ``coordinator`` is one.
    """

    url: str
    home: Path
    folder: Path
    processes: dict[str, subprocess.Popen[str]]


def _environment(home: Path) -> dict[str, str]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "ATOLL_HOME": str(home), "PYTHONUNBUFFERED": "1"}


def atoll(home: Path, *words: str, status: int = 0) -> str:
    """Run a command to its end; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "atoll", *words], env=_environment(home), capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout if not status else done.stderr


def began(home: Path, log: Path, *words: str) -> subprocess.Popen[str]:
    """Start a command that goes on; what it says goes into a file."""
    with open(log, "a") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "atoll", *words], env=_environment(home), stdout=file, stderr=file, text=True
        )  # fmt: skip


def _said(log: Path, pattern: str, process: subprocess.Popen[str]) -> str:
    """Wait for a process to say something."""
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        found = re.search(pattern, log.read_text())
        if found:
            return found[1]
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    raise AssertionError(f"{pattern} was not said: {log.read_text()}")


def _ended(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def coordinator(place: Path, *words: str) -> Iterator[Site]:
    """A coordinator in a process of its own, at any free port."""
    home, folder, log = place / "home", place / "coordinator", place / "coordinator.log"
    home.mkdir(parents=True, exist_ok=True)
    log.touch()
    process = began(home, log, "coordinator", "start", str(folder), "--port", "0", *words)
    try:
        yield Site(_said(log, r"(https://[\w.\-]+:\d+)", process), home, folder, {"coordinator": process})
    finally:
        _ended(process)


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


def node(site: Site, name: str, data: str, allow: Sequence[str] = ("ada:*:*",)) -> None:
    """Join as a node, and begin to answer."""
    what, source = parse(data)
    rules = [read_allowance(word) for word in allow]
    where = site.home / "nodes" / name
    become_node(site.url, invited(site, name, "node"), {what: source}, folder=where, allow=rules)
    site.processes[name] = began(site.home, site.home / f"{name}.log", "node", "run", str(where))


def here(site: Site, names: Iterable[str]) -> None:
    """Wait until nodes have said what they offer."""
    until, missing = time.monotonic() + _SECONDS, set(names)
    while missing:
        assert time.monotonic() < until, f"not here: {missing}"
        found = asked(site, lambda client: client.get("/v1/nodes", list[api.NodeStatus]))
        missing -= {status.name for status in found if status.state == "here" and status.data}
        time.sleep(0.05)


@contextmanager
def federation(place: Path, files: Mapping[str, str], *words: str) -> Iterator[Site]:
    """A coordinator, a node per file, and a researcher named ada who is logged in."""
    with ExitStack() as stack:
        site = stack.enter_context(coordinator(place, *words))
        join(invited(site, "ada", "researcher"), url=site.url, home=site.home)
        for name, data in files.items():
            node(site, name, data)
            stack.callback(_ended, site.processes[name])
        here(site, files)
        yield site
