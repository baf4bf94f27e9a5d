"""What every test shares: no window, no timing rule for generated examples, seeds in sight, and Ctrl-C heard.

What a library draws without being given a seed is the same in every run of a test too, whatever ran before it.
"""

from __future__ import annotations

import os
import signal
import sys
import zlib

import numpy as np
import pytest
from hypothesis import settings

os.environ["MPLBACKEND"] = "Agg"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job in the background: tests interrupt themselves
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("atoll", deadline=None, print_blob=True)
settings.load_profile("atoll")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seed the generators that are everybody's, by the name of the test."""
    seed = zlib.crc32(item.nodeid.encode())
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
