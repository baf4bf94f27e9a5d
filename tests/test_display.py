"""Tables as text, HTML and data frames."""

from __future__ import annotations

import builtins
import math
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.display import aligned, data_frame, html_table, middle_left_out, shown
from atoll.errors import MissingExtra

ROWS = [["node", "kind", "rows"], ["oslo", "a", "12"], ["rome", "bcd", "8"]]


def test_columns_are_under_each_other() -> None:
    assert aligned(ROWS, words=2).splitlines() == ["node  kind  rows", "oslo  a       12", "rome  bcd      8"]


def test_what_is_too_wide_goes_on_below() -> None:
    wide = [["node", *(f"column {i}" for i in range(30))], ["oslo", *map(str, range(30))]]
    tables = aligned(wide).split("\n\n")
    assert len(tables) > 1
    assert all(len(line) <= 120 for line in aligned(wide).splitlines())
    assert all(table.splitlines()[1].startswith("oslo") for table in tables)
    numbers = [word for table in tables for word in table.splitlines()[1].split()[1:]]
    assert numbers == list(map(str, range(30)))
    assert len(aligned(wide, width=math.inf).splitlines()) == 2


@given(st.lists(st.lists(st.text("ab", max_size=200), min_size=3, max_size=3), min_size=1, max_size=4))
def test_every_cell_is_shown_once(rows: list[list[str]]) -> None:
    text = aligned(rows)
    assert sum(text.count(letter) for letter in "ab") >= sum(len(cell) for row in rows for cell in row)


def test_words_alone_are_a_table() -> None:
    assert aligned([["a", "b"], ["c", "d"]], words=2) == "a  b\nc  d"


def test_html_is_well_formed_and_escaped() -> None:
    page = html_table([["<node>", "rows"], ["a & b", "<script>"]], caption="<all>")
    assert "<script>" not in page
    root = ElementTree.fromstring(page)
    assert [e.text for e in root.iter("th")] == ["<node>", "rows", "a & b"]
    assert [e.text for e in root.iter("td")] == ["<script>"]
    assert root.find("caption").text == "<all>"


def test_the_middle_is_left_out() -> None:
    rows = [[str(i), "x"] for i in range(10)]
    assert middle_left_out(rows, 10) == rows
    short = middle_left_out(rows, 4)
    assert [row[0] for row in short] == ["0", "1", "…", "8", "9"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5000"), (0.0, "0.0000"), (1e-4, "0.0001"), (12345.678, "12345.6780"), (123456.0, "1.235e+05"),
        (1e-9, "1e-09"), (float("nan"), "–"), (-0.25, "-0.2500"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert shown(value) == text


def test_a_data_frame() -> None:
    frame = data_frame({"rows": [1, 2]}, ["a", "b"], "node")
    assert frame.index.name == "node"
    assert frame.loc["b", "rows"] == 2


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtra, match=r"atoll\[frames\]"):
        data_frame({}, [], "node")
