"""Less memory for a process that waits most of its life, and a sooner start.

scikit-learn imports pandas, and with it pyarrow, to look at a version number; rich, for progress bars that no node
shows; and `scipy.stats` for four functions, of which a node may need one some day. Together they are 80 of the 225 MB
and a third of the seconds that it takes. So it is imported here as if the first two were not installed, and with a
stand-in for the third, which loads it when one of its functions is first called. Afterwards everything can be imported
as always, by a loader of the owner's own too.
"""

from __future__ import annotations

import importlib
import sys
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

__all__ = ["load_worker"]

_OPTIONAL = ("charset_normalizer", "pandas", "rich")
_LATER = "scipy.stats"


class _Without(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname in _OPTIONAL:
            raise ModuleNotFoundError("not needed here", name=fullname)


class _Later(ModuleType):
    """Stands for a module whose functions are wanted later, if at all."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Thing(name)


class _Thing:
    """Stands for a function or an object of that module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _real(self) -> Any:
        return getattr(importlib.import_module(_LATER), self._name)

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return self._real()(*args, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)


def load_worker() -> None:
    """Import what answers questions, once."""
    if "atoll.worker" in sys.modules:
        return
    if "sklearn" in sys.modules or _LATER in sys.modules:
        importlib.import_module("atoll.worker")
        return
    finder, scipy = _Without(), importlib.import_module("scipy")
    sys.meta_path.insert(0, finder)
    sys.modules[_LATER] = scipy.stats = _Later(_LATER)  # type: ignore[attr-defined]
    try:
        importlib.import_module("atoll.worker")
    finally:
        sys.meta_path.remove(finder)
        del sys.modules[_LATER], scipy.stats
