"""Files of a user, and the command in this process."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sklearn.datasets import load_diabetes, load_iris

from atoll.cli import main


class Said(NamedTuple):
    status: int
    out: str
    err: str

    def data(self) -> dict[str, Any]:
        return json.loads(self.out)


@pytest.fixture
def atoll(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Said]:
    """The command, run in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*words: str) -> Said:
        capsys.readouterr()
        status = main(list(words))
        return Said(status, *capsys.readouterr())

    return run


def write(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


@pytest.fixture
def iris(tmp_path: Path) -> Path:
    """Iris with names of species, and a column of sites in turn."""
    bunch = load_iris()
    sites = ["north", "south", "west"]
    rows = [
        [*map(float, x), sites[i % 3], bunch.target_names[k]]
        for i, (x, k) in enumerate(zip(bunch.data, bunch.target, strict=True))
    ]
    return write(tmp_path / "iris.csv", ["sepal length", "sepal width", "a", "b", "site", "species"], rows)


@pytest.fixture
def diabetes(tmp_path: Path) -> Path:
    X, y = load_diabetes(return_X_y=True)
    rows = [[*map(float, x), v + 0.5] for x, v in zip(X, y.tolist(), strict=True)]
    return write(tmp_path / "diabetes.csv", [*(f"x{i}" for i in range(10)), "progress"], rows)
