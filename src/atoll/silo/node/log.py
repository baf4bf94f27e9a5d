"""The owner's log: every decision and every byte that left, one line each, chained by hashes.

A line is a JSON object whose last two fields are ``before``, the hash of the line before (64 zeros for the first), and
``hash``: the SHA-256, in hexadecimal digits, of all bytes of the line before ``,"hash":``. So no line can be changed,
taken out or put in unnoticed, but by writing every line after it anew; and a small file beside the log (``log.head``)
knows how many lines there were, so that the last ones are not missing unnoticed either.

Lines are synced to disk before anything that they tell of leaves the machine. Several processes may append.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from atoll.errors import explain
from atoll.silo.durable import reached
from atoll.silo.errors import ChainBroken, DiskFull

__all__ = ["FIRST", "Log", "Verified", "backwards", "entries", "seconds", "verify"]

FIRST = "0" * 64
_KEY = b',"hash":"'
_SUFFIX = len(_KEY) + 64 + len(b'"}\n')
_HEAD = 20 + 1 + 64 + 1
_BLOCK = 1 << 16


class Verified(NamedTuple):
    """What came of looking at a whole log.

    Attributes
    ----------
    entries : int
        Lines that are sound.
    last : str
        Hash of the last one: whoever keeps it elsewhere can tell later that nothing before it was changed.
    notes : tuple of str
        What a person should know: a line that was cut by a loss of power.
    """

    entries: int
    last: str
    notes: tuple[str, ...]


class Log:
    """A log that is appended to.

    Parameters
    ----------
    path : path-like
        The file; made when missing. A last line that a kill cut short is taken off, and that is noted.
    clock : callable, optional
        Unix seconds.

    Raises
    ------
    ChainBroken
        If its last line is whole, and not what was written.
    DiskFull
        If there is no room for the first line.
    """

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float] = time.time) -> None:
        self.path, self._clock = Path(path), clock
        self._lock = threading.Lock()
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._head = os.open(_head_of(self.path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size, self._number, self._last = 0, -1, FIRST
        with self._alone():
            cut = self._repair()
            self._catch_up()
            known, own = _known(self._head), self._number
        if cut:
            self.append("repaired", what="the last line was cut short by a kill and is taken off", bytes=cut)
        if known is not None and known[0] > own:
            self.append(
                "shortened", what=f"the log had {known[0] + 1} entries once, and only {own + 1} when this began"
            )

    def append(self, event: str, **facts: Any) -> dict[str, Any]:
        """Write one line, and return when it is on disk.

        Parameters
        ----------
        event : str
            What happened, one word: ``answered``, ``refused``, …
        **facts
            Plain values.

        Returns
        -------
        dict
            The line.

        Raises
        ------
        DiskFull
            If there is no room; the log is as it was.
        """
        with self._alone():
            self._catch_up()
            entry = {"n": self._number + 1, "time": _text(self._clock()), "event": event, **facts, "before": self._last}
            line, own = _written(entry)
            try:
                _write(self._file, line)
                os.fsync(self._file)
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._size)
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise DiskFull(
                        explain("there is no room for the log, so nothing leaves", where=self.path)
                    ) from None
                raise
            self._size, self._number, self._last = self._size + len(line), self._number + 1, own
            with contextlib.suppress(OSError):
                os.pwrite(self._head, f"{self._number:020d} {own}\n".encode(), 0)
        reached(f"node.log.{event}")
        return {**entry, "hash": own}

    def close(self) -> None:
        """Close the files; may be called twice."""
        with self._lock:
            for descriptor in (self._file, self._head):
                if descriptor >= 0:
                    os.close(descriptor)
            self._file = self._head = -1

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other thread or process appends meanwhile."""
        with self._lock:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _repair(self) -> int:
        """Take a last line off that does not end; returns its bytes."""
        size, end = os.fstat(self._file).st_size, _end(self._file)
        if end < size:
            os.ftruncate(self._file, end)
            os.fsync(self._file)
        return size - end

    def _catch_up(self) -> None:
        """See what others have appended: the number and the hash of the last line."""
        size = os.fstat(self._file).st_size
        if size == self._size:
            return
        self._size, self._number, self._last = size, -1, FIRST
        if size:
            line = next(backwards(self.path))
            entry = _read(line)
            if entry is None:
                where = f"{self.path}, its last line"
                raise ChainBroken(explain("the log does not end with what was written", got=line[:80], where=where))
            self._number, self._last = entry["n"], entry["hash"]


def _written(entry: dict[str, Any]) -> tuple[bytes, str]:
    body = msgspec.json.encode(entry)[:-1]
    own = hashlib.sha256(body).hexdigest()
    return body + _KEY + own.encode() + b'"}\n', own


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _read(line: bytes) -> dict[str, Any] | None:
    """What a line says; None if it is not as it was written."""
    body, suffix = line[:-_SUFFIX], line[-_SUFFIX:]
    if len(line) <= _SUFFIX or not (suffix.startswith(_KEY) and suffix.endswith(b'"}\n')):
        return None
    if hashlib.sha256(body).hexdigest().encode() != suffix[len(_KEY) : -3]:
        return None
    try:
        entry = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("n"), int) else None


def _head_of(path: Path) -> Path:
    return path.with_suffix(".head")


def _known(head: int) -> tuple[int, str] | None:
    """The number and hash of the last line that is known to have been written."""
    text = os.pread(head, _HEAD, 0)
    try:
        number, own = text.decode("ascii").split()
        return (int(number), own) if len(text) == _HEAD else None
    except ValueError:
        return None


def _text(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(entry: dict[str, Any]) -> float:
    """When an entry was written, in Unix seconds; 0 if it does not say."""
    try:
        return datetime.fromisoformat(entry["time"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return 0.0


def backwards(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The lines of a file from the last one on, each with its line end; a last line without one is passed over."""
    with open(path, "rb") as file:
        at, tail = _end(file.fileno()), b""
        while at > 0:
            start = max(at - _BLOCK, 0)
            lines = (os.pread(file.fileno(), at - start, start) + tail).split(b"\n")[:-1]
            first = lines.pop(0) + b"\n"
            yield from (line + b"\n" for line in reversed(lines))
            at, tail = start, first
        if tail:
            yield tail


def _end(file: int) -> int:
    """Where the last line that ends does."""
    at = os.fstat(file).st_size
    while at > 0:
        start = max(at - _BLOCK, 0)
        found = os.pread(file, at - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return 0


def entries(path: str | os.PathLike[str], since: float = 0.0) -> Iterator[dict[str, Any]]:
    """What a log says, the newest entry first, as far back as some time; lines that are broken are passed over.

    Parameters
    ----------
    path : path-like
        The file; nothing if there is none.
    since : float
        Unix seconds.

    Yields
    ------
    dict
    """
    if not os.path.exists(path):
        return
    for line in backwards(path):
        entry = _read(line)
        if entry is None:
            continue
        if seconds(entry) < since:
            return
        yield entry


def verify(path: str | os.PathLike[str]) -> Verified:
    """Look at every line of a log.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    Verified

    Raises
    ------
    ChainBroken
        Where a line was changed, taken out or put in; names the first such line.
    """
    number, last, notes, where = -1, FIRST, [], Path(path)
    known, hashes = None, {}
    with contextlib.suppress(FileNotFoundError), open(_head_of(where), "rb") as head:
        known = _known(head.fileno())
    with open(path, "rb") as file:
        for at, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                notes.append(f"line {at} was cut short by a kill; the next start takes it off")
                break
            entry = _read(line)
            if entry is None:
                raise _broken("a line is not as it was written", where, at)
            if entry["n"] != number + 1 or entry.get("before") != last:
                raise _broken("a line does not follow the one before it", where, at)
            number, last = entry["n"], entry["hash"]
            if known is not None and known[0] == number:
                hashes[number] = last
            if entry["event"] in ("repaired", "shortened"):
                notes.append(f"line {at}: {entry.get('what', entry['event'])}")
    if known is not None and hashes.get(known[0]) != known[1]:
        raise _broken(f"the log once had {known[0] + 1} entries that end otherwise", where, number + 2)
    return Verified(number + 1, last, tuple(notes))


def _broken(what: str, path: Path, line: int) -> ChainBroken:
    return ChainBroken(explain(what, where=f"{path}, line {line}", hint="compare it with the last backup of the file"))
