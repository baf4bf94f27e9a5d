"""What the broker hands out: values, so that they may go to other threads."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from atoll.silo.api import Role
from atoll.silo.tasks import Blob

__all__ = ["Disclosed", "Found", "Known", "RoundStatus", "Stored"]


class Known(NamedTuple):
    """A member, as signatures are checked against it.

    Attributes
    ----------
    name, role : str
        Who.
    key : str
        Fingerprint of the public key.
    public : bytes
        The Ed25519 public key, 32 bytes.
    joined : float
        Unix seconds.
    revoked : float or None
        Since when nothing is accepted from it.
    """

    name: str
    role: Role
    key: str
    public: bytes
    joined: float
    revoked: float | None = None


class Stored(NamedTuple):
    """Something that was kept: its name, and its bytes where they are few."""

    blob: Blob
    inline: bytes | None = None


class Found(NamedTuple):
    """A blob that may be served.

    Attributes
    ----------
    path : Path or None
        The file; None where the bytes are in `inline`.
    inline : bytes or None
        The bytes, where they are few.
    size : int
        Bytes.
    kind : {"task", "each", "merged", "state"}
        What it is; only a task or each may be cached by others.
    """

    path: Path | None
    inline: bytes | None
    size: int
    kind: str


class RoundStatus(NamedTuple):
    """One exchange of a run, for people.

    Attributes
    ----------
    number, step : int
        Of the exchange.
    op : str
        The operation.
    state : {"open", "closing", "closed", "ended"}
        Where it stands; `closing` while large answers are still added.
    asked, accepted : int
        Nodes asked, and nodes whose answer is counted so far.
    refused : dict of str to str
        Node name to reason.
    bytes : int
        Bytes of arrays that arrived.
    submitted, closed : float or None
        Unix seconds.
    deadline : float or None
        Unix seconds.
    discloses : tuple of str
        Names of the arrays that leave a node.
    missing : tuple of str
        Names of nodes that have neither answered nor refused.
    metrics : dict of str to float
        What its driver says it came to.
    """

    number: int
    step: int
    op: str
    state: str
    asked: int
    accepted: int
    refused: dict[str, str]
    bytes: int
    submitted: float
    closed: float | None
    deadline: float | None
    discloses: tuple[str, ...]
    missing: tuple[str, ...] = ()
    metrics: dict[str, float] = {}


class Disclosed(NamedTuple):
    """What left one node for one run through one operation: how often, and bytes of arrays in all."""

    node: str
    owner: str
    run: str
    op: str
    times: int
    bytes: int
