"""What every test shares: no window, no timing rule for generated examples, and the seed of a failure in sight."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ["MPLBACKEND"] = "Agg"

settings.register_profile("atoll", deadline=None, print_blob=True)
settings.load_profile("atoll")
