"""Processes of a federation, one of which is killed: whoever dies is started again, and nothing takes for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from silo.matrix.zygote import Life, Zygote

__all__ = ["Kill", "Stage"]

_READY = ("dashboard:", "end it with Ctrl-C")
_GAVE_UP = "the coordinator cannot be reached"  # what somebody reads who then types the command once more
_SECONDS = 240.0  # a machine may have other things to do


class Kill(NamedTuple):
    """Who is killed, at which step, and at which time that it is reached."""

    name: str
    step: str
    at: int


class _Known(NamedTuple):
    """A process that was begun, and how it is begun again."""

    pid: int
    role: str
    words: Callable[[], list[str]]
    slow: tuple[str, float] | None
    since: int


class Stage:
    """Processes in a folder, and the one death among them.

    Parameters
    ----------
    zygote : Zygote
        Forks them.
    place : Path
        An empty folder.
    tables : Path
        Where the rows of nodes lie.
    kill : Kill or None
        Who is killed, once.
    seed : int
        Of the pauses before processes begin.
    """

    def __init__(self, zygote: Zygote, place: Path, tables: Path, kill: Kill | None = None, seed: int = 0) -> None:
        self.place, self.tables, self.kill = place, tables, kill
        self.home, self.folder = place / "home", place / "coordinator"
        self.home.mkdir()
        self.died = False
        self._zygote, self._rng = zygote, np.random.default_rng(seed)
        self._running: dict[str, _Known] = {}
        self._until = time.monotonic() + _SECONDS

    def node(self, name: str) -> Path:
        """The folder of a node."""
        return self.place / "nodes" / name

    def begin(
        self, name: str, role: str, words: Callable[[], list[str]], slow: tuple[str, float] | None = None
    ) -> None:
        """Start a process, after a moment; `words` are asked again when it is started again.

        With `slow` it rests for some seconds whenever it reaches a step.
        """
        time.sleep(float(self._rng.uniform(0, 0.02)))
        kill = self.kill if self.kill is not None and self.kill.name == name and not self.died else None
        order, since = None if kill is None else (kill.step, kill.at), len(self.said(name))
        life = Life(role, name, words(), str(self.home), str(self.place / "steps"), str(self._log(name)), order, slow)
        self._running[name] = _Known(self._zygote.begin(life), role, words, slow, since)

    def until(self, what: Callable[[], bool]) -> None:
        """Wait for something; start again who is killed meanwhile.

        Raises
        ------
        AssertionError
            If it takes too long, or a process fails.
        """
        while not what():
            self._look()

    def done(self, name: str) -> None:
        """Wait until a process has ended well."""
        self.until(lambda: name not in self._running)

    def end(self, *names: str) -> None:
        """Have processes end in good order; one that is killed at that is begun again, and has to end again."""
        while left := [name for name in names if name in self._running]:
            self.until(lambda left=left: all(name not in self._running or self.ready(name) for name in left))  # type: ignore[misc]
            pids = {name: self._running[name].pid for name in left if name in self._running}
            self._signal(signal.SIGTERM, *pids)
            self.until(
                lambda p=pids: all(name not in self._running or self._running[name].pid != p[name] for name in p)
            )

    def ready(self, name: str) -> bool:
        """Whether a coordinator or a node that runs has said that it answers."""
        return name in self._running and any(word in self.said(name)[self._running[name].since :] for word in _READY)

    def stop(self) -> None:
        """Leave nobody behind."""
        self._signal(signal.SIGKILL, *self._running)
        while self._running and time.monotonic() < self._until + 30:
            gone = {end.pid for end in self._zygote.ended(1.0)}
            self._running = {name: known for name, known in self._running.items() if known.pid not in gone}

    def _signal(self, number: int, *names: str) -> None:
        for name in names:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and nobody has said so yet
                os.kill(self._running[name].pid, number)

    def steps(self) -> list[tuple[str, str]]:
        """Who has reached what, in order."""
        return [(name, step) for _, _, name, step, *_ in self._lines()]

    def killed(self) -> list[tuple[str, str]]:
        """Who was killed, and where."""
        return [(name, step) for _, _, name, step, *last in self._lines() if last]

    def reached(self, name: str, step: str) -> bool:
        """Whether somebody has reached a step."""
        return (name, step) in self.steps()

    def _lines(self) -> list[list[str]]:
        path = self.place / "steps"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def said(self, name: str) -> str:
        """What a process has said."""
        log = self._log(name)
        return log.read_text() if log.exists() else ""

    def _log(self, name: str) -> Path:
        return self.place / f"{name}.log"

    def _look(self) -> None:
        """See who has ended, and start again who was killed, or gave up since somebody else was."""
        assert time.monotonic() < self._until, f"it takes too long: {self._told()}"
        for pid, status in self._zygote.ended(0.02):
            name = next((name for name, known in self._running.items() if known.pid == pid), None)
            if name is None:
                continue
            known = self._running.pop(name)
            if status == -signal.SIGKILL and not self.died and self.kill is not None and name == self.kill.name:
                self.died = True
            elif status == 1 and _GAVE_UP in self.said(name)[-1000:]:
                assert self.died, f"{name} gave up: {self._told()}"
            else:
                assert status == 0, f"{name} ended with {status}: {self._told()}"
                continue
            self.begin(name, known.role, known.words, known.slow)

    def _told(self) -> str:
        logs = sorted(self.place.glob("*.log"))
        said = "\n".join(f"--- {log.stem}\n{log.read_text()[-1500:]}" for log in logs)
        return f"{self.kill}, {sorted(self._running)} go on, last steps {self.steps()[-8:]}\n{said}"
