"""What answers questions is imported without what no node needs; everything else is there afterwards."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from atoll.silo.node import agent, lean
light = [m for m in ("sklearn", "scipy", "pandas") if m in sys.modules]
assert not light, light
lean.load_worker()
lean.load_worker()
heavy = [m for m in ("pandas", "pyarrow", "rich", "scipy.stats", "torch", "matplotlib") if m in sys.modules]
assert not heavy, heavy
import numpy as np
from sklearn._loss.link import MultinomialLogit
from sklearn.isotonic import spearmanr
raw = MultinomialLogit().link(np.full((2, 3), 1 / 3))
assert np.allclose(raw, 0)
from sklearn.covariance import MinCovDet
MinCovDet(random_state=0).fit(np.random.default_rng(0).normal(size=(30, 2)))
import scipy, scipy.stats, pandas, rich
assert type(scipy.stats).__name__ == "module"
from scipy import stats
assert stats.gmean([1.0, 4.0]) == 2.0
assert spearmanr([1, 2, 3], [1, 2, 3])[0] == 1.0
with open("/proc/self/status") as file:
    print(next(int(line.split()[1]) for line in file if line.startswith("VmRSS")))
"""

IDLE = """
from atoll.silo.node import agent, lean
lean.load_worker()
with open("/proc/self/status") as file:
    print(next(int(line.split()[1]) for line in file if line.startswith("VmRSS")))
"""


def run(code):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_what_is_left_out_is_there_when_it_is_wanted():
    run(CODE)


def test_a_process_that_can_answer_takes_less_than_150_mb():
    assert run(IDLE) < 145_000
