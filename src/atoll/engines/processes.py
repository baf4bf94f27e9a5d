"""Nodes in worker processes of this machine: started once, reused, replaced when they die.

Workers are started with ``python -m`` over a socket pair, so a script needs no main guard. Shards and large payloads
lie in anonymous shared memory, written once for all workers. What nodes remember is kept here as well as in the worker,
so a dead worker costs a redo and nothing else. Inside another process's worker (joblib, multiprocessing) this engine is
the in-process one: the bits are the same.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

from atoll import wire
from atoll.engines.base import Engine, Pending, Remote
from atoll.engines.channel import Blob, Inbox, send, share
from atoll.engines.inprocess import InProcess
from atoll.engines.mixing import present, settle
from atoll.engines.rows import LOCAL, written
from atoll.engines.serve import Answer, Command, State
from atoll.errors import InvalidData, WorkerDied, explain
from atoll.memory import Store
from atoll.messages import Exchange, Outcome
from atoll.operations import operations
from atoll.shards import Shard
from atoll.topology import is_mix
from atoll.worker import LATE, Block, Bound, assemble, segments

__all__ = ["Processes", "make"]

_WINDOW = 2
_TRIES = 3
_GRACE = 0.25


@dataclass
class _Attached:
    frames: list[list[Blob]]  # shards of consecutive nodes, and the files that some of their rows lie in
    shards: list[Shard]
    rows: list[int]
    owner: list[int]
    memory: Store = field(default_factory=Store)


@dataclass
class _Flight:
    """One worker's share of an exchange."""

    ticket: int
    key: str
    x: Exchange
    question: Blob
    worker: int
    positions: list[int]
    ends: float | None
    remembers: bool
    tries: int = 1
    blocks: list[Block] = field(default_factory=list)
    done: bool = False
    dropped: bool = False
    lent: list[Blob] = field(default_factory=list)  # what nodes send to others in a mix: theirs, or all of it

    def command(self) -> Command:
        """What the worker is asked to do."""
        left = None if self.ends is None else max(0.0, self.ends - time.monotonic())
        return Command("work", self.key, self.ticket, self.missing(), seconds=left)

    def base(self, position: int) -> int:
        """The version of a node's memory that it builds on."""
        return self.x.base[position]

    def missing(self) -> list[int]:
        """Positions that have not answered."""
        answered = {p for b in self.blocks for p in (*b.accepted, *b.refused)}
        return [p for p in self.positions if p not in answered]


@dataclass
class _Delivery(_Flight):
    """One worker's share of the second half of a mix."""

    among: list[int] = field(default_factory=list)

    def command(self) -> Command:
        """What the worker is asked to do."""
        return Command("deliver", self.key, self.ticket, self.missing(), self.among)

    def base(self, position: int) -> int:
        """The version that the first half wrote."""
        return self.x.number


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back, and have a process that is started now hold it back until it has set its own handling."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


class _Worker:
    def __init__(self, index: int) -> None:
        self.index = index
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        environment.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
        command = [sys.executable, "-m", "atoll.engines", str(theirs.fileno())]
        with _interrupts_held():
            self.process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        theirs.close()
        self.sock, self.inbox = ours, Inbox(lends=True)
        self.queue: deque[_Flight] = deque()
        self.busy: dict[int, _Flight] = {}
        self.attached: set[str] = set()
        self.knows: set[tuple[str, int, int]] = set()

    def fate(self) -> str:
        """How the process ended, in words."""
        code = self.process.wait()
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"exited with status {code}"

    def end(self) -> None:
        """Close the socket, at which the process ends; kill it if it does not."""
        self.sock.close()
        self.inbox.close()
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Processes:
    """Runs nodes in worker processes, many nodes each.

    Parameters
    ----------
    n_workers : int, optional
        Number of processes; one per core that this process may use, by default.
    """

    def __init__(self, n_workers: int | None = None) -> None:
        n = len(os.sched_getaffinity(0)) if n_workers is None and hasattr(os, "sched_getaffinity") else n_workers
        n = os.cpu_count() or 1 if n is None else n
        if not isinstance(n, int) or n < 1:
            raise InvalidData(explain("n_workers must be a whole number of at least 1, or None", got=repr(n_workers)))
        self.n_workers = n
        self._lock = threading.RLock()
        self._workers: list[_Worker] = []
        self._attached: dict[str, _Attached] = {}
        self._keys, self._tickets = itertools.count(), itertools.count()
        self._notes: list[str] = []
        self._selector = selectors.DefaultSelector()
        self._owner = os.getpid()

    def attach(self, rows: Sequence[Shard] | Remote) -> str:
        """Write the shards into shared memory, once for all workers; rows that are mapped from a file stay there."""
        if isinstance(rows, Remote):
            hint = "Federation.connect finds the engine that asks such nodes"
            raise InvalidData(explain("this engine takes rows, not the name of a data set", got=rows.data, hint=hint))
        n_rows = [shard.n_rows for shard in rows]
        frames, held = written(rows)
        with self._lock:
            key = f"processes-{next(self._keys)}"
            self._attached[key] = _Attached(frames, held, n_rows, _owners(n_rows, self.n_workers))
        return key

    def held(self, key: str) -> Sequence[Shard]:
        """The shards as they lie in shared memory, read-only."""
        return self._attached[key].shards

    def detach(self, key: str) -> None:
        """Give the shared memory back, here and in every worker."""
        with self._lock:
            self._attached.pop(key, None)
            for worker in self._workers:
                if key in worker.attached:
                    worker.attached.discard(key)
                    with suppress(OSError):
                        send(worker.sock, [wire.encode(Command("detach", key))])

    def submit(self, key: str, x: Exchange) -> Pending:
        """Send each worker its share of the cohort."""
        remembers = operations[x.op].remembers or bool(x.transform)
        with self._lock:
            self._start()
            attached, question, start = self._attached[key], share(x), time.monotonic()
            deadline = None if x.rule.late == "wait" else x.rule.deadline
            shares = _shares(x, attached, self.n_workers)
            ends = None if deadline is None else start + deadline
            flights = [
                _Flight(next(self._tickets), key, x, question, worker, positions, ends, remembers)
                for worker, positions in shares.items()
            ]
            self._forget_older(attached, x, remembers)
            self._take_off(flights)
        return _InFlight(self, x, flights, start, ends)

    def deliver(self, x: Exchange, flights: Sequence[_Flight], among: list[int]) -> list[_Delivery]:
        """Start the second half of a mix: all workers see what nodes send, and end it for their own.

        A worker that is still held up by a node that is late has others do it for the rest of its nodes.
        """
        lent = [blob for flight in flights for blob in flight.lent]
        here = set(among)
        with self._lock:
            free = [w.index for w in self._workers if not w.busy]
            deliveries = [
                _Delivery(next(self._tickets), f.key, x, f.question, f.worker if f.done or not free else free[0],
                          positions, None, True, lent=lent, among=among)
                for f in flights
                if (positions := [p for p in f.positions if p in here])
            ]  # fmt: skip
            self._take_off(deliveries)
        return deliveries

    def _take_off(self, flights: Sequence[_Flight]) -> None:
        for flight in flights:
            self._workers[flight.worker].queue.append(flight)
            self._flush(self._workers[flight.worker])

    @staticmethod
    def _forget_older(attached: _Attached, x: Exchange, remembers: bool) -> None:
        """What nodes remembered before their last accepted exchange is read by nobody any more."""
        for node, base in zip(x.cohort, x.base, strict=True) if remembers else ():
            attached.memory.read(node, base)

    def close(self) -> None:
        """End all workers."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            for worker in self._workers:
                with suppress(KeyError, ValueError):
                    self._selector.unregister(worker.sock)
                worker.end()
            self._workers.clear()
            self._attached.clear()
            self._selector.close()
            self._selector = selectors.DefaultSelector()

    def pids(self) -> list[int]:
        """Process ids of the running workers."""
        with self._lock:
            return [w.process.pid for w in self._workers]

    def _start(self) -> None:
        while len(self._workers) < self.n_workers:
            self._workers.append(self._hire(len(self._workers)))

    def _hire(self, index: int) -> _Worker:
        worker = _Worker(index)
        self._selector.register(worker.sock, selectors.EVENT_READ, worker)
        return worker

    def _flush(self, worker: _Worker) -> None:
        """Send what is queued, a few exchanges at a time, so that neither side ever waits on a full socket."""
        while worker.queue and len(worker.busy) < _WINDOW:
            flight = worker.queue.popleft()
            if flight.dropped:
                continue
            worker.busy[flight.ticket] = flight
            try:
                self._hand_over(worker, flight)
            except OSError:
                return  # the worker has died; the selector says so next

    def _hand_over(self, worker: _Worker, flight: _Flight) -> None:
        attached = self._attached[flight.key]
        if flight.key not in worker.attached:
            for rows in attached.frames:
                send(worker.sock, [wire.encode(Command("attach", flight.key)), *rows])
            worker.attached.add(flight.key)
        if isinstance(flight, _Delivery):
            for blob in flight.lent:
                send(worker.sock, [wire.encode(Command("lend", flight.key, flight.ticket)), blob])
        frame: list[Blob] = [wire.encode(flight.command()), flight.question]
        state = self._unknown(worker, flight)
        send(worker.sock, frame if state is None else [*frame, share(state)])

    def _unknown(self, worker: _Worker, flight: _Flight) -> State | None:
        """What the nodes of a flight remember and its worker does not know."""
        if not flight.remembers:
            return None
        memory = self._attached[flight.key].memory
        versions = {flight.x.cohort[p]: flight.base(p) for p in flight.positions if flight.base(p) >= 0}
        versions = {n: b for n, b in versions.items() if (flight.key, n, b) not in worker.knows}
        if not versions:
            return None
        return State(versions, {n: memory.version(n, b) for n, b in versions.items()})

    def pump(self, timeout: float | None) -> None:
        """Wait for something to arrive, and take it."""
        with self._lock:
            for event, _ in self._selector.select(timeout):
                worker: _Worker = event.data
                alive = worker.inbox.feed(worker.sock)
                while (frame := worker.inbox.pop()) is not None:
                    self._receive(worker, wire.decode(frame[0], Answer, LOCAL), frame[1:])
                if not alive:
                    self._replace(worker)

    def _receive(self, worker: _Worker, answer: Answer, lent: list[Blob]) -> None:
        flight = worker.busy[answer.ticket]
        flight.lent.extend(lent)
        if answer.last:
            flight.done = True
            del worker.busy[answer.ticket]
            self._flush(worker)
        attached = self._attached.get(flight.key)
        if attached is None:
            return
        for node, keep in answer.keep.items():
            base, mixes = flight.base(flight.x.cohort.index(node)), is_mix(flight.x.plan)
            attached.memory.write(node, flight.x.number, base, keep, as_it_lies=mixes)  # all nodes do, in every round
            for other in self._workers if isinstance(flight, _Delivery) else ():
                other.knows.discard((flight.key, node, flight.x.number))
            worker.knows.add((flight.key, node, flight.x.number))
        flight.blocks.append(answer.block)
        if not flight.dropped:
            for name, text in answer.warned:
                warnings.warn(text, _CATEGORIES.get(name, UserWarning), stacklevel=2)

    def _replace(self, worker: _Worker) -> None:
        """Bury a dead worker, hire another, and give it the work that was not done."""
        self._selector.unregister(worker.sock)
        worker.sock.close()
        fate = worker.fate()
        lost = [f for f in worker.busy.values() if not f.dropped]
        waiting = list(worker.queue)
        nodes = sorted(
            {
                self._attached[f.key].shards[f.x.cohort[p]].name
                for f in lost
                for p in f.missing()
                if f.key in self._attached
            }
        )
        again = f"; redone: {', '.join(nodes[:8])}{' …' if len(nodes) > 8 else ''}" if nodes else ""
        self._notes.append(f"worker {worker.index} (pid {worker.process.pid}) {fate} and was replaced{again}")
        fresh = self._workers[worker.index] = self._hire(worker.index)
        for flight in lost:
            flight.tries += 1
            if flight.tries > _TRIES:
                flight.done = True
                flight.blocks.append(Block({}, [], dict.fromkeys(flight.missing(), f"{_DEAD}{fate}"), {}, {}, []))
            else:
                fresh.queue.append(flight)
        fresh.queue.extend(waiting)
        self._flush(fresh)

    def take_notes(self) -> list[str]:
        """What happened since this was last asked."""
        with self._lock:
            notes, self._notes = self._notes, []
        return notes


_DEAD = "its worker process died: it "
_CATEGORIES: dict[str, type[Warning]] = {
    c.__name__: c
    for c in (UserWarning, RuntimeWarning, FutureWarning, SyntaxWarning, DataConversionWarning, ConvergenceWarning)
}


class _InFlight:
    def __init__(
        self, engine: Processes, x: Exchange, flights: list[_Flight], start: float, ends: float | None
    ) -> None:
        self._engine, self._x, self._flights, self._start, self._ends = engine, x, flights, start, ends

    def missing(self) -> list[int]:
        """Positions that have not answered yet."""
        return sorted(p for f in self._flights if not f.done for p in f.missing())

    def result(self) -> Outcome:
        """Wait until everybody has answered, or for as long as the rule says."""
        late = Block({}, [], {}, {}, {}, [])
        blocks = [*self._landed(self._flights, self._ends), late]
        late.refused.update(dict.fromkeys(self.missing(), LATE))
        if is_mix(self._x.plan):
            deliveries = self._engine.deliver(self._x, self._flights, present(blocks))
            delivered = self._landed(deliveries, None)
            return settle(self._x, blocks, delivered, time.monotonic() - self._start, self._engine.take_notes())
        return assemble(self._x, blocks, time.monotonic() - self._start, self._engine.take_notes())

    def _landed(self, flights: Sequence[_Flight], ends: float | None) -> list[Block]:
        try:
            while not all(f.done for f in flights):
                left = None if ends is None else ends + _GRACE - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._engine.pump(_SLICE if left is None else min(left, _SLICE))
        finally:
            for flight in flights:
                flight.dropped = not flight.done
        blocks = [b for f in flights for b in f.blocks]
        self._raise_if_dead(blocks)
        return blocks

    def _raise_if_dead(self, blocks: list[Block]) -> None:
        dead = {p: why for b in blocks for p, why in b.refused.items() if why.startswith(_DEAD)}
        if dead:
            why = next(iter(dead.values()))
            where = f"round {self._x.number} ({self._x.op}), positions {sorted(dead)}"
            hint = "out of memory? use fewer workers, or smaller batches; see the kernel's log"
            raise WorkerDied(
                explain(f"a worker died {_TRIES} times over the same nodes", got=why, where=where, hint=hint)
            )


_SLICE = 0.05


def _owners(rows: Sequence[int], n_workers: int) -> list[int]:
    """Which worker holds which node: consecutive nodes, about the same number of rows each."""
    total = np.cumsum(rows)
    middle = total - np.asarray(rows) / 2
    return [min(int(m * n_workers / max(total[-1], 1)), n_workers - 1) for m in middle]


def _shares(x: Exchange, attached: _Attached, n_workers: int) -> dict[int, list[int]]:
    """Which worker answers for which positions: those whose nodes it holds.

    Where blocks are answered as one, it is whole blocks of about as many rows: neighbours, which a worker can add up by
    itself, unless that would be uneven.
    """
    shares: dict[int, list[int]] = {}
    if not Bound(x).joins:
        for position, node in enumerate(x.cohort):
            shares.setdefault(attached.owner[node], []).append(position)
        return shares
    rows = [attached.rows[node] for node in x.cohort]
    blocks = [members for _, _, members in segments(x, range(len(rows)))]
    loads = [sum(rows[p] for p in members) for members in blocks]
    side_by_side, longest_first = _owners(loads, n_workers), _longest_first(loads, n_workers)
    even = _most(loads, side_by_side, n_workers) <= 1.05 * _most(loads, longest_first, n_workers)
    for members, worker in zip(blocks, side_by_side if even else longest_first, strict=True):
        shares.setdefault(worker, []).extend(members)
    return shares


def _longest_first(loads: Sequence[int], n_workers: int) -> list[int]:
    """Who takes which block, the longest first, each by whom has least to do."""
    owner, busy = [0] * len(loads), [0] * n_workers
    for i in sorted(range(len(loads)), key=lambda i: -loads[i]):
        owner[i] = busy.index(min(busy))
        busy[owner[i]] += loads[i]
    return owner


def _most(loads: Sequence[int], owner: Sequence[int], n_workers: int) -> int:
    """What the busiest worker has to do."""
    return max(sum(load for load, own in zip(loads, owner, strict=True) if own == w) for w in range(n_workers))


def _nested() -> bool:
    """Whether this process is somebody's worker: its siblings use the other cores already."""
    if multiprocessing.parent_process() is not None:
        return True
    return "loky" in type(multiprocessing.current_process()).__module__


def make(n_workers: int | None) -> Engine:
    """The engine for this process: in somebody else's worker, the in-process one.

    Parameters
    ----------
    n_workers : int, optional
        Number of processes; one per core that this process may use, by default.

    Raises
    ------
    InvalidData
        On a system without what the workers stand on.
    """
    if not hasattr(socket, "send_fds"):
        hint = "use engine='inprocess': the results are the same"
        raise InvalidData(
            explain("worker processes need a system that passes file descriptors (Linux, macOS)", hint=hint)
        )
    return InProcess() if _nested() else Processes(n_workers)
