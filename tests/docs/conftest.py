"""Gives every test here that asks for a `module` each module of Atoll in turn, by name."""

from __future__ import annotations

import pkgutil

import pytest

import atoll


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "module" in metafunc.fixturenames:
        found = pkgutil.walk_packages(atoll.__path__, "atoll.")
        names = ["atoll", *(m.name for m in found if not m.name.endswith("__main__"))]
        metafunc.parametrize("module", sorted(names))
