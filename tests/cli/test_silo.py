"""``atoll silo demo``: real processes, the bits of the simulation, and nothing that stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def still_running(place: Path) -> list[str]:
    """Commands of processes that name a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
        except OSError:
            continue
        if str(place).encode() in words:
            found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are looked up in /proc")
def test_the_demo_has_the_bits_of_the_simulation_and_leaves_nothing(tmp_path: Path) -> None:
    temporary, home = tmp_path / "temporary", tmp_path / "home"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "ATOLL_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "atoll", "silo", "demo", "--json"],
        env=environment, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert [result["same"] for result in results] == [True, True]
    assert all(result["rounds"] > 0 and result["bytes"] > 0 and result["accuracy"] > 0.9 for result in results)
    assert still_running(temporary) == []
    assert list(temporary.iterdir()) == []
    assert not home.exists()
