"""What ``atoll run`` and ``atoll demo`` say by node and by class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.metrics import accuracy_score, mean_absolute_error, recall_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsRegressor, NearestCentroid

Run = Callable[..., Any]


def test_each_node_of_a_column_is_judged_on_its_own_held_out_rows(atoll: Run, iris: Path) -> None:
    words = ["run", str(iris), "--target", "species", "--node-column", "site", "--estimator", "NearestCentroid"]
    said = atoll(*words, "--json", "--report", "none")
    found = said.data()["results"][1]["evaluation"]
    bunch = load_iris()
    site = np.array(["north", "south", "west"])[np.arange(150) % 3]
    X, X_test, y, y_test, _, site = train_test_split(bunch.data, bunch.target, site, test_size=0.2, random_state=42)
    answers = NearestCentroid().fit(X, y).predict(X_test)
    assert found["nodes"] == ["north", "south", "west"]
    assert found["rows"] == [int((site == name).sum()) for name in found["nodes"]]
    expected = [accuracy_score(y_test[site == name], answers[site == name]) for name in found["nodes"]]
    assert found["per_node"]["accuracy"] == pytest.approx(expected, rel=1e-12)
    worst = found["metrics"]["accuracy"]["worst"]
    assert (worst["node"], worst["value"]) == (found["nodes"][int(np.argmin(expected))], pytest.approx(min(expected)))
    assert found["metrics"]["accuracy"]["all"] == said.data()["results"][1]["score"]
    assert found["classes"] == list(bunch.target_names)
    assert found["per_class"]["recall"] == pytest.approx(recall_score(y_test, answers, average=None).tolist())
    assert np.sum(found["confusion"]) == 30
    assert "evaluation" not in said.data()["results"][0]


def test_the_printed_table_and_the_page_say_so(atoll: Run, iris: Path) -> None:
    words = ["run", str(iris), "--target", "species", "--node-column", "site", "--estimator", "NearestCentroid"]
    said = atoll(*words)
    assert said.status == 0
    for told in (
        "Held-out rows, all and on the worst node:", "accuracy", "worst", "Held-out rows by class (federated):",
        "class", "precision", "virginica",
    ):  # fmt: skip
        assert told in said.out
    page = Path("atoll-run.html").read_text("utf-8")
    for told in ("By node and by class", "worst node", "Recall of each class on each node", "divergence"):
        assert told in page


def test_held_out_rows_are_dealt_as_the_others_were(atoll: Run) -> None:
    data = atoll("demo", "--json", "--report", "none", "--data", "wine").data()
    _, distributed, federated = data["results"]
    assert sum(distributed["evaluation"]["rows"]) == sum(federated["evaluation"]["rows"]) == 36
    assert federated["evaluation"]["nodes"] == federated["nodes"]
    lacks = [len(own) for own in map(set, _classes_by_node(federated))]
    assert max(lacks) <= 2  # sorted by label, a node sees one class or two
    assert distributed["evaluation"]["metrics"]["accuracy"]["all"] == distributed["score"]


def _classes_by_node(result: dict[str, Any]) -> list[list[int]]:
    return [[k for k, n in enumerate(row) if n] for row in result["partition"]["counts"]]


def test_too_few_held_out_rows_are_not_judged(atoll: Run, iris: Path) -> None:
    words = ["run", str(iris), "--target", "species", "--drop", "site", "--estimator", "NearestCentroid"]
    said = atoll(*words, "--nodes", "40", "--report", "none")
    assert said.status == 0
    assert "worst node" not in said.out
    assert atoll(*words, "--nodes", "40", "--report", "none", "--json").data()["results"][1]["evaluation"] is None


def test_a_regressor_is_judged_by_its_errors(atoll: Run, diabetes: Path) -> None:
    words = ["run", str(diabetes), "--target", "progress", "--estimator", "KNeighborsRegressor", "--nodes", "3"]
    found = atoll(*words, "--json", "--report", "none").data()["results"][1]["evaluation"]
    X, y = load_diabetes(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y + 0.5, test_size=0.2, random_state=42)
    answers = KNeighborsRegressor().fit(X, y).predict(X_test)
    error = -mean_absolute_error(y_test, answers)
    assert found["metrics"]["neg_mean_absolute_error"]["all"] == pytest.approx(error, rel=1e-9)
    assert found["confusion"] is None
    assert "r2" in atoll(*words).out


def test_a_density_has_nothing_to_be_judged_by(atoll: Run, diabetes: Path) -> None:
    words = ["run", str(diabetes), "--drop", "progress", "--estimator", "KernelDensity", "--set", "bandwidth=0.2"]
    assert "worst node" not in atoll(*words, "--report", "none").out
