"""Tokens: one word to paste, with which a machine joins a federation once.

A token says where the coordinator is, how to know it (signing key and TLS certificate), for whom it is, until when, and
holds a secret that the coordinator recognises. It is base32 in small letters with a checksum, so that line breaks,
spaces and capitals from mails do no harm and a mistyped letter is told before anything is sent.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import secrets
import time
from typing import NamedTuple, cast, get_args

import msgspec

from atoll.errors import explain
from atoll.silo.api import Role
from atoll.silo.errors import TokenMistyped

__all__ = ["PREFIX", "SECRET_BYTES", "Token", "hashed", "make_secret", "read", "write"]

PREFIX = "atoll_"
SECRET_BYTES = 20

_CHECK_BYTES = 4
_LONGEST = 2048
_VERSION = 1


class Token(NamedTuple):
    """What a token says.

    Attributes
    ----------
    url : str
        Of the coordinator, as whoever invited knows it.
    name : str
        Of the member to be.
    role : {"admin", "researcher", "node", "viewer"}
        Of the member to be.
    secret : bytes
        What the coordinator recognises the token by.
    certificate : str or None
        SHA-256 of the TLS certificate, hexadecimal; None where the system's authorities are trusted.
    signing_key : bytes of length 32
        The coordinator's, public.
    expires : float
        Unix seconds.
    """

    url: str
    name: str
    role: Role
    secret: bytes
    certificate: str | None
    signing_key: bytes
    expires: float

    def __repr__(self) -> str:
        return f"Token(url={self.url!r}, name={self.name!r}, role={self.role!r}, expires={self.expires})"

    def expired(self, now: float | None = None) -> bool:
        """Whether it is over, by this machine's clock; the coordinator's decides."""
        return (time.time() if now is None else now) >= self.expires


class _Written(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    version: int
    url: str
    name: str
    role: Role
    secret: bytes
    certificate: bytes | None
    signing_key: bytes
    expires: int


def make_secret() -> bytes:
    """A new secret: 160 bits from the system's randomness."""
    return secrets.token_bytes(SECRET_BYTES)


def hashed(secret: bytes) -> str:
    """What a coordinator keeps of a token: the SHA-256 of its secret, hexadecimal. The secret itself it forgets."""
    return hashlib.sha256(b"atoll-token-1\n" + secret).hexdigest()


def write(token: Token) -> str:
    """Write a token as one word; its expiry is rounded up to a second.

    Raises
    ------
    TokenMistyped
        If its values are not what a token can hold.
    """
    pinned = None if token.certificate is None else bytes.fromhex(token.certificate)
    values = (token.url, token.name, token.role, token.secret, pinned, token.signing_key, math.ceil(token.expires))
    written = _Written(_VERSION, *values)
    _check(written)
    data = msgspec.msgpack.encode(written)
    return PREFIX + base64.b32encode(data + _checksum(data)).decode().rstrip("=").lower()


def read(text: str) -> Token:
    """Read a token; spaces, line breaks and capitals do not matter.

    Raises
    ------
    TokenMistyped
        If it is not exactly what `write` wrote.
    """
    word = "".join(text[:_LONGEST].split()).lower() if len(text) <= _LONGEST else ""
    if not word.startswith(PREFIX):
        raise TokenMistyped(explain("this is no token", expected=f"one word that begins with {PREFIX}"))
    written = _decoded(_bytes(word.removeprefix(PREFIX)))
    _check(written)
    pinned = None if written.certificate is None else written.certificate.hex()
    middle = (written.url, written.name, written.role, written.secret)
    return Token(*middle, pinned, written.signing_key, float(written.expires))


def _bytes(letters: str) -> bytes:
    try:
        data = base64.b32decode(letters.upper() + "=" * (-len(letters) % 8))
    except (binascii.Error, ValueError):
        raise _mistyped("a token has the letters a to z and the digits 2 to 7 only, none missing") from None
    body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    whole = base64.b32encode(data).decode().rstrip("=").lower() == letters
    if len(data) <= _CHECK_BYTES or _checksum(body) != check or not whole:
        raise _mistyped("the last letters do not fit the others")
    return body


def _decoded(body: bytes) -> _Written:
    try:
        return msgspec.msgpack.decode(body, type=_Written)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _mistyped("it was made by another version of Atoll") from None


def _check(written: _Written) -> None:
    lengths = len(written.secret) == SECRET_BYTES and len(written.signing_key) == 32
    pinned = written.certificate is None or len(written.certificate) == 32
    role = written.role in cast(tuple[str, ...], get_args(Role))
    text = 0 < len(written.url) <= 500 and 0 < len(written.name) <= 100
    if written.version != _VERSION or not (lengths and pinned and role and text):
        raise _mistyped("it was made by another version of Atoll")


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(b"atoll-token-1\n" + data).digest()[:_CHECK_BYTES]


def _mistyped(why: str) -> TokenMistyped:
    return TokenMistyped(explain("the token is mistyped or cut off", got=why, hint=TokenMistyped.hint))
