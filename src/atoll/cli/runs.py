"""``atoll runs``: which runs there are at a coordinator, how far they are, giving one up, and deleting one."""

from __future__ import annotations

import contextlib
import time
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from atoll.cli import show
from atoll.errors import InvalidData, closest, explain
from atoll.run import human_bytes

if TYPE_CHECKING:
    from rich.text import Text

    from atoll.silo.api import Round, RunStatus
    from atoll.silo.client import Client
    from atoll.silo.home import Profile

__all__ = ["execute"]

_PATIENCE = 10.0


def execute(args: Namespace) -> int:
    """Run one of the commands.

    Parameters
    ----------
    args : Namespace
        As the parser read them.

    Returns
    -------
    int
        Exit status 0.
    """
    from atoll.silo.client import Client
    from atoll.silo.home import Profile

    actions: dict[str, Callable[[Namespace, Client, Profile], int]] = {
        "list": _list, "show": _show, "end": _end, "forget": _forget,
    }  # fmt: skip
    profile = Profile.find(args.at, args.home)
    client = Client(profile, patience=_PATIENCE)
    try:
        return actions[args.command.partition(" ")[2]](args, client, profile)
    finally:
        client.close()


def _list(args: Namespace, client: Client, profile: Profile) -> int:
    from atoll.silo.api import counts_rows

    found = [run for run in _runs(client) if args.all or not counts_rows(run.name)][: args.last or 20]
    if args.json:
        show.emit_json({"runs": [_as_data(run) for run in found]})
        return 0
    if not found:
        show.emit("no runs yet\n")
        return 0
    from rich.text import Text

    table = _table("run", "owner", "for", "over", "state", "rounds", "changed")
    for run in found:
        over = f"{run.data}, {len(run.nodes)} nodes"
        words = [run.name, run.owner, run.purpose, over, run.state, str(run.exchanges), _clock(run.changed)]
        table.add_row(*map(Text, words))
    show.render(table)
    return 0


def _show(args: Namespace, client: Client, profile: Profile) -> int:
    run = _own(client, profile, args.NAME)
    rounds = _rounds(client, run, args.last or 20)
    if args.json:
        show.emit_json({**_as_data(run), "rounds": [_as_data(seen) for seen in rounds]})
        return 0
    from rich.text import Text

    note = f" ({run.note})" if run.note else ""
    lines = [
        f"{run.name}: {run.purpose} over {run.data!r} of {', '.join(run.nodes)}", f"state: {run.state}{note}",
        f"began {_clock(run.started)}, changed {_clock(run.changed)}, {run.exchanges} rounds",
    ]  # fmt: skip
    names = list(dict.fromkeys(name for seen in rounds for name in seen.metrics))
    heads = [Text(name.replace("_", " ")) for name in names]
    table = _table("round", "operation", "answered", "bytes", "seconds", *heads, "not in the sum")
    for seen in rounds:
        told = [f"{seen.metrics[name]:.6g}" if name in seen.metrics else "" for name in names]
        table.add_row(*map(Text, [*_words(seen), *told, _absent(seen)]))
    show.render(Text("\n".join(lines)), *([table] if rounds else []))
    return 0


def _end(args: Namespace, client: Client, profile: Profile) -> int:
    from atoll.silo.api import Done, Ending

    run = _own(client, profile, args.NAME)
    ending = Ending(state="failed", note=f"given up by {profile.name}")
    client.post(f"/v1/runs/{quote(run.name, safe='')}/end", Done, ending)
    if args.json:
        show.emit_json(_as_data(_own(client, profile, args.NAME)))
    else:
        show.emit(f"{run.name} is given up; its nodes are not asked any more\n")
    return 0


def _forget(args: Namespace, client: Client, profile: Profile) -> int:
    from atoll.silo.api import Done
    from atoll.silo.errors import NotFound

    run = _own(client, profile, args.NAME, args.owner)
    if run.state in ("running", "waiting") and not args.yes:
        hint = f"atoll runs end {run.name}, or --yes to give it up and delete it"
        raise InvalidData(explain(f"run {run.name!r} has not ended", got=run.state, hint=hint))
    query = f"owner={quote(run.owner, safe='')}" + ("&running=yes" if args.yes else "")
    with contextlib.suppress(NotFound):  # it was there a moment ago: an earlier attempt whose answer was lost
        client.delete(f"/v1/runs/{quote(run.name, safe='')}?{query}", Done)
    if args.json:
        show.emit_json({"forgotten": [_as_data(run)]})
    else:
        show.emit(f"{run.name} is deleted with its {run.exchanges} sums; the logs of nodes stay\n")
    return 0


def _runs(client: Client) -> list[RunStatus]:
    from atoll.silo.api import RunStatus

    return client.get("/v1/runs", list[RunStatus])


def _own(client: Client, profile: Profile, name: str, owner: str | None = None) -> RunStatus:
    """A run of one's own, or of somebody else who is named, by name."""
    from atoll.silo.errors import NotFound

    whose = owner or profile.name
    own = {run.name: run for run in _runs(client) if run.owner == whose}
    if name not in own:
        hint = closest(name, own) if own else f"{whose} has run nothing there yet"
        who = "you have" if whose == profile.name else f"{whose} has"
        raise NotFound(explain(f"{who} no run {name!r}", where=profile.url, hint=hint))
    return own[name]


def _rounds(client: Client, run: RunStatus, last: int) -> list[Round]:
    """The last rounds, the one that is open among them."""
    from atoll.silo.api import Round

    path = f"/v1/runs/{quote(run.owner, safe='')}/{quote(run.name, safe='')}/rounds"
    found: list[Round] = []
    after = run.exchanges - last
    while more := client.get(f"{path}?after={after}" if after >= 0 else path, list[Round]):
        found += more
        after = more[-1].number
    return found[-last:]


def _words(seen: Round) -> list[str]:
    took = "" if seen.closed is None else f"{seen.closed - seen.submitted:.3f}"
    answered = f"{seen.accepted}/{seen.asked}" + ("" if seen.state == "closed" else f", {seen.state}")
    return [str(seen.number), seen.op, answered, human_bytes(seen.bytes), took]


def _absent(seen: Round) -> str:
    """Who is not in the sum, or not yet."""
    why = [f"{node}: {reason.partition(chr(10))[0]}" for node, reason in seen.refused.items()]
    return "; ".join([*why, *([f"waits for {', '.join(seen.missing)}"] if seen.missing else [])])


def _as_data(seen: RunStatus | Round) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(seen)
    return found


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _table(*columns: str | Text) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table
