"""scikit-learn's own test modules for the neighbours family, and the list of tests that cannot pass."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from sklearn_suite.expected.neighbors import EXPECTED
from sklearn_suite.suite import functions, run

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "expected-failures.md"
TESTS = "sklearn.neighbors.tests."
NEIGHBORS = [TESTS + "test_neighbors"]
OTHERS = [TESTS + name for name in ("test_nearest_centroid", "test_kde", "test_neighbors_pipeline", "test_graph")]


def suite(tmp_path, modules, *more, **environment):
    return run(tmp_path, "sklearn.neighbors", modules, *more, **environment)


@pytest.mark.timeout(600)
def test_neighbors(tmp_path):
    told = suite(tmp_path, NEIGHBORS)
    assert functions(told.failed) == {line.split("::")[1] for line in EXPECTED}
    assert told.passed > 580
    assert told.fits > 1900
    assert told.calls > 2800
    assert told.classes > {"KNeighborsClassifier", "KNeighborsRegressor", "NearestNeighbors"}


@pytest.mark.timeout(300)
def test_the_other_modules(tmp_path):
    told = suite(tmp_path, OTHERS)
    assert functions(told.failed) == set()
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
    assert functions(told.failed) == {line.split("::")[1] for line in EXPECTED}
    assert told.passed > 800


def test_the_expected_failures_are_published():
    """One line each in docs/expected-failures.md, with its reason; `make tables` writes it."""
    files = sorted((HERE / "expected").glob("[a-z]*.py"))
    expected = {}
    for file in files:
        expected |= importlib.import_module(f"sklearn_suite.expected.{file.stem}").EXPECTED
    published = dict(re.findall(r"^- `(sklearn[^`]+)`: (.+)\.$", DOCS.read_text(encoding="utf-8"), re.M))
    assert published == expected
