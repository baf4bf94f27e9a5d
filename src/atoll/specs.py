"""Names with settings, and the registries in which names are looked up.

What travels is never code: a `Spec` is a name and its settings, and the receiving side looks the name up in its own
registry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

from atoll.errors import InvalidData, UnknownName, closest, explain
from atoll.trees import Tree

__all__ = ["Registry", "Spec", "parse", "programs"]

T = TypeVar("T")


class Spec(NamedTuple):
    """How a combine, transform, plan, algorithm or view is written when it travels: data, never code.

    Attributes
    ----------
    name : str
        Looked up in the registry of its kind.
    settings : dict
        Plain values: numbers, strings, booleans, None, lists and dictionaries of them.
    arrays : Tree
        Settings that are arrays.
    """

    name: str
    settings: dict[str, Any] = {}
    arrays: Tree = {}


def parse(text: str) -> Spec:
    """Read a spec as people write it: ``name`` or ``name(setting=value, …)``.

    Parameters
    ----------
    text : str
        Values are whole numbers, decimal numbers or words.

    Returns
    -------
    Spec

    Raises
    ------
    InvalidData
        If it is written otherwise.

    Examples
    --------
    >>> from atoll.specs import parse
    >>> parse("tree(fan_out=3)")
    Spec(name='tree', settings={'fan_out': 3}, arrays={})
    """
    match = re.fullmatch(r"\s*([\w-]+)\s*(?:\((.*)\))?\s*", text)
    if match is None:
        raise InvalidData(explain("cannot be read as a name with settings", got=repr(text), expected="name(setting=1)"))
    settings: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in (match[2] or "").split(","))):
        setting = re.fullmatch(r"(\w+)\s*=\s*([\w.+-]+)", item)
        if setting is None:
            raise InvalidData(explain("a setting is written name=value", got=repr(item), where=repr(text)))
        settings[setting[1]] = _value(setting[2])
    return Spec(match[1], settings)


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


class Registry(Generic[T]):
    """Named things of one kind, with a helpful answer for a name that is not there.

    Parameters
    ----------
    kind : str
        What is registered here, in the singular, for messages ("partition", "engine").

    Examples
    --------
    >>> from atoll.specs import Registry
    >>> greetings = Registry("greeting")
    >>> _ = greetings.add("hello", "Hello!")
    >>> greetings["hello"]
    'Hello!'
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._known: dict[str, T] = {}

    def add(self, name: str, thing: T) -> T:
        """Register a thing under a name and return it; a name is given once."""
        if name in self._known:
            raise ValueError(f"the {self.kind} {name!r} is registered twice")
        self._known[name] = thing
        return thing

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator form of `add`."""
        return lambda thing: self.add(name, thing)

    def __getitem__(self, name: str) -> T:
        try:
            return self._known[name]
        except (KeyError, TypeError):
            hint = closest(str(name), self._known)
            raise UnknownName(explain(f"unknown {self.kind} {name!r}", hint=hint)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._known))

    def __len__(self) -> int:
        return len(self._known)


class _Programs(Registry[Callable[..., Any]]):
    """Functions of the user, lent by name to nodes that live in the user's own process."""

    def lend(self, function: Callable[..., Any]) -> str:
        """Give a function a name under which operations in *this* process find it.

        The name travels, the function does not: a node elsewhere does not know it and says so.
        """
        base = f"local:{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
        number, name = 0, base
        while name in self._known and self._known[name] is not function:
            number += 1
            name = f"{base}#{number}"
        self._known[name] = function
        return name


programs = _Programs("program")
