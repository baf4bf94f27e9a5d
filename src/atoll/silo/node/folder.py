"""What lies in a node's folder.

========================= =============================================================================================
``profile.json``, ``key`` who this node is, and whom it belongs to; the key is made here and never leaves
``node.toml``             its data sets; may be edited
``policy.toml``           what its owner allows; may be edited, also while the node runs
``log.jsonl``             every decision and every byte that left
``requests.json``         what was asked in vain
``seen.json``             which rows runs have seen
``memory/``               what runs keep here between their rounds
========================= =============================================================================================
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from atoll.errors import explain
from atoll.silo.durable import reached
from atoll.silo.errors import Conflict, Malformed, NotFound
from atoll.silo.files import write_whole
from atoll.silo.home import Profile
from atoll.silo.node.sources import Source, read_source

__all__ = ["Folder", "default_home", "quoted"]

_HEAD = """\
# The data sets that this node offers. What may be done with them is in policy.toml.
# Keys of a data set: file, target, columns, drop, weight; sql, query; python; show (tell rows and columns).
"""


def default_home() -> Path:
    """Where nodes are: ``$ATOLL_HOME/nodes``, or ``~/.local/share/atoll/nodes``."""
    told, shared = os.environ.get("ATOLL_HOME"), os.environ.get("XDG_DATA_HOME")
    if told:
        return Path(told) / "nodes"
    return (Path(shared) if shared else Path.home() / ".local" / "share") / "atoll" / "nodes"


class Folder:
    """A node's folder.

    Parameters
    ----------
    path : path-like
        The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def find(cls, told: str | os.PathLike[str] | None = None, home: Path | None = None) -> Folder:
        """The folder that is meant.

        Parameters
        ----------
        told : path-like, optional
            A folder, or the name of a node; by default the only node that there is.
        home : Path, optional
            Where nodes are; see `default_home`.

        Raises
        ------
        NotFound
            If there is none, or more than one could be meant; lists them.
        """
        home = home or default_home()
        known = sorted(p.parent for p in home.glob("*/node.toml"))
        if told is not None:
            for path in (Path(told), home / told):
                if (path / "node.toml").is_file():
                    return cls(path)
        elif len(known) == 1:
            return cls(known[0])
        what = "there is no node here" if told is not None or not known else "which node?"
        expected = f"one of: {', '.join(str(p) for p in known)}" if known else None
        hint = "name its folder" if known else "atoll node join URL TOKEN --data NAME=FILE makes one"
        raise NotFound(explain(what, got=told, expected=expected, where=home, hint=hint))

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def profile(self) -> Profile:
        """Who this node is; read anew."""
        return Profile(self.path)

    @property
    def log(self) -> Path:
        """The file of the log."""
        return self.path / "log.jsonl"

    @property
    def policy(self) -> Path:
        """The file of the policy."""
        return self.path / "policy.toml"

    def data(self) -> dict[str, Source]:
        """The data sets, as ``node.toml`` has them now.

        Raises
        ------
        Malformed
            Naming the line or the key that is wrong.
        NotFound
            If the file is not there.
        """
        path = self.path / "node.toml"
        try:
            written = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotFound(explain("this is no node's folder", where=self.path)) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Malformed(explain("node.toml cannot be read", got=error, where=path)) from None
        tables = written.get("data", {})
        strange = [key for key in written if key != "data"]
        if strange or not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
            got = ", ".join(strange) or "something else"
            raise Malformed(explain("node.toml holds tables [data.NAME] only", got=got, where=path))
        return {name: read_source(name, table, str(path)) for name, table in tables.items()}

    def write_data(self, sources: Mapping[str, Source]) -> None:
        """Write ``node.toml``."""
        parts = [_HEAD]
        for name, source in sources.items():
            lines = [f"{key} = {quoted(value)}" for key, value in msgspec.to_builtins(source).items()]
            parts.append("\n".join([f"[data.{_key(name)}]", *lines]) + "\n")
        write_whole(self.path / "node.toml", "\n".join(parts).encode(), mode=0o600)
        reached("node.data.written")

    @contextmanager
    def editing(self) -> Iterator[None]:
        """No other process edits policy or requests meanwhile."""
        with open(self.path / ".editing", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def running(self) -> Iterator[None]:
        """No other process answers for this node meanwhile.

        Raises
        ------
        Conflict
            If one does; names it.
        """
        with open(self.path / ".running", "a+") as file:
            if not _locked(file.fileno()):
                file.seek(0)
                got = f"process {file.read().strip() or 'unknown'}"
                hint = "end it first; one process answers for a node"
                raise Conflict(explain("this node runs already", got=got, where=self.path, hint=hint)) from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def runs(self) -> int | None:
        """The process that answers for this node now, if one does."""
        try:
            with self.running():
                return None
        except Conflict:
            text = (self.path / ".running").read_text().strip()
            return int(text) if text.isdecimal() else 0


def _locked(file: int) -> bool:
    """Whether a lock is had, tried for a second: somebody may only be looking."""
    for _ in range(10):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.1)
    return False


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quoted(name)


def quoted(value: object) -> str:
    """A text, number, truth value or list of these as TOML writes it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(quoted, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
