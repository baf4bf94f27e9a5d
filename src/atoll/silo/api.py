"""What is said over HTTP, as types: JSON both ways, and raw bytes where arrays travel.

One table of paths, one type per body. Unknown fields are refused, lengths are bounded where the server reads them.
Bytes stand in JSON as base64.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from atoll.silo.tasks import Blob

__all__ = [
    "BEAT",
    "INLINE",
    "PROTOCOL",
    "About",
    "Ack",
    "Assignment",
    "DataSet",
    "Done",
    "Ending",
    "Event",
    "Hello",
    "Invitation",
    "Invite",
    "Join",
    "Joined",
    "Login",
    "Member",
    "Named",
    "NodeStatus",
    "Opened",
    "Refusal",
    "Role",
    "Round",
    "RunOpening",
    "RunStatus",
    "State",
    "Submission",
    "Upload",
    "Uploaded",
    "Work",
    "counts_rows",
]

PROTOCOL = 1
INLINE = 1 << 16
"""Bytes up to which a task travels inside the answer to a poll, and a contribution is kept in the database."""

BEAT = 15.0
"""Seconds between the empty lines by which a node that waits for work says that its process lives."""

Role = Literal["admin", "researcher", "node", "viewer"]

_COUNTS = re.compile(r"attach-[0-9a-f]{16}")


def counts_rows(run: str) -> bool:
    """Whether a run of this name only asks how many rows nodes have, as a driver does when it connects.

    Examples
    --------
    >>> from atoll.silo.api import counts_rows
    >>> counts_rows("attach-0123456789abcdef"), counts_rows("july")
    (True, False)
    """
    return _COUNTS.fullmatch(run) is not None


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class About(_Body, frozen=True):
    """GET /v1/about (anyone): who this coordinator is."""

    federation: str
    signing_key: bytes
    version: str
    protocol: int
    wire: int
    time: float


class Join(_Body, frozen=True):
    """POST /v1/join (signed with the new key): a token for a membership."""

    token: str
    key: bytes
    version: str
    protocol: int
    nonce: bytes


class Joined(_Body, frozen=True):
    """Answer to `Join`; `proof` is the coordinator's signature over ``b"atoll-joined-1" + nonce + key + name``."""

    name: str
    role: Role
    federation: str
    signing_key: bytes
    proof: bytes


class Invite(_Body, frozen=True):
    """POST /v1/invites (admin)."""

    name: str
    role: Role = "node"
    hours: float = 72.0


class Invitation(_Body, frozen=True):
    """Answer to `Invite`: a token that works once."""

    token: str
    name: str
    role: Role
    expires: float


class Member(_Body, frozen=True):
    """One line of GET /v1/members (admin, viewer); DELETE /v1/members/NAME revokes (admin)."""

    name: str
    role: Role
    key: str
    joined: float
    revoked: float | None = None


class DataSet(_Body, frozen=True):
    """A data set that a node offers: its name, and only if its owner shows them, rows and columns."""

    name: str
    rows: int | None = None
    columns: tuple[str, ...] | None = None


class Hello(_Body, frozen=True):
    """POST /v1/hello (node): what it runs on and offers; said at every start."""

    versions: dict[str, str]
    data: tuple[DataSet, ...]


class NodeStatus(_Body, frozen=True):
    """One line of GET /v1/nodes (researcher, admin, viewer)."""

    name: str
    state: Literal["here", "away", "never seen", "revoked"]
    seen: float | None
    versions: dict[str, str]
    data: tuple[DataSet, ...]


class Assignment(_Body, frozen=True):
    """What a node is to do: one position of one exchange."""

    exchange: str
    owner: str
    run: str
    number: int
    position: int
    task: Blob
    signature: bytes
    key: bytes
    each: Blob | None = None
    inline: bytes | None = None
    seconds: float | None = None


class Work(_Body, frozen=True):
    """Answer to GET /v1/work?wait=S&have=ID/POSITION,… (node): everything unanswered that it does not have."""

    tasks: tuple[Assignment, ...]
    time: float


class Refusal(_Body, frozen=True):
    """POST /v1/answers/EXCHANGE/POSITION with JSON (node): why there is no answer."""

    code: str
    reason: str


class Named(_Body, frozen=True):
    """POST /v1/answers/EXCHANGE/POSITION with JSON (node): the answer is a blob that was uploaded before.

    Also PUT /v1/runs/NAME/state (its owner), and the answer to it and to GET: the blob of what a driver keeps.
    """

    blob: Blob


class Ack(_Body, frozen=True):
    """What became of an answer; `late` and `closed` answers are not in the sum and need not be sent again."""

    state: Literal["accepted", "duplicate", "late", "closed"]


class RunOpening(_Body, frozen=True):
    """PUT /v1/runs/NAME (researcher, admin): a run begins, or goes on."""

    purpose: str
    data: str
    nodes: tuple[str, ...]


class Opened(_Body, frozen=True):
    """Answer to `RunOpening`: how many exchanges the run has already."""

    name: str
    exchanges: int


class Submission(_Body, frozen=True):
    """POST /v1/runs/NAME/exchanges (researcher, admin): a task that was uploaded as a blob before, or is inline.

    `told` says what earlier rounds of the run came to: by their numbers, names and finite numbers.
    """

    number: int
    digest: str
    task: Blob
    signature: bytes
    inline: bytes | None = None
    told: dict[int, dict[str, float]] = {}


class State(_Body, frozen=True):
    """GET /v1/runs/NAME/exchanges/NUMBER?wait=S: how far an exchange is.

    `outcome` is a written `atoll.messages.Outcome` whose `merged` is None; the sum itself is `merged`, the blob of a
    tree. `missing` are positions that have not answered, `away` those of them whose node is not connected.
    """

    state: Literal["open", "closed"]
    missing: tuple[int, ...] = ()
    away: tuple[int, ...] = ()
    outcome: bytes | None = None
    merged: Blob | None = None
    inline: bytes | None = None


class RunStatus(_Body, frozen=True):
    """One line of GET /v1/runs."""

    name: str
    owner: str
    purpose: str
    data: str
    nodes: tuple[str, ...]
    state: Literal["running", "waiting", "done", "failed"]
    exchanges: int
    started: float
    changed: float
    note: str = ""


class Round(_Body, frozen=True):
    """One line of GET /v1/runs/OWNER/NAME/rounds?after=N: up to 1000 rounds with numbers above N, ascending.

    `bytes` are those of arrays that arrived, `missing` the names of nodes that have neither answered nor refused, and
    `metrics` what the driver says that the round came to.
    """

    number: int
    step: int
    op: str
    state: Literal["open", "closing", "closed", "ended"]
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


class Event(_Body, frozen=True):
    """One thing that happened; GET /v1/events?after=N streams them (server-sent events)."""

    number: int
    time: float
    kind: str
    who: str
    what: str
    run: str = ""


class Login(_Body, frozen=True):
    """POST /v1/login (any member): a URL that opens the dashboard once."""

    url: str
    expires: float


class Upload(_Body, frozen=True):
    """POST /v1/uploads (researcher, admin, node): these bytes are to come, unless they are here already."""

    digest: str
    size: int


class Uploaded(_Body, frozen=True):
    """Answer to `Upload` and to each PATCH /v1/uploads/DIGEST: where to go on; `done` once it is a blob."""

    offset: int
    done: bool


class Ending(_Body, frozen=True):
    """POST /v1/runs/NAME/end (its owner): the run is over; `told` as in a `Submission`."""

    state: Literal["done", "failed"]
    note: str = ""
    told: dict[int, dict[str, float]] = {}


class Done(_Body, frozen=True):
    """Answer where nothing else is to be said: to `Hello` and to `Ending`."""
