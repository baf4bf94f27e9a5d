"""What the owner of a node allows, out of ``policy.toml``: nothing that is not written there.

A rule allows some operations, for one requester, over one data set, within limits::

    [[allow]]
    who = "alice"                    # as the federation names her
    key = "k3v4a-…"                  # fingerprint of her key; without it, the coordinator alone says who is alice
    data = "iris"
    operations = ["describe.*", "neighbors.*"]
    columns = ["age", "income"]      # only these are served, targets too; all when left out
    min_rows = 20                    # fewest rows behind one contribution
    min_nodes = 3                    # fewest nodes in a sum, as the signed task claims
    rounds_per_day = 1000
    bytes_per_day = "100 MB"
    until = 2027-01-01

A question passes if one rule lets it pass. What is not in the file is refused, and so is everything while the file
cannot be read.

**min_nodes** is held against what the requester has signed: how many nodes are asked, and which share must answer. A
coordinator that adds up plainly sees every contribution by itself, and could name nodes that do not exist; only a
secure sum, which Atoll does not have yet, can enforce it. An answer that is told apart by node (``describe.schema``,
nearest neighbours) counts as a sum over one node.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from atoll.errors import closest, explain
from atoll.silo.errors import Malformed, NotApproved, Quota, SiloError, TooFewNodes

__all__ = ["START", "Policy", "Question", "Rule", "Used", "read_policy", "size_of", "written"]

START = """\
# What this node answers: nothing but what a rule below allows.
#
# `atoll node requests` lists what was asked in vain, `atoll node approve ID` writes a rule here, `atoll node revoke`
# takes rules away. The file may be edited while the node runs; the next question goes by it. If it cannot be read,
# everything is refused. Keys of a rule: who, key, data, operations, columns, min_rows, min_nodes, rounds_per_day,
# bytes_per_day, until. Without `key`, the coordinator alone says who somebody is. `min_nodes` goes by what the
# requester has signed; only a secure sum can enforce it.
"""

_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{letter}B": 1000**i for i, letter in enumerate("kMGT", 1)}
_UNITS |= {"KB": 1000}
_UNITS |= {f"{letter}iB": 1024**i for i, letter in enumerate("KMGT", 1)}


class Rule(NamedTuple):
    """One thing that is allowed.

    Attributes
    ----------
    who : str
        Name of the requester; ``*`` for anybody.
    key : str
        Fingerprint of the requester's key; empty where the name alone counts.
    data, operations : tuple of str
        Names, or patterns such as ``neighbors.*``.
    columns : tuple of str, or None
        The only ones that are served; None: all.
    min_rows, min_nodes : int
        Fewest rows behind a contribution, fewest nodes in a sum.
    rounds_per_day, bytes_per_day : int or None
        Most of both, for this requester over this data set, from midnight to midnight (UTC).
    until : float or None
        Unix seconds.
    """

    who: str
    key: str = ""
    data: tuple[str, ...] = ("*",)
    operations: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    min_rows: int = 1
    min_nodes: int = 1
    rounds_per_day: int | None = None
    bytes_per_day: int | None = None
    until: float | None = None

    def is_for(self, who: str, key: str) -> bool:
        """Whether this rule is about somebody."""
        return (not self.key or self.key == key) and (self.who in ("*", who))


class Question(NamedTuple):
    """What the policy looks at.

    Attributes
    ----------
    who, key : str
        Name and key fingerprint of the requester.
    data, op : str
        Data set and operation.
    nodes : int
        Fewest nodes that will be in the sum, by what was signed; 1 where answers are told apart.
    """

    who: str
    key: str
    data: str
    op: str
    nodes: int


class Used(NamedTuple):
    """What somebody has had of a data set today."""

    rounds: int = 0
    bytes: int = 0


class Policy(NamedTuple):
    """The rules of a node.

    Attributes
    ----------
    rules : tuple of Rule
        In the order of the file.
    digest : str
        SHA-256 of the file, for the log; empty where there is none.
    broken : str
        Why the file cannot be read; empty where it can.
    """

    rules: tuple[Rule, ...]
    digest: str
    broken: str = ""

    @classmethod
    def of(cls, path: Path) -> Policy:
        """The policy that lies in a file; one that allows nothing where it cannot be read. Raises nothing."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return cls((), "", f"there is no {path}")
        except OSError as error:
            return cls((), "", f"{path} cannot be read: {error.strerror}")
        digest = hashlib.sha256(data).hexdigest()
        try:
            return cls(read_policy(data, str(path)), digest)
        except Malformed as error:
            return cls((), digest, str(error))

    def covers(self, q: Question, now: float) -> bool:
        """Whether a rule is about such a question, whatever its limits."""
        return any(rule.until is None or now <= rule.until for rule in self._about(q))

    def _about(self, q: Question) -> list[Rule]:
        return [r for r in self.rules if r.is_for(q.who, q.key) and _any(r.data, q.data) and _any(r.operations, q.op)]

    def passing(self, q: Question, used: Used, now: float) -> list[Rule]:
        """The rules by which a question may pass, as far as can be told before looking at rows.

        Parameters
        ----------
        q : Question
            What is asked.
        used : Used
            What the requester has had today.
        now : float
            Unix seconds.

        Returns
        -------
        list of Rule
            At least one.

        Raises
        ------
        NotApproved, Quota, TooFewNodes
            If there is none; the reason is that of the rule that comes closest.
        """
        if self.broken:
            raise NotApproved("the owner's policy cannot be read, so nothing is allowed until it is mended")
        what = f"operation {q.op!r} over data set {q.data!r} for {q.who} ({q.key})"
        found = self._about(q)
        current = [r for r in found if r.until is None or now <= r.until]
        if not current:
            why = "the owner allowed it until a day that is over" if found else "the owner has not allowed it"
            raise NotApproved(explain(f"{why}: {what}", hint=NotApproved.hint))
        refused: SiloError | None = None
        passing = []
        for rule in current:
            try:
                _limits(rule, q, used)
                passing.append(rule)
            except SiloError as error:
                refused = error
        if not passing and refused is not None:
            raise refused
        return passing


def _any(patterns: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _limits(rule: Rule, q: Question, used: Used) -> None:
    if q.nodes < rule.min_nodes:
        got, expected = f"{q.nodes}, as the signed task has it", f"at least {rule.min_nodes}"
        raise TooFewNodes(explain("too few nodes would be in the sum", got=got, expected=expected))
    if rule.rounds_per_day is not None and used.rounds >= rule.rounds_per_day:
        raise Quota(explain("today's rounds are used up", got=used.rounds, expected=f"{rule.rounds_per_day} a day"))
    if rule.bytes_per_day is not None and used.bytes >= rule.bytes_per_day:
        raise Quota(explain("today's bytes are used up", got=used.bytes, expected=f"{rule.bytes_per_day} a day"))


def size_of(text: str | int) -> int:
    """Bytes that a text says: ``"100 MB"``, ``"1.5 GiB"``, ``4096``.

    Raises
    ------
    ValueError
        If it says none.
    """
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]*)\s*", text) if isinstance(text, str) else None
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"no number of bytes, such as '100 MB': {text!r}")
    return int(float(match[1]) * _UNITS[match[2]])


def read_policy(data: bytes | str, where: str = "policy.toml") -> tuple[Rule, ...]:
    """Read a policy.

    Parameters
    ----------
    data : bytes or str
        The file.
    where : str
        Named in errors.

    Returns
    -------
    tuple of Rule

    Raises
    ------
    Malformed
        Naming line and key: whatever is not understood to the letter is no policy.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        tables = tomllib.loads(text)
    except UnicodeDecodeError:
        raise Malformed(explain("the policy is not UTF-8 text", where=where)) from None
    except tomllib.TOMLDecodeError as error:
        raise Malformed(explain("the policy is no TOML", got=error, where=where)) from None
    strange = [key for key in tables if key != "allow"]
    if strange:
        place = f"{where}, line {_line(text, -1, strange[0])}"
        raise Malformed(explain(f"unknown key {strange[0]!r}", where=place, hint=closest(strange[0], ["allow"])))
    rules = tables.get("allow", [])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise Malformed(explain("rules are tables [[allow]]", got="allow = …", where=where))
    return tuple(_rule(table, i, text, where) for i, table in enumerate(rules))


def _rule(table: Mapping[str, Any], i: int, text: str, where: str) -> Rule:
    for key in table:
        if key not in Rule._fields:
            place = f"{where}, line {_line(text, i, key)}"
            raise Malformed(explain(f"unknown key {key!r}", where=place, hint=closest(key, Rule._fields)))
    for key in ("who", "data", "operations"):
        if key not in table:
            place = f"{where}, the rule of line {_line(text, i, '')}"
            raise Malformed(explain(f"the key {key!r} is missing", where=place, hint="'*' stands for all"))
    values: dict[str, Any] = {}
    for key, value in table.items():
        try:
            values[key] = _READ[key](value)
        except (ValueError, TypeError, OverflowError) as error:
            raise Malformed(explain(f"{key} is {error}", where=f"{where}, line {_line(text, i, key)}")) from None
    return Rule(**values)


def _line(text: str, rule: int, key: str) -> int:
    """The line of a key of the i-th rule, of its beginning for an empty key, or of a key outside (-1)."""
    at = -1
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*\[\[\s*allow\s*\]\]", line):
            at += 1
            if at == rule and not key:
                return number
        elif key and (rule in (at, -1)) and re.match(rf"\s*\[*\s*[\"']?{re.escape(key)}\b", line):
            return number
    return 1


def _name(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no name: {value!r}")
    return value


def _names(value: object) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed or not all(isinstance(v, str) and v for v in listed):
        raise ValueError(f"no name, and no list of names: {value!r}")
    return tuple(listed)


def _positions(value: object) -> tuple[str, ...]:
    listed = [str(v) if type(v) is int else v for v in value] if isinstance(value, list) else value
    return _names(listed)


def _count(value: object) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"no whole number of at least 1: {value!r}")
    return value


def _bytes(value: object) -> int:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f"no number of bytes, such as '100 MB': {value!r}")
    return size_of(value)


def _until(value: object) -> float:
    if isinstance(value, str):
        try:
            value = datetime.date.fromisoformat(value)
        except ValueError:
            raise ValueError(f"no date, such as 2027-01-01: {value!r}") from None
    if isinstance(value, datetime.datetime):
        return (value if value.tzinfo else value.replace(tzinfo=datetime.UTC)).timestamp()
    if not isinstance(value, datetime.date):
        raise ValueError(f"no date, such as 2027-01-01: {value!r}")
    day = datetime.datetime.combine(value, datetime.time.max, datetime.UTC)
    return math.ceil(day.timestamp())


_READ = {
    "who": _name,
    "key": _name,
    "data": _names,
    "operations": _names,
    "columns": _positions,
    "min_rows": _count,
    "min_nodes": _count,
    "rounds_per_day": _count,
    "bytes_per_day": _bytes,
    "until": _until,
}


def written(rule: Rule, comment: str = "") -> str:
    """A rule as it stands in the file, with a blank line before it."""
    from atoll.silo.node.folder import quoted

    plain = Rule("")
    lines = ["", *(f"# {line}" for line in comment.splitlines()), "[[allow]]"]
    for key, value in rule._asdict().items():
        if value == getattr(plain, key) and key not in ("who", "data", "operations"):
            continue
        if key == "until":
            day = datetime.datetime.fromtimestamp(value - 1, datetime.UTC)
            lines.append(f"until = {day.date().isoformat()}")
        else:
            one = key == "data" and len(value) == 1
            lines.append(f"{key} = {quoted(value[0] if one else value)}")
    return "\n".join(lines) + "\n"
