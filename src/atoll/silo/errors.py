"""Everything that can be refused between silos: one class per code, the same on both sides of the wire.

An error travels as ``application/problem+json`` (RFC 9457) and is raised again, as the same class, where it arrives.
Every code is explained, with what to do about it, in ``docs/silo-errors.md``, which is `page` to the letter.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from atoll.errors import AtollError, InvalidData, JournalMismatch, Refused, RoundFailed, UnknownName, WireError

__all__ = [
    "PAGE",
    "BadSignature",
    "ChainBroken",
    "Clock",
    "ColumnMissing",
    "Conflict",
    "Contract",
    "DataChanged",
    "Digest",
    "DiskFull",
    "Encoding",
    "ExpiredTask",
    "Failed",
    "Forbidden",
    "Internal",
    "Malformed",
    "Method",
    "NotApproved",
    "NotFound",
    "OtherQuestion",
    "Proof",
    "Quota",
    "Rate",
    "Replayed",
    "Revoked",
    "SiloError",
    "StaleEpoch",
    "TokenExpired",
    "TokenMistyped",
    "TokenName",
    "TokenUnknown",
    "TokenUsed",
    "TooFewNodes",
    "TooFewRows",
    "TooLarge",
    "Truncated",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "UnsafeFile",
    "Unsupported",
    "Version",
    "WrongCertificate",
    "WrongFederation",
    "WrongRound",
    "WrongRun",
    "codes",
    "from_problem",
    "page",
    "problem",
]

PAGE = "/errors"
"""Where a coordinator explains its codes; ``type`` of a problem is this path and the code."""

_TEXT = 4000
_MORE = 32
_CODE = re.compile(r"[a-z][a-z0-9-]{0,39}\Z")

_Fact = str | int | float | bool | None


class SiloError(AtollError):
    """Something between silos that was refused or failed.

    Parameters
    ----------
    detail : str
        What happened, this time; as `atoll.errors.explain` lays it out. The title of the code when empty.
    more : mapping of str to plain values, optional
        Facts for programs, which travel along: the epoch that is known, seconds to wait.

    Attributes
    ----------
    code : str
        Short name of what went wrong; stable, for programs.
    status : int
        HTTP status.
    title : str
        One line, the same whenever this code is given.
    hint : str
        What to do about it.
    more : dict
        As above.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "something failed"
    hint: str = "read the message; the coordinator's log has more"

    def __init__(self, detail: str = "", *, more: Mapping[str, _Fact] | None = None) -> None:
        super().__init__(detail or self.title)
        self.more: dict[str, _Fact] = dict(more or {})


class Unauthenticated(SiloError):
    """The request was not signed, or by a key that is no member's."""

    code, status, title = "unauthenticated", 401, "the sender is not known here"
    hint = "join or log in first, with a token from the federation's admin"


class BadSignature(SiloError):
    """The signature of a request, or of a task, is not by the key that it names, or not over these bytes."""

    code, status, title = "bad-signature", 401, "the signature does not fit"
    hint = "something between both sides changed the request: a proxy must pass on method, path and query as they are"


class Replayed(SiloError):
    """A request with this number was carried out before, or is so far behind that nobody can tell."""

    code, status, title = "replayed", 401, "this request was received before"
    hint = "nothing, if the request was repeated by the network; otherwise find out who repeats recorded requests"


class StaleEpoch(SiloError):
    """The sender counts its requests from a start that the coordinator no longer accepts.

    ``more["epoch"]`` is the highest start it has seen. Atoll's own client starts a new count and repeats the request.
    """

    code, status, title = "stale-epoch", 401, "requests are counted from a start that is over"
    hint = "repeat the request with a new epoch; if it comes again and again, two machines use copies of one key"


class Clock(SiloError):
    """The clocks of sender and receiver are more than five minutes apart."""

    code, status, title = "clock", 401, "the clocks of both sides do not agree"
    hint = "set the clock of the machine that is wrong (timedatectl set-ntp true), then try again"


class Revoked(SiloError, Refused):
    """The membership was ended by an admin."""

    code, status, title = "revoked", 403, "this membership was revoked"
    hint = "ask the federation's admin; a new membership needs a new token and makes a new key"


class Forbidden(SiloError, Refused):
    """A member's role does not allow this."""

    code, status, title = "forbidden", 403, "the role does not allow this"
    hint = "ask the federation's admin for an invitation with the role that is needed"


class NotApproved(SiloError, Refused):
    """The owner of a node has not allowed this question, or not to this requester, or not over this data set."""

    code, status, title = "not-approved", 403, "the owner of the node has not allowed this"
    hint = "the owner sees the request with `atoll node requests` and allows it with `atoll node approve`"


class Quota(SiloError, Refused):
    """The owner of a node allows so many rounds and bytes a day, and they are used up."""

    code, status, title = "quota", 403, "what the owner allows for today is used up"
    hint = "go on tomorrow: the run continues where it stands; or ask the owner to raise `per_day` in policy.toml"


class TooFewRows(SiloError, Refused):
    """A contribution would describe fewer rows than the owner of the node allows."""

    code, status, title = "too-few-rows", 403, "too few rows stand behind this contribution"
    hint = "leave the node out, or ask the owner to lower `min_rows` in policy.toml"


class TooFewNodes(SiloError, Refused):
    """A sum would be over fewer nodes than the owner of this one allows."""

    code, status, title = "too-few-nodes", 403, "too few nodes would be in the sum"
    hint = "ask more nodes at once, or ask the owner to lower `min_nodes` in policy.toml"


class TokenMistyped(SiloError):
    """A text that is no token: characters are missing, added or changed."""

    code, status, title = "token-mistyped", 400, "the token is mistyped or cut off"
    hint = "copy the whole token again; it begins with atoll_ and is one word"


class TokenUnknown(SiloError):
    """A token that this coordinator has not made, or whose invitation was withdrawn."""

    code, status, title = "token-unknown", 403, "this coordinator knows no such token"
    hint = "check that the token is for this URL; otherwise ask the federation's admin for a new one"


class TokenUsed(SiloError):
    """A token works once, and somebody has joined with it."""

    code, status, title = "token-used", 403, "the token has been used"
    hint = "ask the federation's admin for a new one; if you did not use it, tell the admin: somebody else did"


class TokenExpired(SiloError):
    """A token works until the time that it names."""

    code, status, title = "token-expired", 403, "the token has expired"
    hint = "ask the federation's admin for a new one (atoll coordinator invite NAME)"


class TokenName(SiloError):
    """A token is for one name and one role, and was used for another."""

    code, status, title = "token-name", 403, "the token is for another name or role"
    hint = "use it as it was made: nodes join (atoll node join), everybody else logs in (atoll login)"


class Proof(SiloError):
    """Who answered does not hold the coordinator's signing key, which the token names."""

    code, status, title = "proof", 401, "this is not the coordinator that the token names"
    hint = "check the URL; if it is right, somebody stands between: tell the federation's admin before going on"


class WrongCertificate(SiloError):
    """The TLS certificate is not the one that was pinned when joining."""

    code, status, title = "certificate", 401, "the coordinator shows another certificate than the pinned one"
    hint = "if the coordinator's folder was made anew, log in or join again; if not, tell the federation's admin"


class WrongFederation(SiloError):
    """A task or an answer of one federation, shown to another."""

    code, status, title = "wrong-federation", 409, "this belongs to another federation"
    hint = "check the URL of the coordinator; a task is signed for one federation only"


class Version(SiloError):
    """Both sides run versions that do not understand each other; the message has a table of both."""

    code, status, title = "version", 409, "the versions of both sides do not fit together"
    hint = "install the same version of atoll on both sides: the newer one of the table"


class OtherQuestion(SiloError, JournalMismatch):
    """Another question was asked before under this number of this run."""

    code, status, title = "other-question", 409, "another question was answered under this number"
    hint = "a run continues only with the program, data and seed that it began with; use another name for another run"


class WrongRun(SiloError):
    """An answer or a question for a run that is not open, or belongs to somebody else."""

    code, status, title = "wrong-run", 409, "this is not for this run"
    hint = "open the run first (Federation.connect does); the name of a run belongs to who opened it"


class WrongRound(SiloError):
    """An answer for a round, or a position of it, in which the sender was not asked; or a number out of turn."""

    code, status, title = "wrong-round", 409, "this is not for this round"
    hint = "answer what was asked only; exchanges of a run are numbered from 0 without gaps"


class ExpiredTask(SiloError):
    """A task whose requester no longer waits for it."""

    code, status, title = "expired-task", 409, "the task has expired"
    hint = "run the program again under the same run name: it asks again, and answered rounds are not repeated"


class Conflict(SiloError):
    """What was asked contradicts what is there: a name that is taken, an upload with another size."""

    code, status, title = "conflict", 409, "this contradicts what is there already"
    hint = "choose another name, or continue what was begun"


class DataChanged(SiloError, InvalidData):
    """The rows of a node are not those that the run began with: the file, the query or the loader gives others."""

    code, status, title = "data-changed", 409, "the rows have changed since the run began"
    hint = "bring the old rows back, or restart the node and begin a new run over the new ones"


class ColumnMissing(SiloError, InvalidData):
    """A column that the run or the policy names is not in the rows of a node."""

    code, status, title = "column-missing", 422, "a column is missing on a node"
    hint = "name the column in the node's data, or leave the node out of the run"


class Contract(SiloError, WireError):
    """A contribution is not what the round asks for: names, shapes, dtypes, not finite, weight or norm too large.

    The node is named and left out; the round goes on by its rule.
    """

    code, status, title = "contract", 422, "the contribution breaks the contract of its round"
    hint = "check the rows of the node that is named, and that all nodes run the same version"


class Failed(SiloError, RoundFailed):
    """The operation raised an error on the node."""

    code, status, title = "failed", 422, "the operation failed on the node"
    hint = "the message says what the operation said; the node's log (atoll node log) has when and for what"


class Unsupported(SiloError, RoundFailed):
    """A question that cannot be asked of silos: nodes would have to speak to each other, or code would travel."""

    code, status, title = "unsupported", 422, "this cannot be asked of silos"
    hint = "use a plan that ends in one sum, and operations that every node has installed"


class Malformed(SiloError, WireError):
    """A body, header or path that cannot be read as what it should be."""

    code, status, title = "malformed", 400, "the request cannot be read"
    hint = "use the client of the same version; the coordinator's /openapi.json says what is expected"


class Truncated(SiloError, WireError):
    """Fewer bytes arrived than were announced."""

    code, status, title = "truncated", 400, "the body ended early"
    hint = "send it again; an upload continues at the offset that the coordinator tells"


class Digest(SiloError, WireError):
    """The bytes that arrived do not have the hash by which they were announced."""

    code, status, title = "digest", 422, "the bytes are not those that were announced"
    hint = "send them again; if it comes again, look for a proxy, a disk or a memory that changes bytes"


class TooLarge(SiloError, WireError):
    """A body, a header or a value is larger than the limit that the message names."""

    code, status, title = "too-large", 413, "this is larger than what is accepted"
    hint = "send large bodies as uploads in chunks; the coordinator's limits are options of `atoll coordinator start`"


class Encoding(SiloError, WireError):
    """A body in a compressed or unknown encoding; bodies travel as they are, so that nothing can swell."""

    code, status, title = "encoding", 415, "bodies are accepted as they are only, not compressed"
    hint = "send the body without Content-Encoding, and with the content type that the path expects"


class Method(SiloError):
    """A path that exists, with a method that it does not have."""

    code, status, title = "method", 405, "the path does not have this method"
    hint = "the coordinator's /openapi.json lists paths and methods"


class NotFound(SiloError, UnknownName):
    """Nothing is there by this name, or it is not for the asker."""

    code, status, title = "not-found", 404, "there is nothing by this name"
    hint = "check the name; `atoll runs` lists runs, the dashboard lists nodes"


class Rate(SiloError):
    """Too much has failed from one address in a short time, or too many uploads of a member are unfinished."""

    code, status, title = "rate", 429, "too many requests"
    hint = "wait as long as Retry-After says; Atoll's own client does"


class DiskFull(SiloError):
    """A disk has no room for what was to be written; nothing of it was kept."""

    code, status, title = "disk-full", 507, "the disk is full"
    hint = "make room on the machine that is named; uploads and runs continue where they stood"


class Unavailable(SiloError):
    """The coordinator is starting, stopping, or too busy to answer now."""

    code, status, title = "unavailable", 503, "the coordinator cannot answer now"
    hint = "wait and repeat; Atoll's own client does"


class Unreachable(SiloError):
    """No connection to the coordinator within the time that was given. Told by the client, never by a coordinator."""

    code, status, title = "unreachable", 503, "the coordinator cannot be reached"
    hint = "check the URL, that the coordinator runs, and that this machine may connect to it (firewall, proxy)"


class Internal(SiloError):
    """A mistake in the coordinator: it says no more over the network than this, its log has the rest."""

    code, status, title = "internal", 500, "the coordinator made a mistake"
    hint = "report it with the lines of the coordinator's log that name this request"


class UnsafeFile(SiloError):
    """A file or folder with secrets that others on this machine may read, or that belongs to somebody else."""

    code, status, title = "unsafe-file", 403, "others may read a file with secrets"
    hint = "the message has the command that sets it right"


class ChainBroken(SiloError):
    """A node's log was changed or cut after it was written; the message says where."""

    code, status, title = "chain-broken", 500, "the node's log was altered"
    hint = "keep the file as it is, and compare it with the last backup; entries before the place named are sound"


_kinds: list[type[SiloError]] = [SiloError, *SiloError.__subclasses__()]
codes: dict[str, type[SiloError]] = {kind.code: kind for kind in _kinds}
"""Code to class."""


def problem(error: SiloError) -> dict[str, Any]:
    """Write an error as a problem (RFC 9457).

    Returns
    -------
    dict
        ``type``, ``title``, ``status``, ``code``, ``detail``, ``hint``, and ``more`` where there are facts.
    """
    body: dict[str, Any] = {
        "type": f"{PAGE}#{error.code}",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": str(error)[:_TEXT],
        "hint": error.hint,
    }
    if error.more:
        body["more"] = error.more
    return body


def from_problem(body: object) -> SiloError:
    """Read a problem back into the error that it was.

    Never raises: what somebody else's server sends may be anything. A code that this version does not know becomes a
    plain `SiloError` whose message names the code; text is cut to 4,000 characters, control characters are dropped.
    """
    if not isinstance(body, dict):
        return SiloError("the answer is an error without a description")
    code, detail = body.get("code"), _text(body.get("detail")) or _text(body.get("title"))
    more = body.get("more")
    facts = {k: v for k, v in list(more.items())[:_MORE] if _fact(k, v)} if isinstance(more, dict) else None
    if isinstance(code, str) and code in codes:
        return codes[code](detail, more=facts)
    known = isinstance(code, str) and _CODE.match(code)
    error = SiloError(f"{detail or 'an error'} (code {code}, which this version does not know)" if known else detail)
    error.hint = _text(body.get("hint")) or SiloError.hint
    return error


def page() -> str:
    """The page that explains every code, as Markdown; ``docs/silo-errors.md`` is this."""
    head = (
        "# What silos refuse, and what to do\n\n"
        "Every error between a coordinator, its nodes and those who ask has a code, which is the field `code` of the\n"
        "answer (`application/problem+json`, RFC 9457). The class with which it is raised is in `atoll.silo.errors`.\n"
    )
    return head + "".join(_section(codes[code]) for code in sorted(codes))


def _section(kind: type[SiloError]) -> str:
    told = inspect.cleandoc(kind.__doc__ or "").split("\n\nParameters\n")[0]
    return (
        f"\n(silo-{kind.code})=\n## {kind.code}\n\n`{kind.__name__}`, HTTP {kind.status}: {kind.title}.\n\n"
        f"**What happened.** {told}\n\n**What to do.** {kind.hint[0].upper()}{kind.hint[1:]}.\n"
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return "".join(c for c in value[:_TEXT] if c.isprintable() or c == "\n")


def _fact(key: object, value: object) -> bool:
    plain = value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _TEXT)
    return isinstance(key, str) and len(key) <= _MORE and plain
