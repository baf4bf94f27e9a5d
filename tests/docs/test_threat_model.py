"""Every test that the threat model leans on is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`((?:\w+/)?test_\w+\.py)(?:::(?:\w+::)?(test_\w+))?`", PAGE)))


def test_the_page_leans_on_tests():
    assert len(NAMED) > 30


@pytest.mark.parametrize(("file", "test"), NAMED, ids=lambda part: str(part))
def test_what_is_named_is_there(file, test):
    text = (ROOT / "tests" / "silo" / file).read_text("utf-8")
    assert f"def {test}(" in text if test else "def test_" in text
