"""One option and one command as data, and how values are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from atoll.errors import closest

__all__ = ["Command", "Option", "between", "one_of", "text", "whole"]


class Option(NamedTuple):
    """One option.

    Attributes
    ----------
    name : str
        As it is written after two dashes, and in an experiment file.
    kind : callable or None
        Reads a text, or raises argparse.ArgumentTypeError; None: a switch.
    metavar : str
        Stands for the value in the help.
    help : str
        What it does, and what it is by default.
    default : object
        Its value where nobody gives one.
    several : bool
        Whether it takes several values.
    short : str
        One letter that may stand after one dash instead, or empty.
    """

    name: str
    kind: Callable[[str], Any] | None
    metavar: str
    help: str
    default: Any = None
    several: bool = False
    short: str = ""

    @property
    def key(self) -> str:
        """The name as a Python identifier."""
        return self.name.replace("-", "_")


class Command(NamedTuple):
    """One command.

    Attributes
    ----------
    name : str
        As it is written after ``atoll``; one word, or two of which the first is shared.
    summary : str
        One line.
    example : str
        A command line to begin with.
    groups : mapping of str to tuple of Option
        Its options by heading.
    positional : str
        Name of its positional argument, or empty.
    takes : str
        What that is.
    closing : str
        What stands at the end of its help.
    second : str
        Name of a second positional argument, which may be left out, or empty.
    takes_second : str
        What that is.
    optional : bool
        Whether the positional argument may be left out.
    """

    name: str
    summary: str
    example: str
    groups: Mapping[str, tuple[Option, ...]]
    positional: str = ""
    takes: str = ""
    closing: str = ""
    second: str = ""
    takes_second: str = ""
    optional: bool = False

    @property
    def options(self) -> list[Option]:
        """All its options."""
        return [option for group in self.groups.values() for option in group]


def _refuse(expected: str, text: str) -> NoReturn:
    raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")


def text(text: str) -> str:
    """Read anything but nothing."""
    return text or _refuse("something", text)


def whole(least: int) -> Callable[[str], int]:
    """Read a whole number from some least one on."""

    def read(text: str) -> int:
        expected = f"a whole number of at least {least}"
        try:
            number = int(text)
        except ValueError:
            _refuse(expected, text)
        return number if number >= least else _refuse(expected, text)

    return read


def between(expected: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """Read a number that fits; `expected` says which do."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            _refuse(expected, text)
        return number if fits(number) else _refuse(expected, text)

    return read


def one_of(*words: str) -> Callable[[str], str]:
    """Read one of some words."""

    def read(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"expected {' or '.join(words)}, got {text!r}; {closest(text, words)}")
        return text

    return read
