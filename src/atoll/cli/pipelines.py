"""A pipeline as an experiment file writes it.

For example::

    [[steps]]
    columns = [
      { names = ["age", "bmi"], steps = ["SimpleImputer", "StandardScaler"] },
      { names = ["sex"], steps = ["OneHotEncoder(handle_unknown='ignore')"] },
    ]

    [[steps]]
    estimator = "LogisticRegression"
    set = { C = 0.5 }

A step is a text, ``Name`` or ``Name(parameter=value)``; a table with `estimator` and `set`; or a table with `columns`,
blocks that each have `names` and `steps` of their own, and with `remainder`, "drop" or "passthrough" for all others.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.pipeline import Pipeline, make_pipeline

from atoll.catalogue import public_name
from atoll.cli.estimators import make, parse_value
from atoll.errors import InvalidData, UnknownName, closest, explain

__all__ = ["imports_of", "in_short", "pipeline_of"]

_STEP = ("estimator", "set")
_COLUMNS = ("columns", "remainder")
_BLOCK = ("names", "steps")


def pipeline_of(steps: Any, where: str = "steps") -> Pipeline:
    """The pipeline that some steps make.

    Parameters
    ----------
    steps : list
        As an experiment file has them.
    where : str
        Named in errors.

    Returns
    -------
    Pipeline
        Not fitted.

    Raises
    ------
    InvalidData
        For what is no step.
    UnknownName
        For a key, an estimator or a parameter that does not exist.
    UnsupportedEstimator
        For one that cannot be fitted over nodes.
    """
    if not isinstance(steps, list) or not steps:
        raise InvalidData(explain("a pipeline is a list of steps", got=repr(steps), where=where))
    return make_pipeline(*(_step(step, f"{where}[{i}]") for i, step in enumerate(steps)))


def _step(step: Any, where: str) -> Any:
    if isinstance(step, str):
        return _called(step, where)
    if not isinstance(step, Mapping):
        expected = "a name, or a table with estimator or columns"
        raise InvalidData(explain("this is no step of a pipeline", got=repr(step), expected=expected, where=where))
    if "columns" in step:
        _check_keys(step, _COLUMNS, where)
        return _by_columns(step["columns"], step.get("remainder", "drop"), where)
    _check_keys(step, _STEP, where)
    parameters = step.get("set", {})
    if not isinstance(step.get("estimator"), str) or not isinstance(parameters, Mapping):
        expected = 'estimator = "Name", and set = { parameter = value }'
        raise InvalidData(explain("this is no step of a pipeline", got=dict(step), expected=expected, where=where))
    words = ("none", "null")
    return make(step["estimator"], {k: parse_value(v) if v in words else v for k, v in parameters.items()})


def _called(text: str, where: str) -> Any:
    """A step written as it is called in Python, its values as literals."""
    if text in ("passthrough", "drop"):
        return text
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if isinstance(call, ast.Call) and (call.args or any(k.arg is None for k in call.keywords)):
            raise ValueError("parameters are named")
        keywords = call.keywords if isinstance(call, ast.Call) else []
        values = {str(k.arg): ast.literal_eval(k.value) for k in keywords}
    except (SyntaxError, ValueError) as error:
        got, expected = f"{text} ({error})", "Name or Name(parameter=value)"
        raise InvalidData(explain("a step cannot be read", got=got, expected=expected, where=where)) from None
    return make(ast.unparse(call.func if isinstance(call, ast.Call) else call), values)


def _by_columns(blocks: Any, remainder: Any, where: str) -> ColumnTransformer:
    if not isinstance(blocks, list) or not blocks:
        raise InvalidData(explain("columns are a list of blocks", got=repr(blocks), where=where))
    made = []
    for i, block in enumerate(blocks):
        at = f"{where}.columns[{i}]"
        if not isinstance(block, Mapping):
            raise InvalidData(explain("a block has names and steps", got=repr(block), where=at))
        _check_keys(block, _BLOCK, at)
        names, steps = block.get("names"), block.get("steps")
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise InvalidData(explain("a block names its columns", got=repr(names), expected="a list", where=at))
        inner = pipeline_of(steps, f"{at}.steps")
        made.append((inner.steps[0][1] if len(inner.steps) == 1 else inner, names))
    return make_column_transformer(*made, remainder=_step(remainder, where))


def _check_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise UnknownName(explain(f"unknown key {key!r}", where=where, hint=closest(key, known)))


def in_short(estimator: Any) -> str:
    """An estimator as a title names it: of a pipeline its steps."""
    if isinstance(estimator, Pipeline):
        return " → ".join(step if isinstance(step, str) else type(step).__name__ for _, step in estimator.steps)
    return " ".join(repr(estimator).split())


def imports_of(estimator: Any) -> list[str]:
    """The lines of a script that import every class that an estimator is made of.

    Parameters
    ----------
    estimator : estimator
        A pipeline too.

    Returns
    -------
    list of str
        Sorted.
    """
    names: dict[str, set[str]] = {}
    for kind in {type(part) for part in _parts(estimator)}:
        module, _, name = public_name(kind).rpartition(".")
        names.setdefault(module, set()).add(name)
    return [f"from sklearn.{module} import {', '.join(sorted(kinds))}" for module, kinds in sorted(names.items())]


def _parts(thing: Any) -> Iterator[BaseEstimator]:
    if isinstance(thing, BaseEstimator):
        yield thing
        for value in thing.get_params(deep=False).values():
            yield from _parts(value)
    elif isinstance(thing, list | tuple):
        for item in thing:
            yield from _parts(item)
