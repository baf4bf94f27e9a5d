"""What a round of federated averaging takes besides its arithmetic: Atoll beside central SGD over the same batches.

    python benchmarks/overhead.py [cnn,linear] [rounds]

Central SGD is one model in PyTorch that steps through the rows of a round's nodes in the same batches: as many steps,
of as many rows each, and nothing to send or to add. Rounds take turns, one of each program. Two comparisons, as no one
is fair to both: one processor each (Atoll with one worker, SGD on one thread), whose processor time says what Atoll
adds, and two (Atoll with two workers of one thread each, SGD on two threads), whose seconds say what a user waits.
SGD is also shown with the channels of a pixel side by side, as Atoll lays images out.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

import atoll
from atoll import engines
from atoll.algorithms import fedavg, sgd
from atoll.selection import fixed

PEERS = Path(__file__).with_name("peers")
sys.path.insert(0, str(PEERS))
import work  # type: ignore[import-not-found]  # noqa: E402

Spent = tuple[float, float]
"""Seconds and processor seconds of a round."""


class Central:
    """A program that takes a round of central SGD when it is asked to."""

    def __init__(self, name: str, threads: int, *settings: str) -> None:
        command = [sys.executable, str(PEERS / "central.py"), name, str(threads), *settings]
        alone = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=alone)
        self._told()

    def round(self, number: int) -> Spent:
        """Take one."""
        assert self.process.stdin is not None
        print(number, file=self.process.stdin, flush=True)
        wall, processor = map(float, self._told().split())
        return wall, processor

    def _told(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("central.py has ended")
        return line

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def processor_seconds(pid: int) -> float:
    """What a process has computed so far, all its threads together."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def in_turns(name: str, workers: int, rounds: int) -> dict[str, list[Spent]]:
    """What every round but the first took, by program."""
    w, (X, Y) = work.WORK[name], work.rows(name)
    sites = atoll.Federation.from_shards(
        list(zip(X, Y, strict=True)), names=[f"node-{i:04d}" for i in range(w.nodes)],
        engine="processes", n_workers=workers, verbose=0,
    )  # fmt: skip
    layouts = {"central SGD": (), "central SGD, channels last": ("channels-last",)}
    others = {other: Central(name, workers, *its) for other, its in layouts.items() if not its or len(w.shape) > 1}
    spent: dict[str, list[Spent]] = {"Atoll": [], **{other: [] for other in others}}

    def now() -> Spent:
        pids = engines.live("processes", workers).pids()  # type: ignore[attr-defined]
        return time.perf_counter(), time.process_time() + sum(map(processor_seconds, pids))

    begun = now()

    def turn(trained: Any) -> None:
        nonlocal begun
        ended = now()
        spent["Atoll"].append((ended[0] - begun[0], ended[1] - begun[1]))
        for other, program in others.items():
            spent[other].append(program.round(trained.step - 1))
        begun = now()

    atoll.train(
        work.model(name), torch.nn.CrossEntropyLoss(), sites, fedavg(), local=sgd(w.rate, batch_size=w.batch),
        rounds=rounds + 1, selection=fixed([work.cohort(name, i).tolist() for i in range(rounds + 1)]),
        nodes_per_round=w.cohort, order=lambda number, node: work.order(name, number, node), callbacks=[turn],
    )  # fmt: skip
    for program in others.values():
        program.close()
    return {program: rounds[1:] for program, rounds in spent.items()}


def main() -> None:
    names = sys.argv[1].split(",") if len(sys.argv) > 1 else ["cnn"]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    for name in names:
        w = work.WORK[name]
        print(f"{name}: {w.cohort} of {w.nodes} nodes a round, {w.rows} rows each in batches of {w.batch}; medians")
        for workers in (1, 2):
            spent = in_turns(name, workers, rounds)
            print(f"  {workers} processor{'s' * (workers > 1)}")
            middle = {p: [statistics.median(each) for each in zip(*s, strict=True)] for p, s in spent.items()}
            for program, (wall, processor) in middle.items():
                ratios = [own / other for own, other in zip(middle["Atoll"], (wall, processor), strict=True)]
                told = "" if program == "Atoll" else f"; Atoll takes {ratios[0]:.2f} and {ratios[1]:.2f} times that"
                print(f"    {program:<27} {wall * 1e3:7.1f} ms, of processors {processor * 1e3:7.1f} ms{told}")


if __name__ == "__main__":
    main()
