"""The rows that a node holds, and whether they are still those that a run began with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from atoll.errors import closest, explain
from atoll.silo.durable import reached
from atoll.silo.errors import ColumnMissing, DataChanged, NotFound
from atoll.silo.files import write_whole
from atoll.silo.node.sources import Source

if TYPE_CHECKING:
    from atoll.shards import Shard

__all__ = ["Held", "Rows", "Seen", "project"]

_Stats = tuple[tuple[int, int, int], ...]


class Held(NamedTuple):
    """Rows in memory.

    Attributes
    ----------
    shard : Shard
        Row ids count from 0.
    targets : tuple of str
        Names of the columns to predict.
    version : str
        Hash of the file, or of the rows where they come from elsewhere.
    stats : tuple
        Size, time of change and number of each file, as of when it was read.
    source : Source
        Where they came from.
    """

    shard: Shard
    targets: tuple[str, ...]
    version: str
    stats: _Stats
    source: Source


class Rows:
    """The data sets of a node; each is read when it is first asked about.

    Parameters
    ----------
    node : str
        The node's name.
    sources : callable
        Gives the data sets as they are configured now.
    """

    def __init__(self, node: str, sources: Callable[[], Mapping[str, Source]]) -> None:
        self._node, self._sources = node, sources
        self._held: dict[str, Held] = {}

    def get(self, name: str, *, anew: bool = False, again: bool = False) -> Held:
        """The rows of a data set.

        Parameters
        ----------
        name : str
            Of the data set.
        anew : bool
            Whether to read them again, if they may have changed.
        again : bool
            Whether a query or a loader is asked again: nothing but their answer tells that rows have changed there.
            Otherwise what was read is what counts, for as long as this process lives.

        Raises
        ------
        NotFound
            If this node has no such data set.
        DataChanged
            If what they were read from has changed since, and they are not to be read anew.
        ColumnMissing, InvalidData, MissingExtra, Malformed
            If they cannot be read.
        """
        sources = self._sources()
        if name not in sources:
            hint = "the driver names a data set that the node's owner offers"
            raise NotFound(explain(f"node {self._node!r} has no data set {name!r}", hint=hint))
        held, source = self._held.get(name), sources[name]
        if held is None or (held.source != source and anew):
            held = self._read(name, source)
        elif held.source != source:
            raise _changed(self._node, name, "its owner has changed where the rows come from")
        elif source.files:
            held = self._looked_at(name, held, anew)
        elif anew or again:
            found = self._read(name, source)
            held = held if found.version == held.version else found
        self._held[name] = held
        return held

    def forget(self, name: str) -> None:
        """Let go of a data set's rows."""
        self._held.pop(name, None)

    def _looked_at(self, name: str, held: Held, anew: bool) -> Held:
        try:
            stats = _stats(held.source.files)
        except FileNotFoundError:
            if anew:
                raise NotFound(
                    explain(f"the file of data set {name!r} is gone", where=f"node {self._node!r}")
                ) from None
            raise _changed(self._node, name, "its file is gone") from None
        if stats == held.stats:
            return held
        if _hashed(held.source.files) == held.version:
            return held._replace(stats=stats)
        if not anew:
            raise _changed(self._node, name, "its file is another one than when it was read")
        return self._read(name, held.source)

    def _read(self, name: str, source: Source) -> Held:
        from atoll.silo.node.lean import load_worker

        load_worker()
        from atoll.silo.node.tables import load

        for _ in range(5):
            there = all(file.is_file() for file in source.files)
            before = _stats(source.files) if there else ()
            version = _hashed(source.files) if there and source.files else ""
            loaded = load(name, self._node, source)
            if not source.files or _stats(source.files) == before:
                break
        else:
            raise _changed(self._node, name, "its file changes while it is read")
        return Held(loaded.shard, loaded.targets, version or _digest(loaded.shard), before, source)


def _changed(node: str, name: str, why: str) -> DataChanged:
    hint = "connect again (Federation.connect) and begin another run, over the rows as they are now"
    return DataChanged(explain(f"data set {name!r} of node {node!r}: {why}", hint=hint))


def _stats(files: list[Path]) -> _Stats:
    found = [os.stat(file) for file in files]
    return tuple((s.st_size, s.st_mtime_ns, s.st_ino) for s in found)


def _hashed(files: list[Path]) -> str:
    state = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            state.update(hashlib.file_digest(file, "sha256").digest())
    return state.hexdigest()


def _digest(shard: Shard) -> str:
    from atoll.messages import digest

    return digest(shard.to_tree())


def project(held: Held, columns: tuple[str, ...] | None, where: str) -> Shard:
    """The rows with only those columns that the owner serves.

    Parameters
    ----------
    held : Held
        The rows.
    columns : tuple of str, or None
        Names of features, targets and inputs of nets, ``sample_weight``; columns without names are ``"0"``, ``"1"``, …
        None: all.
    where : str
        Named in errors.

    Returns
    -------
    Shard

    Raises
    ------
    ColumnMissing
        If the policy names a column that is not there.
    """
    shard = held.shard
    if columns is None:
        return shard
    names = shard.feature_names or tuple(map(str, range(shard.n_features)))
    inputs = {name.removeprefix("input."): name for name in shard.columns}
    known = {*names, *held.targets, *inputs}
    missing = [name for name in columns if name not in known]
    if missing:
        hint = closest(missing[0], known)
        raise ColumnMissing(
            explain(f"the policy names a column {missing[0]!r} that is not there", where=where, hint=hint)
        )
    which = [i for i, name in enumerate(names) if name in columns]
    kept = {inputs[name]: shard.columns[inputs[name]] for name in inputs if name in columns}
    wanted = bool(held.targets) and all(t in columns for t in held.targets)
    chosen = shard if len(which) == len(names) else shard.select(which)
    return replace(chosen, y=shard.y if wanted else None, columns=kept)


class _Written(msgspec.Struct):
    attached: dict[str, str] = {}
    runs: dict[str, str] = {}


class Seen:
    """Which rows runs have seen: a run that began with some rows must not go on over others.

    Parameters
    ----------
    path : path-like
        The file.
    """

    LIMIT = 2000

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        try:
            self._known = msgspec.json.decode(self._path.read_bytes(), type=_Written)
        except (FileNotFoundError, msgspec.MsgspecError):
            self._known = _Written()

    def begins(self, key: str, run: str, data: str) -> bool:
        """Whether a run is asking for the first time."""
        return f"{key} {data} {run}" not in self._known.runs

    def attach(self, key: str, data: str, version: str) -> None:
        """Somebody asks about a data set for the first time, or anew."""
        self._note(self._known.attached, f"{key} {data}", version)

    def check(self, key: str, run: str, data: str, version: str, node: str) -> None:
        """Hold the rows against those that this run, and who asks, have seen before.

        Raises
        ------
        DataChanged
            If they are others.
        """
        known = self._known
        if known.runs.get(f"{key} {data} {run}", version) != version:
            raise _changed(node, data, f"run {run!r} began with other rows")
        if known.attached.get(f"{key} {data}", version) != version:
            raise _changed(node, data, "the rows are others than when the driver connected")
        self._note(known.runs, f"{key} {data} {run}", version)

    def _note(self, where: dict[str, str], key: str, version: str) -> None:
        if where.get(key) == version:
            return
        where.pop(key, None)
        where[key] = version
        while len(where) > self.LIMIT:
            where.pop(next(iter(where)))
        write_whole(self._path, msgspec.json.encode(self._known), mode=0o600)
        reached("node.seen.written")
