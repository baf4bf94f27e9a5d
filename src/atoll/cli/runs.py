"""``atoll runs``: which runs there are at a coordinator, how far they are, and giving one up."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from atoll.cli import show
from atoll.errors import MissingExtra, closest, explain
from atoll.run import human_bytes

if TYPE_CHECKING:
    from atoll.messages import Outcome
    from atoll.silo.api import RunStatus, State
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
    actions: dict[str, Callable[[Namespace, Client, Profile], int]] = {"list": _list, "show": _show, "end": _end}
    try:
        from atoll.silo.client import Client
        from atoll.silo.home import Profile
    except ImportError as error:
        hint = "pip install 'atoll[silo]'"
        raise MissingExtra(explain("silos need an extra", got=str(error), hint=hint)) from None
    profile = Profile.find(args.at, args.home)
    client = Client(profile, patience=_PATIENCE)
    try:
        return actions[args.command.partition(" ")[2]](args, client, profile)
    finally:
        client.close()


def _list(args: Namespace, client: Client, profile: Profile) -> int:
    found = _runs(client)[: args.last or 20]
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
        told = [{"number": number, "state": state.state, **_told(state, run)} for number, state in rounds]
        show.emit_json({**_as_data(run), "rounds": told})
        return 0
    from rich.text import Text

    note = f" ({run.note})" if run.note else ""
    lines = [
        f"{run.name}: {run.purpose} over {run.data!r} of {', '.join(run.nodes)}", f"state: {run.state}{note}",
        f"began {_clock(run.started)}, changed {_clock(run.changed)}, {run.exchanges} rounds",
    ]  # fmt: skip
    table = _table("round", "answered", "bytes", "seconds", "not in the sum")
    for number, state in rounds:
        outcome, missing = _outcome(state), [run.nodes[p] for p in state.missing if p < len(run.nodes)]
        if outcome is None:
            table.add_row(str(number), "open", "", "", Text(f"waits for {', '.join(missing)}" if missing else ""))
            continue
        asked = len(outcome.accepted) + len(outcome.refused)
        why = "; ".join(f"{p}: {reason.splitlines()[0]}" for p, reason in outcome.refused.items())
        size = human_bytes(sum(outcome.bytes.values()))
        table.add_row(str(number), f"{len(outcome.accepted)}/{asked}", size, f"{outcome.seconds:.3f}", Text(why))
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


def _runs(client: Client) -> list[RunStatus]:
    from atoll.silo.api import RunStatus

    return client.get("/v1/runs", list[RunStatus])


def _own(client: Client, profile: Profile, name: str) -> RunStatus:
    """A run of one's own by name."""
    from atoll.silo.errors import NotFound

    own = {run.name: run for run in _runs(client) if run.owner == profile.name}
    if name not in own:
        raise NotFound(explain(f"you have no run {name!r}", where=profile.url, hint=closest(name, own)))
    return own[name]


def _rounds(client: Client, run: RunStatus, last: int) -> list[tuple[int, State]]:
    """The last rounds, the one that is open among them."""
    from atoll.silo.api import State
    from atoll.silo.errors import NotFound

    found = []
    for number in range(max(0, run.exchanges + 1 - last), run.exchanges + 1):
        try:
            found.append((number, client.get(f"/v1/runs/{quote(run.name, safe='')}/exchanges/{number}", State)))
        except NotFound:
            break
    return found


def _outcome(state: State) -> Outcome | None:
    from atoll import wire
    from atoll.messages import Outcome

    return None if state.outcome is None else wire.decode(state.outcome, Outcome)


def _told(state: State, run: RunStatus) -> dict[str, Any]:
    outcome = _outcome(state)
    if outcome is None:
        return {"missing": list(state.missing)}
    return {
        "accepted": list(outcome.accepted), "refused": {str(p): why for p, why in outcome.refused.items()},
        "bytes": sum(outcome.bytes.values()), "seconds": outcome.seconds,
    }  # fmt: skip


def _as_data(run: RunStatus) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(run)
    return found


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _table(*columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table
