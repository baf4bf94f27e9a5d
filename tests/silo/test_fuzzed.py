"""The fuzzer of everything that reads what others send, for a few thousand cases."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

FUZZER = runpy.run_path(str(Path(__file__).parents[1] / "fuzz" / "silo.py"))


@pytest.mark.parametrize("name", sorted(FUZZER["TARGETS"]))
def test_damaged_input_is_refused_by_a_code_and_allocates_little(name: str) -> None:
    report = FUZZER["fuzz"](1500, 20_261, (name,))
    assert report.accepted[name] > 0
    assert sum(report.refused.values()) > 0 or name == "problems"
    assert report.cases == sum(report.accepted.values()) + sum(report.refused.values())
    assert 0 < report.worst <= 1


@pytest.mark.parametrize("name", sorted(FUZZER["TARGETS"]))
def test_a_mistake_would_be_named_with_its_seed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise KeyError("mistake")

    monkeypatch.setitem(FUZZER["TARGETS"], name, FUZZER["TARGETS"][name]._replace(read=broken))
    with pytest.raises(AssertionError, match="seed 5, case 0"):
        FUZZER["fuzz"](1, 5, (name,))
