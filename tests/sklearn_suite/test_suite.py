"""scikit-learn's own, unmodified test modules for the neighbours family, over nodes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

import pytest

from atoll.recipes import supported
from sklearn_suite.expected_failures import EXPECTED

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "scikit-learn.md"
NEIGHBORS = ["test_neighbors"]
OTHERS = ["test_nearest_centroid", "test_kde", "test_neighbors_pipeline", "test_graph"]


class Told(NamedTuple):
    """What a run of the suite says; `failed` are the tests that were expected to."""

    passed: int
    failed: set[str]
    fits: int
    calls: int
    classes: set[str]


def suite(tmp_path: Path, modules: list[str], *more: str, **environment: str) -> Told:
    """Run test modules over substituted classes in a process of their own."""
    report = tmp_path / "report.xml"
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [
        sys.executable, "-m", "pytest", "-q", "--tb=short", "-c", str(HERE / "suite.ini"), f"--rootdir={tmp_path}",
        "-p", "atoll_substitution", f"--junitxml={report}", *more,
        "--pyargs", *(f"sklearn.neighbors.tests.{module}" for module in modules),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env={**clean, "PYTHONPATH": path, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    cases = ET.parse(report).getroot().findall(".//testcase")
    skips = [(case.get("name", ""), skip.get("type")) for case in cases for skip in case.findall("skipped")]
    fits, calls = re.search(r"atoll: (\d+) fits and (\d+) calls over nodes", done.stdout).groups()
    return Told(
        passed=len(cases) - len(skips),
        failed={name.split("[")[0] for name, kind in skips if kind == "pytest.xfail"},
        fits=int(fits),
        calls=int(calls),
        classes=set(re.findall(r"atoll: ([A-Z]\w+)", done.stdout)),
    )


@pytest.mark.timeout(600)
def test_neighbors(tmp_path):
    told = suite(tmp_path, NEIGHBORS)
    assert told.failed == {line.split("::")[1] for line in EXPECTED}
    assert told.passed > 580
    assert told.fits > 1900
    assert told.calls > 2800
    assert told.classes == {kind.__name__ for kind in supported()} - {"KernelDensity", "NearestCentroid"}


@pytest.mark.timeout(300)
def test_the_other_modules(tmp_path):
    told = suite(tmp_path, OTHERS)
    assert told.failed == set()
    assert told.passed > 80
    assert told.fits > 500
    assert told.calls > 900
    assert told.classes >= {"KernelDensity", "NearestCentroid", "NearestNeighbors"}


@pytest.mark.thorough
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "settings",
    [
        {"n_nodes": 1},
        {"n_nodes": 8, "topology": "tree"},
        {"partition": "quantity"},
        {"engine": "processes", "n_workers": 2},
    ],
    ids=json.dumps,
)
def test_over_other_nodes_and_in_single_precision_too(tmp_path, settings):
    """A metric that is a function does not travel, so its tests are left out where it would have to."""
    chosen = ["-k", "not callable_metric and not metric_callable"] if "engine" in settings else []
    environment = {"ATOLL_SETTINGS": json.dumps(settings), "SKLEARN_RUN_FLOAT32_TESTS": "1"}
    told = suite(tmp_path, NEIGHBORS + OTHERS, *chosen, **environment)
    assert told.failed == {line.split("::")[1] for line in EXPECTED}
    assert told.passed > 800


def test_the_expected_failures_are_published():
    """One line each in docs/scikit-learn.md, with its reason; fewer than five."""
    assert len(EXPECTED) < 5
    published = dict(re.findall(r"^- `(sklearn[\w.:]+)`: (.+)\.$", DOCS.read_text(encoding="utf-8"), re.M))
    assert published == EXPECTED
