"""What the pages show, as plain values: whoever has them can draw the pages."""

from __future__ import annotations

from typing import NamedTuple

from atoll.silo.api import Event, NodeStatus, RunStatus
from atoll.silo.broker.types import Disclosed, RoundStatus

__all__ = ["NodeSeen", "Overview", "RunSeen"]


class RunSeen(NamedTuple):
    """A run and its rounds.

    Attributes
    ----------
    status : RunStatus
        Who asks what of whom, and how far it is.
    rounds : tuple of RoundStatus
        In order of their numbers.
    left : tuple of Disclosed
        What left each node in this run.
    """

    status: RunStatus
    rounds: tuple[RoundStatus, ...]
    left: tuple[Disclosed, ...]


class NodeSeen(NamedTuple):
    """A node, and what left it.

    Attributes
    ----------
    status : NodeStatus
        Whether it is here, and what it offers.
    left : tuple of Disclosed
        What left it, in every run.
    """

    status: NodeStatus
    left: tuple[Disclosed, ...]


class Overview(NamedTuple):
    """What the first page shows.

    Attributes
    ----------
    federation : str
        Fingerprint of the coordinator's signing key.
    version : str
        Of Atoll, at the coordinator.
    now : float
        Unix seconds.
    nodes : tuple of NodeStatus
        Everyone who joined as a node.
    runs : tuple of RunStatus
        The latest first.
    events : tuple of Event
        The latest first.
    """

    federation: str
    version: str
    now: float
    nodes: tuple[NodeStatus, ...]
    runs: tuple[RunStatus, ...]
    events: tuple[Event, ...]
