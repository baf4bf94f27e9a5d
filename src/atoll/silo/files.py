"""Files that are written whole, and files that only their owner may read.

A file is written beside its place and renamed into it, so that a kill leaves the old one or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from atoll.errors import explain
from atoll.silo.errors import Conflict, DiskFull, NotFound, UnsafeFile

__all__ = ["private_folder", "read_secret", "secret_file", "write_whole"]


def write_whole(path: str | os.PathLike[str], data: bytes | memoryview, *, mode: int = 0o644) -> None:
    """Write a file so that it is there whole or not at all, and stays after a loss of power.

    Parameters
    ----------
    path : path-like
        Replaced if it exists; its folder must exist.
    data : bytes-like
        The content.
    mode : int
        Permissions, before the process's mask takes from them.

    Raises
    ------
    DiskFull
        If there is no room; nothing is left behind then.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(explain("there is no room to write a file", where=path)) from None
        raise
    _sync(path.parent)


def secret_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file that only its owner may read (mode 0600), whole or not at all."""
    write_whole(path, data, mode=0o600)


def read_secret(path: str | os.PathLike[str]) -> bytes:
    """Read a file with secrets, if nobody else may.

    Raises
    ------
    UnsafeFile
        If group or others may read or write it, or it belongs to somebody else; the message has the command to fix it.
    NotFound
        If it is not there.
    """
    try:
        with open(path, "rb") as file:
            _private(Path(path), os.fstat(file.fileno()), "600")
            return file.read()
    except FileNotFoundError:
        raise NotFound(explain("the file with the secret is not there", where=path)) from None


def private_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder that only its owner may enter (mode 0700), and those above it as usual.

    One that exists is taken if it is private; an empty one is made private.

    Raises
    ------
    UnsafeFile
        If it holds something already and others may enter it, or it belongs to somebody else.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise Conflict(explain("a folder is needed where a file is", where=path))
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        _sync(path.parent)
    elif not any(path.iterdir()) and path.stat().st_uid == os.geteuid():
        path.chmod(0o700)
    _private(path, path.stat(), "700")
    return path


def _private(path: Path, found: os.stat_result, mode: str) -> None:
    if found.st_uid != os.geteuid():
        hint = f"sudo chown {os.geteuid()} {path}"
        raise UnsafeFile(explain("a file with secrets belongs to somebody else", got=f"user {found.st_uid}", hint=hint))
    if stat.S_IMODE(found.st_mode) & 0o077:
        got = f"mode {stat.S_IMODE(found.st_mode):o}"
        expected, hint = f"mode {mode}", f"chmod {mode} {path}"
        raise UnsafeFile(explain("others may read what is secret", got=got, expected=expected, where=path, hint=hint))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
