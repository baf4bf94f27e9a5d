"""Real processes on loopback, held against what they are required to do: seconds, MB/s, memory.

    python benchmarks/silos.py [FIGURE,…] [turns=3] [share=1] [flower=PYTHON]

Figures: small, large (a round trip), transfer, idle, idle5, thousand, dead, restart, model; by default all of them.
`share` shrinks payloads, crowds and waits, to see that everything works; requirements are those of the whole. PYTHON
is that of an environment with Flower, which then takes turns with ours in `small` and `large`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

import _echo  # noqa: F401 - so that its operation is known here
from _crowd import Crowd, Member, cpu, crowd, memory, together
from _plain_tls import bring, fetch, plain
from atoll import Federation, wire
from atoll.combine import Sum
from atoll.messages import DEFAULT_RULE, Exchange
from atoll.silo import api
from atoll.silo.client import Client
from atoll.silo.joining import join
from atoll.silo.keys import Key
from atoll.silo.local import Site, asked, began, coordinator, environment, federation, here, invited
from atoll.silo.node.join import join as become_node
from atoll.silo.node.join import read_allowance
from atoll.silo.node.sources import parse
from atoll.silo.tasks import Task, blob_of, signed_text
from atoll.specs import Spec
from atoll.trees import Tree, contract

HERE = Path(__file__).parent
POLL = 110
SETTLE = 10.0


class Wish(NamedTuple):
    """What was asked for on the command line."""

    turns: int
    share: float
    flower: str | None

    def whole(self, number: float, least: int = 1) -> int:
        """A size, shrunk."""
        return max(least, int(number * self.share))


class Someone(NamedTuple):
    """Who asks whom."""

    url: str
    certificate: str | None
    key: Key


def tell(what: str, value: float, unit: str, limit: float, *, least: bool = False) -> None:
    """One line: what was found, and how it stands to what is required."""
    met = value >= limit if least else value <= limit
    required = f"required {'≥' if least else '≤'} {limit:g} {unit}, {value / limit:5.2f} of it"
    print(f"  {what:<52} {value:10.3f} {unit:<9} {required}{'' if met else '  MISSED'}", flush=True)


def say(what: str, value: float, unit: str) -> None:
    """One line about something of which nothing is required."""
    print(f"  {what:<52} {value:10.3f} {unit}", flush=True)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as path:
        yield Path(path)


def end(process: subprocess.Popen[str]) -> None:
    """End a process, and wait until it is gone."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def until(found: Callable[[], float | None], seconds: float = 60.0) -> float:
    """Ask every few milliseconds until there is an answer."""
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        if (answer := found()) is not None:
            return answer
        time.sleep(0.02)
    raise SystemExit("it did not come to that in time")


# --- a round trip -----------------------------------------------------------------------------------------------------


@contextmanager
def echoing(place: Path, nodes: int) -> Iterator[Site]:
    """A coordinator, ada, and nodes that answer what they are sent."""
    with ExitStack() as stack:
        site = stack.enter_context(coordinator(place))
        join(invited(site, "ada", "researcher"), url=site.url, home=site.home)
        data = place / "rows.csv"
        data.write_text("a,b,y\n1,2,0\n3,4,1\n")
        names = [f"node-{i}" for i in range(nodes)]
        for name in names:
            what, source = parse(f"rows={data}:y")
            where = site.home / "nodes" / name
            allow = [read_allowance("ada:*:*")]
            become_node(site.url, invited(site, name, "node"), {what: source}, folder=where, allow=allow)
            log = stack.enter_context(open(site.home / f"{name}.log", "w"))
            command = [sys.executable, str(HERE / "_echo.py"), "node", "run", str(where)]
            process = subprocess.Popen(command, env=environment(site.home), stdout=log, stderr=log, text=True)
            site.processes[name] = process
            stack.callback(end, process)
        here(site, names)
        yield site


def flower(python: str, nodes: int, size: int, rounds: int) -> list[float]:
    """Seconds of each round of Flower, deployed on this machine."""
    command = [python, str(HERE / "peers" / "flower_deployed.py"), str(nodes), str(size), str(rounds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, error = process.communicate(timeout=900)
    finally:
        end(process)
    lines = [line for line in out.splitlines() if line.startswith("[")]
    if not lines:
        raise SystemExit(f"{' '.join(command)}\n{error[-3000:]}")
    seconds: list[float] = json.loads(lines[-1])
    return seconds


def trips(wish: Wish, nodes: int, size: int, rounds: int, limit: float) -> None:
    """Rounds in which every node answers what it was sent."""
    ours: list[float] = []
    theirs: list[float] = []
    payload = {"w": np.random.default_rng(0).random(size // 4).astype(np.float32)}
    print(f"a round trip: {nodes} nodes, {size / 1e3:g} kB to each and back, over TLS")
    with folder() as place, echoing(place, nodes) as site:
        asking = Federation.connect(site.url, "rows", home=site.home, verbose=0).rounds("echo")
        with asking.ending():
            for _ in range(wish.turns):
                asking.round("bench.echo", payload, combine=Sum())
                for _ in range(rounds):
                    start = time.perf_counter()
                    asking.round("bench.echo", payload, combine=Sum())
                    ours.append(time.perf_counter() - start)
                if wish.flower:
                    theirs += flower(wish.flower, nodes, size, 3)
        used = {name: memory(process.pid) for name, process in site.processes.items()}
    own = statistics.median(ours)
    tell("seconds a round, median", own, "s", limit)
    say("slowest round", max(ours), "s")
    if theirs:
        say("Flower, median", statistics.median(theirs), "s")
        say("Flower / ours", statistics.median(theirs) / own, "times")
    tell("memory of the coordinator, after the rounds", used["coordinator"][0], "MB", 150)
    say("  the most it had", used.pop("coordinator")[1], "MB")
    tell("memory of the largest node, after the rounds", max(now for now, _ in used.values()), "MB", 150)
    say("  the most that one had", max(most for _, most in used.values()), "MB")


def small(wish: Wish) -> None:
    trips(wish, 8, 10_000, wish.whole(50, 3), 0.1)


def large(wish: Wish) -> None:
    trips(wish, 4, wish.whole(40e6, 1000), wish.whole(5, 2), 1.5)


# --- one large thing --------------------------------------------------------------------------------------------------


def transfer(wish: Wish) -> None:
    """40 MB to the coordinator and back, beside a plain TLS 1.3 socket; they take turns."""
    size, found = wish.whole(40e6, 200_000), dict[str, list[float]]()
    data = memoryview(np.random.default_rng(0).bytes(size + 8 * wish.turns + 4))

    def timed(name: str, work: Callable[[], object]) -> None:
        start = time.perf_counter()
        work()
        found.setdefault(name, []).append(size / 1e6 / (time.perf_counter() - start))

    with folder() as place, crowd(place, ["n0"]) as made, plain(place / "plain", size) as peer:
        client = Client(Someone(made.site.url, made.certificate, made.keys["ada"]))
        client.put("/v1/runs/r", api.Opened, api.RunOpening(purpose="p", data="d", nodes=("n0",)))
        for turn in range(4 * wish.turns + 1):
            if turn == 1:  # the first of each is not counted
                found.clear()
            for at, name in ((2 * turn, "up"), (2 * turn + 1, "up, named before")):
                part = data[at : at + size]
                blob = blob_of(part)
                known = None if name == "up" else blob
                timed("plain up", lambda part=part: bring(peer, part))  # type: ignore[misc]
                timed(name, lambda part=part, known=known: client.upload(part, known))  # type: ignore[misc]
                client.put("/v1/runs/r/state", api.Named, api.Named(blob=blob), {"Atoll-Body": "named"})
            timed("plain down", lambda: fetch(peer, size))
            timed("down", lambda blob=blob: client.download(blob))  # type: ignore[misc]
        client.close()
    print(f"{size / 1e6:g} MB over TLS 1.3; ours is hashed, signed and held against its hash")
    print("  (a node hashes an answer for its log, before it brings it: that is `named before`)")
    for way in ("up", "up, named before", "down"):
        own, other = statistics.median(found[way]), statistics.median(found[f"plain {way.partition(',')[0]}"])
        tell(f"{way}, median", own, "MB/s", 400, least=True)
        say(f"  the plain socket, {way}", other, "MB/s")
        tell(f"  share of the plain socket, {way}", own / other, "", 0.7, least=True)


# --- many nodes -------------------------------------------------------------------------------------------------------


def idle(wish: Wish, nodes: int = 1_000, most: float = 150) -> None:
    """Nodes that wait for work; a due share of the polls ends and begins again while it is measured."""
    count, seconds = wish.whole(nodes, 4), max(1.0, 30.0 * wish.share)
    polling: set[str] = set()
    print(f"{count} idle nodes, each waiting {POLL} s at a time, over {seconds:g} s")
    with folder() as place, crowd(place, [f"n{i:04}" for i in range(count)]) as made:

        async def live(member: Member, name: str) -> None:
            await member.ask("GET", "/v1/work", api.Work)
            polling.add(name)
            wait = 1 + int(name[1:]) * (POLL - 1) // count
            while True:
                await member.ask("GET", f"/v1/work?wait={wait}&beat={api.BEAT:g}", api.Work, beat=api.BEAT)
                wait = POLL

        async def watch(_: Member) -> float:
            while len(polling) < count:
                await asyncio.sleep(0.1)
            await asyncio.sleep(SETTLE * min(1.0, wish.share))
            start, used = time.monotonic(), cpu(made.process)
            await asyncio.sleep(seconds)
            return (cpu(made.process) - used) / (time.monotonic() - start)

        alone = memory(made.process)[0]
        share = asyncio.run(together(made, live, watch))
        now, peak = memory(made.process)
    (tell if nodes == 1_000 else lambda *a: say(*a[:3]))("share of one core", 100 * share, "%", 2)
    tell("memory of the coordinator", now, "MB", most)
    say("  the most it had", peak, "MB")
    say("  before anyone connected", alone, "MB")


def idle5(wish: Wish) -> None:
    idle(wish, 5_000, 300)


def submission(made: Crowd, names: tuple[str, ...], number: int, payload: Tree, answer: Tree) -> api.Submission:
    """A signed question to all of them, by ada."""
    exchange = Exchange(
        run="r", number=number, step=0, seed=0, op="bench.echo", settings={}, payload=payload, each={}, view=(),
        cohort=tuple(range(len(names))), base=(-1,) * len(names), combine=Sum().spec, transform=(), plan=Spec("star"),
        rule=DEFAULT_RULE, expects=contract(answer),
    )  # fmt: skip
    now, key = time.time(), made.keys["ada"]
    task = Task(
        made.federation, "ada", key.fingerprint, "bench", "rows", names, (), {}, exchange, now, now + 3600
    )  # fmt: skip
    data = wire.encode(task)
    blob = blob_of(data)
    signature = key.sign(signed_text(blob))
    return api.Submission(number=number, digest=exchange.digest, task=blob, signature=signature, inline=data)


def thousand(wish: Wish) -> None:
    """Rounds over 1,000 nodes that are sent 10 kB and answer 10 kB."""
    names = tuple(f"n{i:04}" for i in range(wish.whole(1_000, 4)))
    tree = {"w": np.random.default_rng(0).random(1250)}
    answer, ready = wire.encode(tree), set[str]()
    print(f"a round over {len(names)} nodes in one process, 10 kB to each and back")
    with folder() as place, crowd(place, names) as made:

        async def live(member: Member, name: str) -> None:
            await member.ask("GET", "/v1/work", api.Work)
            ready.add(name)
            while True:
                work = await member.ask("GET", f"/v1/work?wait={POLL}", api.Work)
                for task in work.tasks:
                    await member.ask("POST", f"/v1/answers/{task.exchange}/{task.position}", api.Ack, answer)

        async def hold(ada: Member) -> list[float]:
            while len(ready) < len(names):
                await asyncio.sleep(0.1)
            opening = api.RunOpening(purpose="bench", data="rows", nodes=names)
            await ada.ask("PUT", "/v1/runs/r", api.Opened, opening)
            seconds = []
            for number in range(2 * wish.turns + 1):
                told = submission(made, names, number, tree, tree)
                start = time.perf_counter()
                await ada.ask("POST", "/v1/runs/r/exchanges", api.State, told)
                while (await ada.ask("GET", f"/v1/runs/r/exchanges/{number}?wait=60", api.State)).state != "closed":
                    pass
                seconds.append(time.perf_counter() - start)
            return seconds[1:]

        seconds = asyncio.run(together(made, live, hold))
        now, most = memory(made.process)
    tell("seconds a round, median", statistics.median(seconds), "s", 3)
    say("slowest round", max(seconds), "s")
    say("memory of the coordinator", now, "MB")
    say("  the most it had", most, "MB")


# --- what dies --------------------------------------------------------------------------------------------------------


def three(place: Path) -> dict[str, str]:
    """Rows of three nodes, in files."""
    place.mkdir(exist_ok=True)
    files = {}
    for name in ("bay", "cove", "lagoon"):
        path = place / f"{name}.csv"
        path.write_text("a,b,y\n1,2,0\n3,4,1\n")
        files[name] = f"rows={path}:y"
    return files


def dead(wish: Wish) -> None:
    """A node is killed, and after some seconds everyone sees it."""
    seconds = []
    print("a node is killed")
    with folder() as place, federation(place, three(place)) as site, ExitStack() as stack:

        def away() -> float | None:
            found = asked(site, lambda client: client.get("/v1/nodes", list[api.NodeStatus]))
            return time.monotonic() if {s.name: s.state for s in found}["cove"] == "away" else None

        for _ in range(wish.turns):
            site.processes["cove"].kill()
            start = time.monotonic()
            seconds.append(until(away) - start)
            site.processes["cove"].wait()
            log, where = site.home / "cove.log", site.home / "nodes" / "cove"
            site.processes["cove"] = began(site.home, log, "node", "run", str(where))
            stack.callback(end, site.processes["cove"])
            until(lambda: 1.0 if away() is None else None)
    tell("seconds until it is shown as away, median", statistics.median(seconds), "s", 5)
    say("slowest", max(seconds), "s")


class Driver:
    """A program that holds short rounds without end, and what it printed so far."""

    def __init__(self, site: Site, log: Path) -> None:
        self._log = log
        with open(log, "w") as out:
            command = [sys.executable, str(HERE / "_drive.py"), site.url, str(site.home), "rows"]
            self.process = subprocess.Popen(command, env=environment(site.home), stdout=out, stderr=out, text=True)

    def ended(self) -> list[tuple[int, float]]:
        """Number and time of the rounds that have ended."""
        text = self._log.read_text()
        if self.process.poll() is not None and self.process.returncode > 0:
            raise SystemExit(text[-3000:])
        lines = [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]
        return [(int(words[0]), float(words[1])) for words in lines if len(words) == 2 and words[0].isdigit()]

    def first(self, after: float = 0.0, above: int = -1) -> float:
        """When the first round of those ended."""
        return until(lambda: next((t for n, t in self.ended() if t > after and n > above), None))


def restart(wish: Wish) -> None:
    """The coordinator, then the driver, is killed in the middle of a run, and started again."""
    found: dict[str, list[float]] = {"coordinator": [], "driver": []}
    print("killed in the middle of a run, and started again a second later")
    with folder() as place, ExitStack() as stack:
        site = stack.enter_context(federation(place, three(place)))
        driver = Driver(site, place / "driver-0.log")
        stack.callback(end, driver.process)
        for turn in range(wish.turns):
            driver.first(above=(driver.ended() or [(-1, 0.0)])[-1][0] + 5)
            site.processes["coordinator"].kill()
            site.processes["coordinator"].wait()
            time.sleep(1.0)
            start, log = time.monotonic(), place / "coordinator.log"
            process = began(site.home, log, "coordinator", "start", str(site.folder))
            site.processes["coordinator"] = process
            stack.callback(end, process)
            found["coordinator"].append(driver.first(after=start) - start)
            driver.process.kill()
            driver.process.wait()
            last = driver.ended()[-1][0]
            time.sleep(1.0)
            start, driver = time.monotonic(), Driver(site, place / f"driver-{turn + 1}.log")
            stack.callback(end, driver.process)
            found["driver"].append(driver.first(above=last) - start)
    for who, seconds in found.items():
        tell(f"{who}: seconds until the run goes on, median", statistics.median(seconds), "s", 5)
        say("  slowest", max(seconds), "s")


# --- a large model ----------------------------------------------------------------------------------------------------


def model(wish: Wish) -> None:
    """Eight nodes bring 1 GB each, one after the other."""
    names = tuple(f"n{i}" for i in range(8))
    weights = np.ones(wish.whole(1e9, 400_000) // 4, dtype=np.float32)
    seconds = []
    print(f"a model of {weights.nbytes / 1e6:g} MB from each of {len(names)} nodes, one after the other")
    with folder() as place, crowd(place, names, "--lost-after", "3600") as made, ExitStack() as stack:
        clients = {name: Client(Someone(made.site.url, made.certificate, key)) for name, key in made.keys.items()}
        for client in clients.values():
            stack.callback(client.close)
        ada = clients["ada"]
        ada.put("/v1/runs/r", api.Opened, api.RunOpening(purpose="bench", data="rows", nodes=names))
        clients["n0"].get("/v1/work", api.Work)
        alone = memory(made.process)[0]
        ada.post("/v1/runs/r/exchanges", api.State, submission(made, names, 0, {}, {"w": weights}))
        begin = time.perf_counter()
        for i, name in enumerate(names):
            start, node = time.perf_counter(), clients[name]
            weights[0] = i
            (task,) = node.get("/v1/work", api.Work, wait=20).tasks
            blob = node.upload(wire.frames({"w": weights}))
            path, named = f"/v1/answers/{task.exchange}/{task.position}", api.Named(blob=blob)
            ack = node.post(path, api.Ack, named, {"Atoll-Body": "named"})
            if ack.state not in ("accepted", "duplicate"):
                raise SystemExit(f"{name}: {ack}")
            seconds.append(time.perf_counter() - start)
        while ada.get("/v1/runs/r/exchanges/0", api.State, wait=60).state != "closed":
            pass
        whole = time.perf_counter() - begin
        now, most = memory(made.process)
    tell("coordinator: the most memory above idle", most - alone, "MB", 300)
    say("  above idle at the end", now - alone, "MB")
    say("seconds a contribution, median", statistics.median(seconds), "s")
    say("seconds in all, with the sum", whole, "s")


FIGURES: dict[str, Callable[[Wish], None]] = {
    f.__name__: f for f in (small, large, transfer, idle, idle5, thousand, dead, restart, model)
}


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was begun is ended
    plain_words = [word for word in sys.argv[1:] if "=" not in word]
    told = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
    wish = Wish(int(told.get("turns", 3)), float(told.get("share", 1)), told.get("flower"))
    for name in plain_words[0].split(",") if plain_words else FIGURES:
        FIGURES[name](wish)


if __name__ == "__main__":
    main()
