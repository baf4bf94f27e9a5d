"""Becoming a member: a token for a place in a federation, once, and both sides prove who they are."""

from __future__ import annotations

import os
import secrets
import time
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from atoll.errors import explain
from atoll.silo import api, errors, tokens
from atoll.silo.client import Client
from atoll.silo.durable import reached
from atoll.silo.files import private_folder
from atoll.silo.home import Profile
from atoll.silo.keys import Key, fingerprint, verify

__all__ = ["about", "join"]

_PATIENCE = 10.0  # seconds: somebody waits at a terminal
_PROOF = b"atoll-joined-1"


class _Newcomer(NamedTuple):
    url: str
    certificate: str | None
    key: Key


def about(url: str, certificate: str | None = None) -> api.About:
    """Who a coordinator says it is; asked by nobody in particular."""
    return Client(_Newcomer(url, certificate, Key.make()), patience=_PATIENCE).get("/v1/about", api.About)


def join(
    token: str,
    *,
    url: str | None = None,
    node: bool = False,
    folder: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
) -> Profile:
    """Become a member: make a key, show the token, make sure who the coordinator is, and write the profile.

    A join that was accepted just before a kill may be repeated: the key is kept before the token is shown.

    Parameters
    ----------
    token : str
        As it was pasted.
    url : str, optional
        Where the coordinator is reached from here; that of the token by default.
    node : bool, default=False
        Whether a node joins, or somebody who asks.
    folder : path-like, optional
        Where the profile goes; by default the place for this name at this coordinator.
    home : path-like, optional
        Folder with all profiles, where `folder` is left out.

    Returns
    -------
    Profile

    Raises
    ------
    SiloError
        If the token is mistyped, expired, used or for another kind of member, or the coordinator is not the one that it
        names.
    """
    read = tokens.read(token)
    if node != (read.role == "node"):
        hint = "atoll node join URL TOKEN" if read.role == "node" else "atoll login URL TOKEN"
        raise errors.TokenName(explain("the token is for another kind of member", got=f"role {read.role}", hint=hint))
    site = (url or read.url).rstrip("/")
    place = Profile.place(site, read.name, home) if folder is None else Path(folder)
    key = _key_in(place)
    nonce, version = secrets.token_bytes(16), metadata.version("atoll")
    told = api.Join(token=token, key=key.public, version=version, protocol=api.PROTOCOL, nonce=nonce)
    client = Client(_Newcomer(site, read.certificate, key), patience=_PATIENCE)
    found = client.post("/v1/join", api.Joined, told)
    client.close()
    said = _PROOF + nonce + key.public + found.name.encode()
    own = found.signing_key == read.signing_key and found.federation == fingerprint(read.signing_key)
    if not own or not verify(read.signing_key, said, found.proof) or (found.name, found.role) != (read.name, read.role):
        raise errors.Proof(
            explain("this is not the coordinator that the token names", where=site, hint=errors.Proof.hint)
        )
    made = Profile.create(
        place, url=site, name=found.name, role=found.role, federation=found.federation, signing_key=read.signing_key,
        certificate=read.certificate, key=key, since=time.time(),
    )  # fmt: skip
    reached("member.profile.written")
    return made


def _key_in(folder: Path) -> Key:
    path = private_folder(folder) / "key"
    if not path.exists():
        Key.make().save(path)
        reached("member.key.written")
    return Key.load(path)
