"""Settings of algorithms that are out of range are refused by name, before anybody is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from atoll.errors import InvalidData, explain

__all__ = ["at_least", "below_one", "one_of", "positive", "whole"]


def positive(**settings: Any) -> None:
    """Refuse settings of an algorithm that are not positive numbers; of a schedule the first rate is looked at.

    Raises
    ------
    InvalidData
        Naming the setting.
    """
    for name, value in _first(settings).items():
        if not _number(value) or not 0 < value < float("inf"):
            raise InvalidData(explain(f"{name} must be a positive number", got=repr(value)))


def at_least(low: float, high: float = float("inf"), **settings: Any) -> None:
    """Refuse settings of an algorithm that are no numbers between two bounds; of a schedule the first is looked at.

    Raises
    ------
    InvalidData
        Naming the setting.
    """
    for name, value in _first(settings).items():
        if not _number(value) or not low <= value <= high or value == float("inf"):
            expected = f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
            raise InvalidData(explain(f"{name} is out of range", got=repr(value), expected=expected))


def below_one(**settings: float) -> None:
    """Refuse settings of an algorithm that are not from 0 to below 1, as shares that are kept must be.

    Raises
    ------
    InvalidData
        Naming the setting.
    """
    for name, value in settings.items():
        if not _number(value) or not 0 <= value < 1:
            raise InvalidData(explain(f"{name} is out of range", got=repr(value), expected="from 0 to below 1"))


def whole(**settings: int | None) -> None:
    """Refuse settings of an algorithm that are neither whole numbers of at least 1 nor None.

    Raises
    ------
    InvalidData
        Naming the setting.
    """
    for name, value in settings.items():
        if value is not None and (not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1):
            raise InvalidData(explain(f"{name} must be a whole number of at least 1", got=repr(value)))


def _first(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value(0) if callable(value) else value for name, value in settings.items()}


def one_of(choices: tuple[str, ...], **settings: str) -> None:
    """Refuse settings of an algorithm that are none of some words.

    Raises
    ------
    InvalidData
        Naming the setting.
    """
    for name, value in settings.items():
        if value not in choices:
            raise InvalidData(explain(f"{name} is unknown", got=repr(value), expected=" or ".join(map(repr, choices))))


def _number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
