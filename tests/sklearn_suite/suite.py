"""Runs scikit-learn's own, unmodified test modules over classes that fit through `Distributed`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Told(NamedTuple):
    """What a run of the suite says; `failed` are the tests that were expected to, with their parameters."""

    passed: int
    failed: set[str]
    fits: int
    calls: int
    classes: set[str]


def run(
    tmp_path: Path, package: str, modules: Sequence[str], *more: str, expected: str | None = None, **environment: str
) -> Told:
    """Run test modules over substituted classes in a process of their own.

    Parameters
    ----------
    tmp_path : Path
        Where it runs.
    package : str
        The package whose classes are replaced: ``sklearn.neighbors``.
    modules : sequence of str
        Test modules, such as ``sklearn.neighbors.tests.test_kde``.
    *more : str
        Further arguments of pytest.
    expected : str, optional
        The module of `expected/`; by default the last part of the package's name.
    **environment : str
        Environment variables.

    Returns
    -------
    Told
    """
    report = tmp_path / "report.xml"
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    own = {"PYTHONPATH": path, "ATOLL_PACKAGE": package, "ATOLL_EXPECTED": expected or package.rpartition(".")[2]}
    command = [
        sys.executable, "-m", "pytest", "-q", "--tb=short", "-c", str(HERE / "suite.ini"), f"--rootdir={tmp_path}",
        "-p", "atoll_substitution", f"--junitxml={report}", *more, "--pyargs", *modules,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, env={**clean, **own, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-12000:] + done.stderr[-2000:]
    cases = ET.parse(report).getroot().findall(".//testcase")
    skips = [(case.get("name", ""), skip.get("type")) for case in cases for skip in case.findall("skipped")]
    fits, calls = re.search(r"atoll: (\d+) fits and (\d+) calls over nodes", done.stdout).groups()
    return Told(
        passed=len(cases) - len(skips),
        failed={name for name, kind in skips if kind == "pytest.xfail"},
        fits=int(fits),
        calls=int(calls),
        classes=set(re.findall(r"atoll: ([A-Z]\w+)", done.stdout)),
    )


def functions(names: set[str]) -> set[str]:
    """Names of tests without their parameters."""
    return {name.split("[")[0] for name in names}
