"""A local worker process: ``python -m atoll.engines FD``, started by the engine ``processes`` and by nobody else.

It holds shards in shared memory, answers exchanges for many nodes, joins siblings, and ends when the driver does.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from atoll import wire
from atoll.blas import one_thread
from atoll.engines.channel import Blob, Inbox, send, share
from atoll.engines.mixing import Outbox, deliver, outbox
from atoll.engines.rows import LOCAL, Rows
from atoll.memory import Store
from atoll.messages import Exchange
from atoll.shards import Shard
from atoll.topology import is_mix
from atoll.trees import Tree
from atoll.worker import Block, block

__all__ = ["Answer", "Command", "State", "main"]

_PIECE = 0.01


class Command(NamedTuple):
    """What the driver asks of a worker.

    Attributes
    ----------
    kind : {"attach", "work", "lend", "deliver", "detach"}
        Attach further shards, answer an exchange, see what others send in a mix, end a mix, or forget shards.
    key : str
        Names the shards.
    ticket : int
        Comes back with the answer.
    positions : list of int
        The worker's share of the cohort.
    among : list of int
        Who takes part in a mix.
    seconds : float or None
        Time left until the deadline.
    """

    kind: str
    key: str
    ticket: int = -1
    positions: list[int] = []
    among: list[int] = []
    seconds: float | None = None


class State(NamedTuple):
    """What nodes remember and this worker does not know yet: by node, the version and its slots."""

    versions: dict[int, int]
    slots: dict[int, dict[str, Tree]]


class Answer(NamedTuple):
    """What a worker answers, in one piece or, where there is a deadline, in several.

    Attributes
    ----------
    ticket : int
        Of the command.
    last : bool
        Whether this is the last piece.
    block : Block
        Contributions, joined.
    keep : dict of int to dict of str to Tree
        By node, the slots of its memory that were written.
    warned : list of (category, message)
        Warnings raised on the nodes.
    """

    ticket: int
    last: bool
    block: Block
    keep: dict[int, dict[str, Tree]]
    warned: list[tuple[str, str]]


class _Recorder(Store):
    """A store that notes what is written, so that the driver can keep it too."""

    def __init__(self) -> None:
        super().__init__()
        self.written: dict[int, dict[str, Tree]] = {}

    def write(self, node: int, number: int, base: int, keep: Mapping[str, Tree], *, as_it_lies: bool = False) -> None:
        super().write(node, number, base, keep, as_it_lies=as_it_lies)
        self.written[node] = dict(keep)


class _Worker:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._shards: dict[str, list[Shard]] = {}
        self._memory: dict[str, _Recorder] = {}
        self._lent: dict[int, dict[int, Tree]] = {}

    def handle(self, frame: list[bytes]) -> None:
        command = wire.decode(frame[0], Command, LOCAL)
        if command.kind == "attach":
            rows = wire.decode(frame[1], Rows, LOCAL)
            self._shards.setdefault(command.key, []).extend(rows.shards(frame[2:]))
            self._memory.setdefault(command.key, _Recorder())
        elif command.kind == "detach":
            self._shards.pop(command.key, None)
            self._memory.pop(command.key, None)
        elif command.kind == "lend":
            self._lent.setdefault(command.ticket, {}).update(wire.decode(frame[1], Outbox, LOCAL).trees)
        elif command.kind == "deliver":
            send(self._sock, [share(self._deliver(command, frame))])
        else:
            for answer, *sent in self._work(command, frame):
                send(self._sock, [share(answer), *sent])

    def _work(self, command: Command, frame: list[bytes]) -> Iterator[tuple[Answer, *tuple[Blob, ...]]]:
        """Answer; where there is a deadline, in pieces of some milliseconds, so that what is done by then counts."""
        until = None if command.seconds is None else time.monotonic() + command.seconds
        x = wire.decode(frame[1], Exchange, LOCAL)
        if len(frame) > 2:
            self._learn(command.key, wire.decode(frame[2], State, LOCAL))
        at, size, n = 0, len(command.positions) if until is None else 1, len(command.positions)
        while at < n:
            piece, start = command.positions[at : at + size], time.monotonic()
            at += size
            answer = self._answer(command, x, piece, until, last=at >= n)
            if is_mix(x.plan):
                kept, sent = outbox(answer.block)
                yield answer._replace(block=kept), share(sent, inline=0)
            else:
                yield (answer,)
            size = size * 2 if time.monotonic() - start < _PIECE else 1

    def _deliver(self, command: Command, frame: list[bytes]) -> Answer:
        """End a mix for this worker's nodes, from what all workers lent each other."""
        x, memory = wire.decode(frame[1], Exchange, LOCAL), self._memory[command.key]
        if len(frame) > 2:
            self._learn(command.key, wire.decode(frame[2], State, LOCAL))
        memory.written = {}
        block = deliver(x, command.among, command.positions, self._lent.pop(command.ticket), memory)
        return Answer(command.ticket, True, block, memory.written, [])

    def _learn(self, key: str, state: State) -> None:
        for node, number in state.versions.items():
            self._memory[key].write(node, number, -1, state.slots[node])

    def _answer(self, command: Command, x: Exchange, piece: list[int], until: float | None, last: bool) -> Answer:
        memory = self._memory[command.key]
        memory.written = {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                answered = block(x, piece, self._shards[command.key], memory, until=until)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                answered = Block({}, [], dict.fromkeys(piece, why), {}, {}, [])
        warned = list(dict.fromkeys((w.category.__name__, str(w.message)) for w in caught))
        return Answer(command.ticket, last, answered, memory.written, warned)


def _end_with(sock: socket.socket) -> None:
    """End this process as soon as the driver's side of the socket is closed, even in the middle of a long answer."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLHUP)
    while not any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poll.poll()):
        continue
    os._exit(0)


def main() -> None:
    """Serve until the driver goes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sock = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_end_with, args=(sock,), daemon=True).start()
    worker, inbox = _Worker(sock), Inbox()
    with one_thread():
        while inbox.feed(sock):
            while (frame := inbox.pop()) is not None:
                worker.handle(frame)
