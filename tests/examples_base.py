"""What an example of a recipe is, and where they stand: a module per family in `examples/`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

ALL = ("iris", "digits", "wine", "breast_cancer", "diabetes")


class Example(NamedTuple):
    """One setting of an estimator that the suites fit over nodes and on the pooled rows.

    Attributes
    ----------
    make : callable
        An estimator for the data set of this name.
    names : tuple of str
        Data sets it is for.
    close, atol : float
        Largest relative and absolute difference from the pooled fit.
    leave : tuple of str
        Fitted attributes that pooled scikit-learn leaves open.
    sends_rows : bool
        Whether it declares that chosen rows leave their nodes.
    exact : bool
        Whether it is held to the pooled fit.
    forms : tuple of str
        Further forms of the rows that it is held to the pooled fit on, where it takes them; see `laws.forms`.
    why : str
        What keeps fitted numbers from agreeing to nine digits, where something does; the page of differences says so.
    """

    make: Callable[[str], Any]
    names: tuple[str, ...] = ALL
    close: float = 1e-9
    atol: float = 1e-12
    leave: tuple[str, ...] = ()
    sends_rows: bool = False
    exact: bool = True
    forms: tuple[str, ...] = ("weights", "sparse", "missing")
    why: str = ""

    def __call__(self, name: str) -> Any:
        return self.make(name)

    def home(self, name: str) -> str:
        """This data set if the example is for it, otherwise the first that it is for."""
        return name if name in self.names else self.names[0]


def families() -> list[ModuleType]:
    """The modules of `examples/`."""
    files = sorted((Path(__file__).parent / "examples").glob("[a-z]*.py"))
    return [importlib.import_module(f"examples.{file.stem}") for file in files]
