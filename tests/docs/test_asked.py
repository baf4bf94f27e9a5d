"""What estimators are said to ask of nodes is what they ask."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from atoll.errors import UnsupportedEstimator
from atoll.operations import operations
from atoll.recipes import find, generic_ways, operations_of, supported

DOCS = Path(__file__).parents[2] / "docs"
TABLE = json.loads((DOCS.parent / "src" / "atoll" / "recipes" / "asked.json").read_text("utf-8"))
SAMPLE = ("", "CalibratedClassifierCV", "GaussianNB", "KNeighborsClassifier", "LabelEncoder", "MLPClassifier",
          "NeuralNetClassifier", "Ridge")  # fmt: skip


@pytest.fixture(scope="module")
def measured():
    sys.path.insert(0, str(DOCS))
    spec = importlib.util.spec_from_file_location("asked_page", DOCS / "asked.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DOCS))
    return module.asked


def test_every_way_of_every_estimator_is_there():
    ways = {kind.__name__: set(ways) for kind, ways in supported(by_name=True).items()} | {"": set(generic_ways())}
    missing = [(name, way) for name, known in ways.items() for way in known if not TABLE.get(name, {}).get(way)]
    assert missing == [], "run: python docs/tables.py asked"
    told = {op for of_kind in TABLE.values() for ops in of_kind.values() for op in ops}
    assert told <= set(operations)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*SAMPLE, *(pytest.param(n, marks=pytest.mark.thorough) for n in TABLE)])
def test_what_is_told_is_what_is_asked(measured, name):
    assert measured((name,)) == {name: TABLE[name]}, "run: python docs/tables.py asked"


def test_what_is_made_of_others_asks_what_they_ask():
    pipe = make_pipeline(StandardScaler(), PCA(2), LogisticRegression())
    parts = {op for part in (StandardScaler(), PCA(), LogisticRegression()) for op in operations_of(part)}
    assert set(operations_of(pipe)) == parts | set(TABLE["Pipeline"]["exact"])
    assert operations_of(KNeighborsClassifier()) == ("describe.schema", "neighbors.nearest")


def test_ways_that_are_named():
    assert find(DecisionTreeClassifier(), "vote").method == "vote"
    assert operations_of(DecisionTreeClassifier(), "vote") == ("describe.schema", "generic.fit", "generic.vote")
    assert operations_of(LogisticRegression(), "newton") == tuple(TABLE["LogisticRegression"]["newton"])
    with pytest.raises(UnsupportedEstimator):
        operations_of(DecisionTreeClassifier())


def test_of_what_is_not_known_nothing_is_told(monkeypatch):
    table = {**TABLE, "GaussianNB": {}}
    monkeypatch.setattr("atoll.recipes.asked._table", lambda: table)
    assert operations_of(GaussianNB()) == ()
    assert operations_of(make_pipeline(StandardScaler(), GaussianNB())) == ()
