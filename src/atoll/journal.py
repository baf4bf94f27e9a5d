"""An engine that answers a repeated exchange from disk.

A program that is killed is run again: it starts from its first line, and every exchange that was already answered is
answered from the journal, bit for bit, until the first that was not. One file per exchange, written whole and renamed
into place, so a kill at any point leaves either an answer or none.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from atoll import wire
from atoll.engines.base import Done, Engine, Pending, Remote
from atoll.errors import InvalidData, JournalMismatch, explain
from atoll.messages import Exchange, Outcome, Saved, digest
from atoll.operations import operations
from atoll.shards import Shard

__all__ = ["Entry", "Journal"]


class Entry(NamedTuple):
    """One answered exchange on disk.

    Attributes
    ----------
    digest : str
        Of the exchange.
    outcome : Outcome
        The answer.
    """

    digest: str
    outcome: Outcome


class Journal:
    """Wraps an engine; records every outcome and replays it when the same exchange is submitted again.

    Parameters
    ----------
    engine : Engine
        Asked when the journal has no answer.
    folder : path-like
        Where the journal lives; made when missing. It belongs to the rows it was started with.
    """

    def __init__(self, engine: Engine, folder: str | os.PathLike[str]) -> None:
        self._engine = engine
        self._folder = Path(folder)

    def attach(self, rows: Sequence[Shard] | Remote) -> str:
        """Attach to the engine, after making sure that the journal belongs to these rows.

        Raises
        ------
        JournalMismatch
            If the journal was written over other rows.
        InvalidData
            If the nodes keep their rows: their coordinator is the journal.
        """
        if isinstance(rows, Remote):
            hint = "give the run a name: their coordinator keeps its rounds"
            raise InvalidData(explain("nodes that keep their rows need no journal", got=rows.url, hint=hint))
        mark = digest([(s.name, s.to_tree()) for s in rows])
        path = self._folder / "rows"
        if path.exists() and path.read_text() != mark:
            hint = "use another folder, or delete this one to start again"
            raise JournalMismatch(explain("this journal belongs to other rows", where=self._folder, hint=hint))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidData(explain("the journal's folder cannot be made", got=error, where=self._folder)) from None
        if not path.exists():
            self._write(path, mark.encode())
        return self._engine.attach(rows)

    def submit(self, key: str, x: Exchange) -> Pending:
        """Answer from disk, or ask the engine and remember.

        An operation that writes the memory of nodes is carried out again as well, since that memory died with the
        process: it is deterministic, so the nodes end up where they were.

        Raises
        ------
        JournalMismatch
            If another question was asked under this number.
        """
        path = self._path(x)
        if path.exists():
            outcome = self._replay(path, x)
            if operations[x.op].remembers:
                self._engine.submit(key, x).result()
            return Done(outcome)
        return _Recording(self, path, x, self._engine.submit(key, x))

    def held(self, key: str) -> Sequence[Shard]:
        """What the engine holds."""
        return self._engine.held(key)

    def detach(self, key: str) -> None:
        """Give the shards back; the journal stays."""
        self._engine.detach(key)

    def close(self) -> None:
        """Close the engine; the journal stays."""
        self._engine.close()

    def save(self, key: str, run: str, saved: Saved) -> None:
        """Keep the state of a run in place of the one before."""
        path = self._run(run) / "state.atoll"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write(path, wire.encode(saved))

    def saved(self, key: str, run: str) -> Saved | None:
        """The state of a run; None if there is none."""
        path = self._run(run) / "state.atoll"
        return wire.decode(path.read_bytes(), Saved) if path.exists() else None

    def _path(self, x: Exchange) -> Path:
        return self._run(x.run) / f"{x.number:08d}.atoll"

    def _run(self, run: str) -> Path:
        if Path(run).name != run or run in ("", ".", ".."):
            raise InvalidData(explain("a run's name must be a plain file name", got=repr(run)))
        return self._folder / run

    def _replay(self, path: Path, x: Exchange) -> Outcome:
        entry = wire.decode(path.read_bytes(), Entry)
        if entry.digest != x.digest:
            raise JournalMismatch(
                explain(
                    f"exchange {x.number} of run {x.run!r} was another question",
                    got=f"{x.op} with digest {x.digest}",
                    expected=f"digest {entry.digest}",
                    where=path,
                    hint="give the run another name, or delete its journal",
                )
            )
        return entry.outcome

    def record(self, path: Path, x: Exchange, outcome: Outcome) -> None:
        """Write an answer, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write(path, wire.encode(Entry(x.digest, outcome)))

    def _write(self, path: Path, data: bytes) -> None:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


class _Recording(NamedTuple):
    journal: Journal
    path: Path
    exchange: Exchange
    pending: Pending

    def result(self) -> Outcome:
        outcome = self.pending.result()
        self.journal.record(self.path, self.exchange, outcome)
        return outcome

    def missing(self) -> list[int]:
        return self.pending.missing()
