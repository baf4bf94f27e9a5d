"""``atoll run``: a person's own file, held against scikit-learn on the same rows."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import neighbors
from sklearn.datasets import load_diabetes, load_iris
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split

Run = Callable[..., Any]


def held_out(*arrays: np.ndarray, test_size: float = 0.2, seed: int = 42) -> list[np.ndarray]:
    return train_test_split(*arrays, test_size=test_size, random_state=seed)


def species() -> tuple[np.ndarray, np.ndarray]:
    bunch = load_iris()
    return bunch.data, bunch.target_names[bunch.target]


def scores(said: Any) -> list[float]:
    assert (said.status, said.err) == (0, "")
    assert [r["agreement"] for r in said.data()["results"]] == [None, 1.0]
    return [r["score"] for r in said.data()["results"]]


@pytest.mark.parametrize("trust", ["distributed", "federated"])
def test_a_classifier(atoll: Run, iris: Path, trust: str) -> None:
    X_train, X_test, y_train, y_test = held_out(*species())
    expected = accuracy_score(
        y_test, neighbors.KNeighborsClassifier(3, weights="distance").fit(X_train, y_train).predict(X_test)
    )
    said = atoll(
        "run", "iris.csv", "--target", "species", "--drop", "site", "--estimator", "neighbors.KNeighborsClassifier",
        "--set", "n_neighbors=3", "weights=distance", "--nodes", "3", "--trust", trust, "--partition", "label",
        "--json",
    )  # fmt: skip
    assert scores(said) == [expected, expected]
    data = said.data()
    assert data["measure"] == "accuracy"
    assert data["results"][1]["name"] == trust
    assert data["results"][1]["nodes"] == ["node-0", "node-1", "node-2"]
    assert data["results"][1]["partition"]["classes"] == ["setosa", "versicolor", "virginica"]
    assert data["settings"]["nodes"] == "3"
    assert Path(data["written"]["report"]) == Path.cwd() / "atoll-run.html"


def test_the_nodes_of_a_column(atoll: Run, iris: Path) -> None:
    said = atoll(
        "run", "iris.csv", "--target=species", "--node-column=site", "--estimator=KNeighborsClassifier", "--json"
    )
    assert len(set(scores(said))) == 1
    result = said.data()["results"][1]
    assert (result["name"], result["split"]) == ("federated", "by column 'site'")
    assert result["nodes"] == ["north", "south", "west"]
    sites = np.array(["north", "south", "west"])[np.arange(150) % 3]
    train, _ = held_out(sites)
    assert result["partition"]["rows"] == [int((train == name).sum()) for name in result["nodes"]]


def test_a_node_whose_rows_are_all_held_out_is_named(atoll: Run, tmp_path: Path) -> None:
    _, test = held_out(np.arange(20))
    lines = [f"{i},{'far' if i == test[0] else 'near'},{'a' if i % 2 else 'b'}" for i in range(20)]
    Path(tmp_path / "t.csv").write_text("\n".join(["x,site,y", *lines]))
    said = atoll("run", "t.csv", "--target=y", "--node-column=site", "--estimator=KNeighborsClassifier", "--json")
    assert said.status == 0, said.err
    assert said.data()["notes"] == ["node 'far' takes no part: all its rows are held out"]


@pytest.mark.parametrize(
    ("name", "given"),
    [("KNeighborsRegressor", ["n_neighbors=7"]), ("RadiusNeighborsRegressor", ["radius=0.4", "weights='distance'"])],
)
def test_a_regressor(atoll: Run, diabetes: Path, name: str, given: list[str]) -> None:
    X, y = load_diabetes(return_X_y=True)
    X_train, X_test, y_train, y_test = held_out(X, y + 0.5, test_size=0.25, seed=3)
    parameters = {"n_neighbors": 7} if name == "KNeighborsRegressor" else {"radius": 0.4, "weights": "distance"}
    model = getattr(neighbors, name)(**parameters).fit(X_train, y_train)
    said = atoll(
        "run", "diabetes.csv", "--target", "progress", "--estimator", f"neighbors.{name}", "--set", *given,
        "--test-size", "0.25", "--seed", "3", "--partition", "dirichlet", "--topology", "tree(fan_out=2)", "--json",
    )  # fmt: skip
    assert scores(said) == pytest.approx([r2_score(y_test, model.predict(X_test))] * 2, rel=1e-9)
    assert said.data()["measure"] == "R²"


def test_whole_numbers_are_a_quantity_to_a_regressor(atoll: Run, tmp_path: Path) -> None:
    Path(tmp_path / "t.csv").write_text("\n".join(["x,y", *(f"{i},{2 * i}" for i in range(60))]))
    said = atoll("run", "t.csv", "--target=y", "--estimator=KNeighborsRegressor", "--partition=label", "--json")
    assert len(set(scores(said))) == 1
    assert len(said.data()["results"][1]["partition"]["classes"]) == 10  # deciles


def test_a_density(atoll: Run, diabetes: Path) -> None:
    X, _ = load_diabetes(return_X_y=True)
    X_train, X_test = held_out(X)
    expected = neighbors.KernelDensity(bandwidth=0.1).fit(X_train).score_samples(X_test).mean()
    for trust in ("distributed", "federated"):
        said = atoll(
            "run", "diabetes.csv", "--drop", "progress", "--estimator", "KernelDensity", "--set", "bandwidth=0.1",
            "--trust", trust, "--json",
        )  # fmt: skip
        assert scores(said) == pytest.approx([expected] * 2, rel=1e-9)
        assert said.data()["measure"] == "mean log-density"


def test_a_neighbour_search(atoll: Run, diabetes: Path) -> None:
    X, _ = load_diabetes(return_X_y=True)
    X_train, X_test = held_out(X)
    expected = neighbors.NearestNeighbors(n_neighbors=2).fit(X_train).kneighbors(X_test)[0].mean()
    said = atoll(
        "run", "diabetes.csv", "--drop", "progress", "--estimator", "NearestNeighbors", "--set", "n_neighbors=2",
        "--json", "--predictions", "found.csv",
    )  # fmt: skip
    assert scores(said) == pytest.approx([expected] * 2, rel=1e-9)
    assert said.data()["measure"] == "mean distance"
    with open("found.csv", newline="") as stream:
        assert next(csv.reader(stream)) == ["row", "pooled, 1", "pooled, 2", "over nodes, 1", "over nodes, 2"]


def test_predictions(atoll: Run, iris: Path) -> None:
    X, y = species()
    X_train, X_test, y_train, y_test, _, rows = held_out(X, y, np.arange(150))
    expected = neighbors.NearestCentroid().fit(X_train, y_train).predict(X_test)
    said = atoll(
        "run", "iris.csv", "--target", "species", "--drop", "site", "--estimator", "NearestCentroid",
        "--predictions", "out.csv", "--report", "none",
    )  # fmt: skip
    assert said.status == 0, said.err
    assert said.out.splitlines()[-1] == f"predictions: {Path.cwd() / 'out.csv'}"
    with open("out.csv", newline="", encoding="utf-8") as stream:
        header, *lines = csv.reader(stream)
    assert header == ["row", "species", "pooled", "over nodes"]
    assert lines == [[str(r + 1), t, e, e] for r, t, e in zip(rows, y_test, expected, strict=True)]
    assert not Path("atoll-run.html").exists()


def test_a_target_named_like_another_column_of_the_predictions(atoll: Run, tmp_path: Path) -> None:
    Path(tmp_path / "t.csv").write_text("\n".join(["x,row", *(f"{i},{'ab'[i % 2]}" for i in range(20))]))
    said = atoll("run", "t.csv", "--target=row", "--estimator=KNeighborsClassifier", "--predictions=o.csv", "--quiet")
    assert said.status == 0, said.err
    lines = Path("o.csv").read_text().splitlines()
    assert lines[0] == "row,row,pooled,over nodes"
    assert all(line.split(",")[0].isdigit() and line.split(",")[1] in "ab" for line in lines[1:])


def test_a_parquet_file(atoll: Run, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    X, y = species()
    pandas.DataFrame(X, columns=list("abcd")).assign(kind=y).to_parquet(tmp_path / "iris.parquet")
    said = atoll("run", "iris.parquet", "--target", "kind", "--estimator", "KNeighborsClassifier", "--json")
    assert len(set(scores(said))) == 1


def test_an_experiment_file(atoll: Run, iris: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "experiment.toml").write_text(
        """
file = "../iris.csv"
target = "species"
drop = ["site"]
estimator = "neighbors.KNeighborsClassifier"
nodes = 6
trust = "federated"
partition = "classes=2"
test-size = 0.3
report = "page.html"
predictions = "out.csv"
quiet = true

[set]
n_neighbors = 3
weights = "distance"
metric_params = "none"
"""
    )
    said = atoll("run", "study/experiment.toml", "--json", "--nodes", "4", "--set", "n_neighbors=9")
    X_train, X_test, y_train, y_test = held_out(*species(), test_size=0.3)
    model = neighbors.KNeighborsClassifier(9, weights="distance").fit(X_train, y_train)
    assert scores(said) == [model.score(X_test, y_test)] * 2
    data = said.data()
    assert len(data["results"][1]["nodes"]) == 4
    assert "KNeighborsClassifier(n_neighbors=9, weights='distance')" in data["title"]
    assert sorted(p.name for p in folder.iterdir()) == ["experiment.toml", "out.csv", "page.html"]
    command = unescape((folder / "page.html").read_text("utf-8"))
    assert "atoll run study/experiment.toml --set n_neighbors=9 --nodes 4" in command


def test_the_same_command_goes_on_from_its_journal(atoll: Run, diabetes: Path) -> None:
    words = ["run", "diabetes.csv", "--target", "progress", "--estimator", "KNeighborsRegressor", "--journal", "kept",
             "--report", "none", "--json"]  # fmt: skip
    first = atoll(*words).data()
    kept = sorted(p.name for p in Path("kept/run").iterdir())
    assert len(kept) == first["results"][1]["rounds"]
    assert atoll(*words).data()["results"][1]["score"] == first["results"][1]["score"]
    other = atoll(*words, "--nodes", "5")
    assert other.status == 2
    assert "this journal belongs to other rows" in other.err


@pytest.mark.parametrize(
    "words",
    [
        ["iris.csv", "--target", "species", "--node-column", "site", "--estimator", "KNeighborsClassifier"],
        ["iris.csv", "--target", "species", "--drop", "site", "--estimator", "NearestCentroid", "--partition", "label",
         "--topology", "tree", "--quorum", "0.5", "--deadline", "60", "--seed", "0"],
        ["diabetes.csv", "--target", "progress", "--estimator", "KNeighborsRegressor", "--trust", "federated", "--set",
         "metric=minkowski", "p=1.5"],
        ["diabetes.csv", "--drop", "progress", "--estimator", "KernelDensity"],
    ],
    ids=["by column", "centroids", "regression", "density"],
)  # fmt: skip
def test_the_script_of_the_report_gives_the_same(atoll: Run, iris: Path, diabetes: Path, words: list[str]) -> None:
    said = atoll("run", *words, "--json")
    page = Path("atoll-run.html").read_text("utf-8")
    script = unescape(page.rpartition("<code>")[2].partition("</code>")[0])
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, f"{script}\n{done.stderr}"
    measure, _, score = done.stdout.splitlines()[0].partition(": ")
    assert measure == said.data()["measure"]
    assert float(score) == pytest.approx(scores(said)[1], rel=1e-12)


KNN = "--target species --estimator KNeighborsClassifier"
SPLIT = f"{KNN} --drop site"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("iris.csv --target specis --estimator NearestCentroid", "no target column 'specis' | did you mean 'species'?"),
        (f"irs.csv {KNN}", "there is no such file | 'iris.csv'"),
        (f"iris.csv {KNN}", "column 'site', such as 'north' in line 2 | --drop"),
        (f"iris.csv {KNN} --drop sight", "there is no column 'sight' | did you mean 'site'?"),
        (f"iris.csv {KNN} --node-column sites", "there is no node column 'sites' | did you mean 'site'"),
        ("iris.csv --target species", "which estimator | --estimator neighbors.KNeighborsClassifier"),
        ("iris.csv --estimator KNeighborsClassifier", "needs a column to predict | --target COLUMN"),
        ("iris.csv --estimator neighbors.NearestCentrid", "did you mean 'neighbors.NearestCentroid'"),
        ("iris.csv --estimator os.system", "unknown estimator 'os.system' | known: "),
        ("iris.csv --estimator manifold.Isomap", "Atoll cannot fit Isomap | generic ways"),
        ("iris.csv --estimator Pipeline", "made of other estimators | [[steps]]"),
        ("iris.csv --estimator VotingClassifier", "made of other estimators | in Python"),
        ("iris.csv --target species --estimator RandomForestClassifier", "method='forest'"),
        ("iris.csv --estimator GridSearchCV", "GridSearchCV is made of other estimators | in Python"),
        (f"iris.csv {KNN} --set n_neighbours=3", "no parameter 'n_neighbours' | did you mean 'n_neighbors'"),
        (f"iris.csv {KNN} --set n_neighbors=0", "must be an int in the range [1, inf)"),
        (f"iris.csv {KNN} --set n_neighbors", "NAME=VALUE"),
        (f"iris.csv {KNN} --set p=1 p=2", "given twice"),
        (f"iris.csv {KNN} --method fais", "did you mean 'faiss'?"),
        (f"iris.csv {SPLIT} --set n_neighbors=1000", "refuses this | n_neighbors = 1000"),
        (f"iris.csv {SPLIT} --partition labels", "did you mean 'label'"),
        (f"iris.csv {SPLIT} --engine proceses", "did you mean 'processes'"),
        (f"iris.csv {SPLIT} --topology tre", "did you mean 'tree'"),
        (f"iris.csv {SPLIT} --topology tree(fan=3)", "fan"),
        (f"iris.csv {SPLIT} --nodes 121", "n_samples=120 | at most 120 nodes"),
        (f"iris.csv {SPLIT} --test-size 0.999", "cannot be split"),
        (f"iris.csv {KNN} --node-column site --nodes 3", "nodes 3 and node-column site"),
        (f"iris.csv {KNN} --node-column site --trust distributed", "trained on federated"),
        ("iris.csv --target species --drop site --estimator KNeighborsRegressor", "numbers | KNeighborsClassifier"),
        ("diabetes.csv --target progress --estimator KNeighborsClassifier", "classes | KNeighborsRegressor"),
        ("diabetes.csv --target progress --estimator KernelDensity", "predicts no column | --drop progress"),
        ("diabetes.csv --estimator KernelDensity --partition label", "needs labels"),
        (f"iris.csv {SPLIT} --predictions none/out.csv", "the folder to write to is not there"),
    ],
)
def test_bad_input(atoll: Run, iris: Path, diabetes: Path, line: str, told: str) -> None:
    said = atoll("run", *line.split())
    assert (said.status, said.out) == (2, "")
    assert [t for t in told.split(" | ") if t not in said.err] == [], said.err
    assert "Traceback" not in said.err
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["diabetes.csv", "iris.csv"]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("x,y\n1,a\n,b\n3,a\nNA,b\n", ["values are missing", "column 'x': 2, the first in line 3"]),
        ("x,y\n1,a\n2,\n3,a\n", ["values are missing", "column 'y': 1, the first in line 3"]),
        ("x,y\n1,a\ninf,b\n3,a\n", ["values are infinite", "column 'x': 1"]),
        ("x,y\n1,a\n2,b,c\n", ["line 3"]),
        ("x,y\n", ["a header and no rows"]),
        ("", ["the file is empty"]),
        ("x,y\n1,a\n", ["cannot be split into a training and a test part"]),
    ],
)
def test_tables_that_cannot_be_used(atoll: Run, tmp_path: Path, table: str, told: list[str]) -> None:
    Path(tmp_path / "t.csv").write_text(table)
    said = atoll("run", "t.csv", "--target", "y", "--estimator", "KNeighborsClassifier", "--set", "n_neighbors=1")
    assert (said.status, said.out) == (2, "")
    assert [t for t in told if t not in said.err] == [], said.err
    assert [p.name for p in Path.cwd().iterdir()] == ["t.csv"]


@pytest.mark.filterwarnings("default")
def test_rows_without_an_answer(atoll: Run, diabetes: Path) -> None:
    said = atoll(
        "run", "diabetes.csv", "--target=progress", "--estimator=RadiusNeighborsRegressor", "--set", "radius=0.001"
    )
    assert said.status == 2
    assert "held-out rows without an answer\n  got:      89 of 89" in said.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file = 'iris.csv'\nsead = 1", ["unknown key 'sead'", "did you mean 'seed'"]),
        ("file = 'iris.csv'\nnodes = 0", ["expected a whole number of at least 1, got '0'", "key 'nodes'"]),
        ("file = 'iris.csv'\nnodes = true", ["expected text or a number"]),
        ("file = 'iris.csv'\nquiet = 1", ["expected true or false"]),
        ("file = 'iris.csv'\nset = 3", ["the parameters are a table"]),
        ("file = 'iris.csv'\ntrust = 'mine'", ["expected distributed or federated"]),
        ("target = 'species'", ["names no table"]),
        ("file = ", ["is not TOML"]),
        ("file = 'no.csv'\ntarget = 'y'\nestimator = 'NearestCentroid'", ["there is no such file"]),
    ],
)
def test_experiment_files_that_cannot_be_used(atoll: Run, iris: Path, text: str, told: list[str]) -> None:
    Path("e.toml").write_text(text)
    said = atoll("run", "e.toml")
    assert (said.status, said.out) == (2, "")
    assert [t for t in told if t not in said.err] == [], said.err


def test_an_experiment_file_that_is_not_there(atoll: Run) -> None:
    said = atoll("run", "e.toml")
    assert said.status == 2
    assert "No such file" in said.err


def test_json_has_null_for_what_is_no_number(atoll: Run, tmp_path: Path) -> None:
    Path(tmp_path / "t.csv").write_text("\n".join(["x", *(str(i) for i in range(20))]))
    said = atoll(
        "run",
        "t.csv",
        "--estimator",
        "KernelDensity",
        "--set",
        "kernel=tophat",
        "bandwidth=0.1",
        "--report",
        "none",
        "--json",
    )
    assert said.status == 0, said.err
    assert json.loads(said.out)["results"][0]["score"] is None  # held-out rows lie where the density is zero
