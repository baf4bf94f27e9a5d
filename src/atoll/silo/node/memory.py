"""What a run leaves on a node between its rounds, on disk: outlives the agent and the machine's power.

The same as `atoll.memory.Store` for one run: a version is built on the version that was read, and what cannot be read
again is deleted. Every tree lies in a file of its own; a version is a small file that names its trees, and is written
last. So a kill leaves a version whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from atoll import wire
from atoll.errors import explain
from atoll.silo.durable import reached
from atoll.silo.errors import Malformed
from atoll.silo.files import private_folder, write_whole
from atoll.trees import Tree

__all__ = ["KEPT", "DiskMemory", "of_run", "tidy"]

KEPT = 90 * 86400.0
"""Seconds after which the memory of a run that nobody asks about any more is deleted."""


class DiskMemory:
    """A memory in a folder.

    Parameters
    ----------
    folder : path-like
        Made when something is written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def read(self, node: int, base: int) -> Mapping[str, Tree]:
        """The slots of a node as of exchange `base`; everything older is deleted."""
        versions = self._versions(node)
        if base < 0 or not versions:
            return {}
        old = [number for number in versions if number < base]
        for number in old:
            self._path(node, number).unlink(missing_ok=True)
        if old:
            self._sweep(node)
        return {name: self._tree(node, file) for name, file in self._slots(node, base).items()}

    def write(self, node: int, number: int, base: int, keep: Mapping[str, Tree]) -> None:
        """Store version `number` of a node, built on version `base`; on disk when this returns.

        Raises
        ------
        DiskFull
            If there is no room; the versions are as they were.
        """
        folder = self.folder / str(node)
        for path in (self.folder.parent, self.folder, folder):
            private_folder(path)
        slots = self._slots(node, base)
        for name, tree in keep.items():
            file = f"{number}-{secrets.token_hex(8)}.tree"
            write_whole(folder / file, wire.encode({key: tree[key] for key in tree}), mode=0o600)
            reached("node.memory.slot")
            slots[name] = file
        write_whole(self._path(node, number), msgspec.json.encode(slots), mode=0o600)
        reached("node.memory.version")
        self._sweep(node)

    def _versions(self, node: int) -> list[int]:
        folder = self.folder / str(node)
        found = [p.stem for p in folder.glob("*.json")] if folder.is_dir() else []
        return sorted(int(stem) for stem in found if stem.isdecimal())

    def _path(self, node: int, number: int) -> Path:
        return self.folder / str(node) / f"{number}.json"

    def _slots(self, node: int, number: int) -> dict[str, str]:
        if number < 0:
            return {}
        path = self._path(node, number)
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except msgspec.MsgspecError as error:
            raise Malformed(explain("what this node keeps for a run cannot be read", got=error, where=path)) from None

    def _tree(self, node: int, file: str) -> Tree:
        return wire.decode((self.folder / str(node) / file).read_bytes(), Tree)

    def _sweep(self, node: int) -> None:
        """Delete trees that no version names, such as a kill leaves behind."""
        named = {file for number in self._versions(node) for file in self._slots(node, number).values()}
        for path in (self.folder / str(node)).glob("*.tree"):
            if path.name not in named:
                path.unlink(missing_ok=True)


def of_run(folder: Path, key: str, run: str) -> DiskMemory:
    """The memory of a run, below the node's folder for these.

    Parameters
    ----------
    folder : Path
        ``memory`` of the node's folder.
    key, run : str
        Key fingerprint of the run's owner, and its name.
    """
    name = hashlib.sha256(f"{len(key)} {key} {run}".encode()).hexdigest()[:32]
    return DiskMemory(folder / name)


def tidy(folder: Path, now: float | None = None) -> int:
    """Delete the memories that nobody has used for long; returns how many."""
    limit, gone = (time.time() if now is None else now) - KEPT, 0
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            newest = max((p.stat().st_mtime for p in path.rglob("*")), default=path.stat().st_mtime)
            if newest < limit:
                shutil.rmtree(path, ignore_errors=True)
                gone += 1
    return gone
