"""What a requester signs, and what a node therefore knows for certain.

A task is one exchange with everything that decides what it means at a node: who asks, what for, over which data set of
which nodes. It is written once, named by the hash of its bytes, and the requester signs that name. So a coordinator can
neither invent a task nor alter one, and a cache can serve its bytes.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from atoll.messages import Exchange

__all__ = ["SIGNED", "Blob", "Task", "blob_of", "signed_text"]

SIGNED = b"atoll-task-1\n"


class Blob(NamedTuple):
    """Bytes by the name of their content.

    Attributes
    ----------
    digest : str
        SHA-256, 64 hexadecimal digits.
    size : int
        Bytes.
    """

    digest: str
    size: int


class Task(NamedTuple):
    """One exchange as its requester means it; written by `atoll.wire`.

    Attributes
    ----------
    federation : str
        Fingerprint of the coordinator's signing key: a task of one federation means nothing in another.
    requester, key : str
        Name and key fingerprint of who asks.
    purpose : str
        What for, in words: ``KNeighborsClassifier``.
    data : str
        Name of the data set at the nodes.
    nodes : tuple of str
        Names of the run's nodes, in order of their numbers; the cohort of the exchange counts these.
    starts : tuple of int
        Per node, the global id of its first row; empty while nobody has told how many rows there are.
    each : dict of int to Blob
        Position to further arrays for it alone, in a blob of their own (a tree).
    exchange : Exchange
        The question; its own `each` is empty.
    issued, expires : float
        Unix seconds.
    asks : tuple of str
        Operations that the run may come to ask, as the requester declares. Nothing is allowed by that: an owner who is
        asked for the first of them is shown all of them.
    """

    federation: str
    requester: str
    key: str
    purpose: str
    data: str
    nodes: tuple[str, ...]
    starts: tuple[int, ...]
    each: dict[int, Blob]
    exchange: Exchange
    issued: float
    expires: float
    asks: tuple[str, ...] = ()


def blob_of(data: bytes | memoryview) -> Blob:
    """The name of some bytes."""
    return Blob(hashlib.sha256(data).hexdigest(), memoryview(data).nbytes)


def signed_text(task: Blob) -> bytes:
    """What is signed of a task: a fixed word, so that no other signature can stand for this one, and its digest."""
    return SIGNED + bytes.fromhex(task.digest)
