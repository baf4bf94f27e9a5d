"""``atoll node``: join a federation with rows that stay here, and decide what may be asked of them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from argparse import Namespace
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from atoll.cli import show
from atoll.errors import InvalidData, explain

if TYPE_CHECKING:
    from atoll.silo.node.folder import Folder
    from atoll.silo.node.policy import Rule

__all__ = ["execute"]

_GRACE = 0.5  # seconds for the task in hand, where a node is ended


def execute(args: Namespace) -> int:
    """Run one of the commands.

    Parameters
    ----------
    args : Namespace
        What was given; `command` says which.

    Returns
    -------
    int
        Exit status.
    """
    return _COMMANDS[args.command.partition(" ")[2]](args)


def _folder(args: Namespace) -> Folder:
    from atoll.silo.node.folder import Folder

    return Folder.find(args.folder)


def _join(args: Namespace) -> int:
    from atoll.silo.node.join import join, read_allowance
    from atoll.silo.node.sources import parse

    url, token = args.URL, args.TOKEN
    if token is None and url.startswith("atoll_"):
        url, token = None, url
    if token is None:
        raise InvalidData(explain("TOKEN is missing; it comes after URL", hint="ask the federation's admin for one"))
    sources = dict(parse(text) for text in args.data or ())
    if not sources:
        raise InvalidData(explain("a node offers data", hint="--data NAME=FILE:TARGET, as in iris=./iris.csv:species"))
    if args.show:
        sources = {name: _shown(source) for name, source in sources.items()}
    rules = [read_allowance(text) for text in args.allow or ()]
    _look_at(sources)
    folder = join(url, token, sources, folder=args.folder, allow=rules)
    profile = folder.profile
    told = {"folder": str(folder.path), "name": profile.name, "url": profile.url, "key": profile.key.fingerprint}
    if args.json:
        show.emit_json(told)
    else:
        show.emit(f"joined {profile.url} as {profile.name!r}, with the key {profile.key.fingerprint}\n")
        show.emit(f"folder: {folder.path}\n")
        allowed = f"{len(rules)} allowed from the start" if rules else "nothing is allowed until you allow it"
        show.emit(f"{allowed}: atoll node requests, atoll node approve\n")
    return 0 if args.no_run else _answer(folder)


def _shown(source: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(source, show=True)


def _look_at(sources: dict[str, Any]) -> None:
    """Read every data set once, so that what is wrong with one is told before the token is used up."""
    from atoll.silo.node.rows import Rows

    rows = Rows("this node", lambda: sources)
    for name in sources:
        shard = rows.get(name).shard
        target = "" if shard.y is None else ", with targets"
        show.say(f"data set {name!r}: {shard.n_rows} rows, {shard.n_features} columns{target}\n")
        rows.forget(name)


def _run(args: Namespace) -> int:
    from atoll.silo.node.folder import Folder

    return _answer(Folder.find(args.FOLDER))


def _answer(folder: Folder) -> int:
    """Answer until a signal comes; in good order with SIGTERM and Ctrl-C."""
    from atoll.silo.node.agent import Agent

    with folder.running():
        agent = Agent(folder, say=lambda line: show.say(f"{line}\n"), grace=_GRACE)
        interrupted: list[int] = []

        def end(number: int, _: object) -> None:
            interrupted.append(number)
            agent.stop()

        before = [(number, signal.signal(number, end)) for number in (signal.SIGTERM, signal.SIGINT)]
        show.say(f"node {folder.profile.name!r} answers {folder.profile.url}; end it with Ctrl-C\n")
        try:
            agent.run()
        finally:
            for number, handler in before:
                signal.signal(number, handler)
        if agent.busy:  # such a thread cannot be ended, and must not meet an interpreter that is taken down
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(130 if signal.SIGINT in interrupted else 0)
        if signal.SIGINT in interrupted:
            raise KeyboardInterrupt
    return 0


def _requests(args: Namespace) -> int:
    import msgspec

    from atoll.silo.node.requests import described, open_requests

    found = open_requests(_folder(args), every=args.all)
    if args.json:
        show.emit_json({"requests": msgspec.to_builtins(found)})
    elif not found:
        show.emit("nothing waits: nobody has asked for what is not allowed\n")
    else:
        show.emit("\n\n".join(described(request) for request in found) + "\n")
    return 0


def _approve(args: Namespace) -> int:
    from atoll.silo.node.requests import approve

    limits = _limits(args)
    if args.families and limits.get("operations"):
        hint = "leave one of them out"
        raise InvalidData(explain("--families and --operations both say what is allowed", hint=hint))
    rule = approve(_folder(args), _number(args.ID), whole=args.families, **limits)
    if args.json:
        show.emit_json({"allowed": rule._asdict()})
        return 0
    show.emit(f"{_in_words(rule)}\n")
    if not limits.get("operations"):
        hint = "a model asks several operations; what is not among these appears in atoll node requests"
        more = "" if args.families else "; --families allows all of the kinds that were asked for"
        show.emit(f"{hint}{more}\n")
    return 0


def _number(text: str) -> int:
    if not text.isdecimal():
        raise InvalidData(explain("ID is the number of a request", got=text, hint="atoll node requests lists them"))
    return int(text)


def _limits(args: Namespace) -> dict[str, Any]:
    """What was given, read as the policy reads it."""
    from atoll.silo.node.folder import quoted
    from atoll.silo.node.policy import read_policy

    given = {
        "operations": _split(args, "operations"), "columns": _split(args, "columns"), "min_rows": args.min_rows,
        "min_nodes": args.min_nodes, "rounds_per_day": args.rounds_per_day, "bytes_per_day": args.bytes_per_day,
        "until": args.until,
    }  # fmt: skip
    told = {key: value for key, value in given.items() if value not in (None, [])}
    lines = [
        f"{key} = {quoted(value)}" for key, value in ({"who": "*", "data": "*", "operations": ["*"]} | told).items()
    ]
    (rule,) = read_policy("\n".join(["[[allow]]", *lines]), "the command line")
    _check_patterns(told.get("operations", ()))
    return {key: getattr(rule, key) for key in told}


def _split(args: Namespace, option: str) -> list[str]:
    """Several words, or one with commas; an option that was given names something."""
    words = getattr(args, option) or ()
    parts = [part.strip() for word in words for part in word.split(",") if part.strip()]
    if words and not parts:
        raise InvalidData(explain(f"--{option} names nothing", got=" ".join(words)))
    return parts


def _check_patterns(patterns: Any) -> None:
    """A pattern that fits no operation is a mistake in typing."""
    from fnmatch import fnmatchcase

    from atoll.errors import UnknownName, closest
    from atoll.silo.node.lean import load_worker

    if not patterns:
        return
    load_worker()
    from atoll.operations import operations

    known = list(operations)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            families = {f"{name.partition('.')[0]}.*" for name in known}
            raise UnknownName(explain(f"no operation fits {pattern!r}", hint=closest(pattern, {*known, *families})))


def _in_words(rule: Rule) -> str:
    """A rule as a sentence."""
    limits = [
        f"columns {', '.join(rule.columns)} only" if rule.columns is not None else "",
        f"at least {rule.min_rows} rows behind an answer" if rule.min_rows > 1 else "",
        f"sums over at least {rule.min_nodes} nodes, as the task claims" if rule.min_nodes > 1 else "",
        f"at most {rule.rounds_per_day} rounds a day" if rule.rounds_per_day is not None else "",
        f"at most {rule.bytes_per_day} bytes a day" if rule.bytes_per_day is not None else "",
        f"until {datetime.fromtimestamp(rule.until - 1, UTC).date()}" if rule.until is not None else "",
    ]
    more = "".join(f"; {limit}" for limit in limits if limit)
    who = "anybody" if rule.who == "*" and not rule.key else f"{rule.who} ({rule.key or 'any key'})"
    return f"{who} may ask {', '.join(rule.operations)} of {', '.join(rule.data)}{more}"


def _revoke(args: Namespace) -> int:
    from atoll.silo.node.requests import revoke

    gone = revoke(_folder(args), args.WHO)
    if args.json:
        show.emit_json({"revoked": [rule._asdict() for rule in gone]})
    else:
        show.emit("".join(f"no longer: {_in_words(rule)}\n" for rule in gone))
    return 0


def _log(args: Namespace) -> int:
    from atoll.silo.node.log import entries, verify

    folder = _folder(args)
    if args.verify:
        found = verify(folder.log)
        if args.json:
            show.emit_json({"ok": True, **found._asdict()})
        else:
            show.emit("".join(f"note: {note}\n" for note in found.notes))
            show.emit(f"{found.entries} entries, none altered; the last is {found.last}\n")
        return 0
    last = list(islice(entries(folder.log), 50 if args.last is None else args.last))[::-1]
    if args.json:
        show.emit_json({"entries": last})
    else:
        show.emit("".join(f"{_line(entry)}\n" for entry in last))
    return 0


def _line(entry: dict[str, Any]) -> str:
    head = f"{entry['time'][:19].replace('T', ' ')}  {entry['event']:<10}"
    who, what = entry.get("who", ""), entry.get("op", "")
    if entry["event"] == "answered":
        again = ", again" if entry.get("again") else ""
        return f"{head} {who}: {what} over {entry['data']!r}, {entry['rows']} rows, {entry['bytes']} bytes left{again}"
    if entry["event"] == "refused":
        first = str(entry.get("reason", "")).partition("\n")[0]
        return f"{head} {who}: {what or 'a task'} ({entry['code']}): {first}"
    skipped = ("n", "time", "event", "before", "hash")
    return f"{head} " + ", ".join(f"{k} {v}" for k, v in entry.items() if k not in skipped and v not in ("", None))


def _status(args: Namespace) -> int:
    from atoll.silo.node.log import entries
    from atoll.silo.node.policy import Policy
    from atoll.silo.node.requests import open_requests

    folder = _folder(args)
    profile, policy, process = folder.profile, Policy.of(folder.policy), folder.runs()
    last = next(entries(folder.log), None)
    told: dict[str, Any] = {
        "name": profile.name, "url": profile.url, "federation": profile.federation, "key": profile.key.fingerprint,
        "folder": str(folder.path), "process": process, "data": {n: s.said() for n, s in folder.data().items()},
        "allowed": [_in_words(rule) for rule in policy.rules], "policy": policy.broken or "sound",
        "requests": len(open_requests(folder)), "last": None if last is None else _line(last),
    }  # fmt: skip
    if args.json:
        show.emit_json(told)
        return 0
    state = f"answers now (process {process})" if process is not None else "does not run"
    lines = [f"{profile.name} at {profile.url}: {state}", f"folder      {folder.path}", f"key         {told['key']}"]
    lines += [f"data        {name}: {said}" for name, said in told["data"].items()]
    lines += [f"allowed     {line}" for line in told["allowed"]] or ["allowed     nothing"]
    lines += [f"policy      cannot be read, so everything is refused: {policy.broken}"] if policy.broken else []
    lines += [f"requests    {told['requests']} wait: atoll node requests"] if told["requests"] else []
    lines += [f"last        {told['last']}"] if last else []
    show.emit("\n".join(lines) + "\n")
    return 0


def _service(args: Namespace) -> int:
    from atoll.silo.node.service import unit

    text = unit(_folder(args), user=args.user)
    if args.json:
        show.emit_json({"unit": text})
    else:
        show.emit(text)
    return 0


def _leave(args: Namespace) -> int:
    from atoll.silo.node.log import Log

    folder = _folder(args)
    name = folder.profile.name
    if not args.yes:
        if not sys.stdin.isatty():
            raise InvalidData(explain("leaving deletes the key of this node", where=folder.path, hint="add --yes"))
        show.say(f"delete the key of node {name!r}, its policy and what runs keep in {folder.path}? [y/N] ")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            show.say("nothing was deleted\n")
            return 1
    with folder.running():
        log = Log(folder.log)
        log.append("left", name=name)
        log.close()
        for gone in ("key", "profile.json", "node.toml", "policy.toml", "requests.json", "seen.json"):
            (folder / gone).unlink(missing_ok=True)
        for gone in ("memory", "incoming"):
            shutil.rmtree(folder / gone, ignore_errors=True)
    if args.json:
        show.emit_json({"left": name, "log": str(folder.log)})
    else:
        show.emit(f"{name} has left; its log stays: {folder.log}\n")
    return 0


_COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "join": _join, "run": _run, "requests": _requests, "approve": _approve, "revoke": _revoke, "log": _log,
    "status": _status, "service": _service, "leave": _leave,
}  # fmt: skip
