"""Who is who: joining, inviting, revoking, and the way into the dashboard."""

from __future__ import annotations

import hashlib
import math
from importlib import metadata
from typing import TYPE_CHECKING

from atoll import wire
from atoll.errors import explain
from atoll.silo import api, tokens
from atoll.silo.errors import BadSignature, Malformed, Version
from atoll.silo.keys import fingerprint
from atoll.silo.server.replies import Reply, as_json
from atoll.silo.server.requests import Request
from atoll.silo.server.service import Service, Settings

if TYPE_CHECKING:
    from atoll.silo.broker import Broker

__all__ = ["LOGIN_SECONDS", "about", "invitation", "invite", "join", "login", "members", "new_login", "revoke"]

LOGIN_SECONDS = 900.0
"""Seconds within which a login URL must be opened."""

_MOST_JOIN = 1 << 14
_MOST_HOURS = 24.0 * 366
_PROOF = b"atoll-joined-1"


async def about(service: Service, request: Request) -> Reply:
    """Who this coordinator is."""
    request.query(())
    settings = service.settings
    return as_json(
        api.About(
            federation=settings.federation, signing_key=settings.key.public, version=metadata.version("atoll"),
            protocol=api.PROTOCOL, wire=wire.VERSION, time=service.clock(),
        )
    )  # fmt: skip


async def join(service: Service, request: Request) -> Reply:
    """A token for a membership; the request is signed with the newcomer's own key."""
    service.failures.refuse(request)
    request.query(())
    told, body = await request.json_and_bytes(api.Join, _MOST_JOIN)
    if len(told.key) != 32 or not 8 <= len(told.nonce) <= 64:
        raise Malformed(explain("a key has 32 bytes, a nonce 8 to 64", got=f"{len(told.key)} and {len(told.nonce)}"))
    _own(service, request, told.key, hashlib.sha256(body).digest())
    if told.protocol != api.PROTOCOL:
        got = f"protocol {told.protocol} (atoll {told.version[:40]})"
        expected = f"protocol {api.PROTOCOL} (atoll {metadata.version('atoll')})"
        raise Version(explain("newcomer and coordinator speak different versions", got=got, expected=expected))
    token = tokens.read(told.token)
    known = await service.writer.call(service.broker.join, token.name, token.role, token.secret, told.key)
    key = service.settings.key
    proof = key.sign(_PROOF + told.nonce + told.key + known.name.encode())
    federation = service.settings.federation
    return as_json(
        api.Joined(name=known.name, role=known.role, federation=federation, signing_key=key.public, proof=proof)
    )


def _own(service: Service, request: Request, public: bytes, digest: bytes) -> None:
    """Hold a newcomer's signature against the key it brings; its number is not kept, since a join may be repeated."""
    claim = service.verifier.check(request.method, request.target, request.raw_headers, digest, public=public)
    if claim.keyid != fingerprint(public):
        raise BadSignature(explain("a newcomer signs with the key that it brings", got=claim.keyid))


async def invite(service: Service, request: Request) -> Reply:
    """A new token, which works once, for one name, and not for ever."""
    request.query(())
    told = await request.json(api.Invite)
    if not (math.isfinite(told.hours) and 0 < told.hours <= _MOST_HOURS):
        raise Malformed(explain("an invitation is for some hours", got=told.hours, expected="above 0, at most a year"))
    expires = service.clock() + told.hours * 3600
    call, by = service.writer.call, request.sender.name
    return as_json(await call(invitation, service.broker, service.settings, by, told.name, told.role, expires))


def invitation(
    broker: Broker, settings: Settings, by: str, name: str, role: api.Role, expires: float
) -> api.Invitation:
    """Make a token.

    Parameters
    ----------
    broker : Broker
        Remembers a hash of it; called in the thread that owns it.
    settings : Settings
        What the token says about the coordinator.
    by : str
        Who invites.
    name, role : str
        Of the member to be.
    expires : float
        Unix seconds.
    """
    secret = tokens.make_secret()
    broker.invite(name, role, secret, expires, by)
    url, pinned, public = settings.url, settings.certificate, settings.key.public
    token = tokens.Token(url, name, role, secret, pinned, public, expires)
    return api.Invitation(token=tokens.write(token), name=name, role=role, expires=expires)


async def members(service: Service, request: Request) -> Reply:
    """Everybody."""
    request.query(())
    return as_json(await service.writer.call(service.broker.members))


async def revoke(service: Service, request: Request) -> Reply:
    """End a membership; whoever waits under it is told at once."""
    request.query(())
    name = request.params["name"]
    await service.writer.call(service.broker.revoke, name, request.sender.name)
    service.topics.wake([f"member:{name}", "members"])
    found = [member for member in await service.writer.call(service.broker.members) if member.name == name]
    return as_json(found[0])


async def login(service: Service, request: Request) -> Reply:
    """A URL that opens the dashboard once."""
    request.query(())
    return as_json(await new_login(service, request.sender.name))


async def new_login(service: Service, name: str) -> api.Login:
    """Make a URL that opens the dashboard once, as a member."""
    secret, expires = tokens.make_secret(), service.clock() + LOGIN_SECONDS
    await service.writer.call(service.broker.login, name, secret, expires)
    return api.Login(url=f"{service.settings.url}/login/{secret.hex()}", expires=expires)
