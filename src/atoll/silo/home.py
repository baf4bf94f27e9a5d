"""Where profiles lie on a machine.

A profile is one membership: a folder with ``profile.json``, which holds no secret, and ``key``, which only its owner
may read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

import msgspec

from atoll.errors import explain
from atoll.silo.errors import Conflict, Malformed, NotFound
from atoll.silo.files import private_folder, write_whole
from atoll.silo.keys import Key

__all__ = ["Profile", "home"]

_KEY = "key"
_PROFILE = "profile.json"


def home() -> Path:
    """Where profiles are: ``$ATOLL_HOME``, or ``~/.config/atoll``."""
    told = os.environ.get("ATOLL_HOME")
    return Path(told) if told else Path.home() / ".config" / "atoll"


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    name: str
    role: Literal["admin", "researcher", "node", "viewer"]
    federation: str
    signing_key: bytes
    certificate: str | None
    since: float


class Profile:
    """One membership of this machine: who it is, where, and how the coordinator is known.

    Parameters
    ----------
    folder : path-like
        As `create` made it.

    Raises
    ------
    NotFound, Malformed, UnsafeFile
        If there is no profile, it cannot be read, or others may read its key.

    Attributes
    ----------
    folder : Path
        Where it lies.
    url : str
        Of the coordinator, without a slash at the end.
    name : str
        Of the member.
    role : {"admin", "researcher", "node", "viewer"}
        Of the member.
    federation : str
        Fingerprint of the coordinator's signing key.
    signing_key : bytes of length 32
        The coordinator's, public.
    certificate : str or None
        SHA-256 of the coordinator's TLS certificate, hexadecimal; None if it shows one that the system trusts.
    since : float
        When it was made, Unix seconds.
    key : Key
        The member's own.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        stored = _read(self.folder)
        self.url, self.name, self.role = stored.url, stored.name, stored.role
        self.federation, self.signing_key = stored.federation, stored.signing_key
        self.certificate, self.since = stored.certificate, stored.since
        self.key = Key.load(self.folder / _KEY)

    def __repr__(self) -> str:
        return f"Profile(name={self.name!r}, role={self.role!r}, url={self.url!r}, folder={str(self.folder)!r})"

    @staticmethod
    def place(url: str, name: str, home: str | os.PathLike[str] | None = None) -> Path:
        """The folder for a membership by this name at this coordinator; distinct ones have distinct folders."""
        return _profiles(home) / _plain(_site(url).partition("://")[2]) / _plain(name)

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        *,
        url: str,
        name: str,
        role: Literal["admin", "researcher", "node", "viewer"],
        federation: str,
        signing_key: bytes,
        certificate: str | None,
        key: Key,
        since: float = 0.0,
    ) -> Profile:
        """Write a profile; the folder becomes one with its last file, so a kill leaves none or all of it.

        The key may be there already: who joins keeps it first, so that a join that was accepted just before a kill can
        be repeated with the same key.

        Raises
        ------
        Conflict
            If the folder holds another key.
        """
        folder = private_folder(folder)
        path = folder / _KEY
        if not path.exists():
            key.save(path)
        elif Key.load(path).public != key.public:
            raise Conflict(
                explain("the folder holds another key", where=folder, hint="delete the folder, or use another")
            )
        stored = _Stored(_site(url), name, role, federation, signing_key, certificate, since)
        write_whole(folder / _PROFILE, msgspec.json.format(msgspec.json.encode(stored)) + b"\n", mode=0o600)
        return cls(folder)

    @classmethod
    def all(cls, home: str | os.PathLike[str] | None = None) -> list[Profile]:
        """Every profile of this machine's user, the newest first."""
        found = [cls(path.parent) for path in sorted(_profiles(home).glob(f"*/*/{_PROFILE}"))]
        return sorted(found, key=lambda p: p.since, reverse=True)

    @classmethod
    def find(
        cls, url: str | None = None, home: str | os.PathLike[str] | None = None, name: str | None = None
    ) -> Profile:
        """The profile for a coordinator: that of the last login, if there are several.

        Parameters
        ----------
        url : str, optional
            Of the coordinator; any.
        home : path-like, optional
            Where profiles are; see `home`.
        name : str, optional
            Of the member; any.

        Raises
        ------
        NotFound
            If there is none; the message lists what there is.
        """
        there = cls.all(home)
        site = None if url is None else _site(url)
        for profile in there:
            if site in (None, profile.url) and name in (None, profile.name):
                return profile
        got = " ".join(word for word in (url, name and f"as {name}") if word) or "no profile at all"
        known = ", ".join(f"{p.name} at {p.url}" for p in there) or "none"
        hint = "atoll login URL TOKEN, with a token from the federation's admin"
        raise NotFound(
            explain("there is no login for this coordinator", got=got, expected=f"one of: {known}", hint=hint)
        )


def _profiles(told: str | os.PathLike[str] | None) -> Path:
    return (home() if told is None else Path(told)) / "profiles"


def _site(url: str) -> str:
    match = re.match(r"(https?)://([^\s/?#@]+)(/[^\s?#]*)?\Z", url.strip())
    if match is None:
        expected = "https://host:port"
        raise Malformed(explain("this is no URL of a coordinator", got=url, expected=expected))
    return f"{match[1]}://{match[2].lower()}{(match[3] or '').rstrip('/')}"


def _plain(text: str) -> str:
    return "".join(
        c if (c.isalnum() and c.isascii()) or (c in "-." and i) else f"_{ord(c):x}_" for i, c in enumerate(text)
    )


def _read(folder: Path) -> _Stored:
    path = folder / _PROFILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Stored)
    except FileNotFoundError:
        raise NotFound(explain("there is no profile here", where=folder)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(explain("the profile cannot be read", got=error, where=path)) from None
