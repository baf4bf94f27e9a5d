"""``atoll run`` with a pipeline out of an experiment file, and with every kind of estimator."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from atoll.cli.pipelines import imports_of, in_short, pipeline_of
from atoll.errors import InvalidData, UnknownName, UnsupportedEstimator

Run = Callable[..., Any]
pandas = pytest.importorskip("pandas")

EXPERIMENT = """
file = "patients.csv"
target = "outcome"
node-column = "hospital"

[[steps]]
columns = [
  { names = ["age", "bmi"], steps = ["SimpleImputer(strategy='median')", "StandardScaler"] },
  { names = ["sex"], steps = ["SimpleImputer(strategy='most_frequent')", "OneHotEncoder"] },
]

[[steps]]
estimator = "LogisticRegression"
set = { C = 0.5, class_weight = "none" }
"""


def expected_pipeline():
    return make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age", "bmi"]),
            (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["sex"]),
        ),
        LogisticRegression(C=0.5),
    )


@pytest.fixture
def patients(tmp_path: Path) -> Any:
    rng = np.random.default_rng(3)
    n = 240
    frame = pandas.DataFrame(
        {
            "age": rng.normal(50, 10, n).round(1),
            "bmi": rng.normal(25, 4, n).round(1),
            "sex": rng.choice(["f", "m"], n),
            "hospital": rng.choice(["lima", "oslo", "rome"], n),
        }
    )
    frame["outcome"] = np.where(frame.age + 2 * frame.bmi + rng.normal(0, 8, n) > 100, "ill", "well")
    frame.loc[rng.choice(n, 20, replace=False), "age"] = np.nan
    frame.loc[rng.choice(n, 20, replace=False), "sex"] = None
    frame.to_csv(tmp_path / "patients.csv", index=False)
    (tmp_path / "experiment.toml").write_text(EXPERIMENT)
    return frame


def test_a_pipeline_of_an_experiment_file(atoll: Run, patients: Any) -> None:
    said = atoll("run", "experiment.toml", "--json")
    assert (said.status, said.err) == (0, "")
    X = patients[["age", "bmi", "sex"]]
    train, test = train_test_split(np.arange(len(X)), test_size=0.2, random_state=42)
    model = expected_pipeline().fit(X.iloc[train], patients.outcome[train])
    pooled, over = said.data()["results"]
    assert over["agreement"] == 1.0
    assert pooled["score"] == over["score"] == model.score(X.iloc[test], patients.outcome[test])


def test_the_script_of_the_report_does_the_same(atoll: Run, patients: Any, tmp_path: Path) -> None:
    said = atoll("run", "experiment.toml", "--json")
    page = unescape((tmp_path / "atoll-run.html").read_text("utf-8"))
    start = page.index("from sklearn.model_selection")
    script = page[start : page.index("</", start)]
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"accuracy: {said.data()['results'][1]['score']}" in done.stdout


@pytest.mark.parametrize(
    ("estimator", "more"),
    [
        ("PCA", ["--set", "n_components=1"]),
        ("StandardScaler", []),
        ("EmpiricalCovariance", []),
        ("GaussianMixture", ["--set", "n_components=1"]),
        ("KMeans", ["--set", "init=[[40.0, 20.0], [60.0, 30.0]]", "n_clusters=2", "n_init=1"]),
    ],
)
def test_every_kind_of_estimator(atoll: Run, patients: Any, tmp_path: Path, estimator: str, more: list[str]) -> None:
    patients[["age", "bmi"]].dropna().to_csv(tmp_path / "numbers.csv", index=False)
    said = atoll("run", "numbers.csv", "--estimator", estimator, *more, "--json")
    assert (said.status, said.err) == (0, "")
    pooled, over = said.data()["results"]
    assert over["agreement"] == 1.0
    assert over["score"] == pytest.approx(pooled["score"], rel=1e-9)


class TestWriting:
    def test_steps(self) -> None:
        import tomllib

        made = pipeline_of(tomllib.loads(EXPERIMENT)["steps"])
        assert repr(made) == repr(expected_pipeline())
        assert in_short(made) == "ColumnTransformer → LogisticRegression"
        lines = imports_of(made)
        assert "from sklearn.pipeline import Pipeline" in lines
        assert "from sklearn.preprocessing import OneHotEncoder, StandardScaler" in lines

    @pytest.mark.parametrize(
        ("steps", "error", "words"),
        [
            ([], InvalidData, "list of steps"),
            ("Ridge", InvalidData, "list of steps"),
            (["Riddge"], UnknownName, "Riddge"),
            (["Ridge(alhpa=1)"], UnknownName, "alhpa"),
            (["Ridge(alpha=print(1))"], InvalidData, "cannot be read"),
            (["Ridge(1)"], InvalidData, "cannot be read"),
            (["Ridge("], InvalidData, "cannot be read"),
            (["Isomap"], UnsupportedEstimator, "Isomap"),
            ([3], InvalidData, "no step"),
            ([{"estimatr": "Ridge"}], UnknownName, "estimatr"),
            ([{"estimator": "Ridge", "set": 3}], InvalidData, "no step"),
            ([{"columns": []}], InvalidData, "blocks"),
            ([{"columns": [{"names": "age", "steps": ["StandardScaler"]}]}], InvalidData, "names its columns"),
            ([{"columns": [{"names": ["age"], "step": []}]}], UnknownName, "did you mean 'steps'"),
            ([{"columns": [3]}], InvalidData, r"steps\[0\].columns\[0\]"),
        ],
    )
    def test_what_cannot_be_is_refused_by_name(self, steps: Any, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            pipeline_of(steps)

    def test_steps_and_an_estimator_do_not_go_together(self, atoll: Run, patients: Any) -> None:
        said = atoll("run", "experiment.toml", "--estimator", "Ridge")
        assert said.status == 2
        assert "steps and estimator" in said.err


class TestModels:
    def test_lists_what_is_supported(self, atoll: Run) -> None:
        said = atoll("models", "--estimator", "Ridge", "KNeighborsClassifier", "RandomForestClassifier")
        assert said.status == 0
        for word in ("Ridge", "sums", "KNeighborsClassifier", "1 + 1 a call", "forest", "generic", "triangle"):
            assert word in said.out, word

    def test_rounds_and_bytes_are_measured(self, atoll: Run) -> None:
        few, many = (
            json.loads(atoll("models", "--estimator", "GaussianNB", "--features", d, "--classes", "3", "--json").out)
            for d in ("4", "40")
        )
        (few,), (many,) = few["models"], many["models"]
        assert (few["kind"], few["rounds"]) == ("exact", 2)
        assert many["bytes_up"] - few["bytes_up"] == 3 * 2 * 36 * 8

    def test_an_unknown_one(self, atoll: Run) -> None:
        said = atoll("models", "--estimator", "Riddge")
        assert (said.status, said.out) == (2, "")
        assert "did you mean 'Ridge'" in said.err
