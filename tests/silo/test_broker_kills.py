"""Killed at every persisted step and started again, a broker ends with the same bits, and counts everything once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext

import msgspec
import numpy as np
import pytest

from atoll import wire
from atoll.messages import Outcome, Rule
from atoll.silo import durable, errors
from atoll.silo.api import Ack, DataSet, Hello
from atoll.silo.broker import LATE
from atoll.silo.keys import Key
from atoll.silo.tasks import blob_of
from brokers import Site, assembled, tree_of, upload
from cases import same_bits

NEW = Key.make()
N = 11


class Killed(BaseException):
    """What a SIGKILL is to a test that must go on."""


class Executioner:
    """Kills at the given steps, counted over all lives."""

    def __init__(self, at: set[int]) -> None:
        self.at, self.steps, self.names = at, 0, []

    def __call__(self, step: str) -> None:
        self.steps += 1
        self.names.append(step)
        if self.steps in self.at:
            raise Killed(step)


def trees(number: int, seed: int = 0) -> dict[int, dict[str, np.ndarray]]:
    rng = np.random.default_rng([seed, number])
    size = 9_000 if number == 1 else 7
    return {p: {"x": rng.normal(size=size), "weight": rng.random(1)} for p in range(N)}


def questions(site: Site) -> list:
    like = {"x": np.zeros(9_000), "weight": np.zeros(1)}
    small = {"x": np.zeros(7), "weight": np.zeros(1)}
    return [
        site.question(small, number=0, rule=Rule(quorum=0.5)),
        site.question(like, "Mean", number=1, payload={"w": np.arange(9_000.0)}, rule=Rule(quorum=0.5)),
        site.question(small, number=2, rule=Rule(deadline=5.0, quorum=0.5), each={}),
    ]


def life(site: Site, batched: bool) -> None:
    """Everything that members do, repeated from the start after a kill, as they repeat it."""
    broker = site.broker
    together: Callable = broker.batch if batched else nullcontext
    with together():
        if broker.member_by_name("extra") is None:
            broker.invite("extra", "node", b"secret", site.clock() + 1e6, "alice")
    broker.join("extra", "node", b"secret", NEW.public)
    with together():
        for name in site.names[:3]:
            broker.hello(name, Hello(versions={}, data=(DataSet(name="iris"),)))
        broker.lease("key", b"state")
    site.open()
    for x in questions(site):
        ask(site, x)
        order = np.random.default_rng(x.number).permutation(N)
        for chunk in np.array_split(order, 4):
            answer(site, x, [int(p) for p in chunk], together)
        if x.rule.deadline:
            site.clock.now += 6
            broker.close_due()
        fold(site)
        assert broker.state("alice", "run", x.number).state == "closed"
    broker.save("alice", "run", b"s" * 100_000)
    broker.end_run("alice", "run", "done", "well", {2: {"loss": 0.5}})
    broker.sweep()


def ask(site: Site, x) -> None:
    data = site.task(x)
    told = {x.number - 1: {"loss": 0.5}} if x.number else {}
    submission = msgspec.structs.replace(site.submission(x, data), told=told)
    if len(data) > 1 << 16:
        upload(site.broker, "alice", data, 50_000)
        submission = msgspec.structs.replace(submission, inline=None)
    site.broker.submit("alice", "run", submission)


def answer(site: Site, x, positions: list[int], together: Callable) -> None:
    uid = site.broker.exchange_id("alice", "run", x.number)
    large = x.number == 1
    ready = {}
    for p in positions:
        if large and p != 4:
            data = wire.encode(trees(x.number)[p])
            blob = upload(site.broker, site.names[p], data, 30_000)
            found = site.broker.examine(site.names[p], uid, p, blob)
            ready[p] = found if isinstance(found, Ack) else found.run()
    with together():
        for p in positions:
            if x.rule.deadline and p >= 8:
                continue
            if p == 4:
                site.broker.refuse(site.names[p], uid, p, "failed", "ValueError: no")
            elif not isinstance(ready.get(p), Ack):
                site.broker.answer(site.names[p], uid, p, ready.get(p) or wire.encode(trees(x.number)[p]))


def fold(site: Site) -> None:
    while (job := site.broker.next_fold()) is not None:
        site.broker.folded(job.run())


def through(site: Site, kill_at: set[int], batched: bool) -> Executioner:
    """A life with deaths in it."""
    executioner = Executioner(kill_at)
    stop = durable.watch(executioner)
    try:
        for _ in range(len(kill_at) + 1):
            try:
                life(site, batched)
                return executioner
            except Killed:
                stop()
                site.reopen()
                stop = durable.watch(executioner)
        raise AssertionError("it does not end")
    finally:
        stop()


def check(site: Site) -> None:
    for x in questions(site):
        state = site.broker.state("alice", "run", x.number)
        outcome = wire.decode(state.outcome, Outcome)
        refused = {4: "ValueError: no", **(dict.fromkeys(range(8, N), LATE) if x.rule.deadline else {})}
        given = {p: t for p, t in trees(x.number).items() if p not in refused}
        expected = assembled(x, given, refused)
        assert same_bits(tree_of(site.broker, state), expected.merged)
        assert (outcome.accepted, outcome.refused) == (expected.accepted, expected.refused)
        assert (outcome.bytes, outcome.links) == (expected.bytes, expected.links)
    counted = {d.node: d.times for d in site.broker.disclosed()}
    assert counted == {name: 2 if p >= 8 else 3 for p, name in enumerate(site.names) if p != 4}
    assert [seen.metrics for seen in site.broker.rounds("alice", "run")] == [{"loss": 0.5}] * 3
    kept = {p.name for p in (site.folder / "blobs").rglob("*") if p.is_file()}
    assert kept == {site.broker.state("alice", "run", 1).merged.digest, site.broker.saved("alice", "run").blob.digest}
    assert not [p for folder in ("staging", "folds") for p in (site.folder / folder).rglob("*") if p.is_file()]


def steps_of(place, batched: bool) -> list[str]:
    site = Site(place / "whole", N)
    names = through(site, set(), batched).names
    check(site)
    site.broker.close()
    return names


@pytest.mark.parametrize("share", range(6))
@pytest.mark.parametrize("batched", [False, True], ids=["one by one", "batched"])
def test_killed_at_every_step(place, batched, share):
    """Every step of a life once; a sixth of them in each test."""
    names = steps_of(place, batched)
    assert len(set(names)) >= 20, sorted(set(names))
    for k in range(1 + share, len(names) + 1, 6):
        site = Site(place / f"{k}", N)
        through(site, {k}, batched)
        site.reopen()
        check(site)
        site.broker.close()


@pytest.mark.parametrize("seed", range(12))
def test_killed_again_and_again(place, seed):
    rng = np.random.default_rng(seed)
    batched = bool(seed % 2)
    steps = len(steps_of(place, batched))
    site = Site(place / "b", N)
    through(site, set(rng.integers(1, 3 * steps, size=10).tolist()), batched)
    site.reopen()
    check(site)
    site.broker.close()


class Silos:
    """Nodes, a driver and a folding thread that go on asking one writer, which dies now and then."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site, self.rng = site, np.random.default_rng(seed)
        self.lock, self.deaths, self.failed = threading.Lock(), 0, []
        self.over = threading.Event()
        self.kill_in = int(self.rng.integers(5, 60))

    def step(self, name: str) -> None:
        """Called at every persisted step, in any thread."""
        self.kill_in -= 1
        if self.kill_in == 0:
            raise Killed(name)

    def call(self, act: Callable):
        """One call of the writer; if it dies, everybody's next call meets a new broker."""
        with self.lock:
            try:
                with self.site.broker.batch():
                    return act(self.site.broker)
            except Killed:
                self.die()
                raise

    def die(self) -> None:
        self.deaths += 1
        self.site.reopen()
        self.kill_in = int(self.rng.integers(5, 60))

    def repeat(self, act: Callable):
        """As a client: again, until it is answered."""
        while not self.over.is_set():
            try:
                return act()
            except Killed:
                with self.lock:
                    if self.kill_in <= 0:  # it hit a thread that was not the writer's
                        self.die()
            except (errors.NotFound, errors.Conflict, errors.Digest, FileNotFoundError):
                continue
        return None

    def node(self, p: int) -> None:
        name, rng = self.site.names[p], np.random.default_rng(p)
        while not self.over.is_set():
            work = self.repeat(lambda: self.call(lambda b: b.work(name)))
            for task in work.tasks if work is not None else ():
                data = wire.encode(trees(task.number)[task.position])
                self.repeat(lambda task=task, data=data: self.answer(name, task, data, int(rng.integers(2))))
            self.over.wait(0.002)

    def answer(self, name: str, task, data: bytes, twice: int) -> None:
        what = data
        if task.number == 1:
            broker = self.site.broker
            blob = blob_of(data)
            if not self.call(lambda b: b.has(name, blob)):
                offset = broker.uploads.begin(name, blob)
                while offset < blob.size:
                    offset = broker.uploads.append(name, blob.digest, offset, data[offset : offset + 40_000])
                self.call(lambda b: b.finish(name, blob))
            what = self.call(lambda b: b.examine(name, task.exchange, task.position, blob))
            if isinstance(what, Ack):
                return
            what.run()
        for _ in range(1 + twice):
            self.call(lambda b: b.answer(name, task.exchange, task.position, what))

    def folding(self) -> None:
        def once() -> None:
            job = self.call(lambda b: b.next_fold())
            if job is not None:
                job.run()
                self.call(lambda b: b.folded(job))

        while not self.over.is_set():
            self.repeat(once)
            self.over.wait(0.002)

    def driver(self) -> None:
        for x in questions(self.site)[:2]:
            self.repeat(lambda: self.call(lambda b: self.site.open()))
            self.repeat(lambda x=x: self.ask(x))
            while not self.over.is_set():
                state = self.repeat(lambda x=x: self.call(lambda b: b.state("alice", "run", x.number)))
                if state is None or state.state == "closed":
                    break
                self.over.wait(0.002)
        self.over.set()

    def ask(self, x) -> None:
        data = self.site.task(x)
        submission = self.site.submission(x, data)
        if len(data) > 1 << 16:
            with self.lock:
                try:
                    upload(self.site.broker, "alice", data, 50_000)
                except Killed:
                    self.die()
                    raise
            submission = msgspec.structs.replace(submission, inline=None)
        self.call(lambda b: b.submit("alice", "run", submission))

    def guarded(self, act: Callable, *arguments) -> None:
        try:
            act(*arguments)
        except BaseException as error:
            self.failed.append(error)
            self.over.set()

    def run(self) -> None:
        jobs = [(self.node, p) for p in range(N)] + [(self.folding,), (self.driver,)]
        threads = [threading.Thread(target=self.guarded, args=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        if self.failed:
            raise self.failed[0]


@pytest.mark.parametrize("seed", range(6))
def test_threads_and_deaths(place, seed):
    """Whatever dies while everybody is at it: the same bits, and each answer once."""
    site = Site(place / "b", N)
    silos = Silos(site, seed)
    stop = durable.watch(silos.step)
    try:
        silos.run()
    finally:
        stop()
    site.reopen()
    assert silos.deaths, f"seed {seed}"
    for x in questions(site)[:2]:
        state = site.broker.state("alice", "run", x.number)
        assert same_bits(tree_of(site.broker, state), assembled(x, trees(x.number), {}).merged), f"seed {seed}"
    assert [d.times for d in site.broker.disclosed()] == [2] * N
    site.broker.close()
