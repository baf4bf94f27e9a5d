"""One SQLite file: opening it, transactions that many calls share, and what happens once they are on disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atoll.errors import explain
from atoll.silo import durable
from atoll.silo.broker.schema import MIGRATIONS, TABLES, VERSION
from atoll.silo.errors import Conflict, DiskFull, SiloError, Version

__all__ = ["Store", "full", "room"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_EVENTS = 50_000
_RESERVE = 1 << 26


def full(error: BaseException) -> DiskFull | None:
    """The error to raise if this one says that the disk is full."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return DiskFull(explain("the coordinator's disk is full", where=error.filename))
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return DiskFull(explain("the coordinator's disk is full", where="its database"))
    return None


def room(folder: Path, size: int) -> None:
    """Make sure that so many bytes fit on a disk, and some more, so that what is known can still be written down.

    Raises
    ------
    DiskFull
        If they do not.
    """
    free = shutil.disk_usage(folder).free
    if free < size + _RESERVE:
        raise DiskFull(explain("the coordinator's disk has no room", got=f"{free} bytes free", expected=size))


class Store:
    """The database of a broker, and its transactions.

    Parameters
    ----------
    folder : Path
        Exists; only one store at a time may have it open.
    clock : callable
        Unix seconds.

    Raises
    ------
    Conflict
        If another process has it open.
    Version
        If a newer version wrote it.
    """

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self.folder, self._clock = folder, clock
        self.changes: set[str] = set()
        self._topics: list[str] = []
        self._steps: list[str] = []
        self._after: list[Callable[[], None]] = []
        self._batch = self._doomed = False
        self._lock = _locked(folder / "lock")
        try:
            self._db = _opened(folder / "broker.sqlite3")
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Close the database; what was committed is on disk already."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Everything within is one transaction, committed (and synced to disk) at its end; topics appear then.

        Raises
        ------
        DiskFull
            At its end, or from any call within: nothing of the batch was kept.
        """
        if self._batch:
            raise RuntimeError("a batch within a batch")
        self._batch, self._doomed = True, False
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            if self._doomed:
                raise DiskFull(explain("the coordinator's disk is full", where="its database"))
            self._db.execute("COMMIT")
        except BaseException as error:
            self._undo()
            if (told := full(error)) is not None:
                raise told from error
            raise
        finally:
            self._batch = False
        self._committed()

    def _undo(self) -> None:
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
        self._topics, self._steps, self._after = [], [], []
        self._forget(whole=True)

    def _committed(self) -> None:
        """What a commit sets free: topics, files that nobody needs any more, and word of every step."""
        topics, steps, after = self._topics, self._steps, self._after
        self._topics, self._steps, self._after = [], [], []
        self.changes.update(topics)
        for step in dict.fromkeys(steps):
            durable.reached(f"coordinator.{step}")
        for act in after:
            act()

    @contextmanager
    def _writing(self, step: str = "") -> Iterator[None]:
        """One call: all of it or nothing, in a transaction of its own or within that of a batch."""
        if not self._batch:
            with self.batch():
                yield
                self._steps += [step] if step else []
            return
        if self._doomed:
            raise DiskFull(explain("the coordinator's disk is full", where="its database"))
        marks = len(self._topics), len(self._steps), len(self._after)
        self._db.execute("SAVEPOINT one")
        try:
            yield
        except BaseException as error:
            self._take_back(marks)
            if (told := full(error)) is not None:
                raise told from error
            raise
        self._db.execute("RELEASE one")
        self._steps += [step] if step else []

    def _take_back(self, marks: tuple[int, int, int]) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK TO one")
            self._db.execute("RELEASE one")
        else:  # SQLite ended the whole transaction: there is no room, or no disk
            self._doomed = True
        del self._topics[marks[0] :], self._steps[marks[1] :], self._after[marks[2] :]
        self._forget()

    def _forget(self, *, whole: bool = False) -> None:
        """Drop what is only remembered, since it may be of a call that was undone, or of a whole batch."""

    def _run(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return self._db.execute(sql, values)

    def _one(self, sql: str, *values: Any) -> Any:
        return self._db.execute(sql, values).fetchone()

    def _all(self, sql: str, *values: Any) -> list[Any]:
        return self._db.execute(sql, values).fetchall()

    def _changed(self, *topics: str) -> None:
        self._topics += topics

    def _event(self, kind: str, who: str, what: str, run: str = "") -> None:
        self._run(
            "INSERT INTO events (time, kind, who, what, run) VALUES (?, ?, ?, ?, ?)",
            self._clock(), kind, who, what[:2000], run,
        )  # fmt: skip
        self._changed("events")

    def _prune_events(self) -> None:
        self._run("DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?", _EVENTS)


def _locked(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise Conflict(explain("another coordinator runs in this folder", where=path.parent)) from None
    return lock


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA cache_size = -8000")
        db.execute("PRAGMA journal_size_limit = 67108864")
        _upgrade(db, path)
    except sqlite3.DatabaseError as error:
        db.close()
        told = full(error) or SiloError(explain("the coordinator's database cannot be read", got=error, where=path))
        raise told from error
    except BaseException:
        db.close()
        raise
    return db


def _upgrade(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or bring them from an older version to this one, in one transaction."""
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found > VERSION:
        hint = "start it with the version of atoll that was used last, or a newer one"
        raise Version(explain("a newer version wrote this folder", got=found, expected=VERSION, where=path, hint=hint))
    if found == VERSION:
        return
    steps = [TABLES] if not found else [MIGRATIONS[version] for version in range(found, VERSION)]
    script = "\n".join(steps)
    db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {VERSION}; COMMIT;")
    durable.reached("coordinator.database.made")
