"""``atoll verify``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_a_model_that_is_the_same(atoll: Callable[..., Any]) -> None:
    said = atoll("verify", "naive_bayes.GaussianNB", "--nodes", "3", "--partition", "label")
    assert said.status == 0
    assert said.out.startswith("GaussianNB() over 3 nodes (label, inprocess): as on the pooled rows")
    assert "theta_" in said.out
    assert said.err == ""


def test_a_model_that_differs(atoll: Callable[..., Any]) -> None:
    said = atoll("verify", "GaussianNB", "--rtol", "0", "--set", "var_smoothing=0.1", "--json", "--data", "digits")
    data = said.data()
    assert said.status == 1 - data["ok"]
    assert data["rtol"] == 0
    assert data["estimator"] == "GaussianNB(var_smoothing=0.1)"
    assert {"name", "kind", "shape", "differ", "absolute", "relative", "ok", "why"} == set(data["differences"][0])


def test_a_regressor_has_rows_of_its_own(atoll: Callable[..., Any]) -> None:
    said = atoll("verify", "KNeighborsRegressor", "--json")
    assert said.status == 0
    assert "load_diabetes" in said.data()["rows"]


def test_a_table_of_ones_own(atoll: Callable[..., Any], iris: Path) -> None:
    words = ("verify", "NearestCentroid", str(iris), "--target", "species", "--drop", "site")
    assert atoll(*words, "--engine", "processes", "--workers", "2").status == 0
    said = atoll(*words[:3], "--drop", "site", "species")
    assert said.status == 2
    assert "needs a column to predict" in said.err
    assert atoll("verify", "KernelDensity", str(iris), "--drop", "site", "species").status == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "ESTIMATOR is missing; it comes first"),
        (("GausianNB",), "did you mean"),
        (("GaussianNB", "--data", "irs"), "did you mean 'iris'"),
        (("GaussianNB", "table.csv", "--data", "iris"), "from a file or from a bundled data set"),
        (("GaussianNB", "--target", "species"), "which table has these columns"),
        (("GaussianNB", "--rtol", "-1"), "expected a number from 0"),
        (("GaussianNB", "--partition", "lable"), "did you mean 'label'"),
        (("SVC",), "cannot"),
    ],
)
def test_bad_usage(atoll: Callable[..., Any], words: tuple[str, ...], said: str) -> None:
    found = atoll("verify", *words)
    assert found.status == 2
    assert said in found.err
    assert found.out == ""
