"""``atoll demo``: its numbers are scikit-learn's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sklearn import datasets
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from atoll import Federation

NAMES = ["iris", "digits", "wine", "breast_cancer"]


def parts(name: str, seed: int = 42) -> tuple[Any, ...]:
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return train_test_split(X, y, test_size=0.2, random_state=seed)


def pooled_accuracy(name: str, seed: int = 42) -> float:
    X_train, X_test, y_train, y_test = parts(name, seed)
    return accuracy_score(y_test, KNeighborsClassifier(n_neighbors=3).fit(X_train, y_train).predict(X_test))


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_is_that_of_scikit_learn(atoll: Callable[..., Any], name: str) -> None:
    said = atoll("demo", "--data", name, "--json", "--report", "none")
    assert (said.status, said.err) == (0, "")
    data = said.data()
    pooled, distributed, federated = data["results"]
    assert [r["name"] for r in data["results"]] == ["pooled", "distributed", "federated"]
    assert pooled["score"] == pooled_accuracy(name)
    assert [r["score"] for r in (distributed, federated)] == [pooled["score"]] * 2
    assert [r["agreement"] for r in data["results"]] == [None, 1.0, 1.0]
    assert [len(distributed["nodes"]), len(federated["nodes"])] == [4, 5]
    assert all(r["bytes_up"] == sum(one["bytes"] for one in r["left"]) > 0 for r in (distributed, federated))
    assert all("never a row" in one["what"] for one in federated["left"] if one["op"] == "neighbors.nearest")
    assert data["written"] == {}
    assert list(Path.cwd().iterdir()) == []


def test_the_rows_per_node_are_those_that_the_nodes_have(atoll: Callable[..., Any]) -> None:
    found = atoll("demo", "--partition", "dirichlet(alpha=0.3)", "--nodes", "6", "--seed", "7", "--json").data()
    X_train, _, y_train, _ = parts("iris", 7)
    for result, partition in zip(found["results"][1:], ["iid", "dirichlet(alpha=0.3)"], strict=True):
        sites = Federation.simulate(X_train, y_train, n_nodes=6, partition=partition, random_state=7)
        assert result["partition"]["counts"] == sites.report().counts.tolist()
        assert result["partition"]["nodes"] == list(sites.names)
        assert result["partition"]["classes"] == ["setosa", "versicolor", "virginica"]


def test_the_table(atoll: Callable[..., Any]) -> None:
    said = atoll("demo")
    assert (said.status, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == "KNeighborsClassifier(n_neighbors=3) on iris: 120 rows to train on, 30 held out"
    cells = {
        line.split("  ")[0].strip(): line for line in lines if " schema, nearest" in line or " all its rows" in line
    }
    assert list(cells) == ["pooled", "distributed, 4 nodes, iid", "federated, 5 nodes, label"]
    accuracy = f"{pooled_accuracy('iris'):.4f}"
    assert all(accuracy in line for line in cells.values())
    assert [line.count("100 %") for line in cells.values()] == [0, 1, 1]
    assert any("candidates, never a row" in line for line in lines)
    report = Path.cwd() / "atoll-demo.html"
    assert lines[-1] == f"report: {report}"
    assert report.read_text("utf-8").startswith("<!doctype html>")


def test_it_is_the_same_in_worker_processes(atoll: Callable[..., Any]) -> None:
    here = atoll("demo", "--json", "--report", "none").data()
    there = atoll("demo", "--json", "--report", "none", "--engine", "processes", "--workers", "2").data()
    measured = [[{k: v for k, v in r.items() if k not in ("seconds", "engine", "notes")} for r in data["results"]]
                for data in (here, there)]  # fmt: skip
    assert measured[0] == measured[1]
    assert there["results"][1]["engine"] == "processes"
    assert any("starting the workers took" in note for note in there["notes"])


def test_the_script_of_the_report_gives_the_same(atoll: Callable[..., Any], tmp_path: Path) -> None:
    from html import unescape

    assert atoll("demo", "--data", "wine", "--nodes", "3", "--partition", "classes=2").status == 0
    page = Path("atoll-demo.html").read_text("utf-8")
    assert "atoll demo --data wine --nodes 3 --partition classes=2" in unescape(page)
    script = unescape(page.rpartition("<code>")[2].partition("</code>")[0])
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [f"Accuracy: {pooled_accuracy('wine')}"] * 2
    assert "over 3 nodes" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--data", "irs"], "did you mean 'iris'?"),
        (["--data", "diabetes"], "diabetes, a regression"),
        (["--partition", "labels"], "did you mean 'label'?"),
        (["--partition", "dirichlet(alpha=-1)"], "a positive finite number"),
        (["--partition", "dirichlet(beta=1)"], "'beta'"),
        (["--engine", "proceses"], "did you mean 'processes'"),
        (["--nodes", "121"], "at most 120 nodes"),
        (["--report", "no/such/folder.html"], "the folder to write to is not there"),
        (["--report", "."], "a file cannot be written over a folder"),
    ],
)
def test_bad_input(atoll: Callable[..., Any], words: list[str], told: str) -> None:
    said = atoll("demo", *words)
    assert (said.status, said.out) == (2, "")
    assert told in said.err
    assert "Traceback" not in said.err
    assert list(Path.cwd().iterdir()) == []
