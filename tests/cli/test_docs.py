"""The page about the command line shows the help as it is, and names every key of an experiment file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atoll.cli import options, settings
from atoll.cli.pipelines import in_short, pipeline_of

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text("utf-8")


@pytest.mark.parametrize("name", options.COMMANDS)
def test_the_page_shows_the_help(atoll: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    said = atoll(*name.split(), "--help").out
    shown = re.search(rf"<!-- atoll {name} --help -->\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    assert shown[1] == said, f"COLUMNS=100 atoll {name} --help is:\n{said}"


def test_the_page_names_every_key_of_an_experiment_file() -> None:
    listed = re.search(r"The keys are `file` and the names of the options.*?: (.*?)\. A key", PAGE, re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"`([\w-]+)`", listed[1])) == {option.name for option in options.RUN.options}


def test_the_experiment_file_of_the_page_can_be_read(tmp_path: Path) -> None:
    block, pipeline = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert in_short(pipeline_of(tomllib.loads(pipeline)["steps"])) == "ColumnTransformer → LogisticRegression"
    path = tmp_path / "experiment.toml"
    path.write_text(block, "utf-8")
    found = settings.read_experiment(path)
    assert found["file"] == str(tmp_path / "patients.csv")
    assert found["set"] == {"n_neighbors": 5, "weights": "distance", "metric_params": None}
    assert {key.replace("-", "_") for key in tomllib.loads(block)} == set(found)


def test_the_page_names_every_exit_status() -> None:
    statuses = re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)
    assert statuses == ["0", "1", "2", "130", "141"]


def test_commands_of_the_page_are_understood() -> None:
    import shlex

    lines = re.findall(r"^atoll (run .*)$", PAGE, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        options.parser("run").parse(shlex.split(line)[1:])
