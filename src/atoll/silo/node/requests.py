"""What was asked of a node and not allowed, kept for its owner; and what the owner makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from atoll.errors import explain
from atoll.silo.durable import reached
from atoll.silo.errors import Conflict, Malformed, NotFound
from atoll.silo.files import write_whole
from atoll.silo.node.folder import Folder
from atoll.silo.node.policy import Rule, read_policy, written

__all__ = [
    "Request",
    "Wish",
    "add_rule",
    "approve",
    "described",
    "families",
    "open_requests",
    "record",
    "revoke",
    "size_in_words",
]

_MOST = 500
_MOST_OPERATIONS = 200
_TEXT = 300


class Wish(msgspec.Struct):
    """One operation that was asked for.

    Attributes
    ----------
    discloses : str
        In plain words, what would leave the node.
    times : int
        How often it was asked and refused; 0 of an operation that was announced only.
    bytes : int
        Of one answer; 0 where that depends on the rows.
    nodes : int
        Fewest nodes in the sum, as the task says; 1 where answers are told apart.
    reason : str
        Why it was refused last.
    last : float
        When, Unix seconds.
    """

    discloses: str
    times: int = 0
    bytes: int = 0
    nodes: int = 1
    reason: str = ""
    last: float = 0.0


class Request(msgspec.Struct):
    """What one requester asked of one data set.

    Attributes
    ----------
    id : int
        By which it is approved.
    who, key, data : str
        Name and key fingerprint of the requester, and the data set.
    purposes : list of str
        What for, as the requester says.
    operations : dict of str to Wish
        What was asked.
    first, last : float
        When, Unix seconds.
    state : {"open", "approved"}
        What the owner made of it.
    """

    id: int
    who: str
    key: str
    data: str
    purposes: list[str] = []
    operations: dict[str, Wish] = {}
    first: float = 0.0
    last: float = 0.0
    state: str = "open"


class _File(msgspec.Struct):
    next: int = 1
    requests: list[Request] = []


def _read(folder: Folder) -> _File:
    try:
        return msgspec.json.decode((folder / "requests.json").read_bytes(), type=_File)
    except (FileNotFoundError, msgspec.MsgspecError):
        return _File()


def _write(folder: Folder, file: _File) -> None:
    write_whole(folder / "requests.json", msgspec.json.format(msgspec.json.encode(file)), mode=0o600)
    reached("node.requests.written")


def open_requests(folder: Folder, *, every: bool = False) -> list[Request]:
    """What waits for the owner, the oldest first; with `every`, also what was approved."""
    return [r for r in _read(folder).requests if every or r.state == "open"]


def record(
    folder: Folder,
    who: str,
    key: str,
    data: str,
    purpose: str,
    op: str,
    wish: Wish,
    announced: Mapping[str, str] | None = None,
) -> int:
    """Remember that something was asked and refused; returns the number of the request.

    Parameters
    ----------
    folder : Folder
        Of the node.
    who, key, data, purpose, op : str
        As the signed task has them.
    wish : Wish
        `times` is counted here.
    announced : mapping of str to str, optional
        Further operations that the run may come to ask, as the signed task declares, and what each discloses.
    """
    with folder.editing():
        file = _read(folder)
        found = next((r for r in file.requests if (r.key, r.data, r.state) == (key, data, "open")), None)
        if found is None:
            found = Request(file.next, who[:_TEXT], key, data[:_TEXT], first=wish.last, purposes=[], operations={})
            file.next += 1
            file.requests = [*file.requests[-_MOST + 1 :], found]
        purpose = purpose[:_TEXT]
        if purpose and purpose not in found.purposes:
            found.purposes = [*found.purposes[-9:], purpose]
        known = found.operations.get(op)
        wish.times = (known.times if known else 0) + 1
        if known is not None or len(found.operations) < _MOST_OPERATIONS:
            found.operations[op[:_TEXT]] = wish
        for other, words in (announced or {}).items():
            if other not in found.operations and len(found.operations) < _MOST_OPERATIONS:
                found.operations[other] = Wish(words, last=wish.last)
        found.last = wish.last
        _write(folder, file)
        return found.id


def families(operations: Iterable[str]) -> tuple[str, ...]:
    """Patterns for all operations that begin like some, and for those that describe rows, which every model asks.

    Examples
    --------
    >>> from atoll.silo.node.requests import families
    >>> families(["neighbors.nearest", "describe.rows"])
    ('describe.*', 'neighbors.*')
    """
    return tuple(sorted({f"{op.partition('.')[0]}.*" for op in [*operations, "describe.rows"]}))


def approve(folder: Folder, number: int, *, whole: bool = False, **limits: Any) -> Rule:
    """Allow what a request asks for.

    Parameters
    ----------
    folder : Folder
        Of the node.
    number : int
        Of the request.
    whole : bool, default=False
        Whether the `families` of what was asked for are allowed, rather than these operations alone.
    **limits
        Fields of `Rule`; by default the operations that were asked for or announced, and no limits.

    Returns
    -------
    Rule
        As it stands in the policy now.

    Raises
    ------
    NotFound
        If there is no such request.
    """
    file = _read(folder)
    found = next((r for r in file.requests if r.id == number), None)
    if found is None:
        known = ", ".join(str(r.id) for r in file.requests) or "none"
        raise NotFound(
            explain(f"there is no request {number}", expected=f"one of: {known}", hint="atoll node requests")
        )
    asked = families(found.operations) if whole else tuple(sorted(found.operations))
    chosen: dict[str, Any] = {"operations": asked, **limits}
    rule = Rule(found.who, found.key, (found.data,), **chosen)
    add_rule(folder, rule, f"request {number}, allowed {_day()}")
    with folder.editing():
        file = _read(folder)
        for request in file.requests:
            if request.id == number:
                request.state = "approved"
        _write(folder, file)
    return rule


def add_rule(folder: Folder, rule: Rule, comment: str = "") -> None:
    """Write a rule at the end of the policy, unless it is there; what stands there stays as it is.

    Raises
    ------
    Malformed
        If the policy cannot be read, which is mended first.
    """
    with folder.editing():
        text = folder.policy.read_text(encoding="utf-8") if folder.policy.exists() else ""
        before = read_policy(text, str(folder.policy))
        if rule in before:  # this was begun before, and killed
            return
        text = text + ("" if text.endswith("\n") or not text else "\n") + written(rule, comment)
        if len(read_policy(text, str(folder.policy))) != len(before) + 1:
            raise Conflict(
                explain("the rule cannot be added to this file", where=folder.policy, hint="edit it by hand")
            )
        write_whole(folder.policy, text.encode(), mode=0o600)
    reached("node.policy.written")


def revoke(folder: Folder, what: str) -> list[Rule]:
    """Take back what was allowed.

    Parameters
    ----------
    folder : Folder
        Of the node.
    what : str
        Number of a request, name of a requester, or a key fingerprint.

    Returns
    -------
    list of Rule
        Those that are gone.

    Raises
    ------
    NotFound
        If there is no such rule.
    Conflict
        If the file is written so that it has to be edited by hand.
    """
    request = next((r for r in _read(folder).requests if str(r.id) == what), None)
    with folder.editing():
        text = folder.policy.read_text(encoding="utf-8")
        rules = read_policy(text, str(folder.policy))
        gone = [i for i, rule in enumerate(rules) if _is_meant(rule, what, request)]
        if not gone and request is not None and request.state == "approved":  # this was begun before, and killed
            _drop(folder, request)
            return []
        if not gone:
            known = ", ".join(sorted({rule.who for rule in rules})) or "nobody"
            raise NotFound(explain("nothing is allowed by this name or number", got=what, expected=f"one of: {known}"))
        left = _without(text, gone)
        if _rules_or_none(left) != tuple(r for i, r in enumerate(rules) if i not in gone):
            hint = "edit it by hand"
            raise Conflict(explain("the rules cannot be taken out of this file", where=folder.policy, hint=hint))
        write_whole(folder.policy, left.encode(), mode=0o600)
        reached("node.policy.written")
        if request is not None:
            _drop(folder, request)
    return [rules[i] for i in gone]


def _drop(folder: Folder, request: Request) -> None:
    file = _read(folder)
    file.requests = [r for r in file.requests if r.id != request.id]
    _write(folder, file)


def _rules_or_none(text: str) -> tuple[Rule, ...] | None:
    try:
        return read_policy(text)
    except Malformed:
        return None


def _is_meant(rule: Rule, what: str, request: Request | None) -> bool:
    if request is not None:
        return rule.key == request.key and request.data in rule.data
    return what in (rule.who, rule.key)


def _without(text: str, gone: list[int]) -> str:
    """A policy without some of its rules; comments directly above a rule go with it."""
    lines = text.splitlines(keepends=True)
    heads = [_top(lines, i) for i, line in enumerate(lines) if re.match(r"\s*\[\[\s*allow", line)]
    ends = [*heads[1:], len(lines)]
    cut = {i for k in gone if k < len(heads) for i in range(heads[k], ends[k])}
    return "".join(line for i, line in enumerate(lines) if i not in cut)


def _top(lines: list[str], at: int) -> int:
    while at and lines[at - 1].lstrip().startswith("#"):
        at -= 1
    return at


def size_in_words(size: int) -> str:
    """Bytes for people."""
    if not size:
        return "as much as the rows make it"
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{size} bytes"
        size = size / 1000  # type: ignore[assignment]
    raise AssertionError


def described(request: Request) -> str:
    """A request in plain words: who asks, what for, what would leave, how much each time, and how to answer it."""
    purpose = ", ".join(request.purposes) or "not said"
    state = "" if request.state == "open" else ", approved"
    lines = [
        f"request {request.id}{state}: {request.who} asks about {request.data!r}",
        f"  key        {request.key}",
        f"  for        {purpose}",
        f"  when       from {_when(request.first)} to {_when(request.last)}",
    ]
    for op, wish in sorted(request.operations.items(), key=lambda item: (not item[1].times, item[0])):
        often = "once" if wish.times == 1 else f"{wish.times} times"
        lines.append(f"  {op}, " + (f"asked {often}" if wish.times else "announced: to be asked next"))
        lines.append(f"    leaves   {wish.discloses}")
        if wish.times:
            lines.append(f"    size     {size_in_words(wish.bytes)} each time")
            lines.append(f"    seen     {_seen(wish.nodes)}")
    lines.append(f"  to allow this:  atoll node approve {request.id}")
    more = ", ".join(families(request.operations))
    lines.append(f"  to allow everything of these kinds ({more}):  atoll node approve {request.id} --families")
    return "\n".join(lines)


def _seen(nodes: int) -> str:
    if nodes <= 1:
        return "this node's answer may be told apart from those of others"
    return f"as a sum over at least {nodes} nodes, as the signed task says; the coordinator sees each answer by itself"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _day() -> str:
    return datetime.now(UTC).date().isoformat()
