"""How often an address may fail to say who it is: a bucket for each that has failed lately, and a bound on how many.

Only failures are counted: signatures that do not fit or are by nobody, tokens and logins that are none, browsers that
are not logged in. So a thousand nodes behind one address join and come back as fast as they like. Who has used up what
its address may fail is told to wait, before anything costly is looked at; members whose key is known are not, so that
one who fails cannot keep out others behind the same address.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from atoll.errors import explain
from atoll.silo.errors import Clock, Rate, Replayed, Revoked, SiloError, StaleEpoch

if TYPE_CHECKING:
    from atoll.silo.server.requests import Request

__all__ = ["ADDRESSES", "Failures", "group"]

ADDRESSES = 4096
"""Addresses that are remembered; beyond, the one whose last failure is longest ago is forgotten."""

_NOT_FAILED = (Clock, Rate, Replayed, Revoked, StaleEpoch)  # all but Rate: told to one whose signature was good
_NETWORK = 64  # bits of an IPv6 address that one customer has
_LONGEST = 64  # characters of an address that a proxy tells


@lru_cache(ADDRESSES)
def group(address: str) -> str:
    """The address, or for IPv6 the network of 64 bits, of which one customer has all addresses."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:_LONGEST]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), _NETWORK), strict=False))


class Failures:
    """A token bucket for each address that has failed. Used by the event loop's thread only.

    Parameters
    ----------
    per_minute : int
        Failures of one address that are let pass, at once and then each minute; 0: any number.
    behind_proxy : bool
        Whether connections are those of a proxy, so that their address says nothing.
    forwarded : bool
        Whether that proxy writes the caller's address as the last one in ``X-Forwarded-For``.
    clock : callable
        Seconds that only grow.
    """

    def __init__(
        self,
        per_minute: int,
        *,
        behind_proxy: bool = False,
        forwarded: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._rate = float(per_minute), per_minute / 60.0
        self._off = per_minute == 0 or (behind_proxy and not forwarded)
        self._forwarded, self._clock = forwarded, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._left)

    def wait(self, request: Request) -> float:
        """Seconds until the sender's address may fail again; 0 for almost all."""
        if not self._left:
            return 0.0
        left = self._now(self._address(request))
        return 0.0 if left >= 1.0 else (1.0 - left) / self._rate

    def refuse(self, request: Request) -> None:
        """Refuse a request whose address has nothing left.

        Raises
        ------
        Rate
            With the seconds to wait.
        """
        seconds = self.wait(request)
        if seconds > 0:
            where = self._address(request)
            told = {"seconds": math.ceil(seconds)}
            raise Rate(explain("too much has failed from this address", where=where), more=told)

    def count(self, request: Request, error: SiloError) -> None:
        """Count what was refused to somebody who is not known."""
        if self._off or request.member is not None or isinstance(error, _NOT_FAILED) or error.status >= 500:
            return
        address = self._address(request)
        self._left[address] = max(0.0, self._now(address) - 1.0), self._clock()
        self._left.move_to_end(address)
        if len(self._left) > ADDRESSES:
            self._left.popitem(last=False)

    def _now(self, address: str) -> float:
        """What an address has left."""
        found = self._left.get(address)
        if found is None:
            return self._most
        left, since = found
        return min(self._most, left + (self._clock() - since) * self._rate)

    def _address(self, request: Request) -> str:
        told = request.headers.get("x-forwarded-for", "") if self._forwarded else ""
        return group(told.rpartition(",")[2].strip() or request.peer)
