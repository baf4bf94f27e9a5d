"""The agent: asks the coordinator for work, answers one task after the other, and never gives up.

One thread polls, so that the coordinator sees that the node is here even while it computes; another answers. Both try
again for ever when the coordinator cannot be reached. A task is in the coordinator's list until it is answered, so an
agent that is killed anywhere is given it again, and comes to the same answer.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import platform
import queue
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from atoll.silo import errors
from atoll.silo.api import BEAT, Ack, Assignment, DataSet, Done, Hello, Named, Refusal, Work
from atoll.silo.client import Client, Closed
from atoll.silo.durable import reached
from atoll.silo.errors import SiloError
from atoll.silo.files import private_folder
from atoll.silo.node.answering import Answer, Answerer
from atoll.silo.node.check import Me
from atoll.silo.node.folder import Folder
from atoll.silo.node.lean import load_worker
from atoll.silo.node.memory import tidy
from atoll.silo.tasks import Blob

__all__ = ["DIRECT", "Agent", "Coordinator", "versions"]

T = TypeVar("T")

DIRECT = 1 << 20
"""Bytes up to which an answer is sent as it is; a larger one is uploaded first."""

_POLL = 110.0
_LONGEST = 2.5
_PATIENCE = 2.0
_LARGE = 1 << 26
_MOST = 900
_AGAIN = 5.0
"""Seconds until an answer that was refused for no good reason is tried again, the second time twice as many …"""

_NOT_NOW = (errors.Unreachable, errors.Unavailable, errors.Rate, errors.Internal, errors.Clock)
_FATAL = (
    errors.Revoked,
    errors.Unauthenticated,
    errors.Forbidden,
    errors.Version,
    errors.Proof,
    errors.WrongCertificate,
)
_PACKAGES = ("atoll", "numpy", "scipy", "scikit-learn")


class Coordinator(Protocol):
    """What the agent needs of `atoll.silo.client.Client`."""

    def get(self, path: str, kind: type[T], *, wait: float | None = None, beat: float = 0.0) -> T:
        """Ask."""

    def post(self, path: str, kind: type[T], body: object = None, headers: Any = None) -> T:
        """Tell."""

    def upload(self, data: Any, blob: Blob | None = None) -> Blob:
        """Bring bytes."""

    def download(self, blob: Blob, path: Any = None) -> memoryview:
        """Fetch bytes."""

    def close(self) -> None:
        """End what waits."""


class Agent:
    """The agent of one node.

    Parameters
    ----------
    folder : Folder
        Of the node.
    client : Coordinator, optional
        How the coordinator is asked; by default with the profile in the folder.
    say : callable, optional
        Is told, line by line, what a person should know.
    clock : callable, optional
        Unix seconds.
    grace : float, default=10.0
        Seconds for the task in hand, and for the poll, when the agent ends.

    Attributes
    ----------
    busy : bool
        Whether a thread still computed or connected when `run` ended; a task in hand is asked again at the next start.

    Raises
    ------
    SiloError
        If the folder cannot be used.
    """

    def __init__(
        self,
        folder: Folder,
        client: Coordinator | None = None,
        *,
        say: Callable[[str], None] = print,
        clock: Callable[[], float] = time.time,
        grace: float = 10.0,
    ) -> None:
        profile = folder.profile
        self._grace = grace
        self._folder, self._say = folder, say
        self._client: Coordinator = client if client is not None else Client(profile, patience=_PATIENCE)
        self._url, self._name = profile.url, profile.name
        self._beat = BEAT if profile.certificate else 0.0  # a proxy in between keeps such lines to itself
        self.answerer = Answerer(folder, Me(profile.name, profile.federation), clock)
        self._stop = threading.Event()
        self._ends: queue.SimpleQueue[None] = queue.SimpleQueue()  # a signal handler may put into it at any time
        self.busy = False
        self._queue: queue.Queue[Assignment | None] = queue.Queue()
        self._have: dict[tuple[str, int], bool] = {}
        self._later: dict[tuple[str, int], tuple[float, float]] = {}  # from when on, and the pause before that
        self._lost = False
        self._fatal: Exception | None = None

    def run(self) -> None:
        """Answer until `stop` is called.

        Raises
        ------
        Revoked, Unauthenticated, Version, …
            When the coordinator does not want this node any more: trying again would be of no use.
        """
        self.answerer.log.append("started", name=self._name, url=self._url, versions=versions(), process=os.getpid())
        self.answerer.policy()
        tidy(self._folder / "memory")
        poll = threading.Thread(target=self._guarded, args=(self._poll,), name="atoll-node-poll", daemon=True)
        work = threading.Thread(target=self._guarded, args=(self._work,), name="atoll-node-work", daemon=True)
        poll.start()
        work.start()
        try:
            self._ends.get()
        finally:
            self._stop.set()
            self._queue.put(None)
            work.join(self._grace)
            self._client.close()
            poll.join(self._grace)
            self.busy = work.is_alive() or poll.is_alive()
            with contextlib.suppress(errors.DiskFull):
                self.answerer.log.append("stopped", reason=str(self._fatal or ""))
            self.answerer.log.close()
        if self._fatal is not None:
            raise self._fatal

    def stop(self) -> None:
        """End after the task in hand, or when grace ends; may be called from a signal handler."""
        self._ends.put(None)

    def _guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except Closed:
            self.stop()
        except BaseException as error:
            if not self._stop.is_set():  # afterwards everything is closed under whoever still works
                self._fatal = self._fatal or (error if isinstance(error, Exception) else RuntimeError(repr(error)))
            self.stop()

    def _poll(self) -> None:
        told: object = None
        while not self._stop.is_set():
            sources = self._patiently(self.answerer.sources)
            if sources is not None and sources != told:
                self._for_ever(lambda s=sources: self._hello(s), insist=True)  # type: ignore[misc]
                told = sources
            self._release()
            have = ",".join(f"{exchange}/{position}" for exchange, position in list(self._have)[:_MOST])
            path = f"/v1/work?have={have}" if have else "/v1/work"
            work = self._for_ever(lambda p=path: self._work_of(p), insist=True)  # type: ignore[misc]
            for assignment in work.tasks if work is not None else ():
                key = (assignment.exchange, assignment.position)
                if key not in self._have:
                    self._have[key] = True
                    self._queue.put(assignment)

    def _work_of(self, path: str) -> Work:
        return self._client.get(path, Work, wait=_POLL, beat=self._beat)

    def _patiently(self, ask: Callable[[], T]) -> T | None:
        """What a file of the owner's says; None, and a line, where it cannot be read just now."""
        try:
            return ask()
        except SiloError as error:
            self._tell(f"{error}")
            return None

    def _hello(self, sources: Any) -> None:
        data = tuple(self._described(name, source.show) for name, source in sources.items())
        body = Hello(versions=versions(), data=data)
        self.answerer.log.append("hello", data=[d.name for d in data if d.rows is None], shown=_shown(data))
        self._client.post("/v1/hello", Done, body)

    def _described(self, name: str, show: bool) -> DataSet:
        if not show:
            return DataSet(name=name)
        try:
            shard = self.answerer.held(name).shard
        except Exception as error:
            self._say(f"data set {name!r} cannot be read: {error}")
            return DataSet(name=name)
        return DataSet(name=name, rows=shard.n_rows, columns=shard.feature_names)

    def _work(self) -> None:
        if self.answerer.policy().rules:  # somebody will ask; a node that allows nothing stays small
            load_worker()
        while (assignment := self._queue.get()) is not None and not self._stop.is_set():
            key = (assignment.exchange, assignment.position)
            if self._handled(assignment):
                self._have.pop(key, None)
                self._later.pop(key, None)
            else:
                pause = min(2 * self._later[key][1], 600.0) if key in self._later else _AGAIN
                self._later[key] = time.monotonic() + pause, pause
            for known in (self._have, self._later):
                while len(known) > _MOST:
                    known.pop(next(iter(known)), None)

    def _handled(self, a: Assignment) -> bool:
        """Whether a task is done with; if not, it is asked for again after a pause."""
        answer = self._for_ever(lambda: self.answerer.answer(a, self._fetch), insist=True)
        if answer is None:
            return True
        try:
            ack = self._for_ever(lambda: self._send(a, answer))
        except _FATAL:
            raise
        except SiloError as error:
            self.answerer.log.append("undelivered", exchange=a.exchange, position=a.position, code=error.code)
            if not isinstance(error, errors.Contract):
                self._say(f"an answer was not accepted: {error}")
            return isinstance(error, errors.Contract)
        reached("node.answer.sent")
        if ack is not None and ack.state in ("late", "closed"):
            self.answerer.log.append("uncounted", exchange=a.exchange, position=a.position, state=ack.state)
        return True

    def _release(self) -> None:
        """Ask again for the tasks whose pause is over."""
        now = time.monotonic()
        for key, (due, pause) in list(self._later.items()):
            if due <= now:
                self._later[key] = math.inf, pause
                self._have.pop(key, None)

    def _fetch(self, blob: Blob) -> memoryview:
        """The bytes of a blob; large ones lie in a file without a name."""
        if blob.size <= _LARGE:
            return self._client.download(blob)
        path: Path = private_folder(self._folder / "incoming") / blob.digest
        try:
            return self._client.download(blob, path)
        finally:
            path.unlink(missing_ok=True)

    def _send(self, a: Assignment, answer: Answer) -> Ack:
        path = f"/v1/answers/{a.exchange}/{a.position}"
        if answer.frames is None:
            body: Refusal | None = answer.refusal
            return self._client.post(path, Ack, body, {"Atoll-Body": "refusal"})
        if sum(part.nbytes for part in answer.frames) <= DIRECT:
            return self._client.post(path, Ack, answer.frames)
        blob = self._client.upload(answer.frames, answer.blob)
        reached("node.answer.uploaded")
        return self._client.post(path, Ack, Named(blob=blob), {"Atoll-Body": "named"})

    def _for_ever(self, ask: Callable[[], T], *, insist: bool = False) -> T | None:
        """What a request comes to, tried again for as long as the coordinator is away; None when the agent ends.

        With `insist`, whatever it is refused for does not end it, but for what will not change.
        """
        pause = 0.1
        while not self._stop.is_set():
            try:
                found = ask()
            except SiloError as error:
                if isinstance(error, _FATAL) or not (insist or isinstance(error, _NOT_NOW)):
                    raise
                self._is_lost(error)
            else:
                if self._lost:
                    self._lost = False
                    self._say(f"connected to {self._url} again")
                return found
            self._stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that nodes do not come all at once
            pause = min(2 * pause, _LONGEST)
        return None

    def _is_lost(self, error: SiloError) -> None:
        if not self._lost:
            self._lost = True
            away = isinstance(error, errors.Unreachable | errors.Unavailable)
            what = f"no connection to {self._url}" if away else str(error).partition("\n")[0]
            self._say(f"{what}; trying again until it works")

    def _tell(self, line: str) -> None:
        self._say(line)
        self._stop.wait(5.0)


def _shown(data: tuple[DataSet, ...]) -> dict[str, Any]:
    return {d.name: {"rows": d.rows, "columns": list(d.columns or ())} for d in data if d.rows is not None}


def versions() -> dict[str, str]:
    """What this node runs on; packages are looked up, not imported."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
