"""Ctrl-C during a training: the model of the last round is there, the program goes on, and no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

SCRIPT = """
import functools, hashlib, signal, sys
import numpy as np, torch
import atoll
from atoll.algorithms import fedavg, fedbuff, scaffold, sgd
from atoll.topology import gossip

METHODS = {"scaffold": scaffold, "gossip": lambda: None, "fedbuff": functools.partial(fedbuff, buffer=2)}

def went(rounds, engine, *callbacks):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 8)).astype(np.float32)
    wiring = {"ring": "ring", "gossip": gossip("ring")}.get(sys.argv[1], "star")
    sites = atoll.Federation.simulate(
        X, (X[:, 0] > 0).astype(int), n_nodes=6, engine=engine, n_workers=2, topology=wiring, verbose=0
    )
    torch.manual_seed(0)
    net = torch.nn.Linear(8, 2)
    local, loss = sgd(0.05, epochs=2, batch_size=5), torch.nn.CrossEntropyLoss()
    method = METHODS.get(sys.argv[1], fedavg)()
    return atoll.train(net, loss, sites, method, local=local, rounds=rounds, callbacks=callbacks)

def told(done):
    numbers = b"".join(p.detach().numpy().tobytes() for p in done.module.parameters())
    return hashlib.sha256(numbers).hexdigest()[:16]

def say(trained):
    print("round", trained.step, flush=True)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is off where tests run in the background
    done = went(3_000, "processes", say)
    assert done.interrupted, done.run_.notes
    n = len(done.losses)
    assert n >= 2, n
    accuracy = done.evaluate().accuracy
    again = went(n, "processes")
    assert told(again) == told(done), "the model is not that of the last round"
    assert again.losses == done.losses
    assert again.evaluate().accuracy == accuracy
    print("ended after", n, flush=True)
"""


def _of_session(leader: int) -> list[str]:
    """Processes that run in a session, by their command lines; what has ended and waits to be asked is not counted."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append((stat.parent / "cmdline").read_text().replace("\0", " "))
        except (OSError, IndexError):
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("method", "whom"),
    [
        ("fedavg", "driver"),
        ("fedavg", "group"),
        ("scaffold", "group"),
        ("ring", "driver"),
        ("gossip", "group"),
        ("fedbuff", "driver"),
    ],
)
def test_ctrl_c_leaves_the_last_model_and_no_process(method: str, whom: str, tmp_path: Path) -> None:
    """A terminal sends the signal to the whole group, `kill` to one process."""
    script = tmp_path / "training.py"
    script.write_text(SCRIPT)
    child = subprocess.Popen(
        [sys.executable, "-W", "error", str(script), method], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == "round 3":
                break
        (os.killpg if whom == "group" else os.kill)(child.pid, signal.SIGINT)
        rest, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors
        assert "ended after" in rest
        until = time.monotonic() + 10
        while _of_session(child.pid) and time.monotonic() < until:
            time.sleep(0.05)
        assert _of_session(child.pid) == []
    finally:
        for end in (child.kill, child.wait):
            end()
        for stream in (child.stdout, child.stderr):
            stream.close()  # type: ignore[union-attr]
