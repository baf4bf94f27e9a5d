"""What a person sees meanwhile: a line per round, and who is missing."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console
from sklearn.neighbors import KNeighborsClassifier

from atoll import Distributed
from atoll.progress import Silent, reporter
from atoll.progress.lines import Lines
from atoll.run import Row
from cases import data

ROW = Row(3, 0, "neighbors.nearest", 5, 4, 1_200, 34_000, 0.25, {"[lyon]": "late"}, {})


@pytest.fixture
def screen():
    return Console(file=io.StringIO(), width=120, force_terminal=False)


def test_a_round_is_a_line_and_names_who_was_left_out(screen):
    Lines(screen).round(ROW)
    first, second = screen.file.getvalue().splitlines()
    assert first.split() == [
        "3",
        "neighbors.nearest",
        "4/5",
        "nodes",
        "34.0",
        "kB",
        "up",
        "1.20",
        "kB",
        "down",
        "0.250",
        "s",
    ]
    assert second.strip() == "[lyon]: late"


def test_the_spinner_says_who_is_missing_and_for_how_long(screen):
    lines, missing = Lines(screen), ["a", "b", "c", "d", "[e]"]
    lines.start("a [title]")
    lines.waiting("op", lambda: missing, 60.0)
    screen.print(lines._waiting)
    missing[:] = ["[e]"]
    screen.print(lines._waiting)
    missing[:] = []
    screen.print(lines._waiting)
    lines.stop()
    said = screen.file.getvalue()
    assert "a [title]: op, waiting for a, b, c and 2 more, 60 s left (deadline)" in said
    assert "waiting for [e]," in said
    assert said.rstrip().endswith("a [title]: op")


def test_silence_is_kept():
    assert isinstance(reporter(0), Silent)
    assert isinstance(reporter(1), Lines)


def test_without_a_terminal_nothing_is_said(monkeypatch, capsys):
    X, y = data("iris")
    Distributed(KNeighborsClassifier()).fit(X, y).predict(X[:3])
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(reporter(None), Lines)


def test_a_fit_prints_a_line_per_round_when_asked(capsys):
    X, y = data("iris")
    Distributed(KNeighborsClassifier(), verbose=1).fit(X, y).predict(X[:3])
    lines = [line for line in capsys.readouterr().err.splitlines() if "4/4 nodes" in line]
    assert [line.split()[1] for line in lines] == ["describe.schema", "neighbors.nearest"]
