"""What every test shares: no window, no timing rule for generated examples, seeds in sight, and Ctrl-C heard."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

os.environ["MPLBACKEND"] = "Agg"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job in the background: tests interrupt themselves
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("atoll", deadline=None, print_blob=True)
settings.load_profile("atoll")
