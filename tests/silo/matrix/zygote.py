"""One process that has imported everything and forks the others: so each of them begins in milliseconds, not seconds.

It reads requests from its standard input, a line of JSON each, and writes what became of them to its standard output:
``{"ready": true}``, ``{"began": NUMBER, "pid": …}`` and ``{"ended": PID, "status": …}``, negative for a signal. Whoever
was forked is killed with it, and it ends when its standard input does.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import random
import selectors
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Ended", "Life", "Zygote", "main"]

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_TESTS = Path(__file__).parents[2]


class Life(NamedTuple):
    """One process that is to be.

    Attributes
    ----------
    role : str
        Of `silo.matrix.roles.ROLES`.
    name : str
        Whose life it is: ``"coordinator"``, ``"driver"``, the name of a node.
    words : list of str
        What the role is told.
    home : str
        ``$ATOLL_HOME``.
    steps, log : str
        Files that are appended to: the steps that it reaches, and what it says.
    kill : (str, int) or None
        At which step it is killed, and at which time that this is reached.
    slow : (str, float) or None
        At which step it rests, whenever it reaches it, and for how many seconds.
    """

    role: str
    name: str
    words: list[str]
    home: str
    steps: str
    log: str
    kill: tuple[str, int] | None = None
    slow: tuple[str, float] | None = None


class Ended(NamedTuple):
    """A process that has ended; `status` is negative for a signal."""

    pid: int
    status: int


class Zygote:
    """The process, seen from a test; it ends with the context."""

    def __init__(self) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        path = os.pathsep.join([str(_TESTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "silo.matrix.zygote"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, **threads, "PYTHONPATH": path},
        )  # fmt: skip
        self._number, self._ended = 0, []
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._rest = b""
        while {"ready": True} not in self._read(60.0):
            pass

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            assert self._process.stdout is not None
            self._process.stdout.close()

    def begin(self, life: Life) -> int:
        """Fork; returns the number of the process."""
        self._number += 1
        self._send({"begin": self._number, **life._asdict()})
        while True:
            for told in self._read(60.0):
                if told.get("began") == self._number:
                    return int(told["pid"])

    def ended(self, seconds: float) -> list[Ended]:
        """Who has ended since this was last asked; waits for somebody at most so long."""
        if not self._ended:
            self._read(seconds)
        found, self._ended = self._ended, []
        return found

    def _send(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()

    def _read(self, seconds: float) -> list[dict[str, Any]]:
        """What it has said; ends are kept for `ended`."""
        stream = self._process.stdout
        assert stream is not None
        with selectors.DefaultSelector() as ready:
            ready.register(stream, selectors.EVENT_READ)
            ready.select(seconds)
        data = stream.read()
        assert data != b"", "the zygote has died"
        *lines, self._rest = (self._rest + (data or b"")).split(b"\n")
        told = [json.loads(line) for line in lines]
        self._ended += [Ended(t["ended"], t["status"]) for t in told if "ended" in t]
        return told


def main() -> None:
    """What the zygote does."""
    from silo.matrix import roles  # everything heavy

    out = os.dup(1)
    os.dup2(2, 1)  # nobody else speaks there
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    gc.collect()
    gc.freeze()
    children: set[int] = set()
    rest = b""
    os.write(out, json.dumps({"ready": True}).encode() + b"\n")
    while True:
        with selectors.DefaultSelector() as ready:
            for descriptor in (0, wake):
                ready.register(descriptor, selectors.EVENT_READ)
            seen = {key.fd for key, _ in ready.select()}
        if wake in seen:
            os.read(wake, 1024)
            _reap(children, out)
        if 0 in seen:
            data = os.read(0, 1 << 16)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                children.add(_begun(json.loads(line), roles.ROLES, out))
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)


def _begun(told: dict[str, Any], roles: dict[str, Any], out: int) -> int:
    number = told.pop("begin")
    life = Life(**told)
    pid = os.fork()
    if not pid:
        _live(life, roles[life.role])
    os.write(out, json.dumps({"began": number, "pid": pid}).encode() + b"\n")
    return pid


def _reap(children: set[int], out: int) -> None:
    for pid in list(children):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            children.discard(pid)
            told = {"ended": pid, "status": os.waitstatus_to_exitcode(status)}
            os.write(out, json.dumps(told).encode() + b"\n")


def _live(life: Life, role: Any) -> None:
    """All of a life; does not return."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        log = os.open(life.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 64)
        random.seed()
        os.environ["ATOLL_HOME"] = life.home
        _watch(life)
        status = role(life.words) or 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _watch(life: Life) -> None:
    """Write every step down as it is reached; die at the one that is asked for."""
    from atoll.silo.durable import watch

    file = os.open(life.steps, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    pid, counts = os.getpid(), {}

    def reached(step: str) -> None:
        counts[step] = counts.get(step, 0) + 1
        last = life.kill is not None and (step, counts[step]) == tuple(life.kill)
        os.write(file, f"{time.monotonic():.3f} {pid} {life.name} {step}{' killed' if last else ''}\n".encode())
        if last:
            os.kill(pid, signal.SIGKILL)
        if life.slow is not None and step == life.slow[0]:
            time.sleep(life.slow[1])

    watch(reached)


if __name__ == "__main__":
    main()
