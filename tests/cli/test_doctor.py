"""``atoll doctor``: every finding, and every way in which one may be a problem."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import metadata
from typing import Any

import pytest

from atoll.cli import doctor
from atoll.cli.doctor import Finding, Range


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at everything but the packages and the workers, which take seconds."""
    monkeypatch.setattr(doctor, "_packages", lambda: iter(()))
    monkeypatch.setattr(doctor, "_workers", lambda: Finding("workers", "ok", "not started"))


def test_this_machine_is_well(atoll: Callable[..., Any]) -> None:
    said = atoll("doctor", "--json")
    assert said.err == ""
    data = said.data()
    problems = [f for f in data["findings"] if f["state"] == "problem"]
    assert (problems, data["ok"], said.status) == ([], True, 0)
    found = {f["name"]: f for f in data["findings"]}
    for name in ("numpy", "scipy", "scikit-learn", "msgspec", "rich"):
        assert found[name]["what"].startswith(metadata.version(name) + " (")
    assert "bit for bit" in found["workers"]["what"]
    assert {f["state"] for f in data["findings"]} <= {"ok", "note", "problem"}


def test_the_table(atoll: Callable[..., Any], quick: None) -> None:
    said = atoll("doctor")
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines()[0].startswith("ok ")
    assert said.out.splitlines()[-1].endswith("0 problems")


def test_a_problem_comes_with_its_fix_and_status_1(
    atoll: Callable[..., Any], quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        doctor, "_workers", lambda: Finding("workers", "problem", "they fail", "use the engine inprocess")
    )
    said = atoll("doctor")
    assert said.status == 1
    assert "problem" in said.out
    assert "use the engine inprocess" in said.out
    assert atoll("doctor", "--json").data()["ok"] is False


@pytest.mark.parametrize(
    ("text", "version", "holds"),
    [
        ("numpy>=2.0", "2.0", True),
        ("numpy>=2.0", "2.0.0", True),
        ("numpy>=2.0", "1.26.4", False),
        ("scikit-learn<1.10,>=1.8", "1.9.1", True),
        ("scikit-learn<1.10,>=1.8", "1.10", False),
        ("scikit-learn<1.10,>=1.8", "1.10.0rc1", False),
        ("scikit-learn<1.10,>=1.8", "1.7.2", False),
        ("x!=1.5", "1.5.0", False),
        ("x==1.5", "1.5", True),
        ("x", "0.0.1", True),
    ],
)
def test_versions_against_ranges(text: str, version: str, holds: bool) -> None:
    assert Range.of(text).holds(version) is holds


def test_a_requirement_is_read() -> None:
    assert Range.of("faiss-cpu>=1.9; extra == 'faiss'") == Range("faiss-cpu", ((">=", "1.9"),), "faiss")
    assert Range.of('scikit-learn<1.10,>=1.8; extra == "x"').extra == "x"
    assert str(Range.of("rich")) == "any version"


def versions(monkeypatch: pytest.MonkeyPatch, found: str | None, error: Exception | None = None) -> None:
    def version(name: str) -> str:
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    def load(name: str) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor, "import_module", load)


CORE, EXTRA = Range.of("numpy>=2.0"), Range.of("faiss-cpu>=1.9; extra == 'faiss'")


@pytest.mark.parametrize(
    ("wanted", "found", "error", "state", "fix"),
    [
        (CORE, "2.4", None, "ok", ""),
        (CORE, "1.26", None, "problem", "pip install 'numpy>=2.0'"),
        (CORE, None, None, "problem", "pip install 'numpy>=2.0'"),
        (CORE, "2.4", OSError("a library is missing"), "problem", "pip install --force-reinstall 'numpy>=2.0'"),
        (EXTRA, "1.9", None, "ok", ""),
        (EXTRA, None, None, "note", "pip install 'atoll[faiss]'"),
        (EXTRA, "1.2", None, "problem", "pip install 'atoll[faiss]'"),
    ],
)
def test_packages(
    monkeypatch: pytest.MonkeyPatch, wanted: Range, found: str | None, error: Exception | None, state: str, fix: str
) -> None:
    versions(monkeypatch, found, error)
    finding = doctor._package(wanted)
    assert (finding.state, finding.fix) == (state, fix)


def test_without_metadata_there_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "requires", nothing)
    assert [f.state for f in doctor._packages()] == ["note"]


def test_workers_that_fail_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(engine: str) -> bytes:
        raise OSError("no more processes")

    monkeypatch.setattr(doctor, "_neighbours", fails)
    finding = doctor._workers()
    assert finding.state == "problem"
    assert "no more processes" in finding.what


def test_workers_that_answer_otherwise_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_neighbours", str.encode)
    assert doctor._workers().state == "problem"


def test_an_old_python_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.platform, "python_version_tuple", lambda: ("3", "10", "4"))
    assert doctor._python().state == "problem"


def test_little_memory_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_free_memory", lambda: 1 << 20)
    assert doctor._memory().state == "note"
    monkeypatch.setattr(doctor, "_free_memory", lambda: None)
    assert doctor._memory().state == "note"


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there is no memfd_create here to fail")
def test_no_shared_memory_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise PermissionError("not permitted")

    monkeypatch.setattr(doctor.os, "memfd_create", refuse)
    assert doctor._shared_memory().state == "problem"
    monkeypatch.delattr(doctor.os, "memfd_create")
    assert doctor._shared_memory().state == "note"


def test_one_core_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert doctor._cores().state == "note"
