"""``atoll coordinator``: start one, and say who may join it."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll.cli import show
from atoll.errors import InvalidData, explain

if TYPE_CHECKING:
    from atoll.silo.api import Invitation, Login, Member, RunStatus
    from atoll.silo.broker import Broker
    from atoll.silo.client import Client
    from atoll.silo.server import Coordinator, Folder

__all__ = ["execute"]


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
    actions: dict[str, Callable[[Namespace], int]] = {
        "start": _start, "invite": _invite, "members": _members, "revoke": _revoke, "login": _login,
        "forget": _forget,
    }  # fmt: skip
    return actions[args.command.partition(" ")[2]](args)


def _start(args: Namespace) -> int:
    from atoll.silo.server import Coordinator

    coordinator = Coordinator(
        args.DIR, host=args.host or "127.0.0.1", port=args.port, url=args.url, behind_proxy=args.behind_proxy,
        lost_after=args.lost_after or 60.0, failures=600 if args.failures is None else args.failures,
        forwarded=args.forwarded,
    )  # fmt: skip
    coordinator.run(lambda running: _told(running, args))
    show.say("the coordinator has ended\n")
    return 0


def _told(coordinator: Coordinator, args: Namespace) -> None:
    """Say where the coordinator is, and what to type next."""
    folder, login = coordinator.folder, coordinator.login.url
    if args.json:
        show.emit_json(
            {
                "url": coordinator.url, "federation": folder.key.fingerprint, "certificate": coordinator.pinned,
                "login": login, "folder": str(folder.path),
            }
        )  # fmt: skip
    else:
        pinned = coordinator.pinned or "that of the proxy"
        where = "" if args.DIR == "coordinator" else f" --folder {args.DIR}"
        lines = [
            f"coordinator: {coordinator.url}", f"federation:  {folder.key.fingerprint}", f"certificate: {pinned}",
            f"dashboard:   {login} (once, within 15 minutes)", "",
            f"next:        atoll coordinator invite NAME{where}",
        ]  # fmt: skip
        show.emit("\n".join(lines) + "\n")
    if args.open:
        _browse(login)


def _invite(args: Namespace) -> int:
    role, hours = args.role or "node", args.hours or 72.0
    found = _ask(args, lambda client: _invited_there(client, args.NAME, role, hours),
                 lambda broker, folder: _invited_here(broker, folder, args.NAME, role, hours))  # fmt: skip
    if args.json:
        show.emit_json({"token": found.token, "name": found.name, "role": found.role, "expires": found.expires})
        return 0
    url = _url(found.token)
    verb = "node join" if found.role == "node" else "login"
    data = " --data NAME=FILE.csv:TARGET" if found.role == "node" else ""
    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.expires))
    show.say(f"a token for {found.name} ({found.role}), good once and until {until}; to be typed on their machine:\n")
    show.emit(f"atoll {verb} {url} {found.token}{data}\n")
    return 0


def _members(args: Namespace) -> int:
    from atoll.silo.api import Member

    found = _ask(args, lambda client: client.get("/v1/members", list[Member]), lambda broker, _: broker.members())
    if args.json:
        show.emit_json({"members": [_as_data(member) for member in found]})
    else:
        _table(found)
    return 0


def _revoke(args: Namespace) -> int:
    from urllib.parse import quote

    from atoll.silo.api import Member

    path = f"/v1/members/{quote(args.NAME, safe='')}"
    member = _ask(args, lambda client: client.delete(path, Member), lambda broker, _: _revoked_here(broker, args.NAME))
    if args.json:
        show.emit_json(_as_data(member))
    else:
        show.emit(f"{member.name} is no member any more; whatever comes from it is refused\n")
    return 0


def _login(args: Namespace) -> int:
    from atoll.silo.api import Login

    def not_running(broker: Broker, folder: Folder) -> Login:
        hint = f"atoll coordinator start {args.folder or 'coordinator'}"
        raise InvalidData(explain("the coordinator is not running, so there is no dashboard", hint=hint))

    found = _ask(args, lambda client: client.post("/v1/login", Login), not_running)
    show.emit_json({"url": found.url, "expires": found.expires}) if args.json else show.emit(f"{found.url}\n")
    if args.open:
        _browse(found.url)
    return 0


def _forget(args: Namespace) -> int:
    """Delete runs that ended long ago; one after the other, so that the coordinator goes on answering meanwhile."""
    if args.older_than is None:
        hint = "--older-than 90; one run by its name: atoll runs forget NAME"
        raise InvalidData(explain("which runs are to be deleted?", hint=hint))
    before = time.time() - 86400 * args.older_than
    found = _ask(
        args, lambda client: _forgotten_there(client, before), lambda broker, _: _forgotten_here(broker, before)
    )
    if args.json:
        show.emit_json({"forgotten": [{"name": run.name, "owner": run.owner} for run in found]})
    else:
        many = "1 run is" if len(found) == 1 else f"{len(found)} runs are"
        show.emit(f"{many} deleted with {sum(run.exchanges for run in found)} sums; the logs of nodes stay\n")
    return 0


def _forgotten_there(client: Client, before: float) -> list[RunStatus]:
    import contextlib
    from urllib.parse import quote

    from atoll.silo.api import Done, RunStatus
    from atoll.silo.errors import NotFound

    found = _ended(client.get("/v1/runs", list[RunStatus]), before)
    for run in found:
        path = f"/v1/runs/{quote(run.name, safe='')}?owner={quote(run.owner, safe='')}"
        with contextlib.suppress(NotFound):  # its owner was faster, or an answer was lost
            client.delete(path, Done)
    return found


def _forgotten_here(broker: Broker, before: float) -> list[RunStatus]:
    from atoll.silo.server import ADMIN

    found = _ended(broker.runs(), before)
    for run in found:
        broker.forget_run(run.owner, run.name, by=ADMIN)
    return found


def _ended(runs: list[RunStatus], before: float) -> list[RunStatus]:
    return [run for run in runs if run.state in ("done", "failed") and run.changed <= before]


def _ask(args: Namespace, there: Callable[[Client], Any], here: Callable[[Broker, Folder], Any]) -> Any:
    """Ask the running coordinator as its admin, or the folder of one that is not running."""
    from atoll.silo.errors import Conflict
    from atoll.silo.server import Folder

    path = _folder(args)
    folder = Folder(path)
    try:
        broker = folder.open_broker()
    except Conflict:
        return _asked_there(path, there)
    try:
        return here(broker, folder)
    finally:
        broker.close()


def _asked_there(path: Path, there: Callable[[Client], Any]) -> Any:
    from atoll.silo.client import Client
    from atoll.silo.home import Profile

    client = Client(Profile(path / "admin"), patience=10.0)
    try:
        return there(client)
    finally:
        client.close()


def _folder(args: Namespace) -> Path:
    path = Path(args.folder or "coordinator").expanduser()
    if not (path / "signing.key").exists():
        hint = f"atoll coordinator start {path}, or name its folder with --folder"
        raise InvalidData(explain("there is no coordinator in this folder", where=path, hint=hint))
    return path


def _invited_there(client: Client, name: str, role: Any, hours: float) -> Invitation:
    from atoll.silo.api import Invitation, Invite

    return client.post("/v1/invites", Invitation, Invite(name=name, role=role, hours=hours))


def _invited_here(broker: Broker, folder: Folder, name: str, role: Any, hours: float) -> Invitation:
    from atoll.silo.server import ADMIN, invitation

    settings = folder.settings
    if settings is None:
        hint = "atoll coordinator start DIR, which settles its URL"
        raise InvalidData(explain("this coordinator was never started, so it has no URL yet", hint=hint))
    return invitation(broker, settings, ADMIN, name, role, time.time() + hours * 3600)


def _revoked_here(broker: Broker, name: str) -> Member:
    from atoll.silo.server import ADMIN

    broker.revoke(name, ADMIN)
    return next(member for member in broker.members() if member.name == name)


def _url(token: str) -> str:
    from atoll.silo import tokens

    return tokens.read(token).url


def _as_data(member: Member) -> dict[str, Any]:
    return {
        "name": member.name, "role": member.role, "key": member.key, "joined": member.joined, "revoked": member.revoked,
    }  # fmt: skip


def _table(members: list[Member]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("name", "role", "joined", "revoked", "key"):
        table.add_column(name, no_wrap=True)
    for member in members:
        ended = "" if member.revoked is None else _day(member.revoked)
        table.add_row(*map(Text, (member.name, member.role, _day(member.joined), ended, member.key)))
    show.render(table)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _browse(url: str) -> None:
    import webbrowser

    if not webbrowser.open(url):
        show.say("note: no browser could be opened; open the address by hand\n")
