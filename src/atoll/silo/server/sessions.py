"""The cookie of a browser that was logged in. What it stands for is kept, as a hash, by the broker."""

from __future__ import annotations

import re
import secrets

__all__ = ["COOKIE", "SESSION_HOURS", "cookie", "secret_of"]

COOKIE = "__Host-atoll"
"""Name of the cookie; the prefix has browsers take it over HTTPS only, for this host alone and all its paths."""

SESSION_HOURS = 12
"""Hours after which a login is over."""

_SECRET = re.compile(rf"(?:^|;\s*){COOKIE}=([0-9a-f]{{64}})(?=;|$)")


def cookie() -> tuple[bytes, str]:
    """A new secret, and the header that sets it."""
    secret = secrets.token_bytes(32)
    told = f"{COOKIE}={secret.hex()}; Path=/; Max-Age={SESSION_HOURS * 3600}; Secure; HttpOnly; SameSite=Strict"
    return secret, told


def secret_of(cookies: str) -> bytes | None:
    """The secret in a header ``Cookie``; None if there is none, or more than one."""
    found = _SECRET.findall(cookies)
    return bytes.fromhex(found[0]) if len(found) == 1 else None
