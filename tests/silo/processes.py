"""Commands that run to their end beside a federation of real processes (`atoll.silo.local`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from atoll.silo.local import environment

__all__ = ["atoll"]


def atoll(home: Path, *words: str, status: int = 0) -> str:
    """Run a command to its end; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "atoll", *words], env=environment(home), capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout if not status else done.stderr
