"""Who belongs to the federation: invitations, keys, sessions of the dashboard, and what ends a membership."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from atoll.errors import explain
from atoll.silo.api import Member, Role
from atoll.silo.broker.blobs import DAY, Blobs
from atoll.silo.broker.types import Known
from atoll.silo.errors import Conflict, Malformed, NotFound, Revoked, TokenExpired, TokenName, TokenUnknown, TokenUsed
from atoll.silo.keys import fingerprint

__all__ = ["Members"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_LINE = "SELECT name, role, key, public, joined, revoked FROM members"


class Members(Blobs):
    """The part of a broker that knows who is who."""

    def __init__(self, folder: Path, max_blob: int, clock: Callable[[], float]) -> None:
        super().__init__(folder, max_blob, clock)
        self._by_key: dict[str, Known] = {}
        self._by_name: dict[str, Known] = {}
        self._sessions: dict[str, tuple[str, float]] = {}
        self._load_members()

    def _load_members(self) -> None:
        known = [Known(*row) for row in self._all(_LINE)]
        self._by_key = {k.key: k for k in known}
        self._by_name = {k.name: k for k in known}
        self._sessions = {h: (name, until) for h, name, until in self._all("SELECT hash, name, expires FROM sessions")}

    def _stale_members(self) -> None:
        """Read members and sessions again after the commit, once."""
        if self._load_members not in self._after:
            self._after.append(self._load_members)

    def _members_changed(self) -> None:
        self._changed("members")
        self._stale_members()

    def invite(self, name: str, role: Role, secret: bytes, expires: float, by: str) -> None:
        """Remember an invitation; only the hash of its secret is kept. Replaces an unused one for the same name.

        Raises
        ------
        Conflict
            If a member has this name and is not revoked.
        Malformed
            If the name is not 1 to 64 of ``A-Z a-z 0-9 . _ -``, beginning with a letter or digit.
        """
        _check_name(name)
        if role not in get_args(Role):
            raise Malformed(explain("there is no such role", got=role, expected=", ".join(get_args(Role))))
        held = self._member(name)
        if held is not None and held.revoked is None:
            raise Conflict(explain(f"{name!r} is a member already", hint="revoke it first, or choose another name"))
        with self._writing("invite.stored"):
            self._run("DELETE FROM invites WHERE name = ? AND used IS NULL", name)
            sql = "INSERT INTO invites (hash, name, role, expires, made, made_by) VALUES (?, ?, ?, ?, ?, ?)"
            self._run(sql, _hash(secret), name, role, expires, self._clock(), by)
            self._event("invited", by, f"{name} as {role}")

    def join(self, name: str, role: Role | None, secret: bytes, public: bytes) -> Known:
        """Use an invitation up. The same key may repeat it, since the answer may have been lost.

        Parameters
        ----------
        name : str
            What the token says.
        role : str or None
            What the token says; None: whatever the invitation says.
        secret : bytes
            The token's.
        public : bytes
            The Ed25519 public key of who joins, 32 bytes.

        Raises
        ------
        TokenUnknown, TokenUsed, TokenExpired, TokenName
            If there is no such invitation, somebody else used it, it is over, or it is for somebody else.
        Conflict
            If the name or the key is a member's already.
        """
        sql = "SELECT name, role, expires, used, used_key FROM invites WHERE hash = ?"
        found = self._one(sql, _hash(secret))
        if found is None:
            raise TokenUnknown
        invited, invited_role, expires, used, used_key = found
        key = fingerprint(public)
        if used is not None:
            member = self._member(invited)
            if used_key != key or member is None or member.key != key or member.revoked is not None:
                raise TokenUsed
            return member
        if expires <= self._clock():
            raise TokenExpired
        if invited != name or role not in (None, invited_role):
            got, expected = f"{name} as {role}", f"{invited} as {invited_role}"
            raise TokenName(explain("the token is for another name or role", got=got, expected=expected))
        with self._writing("member.joined"):
            self._run("UPDATE invites SET used = ?, used_key = ? WHERE hash = ?", self._clock(), key, _hash(secret))
            self._event("joined", name, f"as {invited_role}, key {key}")
            return self._enter(name, invited_role, key, public)

    def add_member(self, name: str, role: Role, public: bytes) -> Known:
        """Add a member without an invitation: the first admin, by whoever owns the folder; idempotent.

        Raises
        ------
        Conflict
            If somebody else has the name or the key.
        """
        _check_name(name)
        key, held = fingerprint(public), self._member(name)
        if held is not None and held.key == key and held.revoked is None:
            return held
        with self._writing("member.added"):
            self._event("joined", name, f"as {role}, key {key}")
            return self._enter(name, role, key, public)

    def _enter(self, name: str, role: Role, key: str, public: bytes) -> Known:
        """Write a member down; a revoked one of the same name gives way."""
        for held in self._all("SELECT name, revoked FROM members WHERE name = ? OR key = ?", name, key):
            if held[1] is None or held[0] != name:
                raise Conflict(explain("a member has this name or this key already", got=held[0]))
        self._run("DELETE FROM members WHERE name = ?", name)
        sql = "INSERT INTO members (name, role, key, public, joined) VALUES (?, ?, ?, ?, ?)"
        self._run(sql, name, role, key, public, self._clock())
        if role == "node":
            self._run("INSERT OR IGNORE INTO nodes (name) VALUES (?)", name)
        self._members_changed()
        return Known(name, role, key, public, self._clock())

    def _member(self, name: str) -> Known | None:
        row = self._one(f"{_LINE} WHERE name = ?", name)
        return None if row is None else Known(*row)

    def members(self) -> list[Member]:
        """Everybody, revoked ones too, by name."""
        found = [Known(*row) for row in self._all(f"{_LINE} ORDER BY name")]
        return [Member(name=k.name, role=k.role, key=k.key, joined=k.joined, revoked=k.revoked) for k in found]

    def member_by_key(self, key: str) -> Known | None:
        """Who has the key of this fingerprint; also a revoked member. Any thread; from memory."""
        return self._by_key.get(key)

    def member_by_name(self, name: str) -> Known | None:
        """The member of this name; also a revoked one. Any thread; from memory."""
        return self._by_name.get(name)

    def revoke(self, name: str, by: str) -> None:
        """End a membership: its key, sessions and logins are refused; so is what it was asked, and what it asks ends.

        Raises
        ------
        NotFound
            If there is no such member.
        """
        known = self._member(name)
        if known is None:
            raise NotFound(explain("there is no such member", got=name))
        if known.revoked is not None:
            return
        with self._writing("member.revoked"):
            self._run("UPDATE members SET revoked = ? WHERE name = ?", self._clock(), name)
            self._run("DELETE FROM sessions WHERE name = ?", name)
            self._run("DELETE FROM logins WHERE name = ?", name)
            self._release("upload", name)
            self._event("revoked", by, name)
            self._let_go(known)
            self._changed(f"work:{name}")
            self._members_changed()
            self._after.append(lambda: self.uploads.drop_all(name))

    def _let_go(self, known: Known) -> None:
        """What else ends with a membership."""

    def login(self, name: str, secret: bytes, expires: float) -> None:
        """Remember a login that opens the dashboard once."""
        with self._writing("login.stored"):
            self._run("INSERT INTO logins (hash, name, expires) VALUES (?, ?, ?)", _hash(secret), name, expires)

    def open_session(self, login: bytes, session: bytes, expires: float) -> Known:
        """Use a login up and remember a session.

        Raises
        ------
        TokenUnknown, TokenUsed, TokenExpired, Revoked
            If there is no such login, it was used, it is over, or its member was revoked.
        """
        found = self._one("SELECT name, expires, used FROM logins WHERE hash = ?", _hash(login))
        if found is None:
            raise TokenUnknown(explain("this login is not known", hint="ask for a new one: atoll login"))
        name, until, used = found
        known = self._member(name)
        if used is not None:
            raise TokenUsed(explain("this login was used", hint="ask for a new one: atoll login"))
        if until <= self._clock():
            raise TokenExpired(explain("this login has expired", hint="ask for a new one: atoll login"))
        if known is None or known.revoked is not None:
            raise Revoked
        with self._writing("session.opened"):
            self._run("UPDATE logins SET used = ? WHERE hash = ?", self._clock(), _hash(login))
            self._run("INSERT INTO sessions (hash, name, expires) VALUES (?, ?, ?)", _hash(session), name, expires)
            self._stale_members()
        return known

    def session(self, secret: bytes) -> Known | None:
        """Whose session this is; None if it is over or its member revoked. Any thread; from memory."""
        name, until = self._sessions.get(_hash(secret), ("", 0.0))
        known = self._by_name.get(name)
        return known if known is not None and known.revoked is None and until > self._clock() else None

    def end_session(self, secret: bytes) -> None:
        """Log out; unknown sessions are ignored."""
        with self._writing("session.ended"):
            self._run("DELETE FROM sessions WHERE hash = ?", _hash(secret))
            self._stale_members()

    def leases(self) -> dict[str, bytes]:
        """Per key fingerprint, the last state that was stored: what `atoll.silo.signing.Windows` begins with."""
        return dict(self._all("SELECT key, state FROM leases"))

    def lease(self, key: str, state: bytes) -> None:
        """Store the state of a key's windows ahead of use (`atoll.silo.signing.Lease`)."""
        with self._writing("lease.stored"):
            self._run("INSERT OR REPLACE INTO leases (key, state) VALUES (?, ?)", key, state)

    def _sweep_members(self, now: float) -> None:
        for table in ("logins", "sessions"):
            self._run(f"DELETE FROM {table} WHERE expires < ?", now - DAY)  # noqa: S608 - two fixed names
        self._run("DELETE FROM invites WHERE expires < ? AND used IS NULL", now - 30 * DAY)
        self._stale_members()


def _hash(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        expected = "1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
        raise Malformed(explain("this cannot be a member's name", got=repr(name)[:90], expected=expected))
