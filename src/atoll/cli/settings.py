"""The settings of ``atoll run``: defaults, under an experiment file, under the command line."""

from __future__ import annotations

import tomllib
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from atoll.cli.arguments import Option
from atoll.cli.asking_options import SILO_KEYS
from atoll.cli.estimators import parse_value, parse_values
from atoll.cli.options import RUN
from atoll.errors import InvalidData, UnknownName, closest, explain

__all__ = ["Settings", "gather", "read_experiment"]

_PATHS = ("file", "journal", "predictions", "report", "save")
_OPTIONS = {option.key: option for option in RUN.options}


class Settings(NamedTuple):
    """What ``atoll run`` is to do; see its help."""

    file: str | None
    target: str | None
    drop: tuple[str, ...]
    test_size: float
    seed: int
    estimator: str | None
    steps: list[Any] | None
    set: dict[str, Any]
    method: str | None
    nodes: int
    trust: str
    partition: str
    node_column: str | None
    engine: str
    workers: int | None
    topology: str
    deadline: float | None
    quorum: float
    journal: str | None
    report: str
    predictions: str | None
    quiet: bool
    at: str | None = None
    data: str | None = None
    sites: tuple[str, ...] = ()
    name: str | None = None
    save: str | None = None

    def shown(self) -> dict[str, str]:
        """The settings that are in force, by the names of the options."""
        unused = {"set", "steps", "quiet"} | ({"nodes", "partition"} if self.node_column else set())
        pairs = {k.replace("_", "-"): v for k, v in self._asdict().items() if k not in unused and v not in (None, ())}
        shown = {k: ", ".join(v) if isinstance(v, tuple) else str(v) for k, v in pairs.items()}
        return shown | ({"set": ", ".join(f"{k}={v!r}" for k, v in self.set.items())} if self.set else {})


def gather(args: Namespace) -> Settings:
    """Put the settings together and hold them against each other.

    Parameters
    ----------
    args : Namespace
        What the command line gave.

    Returns
    -------
    Settings

    Raises
    ------
    InvalidData, UnknownName
        If one is missing, unknown or cannot be, or two do not go together.
    """
    given = {key: value for key in _OPTIONS if (value := getattr(args, key)) is not None and value is not False}
    given["set"] = parse_values(given.get("set", ()))
    path = Path(args.FILE)
    found = read_experiment(path) if path.suffix.lower() == ".toml" else {"file": args.FILE}
    parameters = {**found.get("set", {}), **given["set"]}
    values = {
        **{key: option.default for key, option in _OPTIONS.items()},
        "steps": None,
        **found,
        **given,
        "set": parameters,
    }
    _check_place(values)
    if "file" not in found and values["at"] is None:
        raise InvalidData(explain("the experiment names no table", where=path, hint='file = "measurements.csv"'))
    _check_estimator(values)
    return _settled(values)


def _check_place(values: dict[str, Any]) -> None:
    """What only means something where nodes keep their rows."""
    given = [key for key in SILO_KEYS if values[key] not in (None, ())]
    if given and values["at"] is None:
        hint = "--at URL, of the coordinator; without it the rows of a file are dealt to nodes here"
        raise InvalidData(explain(f"{given[0]} is for nodes that keep their rows", got=values[given[0]], hint=hint))


def _check_estimator(values: dict[str, Any]) -> None:
    """An estimator by name, with parameters, or the steps of a pipeline."""
    if values["steps"] is None and values["estimator"] is None:
        hint = "--estimator neighbors.KNeighborsClassifier, or [[steps]] of a pipeline in an experiment file"
        raise InvalidData(explain("which estimator is to be trained?", hint=hint))
    if values["steps"] is not None and (values["estimator"] is not None or values["set"]):
        got = "steps and " + ("estimator" if values["estimator"] is not None else "set")
        raise InvalidData(explain("a pipeline's estimators and parameters stand in its steps", got=got))


def _settled(values: dict[str, Any]) -> Settings:
    """Fill in what depends on other settings."""
    column, trust = values["node_column"], values["trust"]
    if column is not None:
        for key in ("nodes", "partition"):
            if values[key] is not None:
                got = f"{key} {values[key]} and node-column {column}"
                raise InvalidData(explain("the column says how many nodes there are and who holds what", got=got))
        if trust == "distributed":
            hint = "leave --trust or --node-column out"
            raise InvalidData(explain("rows that belong to nodes are trained on federated", got=trust, hint=hint))
    settled = {
        "file": values.get("file"),
        "drop": tuple(values["drop"]),
        "sites": tuple(values["sites"]),
        "nodes": values["nodes"] or 4,
        "partition": values["partition"] or "iid",
        "trust": trust or ("distributed" if column is None else "federated"),
        "quiet": bool(values["quiet"]),
    }
    return Settings(**{**values, **settled})


def read_experiment(path: Path) -> dict[str, Any]:
    """The settings that an experiment file gives.

    Parameters
    ----------
    path : Path
        A TOML file. Its keys are `file` and the names of the options, its table `set` holds the parameters of the
        estimator; `steps` instead of an estimator make a pipeline. Paths are relative to its folder.

    Returns
    -------
    dict

    Raises
    ------
    InvalidData
        If it is not there or not TOML, or a value cannot be.
    UnknownName
        For a key that is no option.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidData(explain("the experiment cannot be read", got=error.strerror, where=path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidData(explain("the experiment is not TOML", got=error, where=path)) from None
    found = {}
    for name, value in data.items():
        key = name.replace("-", "_")
        if key not in ("file", "steps", *_OPTIONS):
            known = ["file", "steps", *(option.name for option in RUN.options)]
            raise UnknownName(explain(f"unknown key {name!r}", where=path, hint=closest(name, known)))
        found[key] = value if key == "steps" else _checked(key, value, f"{path}, key {name!r}")
        if key in _PATHS and found[key] != "none":
            found[key] = str(path.parent / found[key])
    return found


def _checked(key: str, value: Any, where: str) -> Any:
    """A value of an experiment file, read as the command line would read it."""
    if key == "set":
        if not isinstance(value, Mapping):
            raise InvalidData(explain("the parameters are a table", got=value, where=where, hint="[set]"))
        return {name: parse_value(v) if v in ("none", "null") else v for name, v in value.items()}
    option = _OPTIONS.get(key, Option("file", str, "", ""))
    kind = option.kind
    if kind is None:
        if not isinstance(value, bool):
            raise InvalidData(explain("expected true or false", got=repr(value), where=where))
        return value
    if option.several:
        return [_read(kind, v, where) for v in (value if isinstance(value, list) else [value])]
    return _read(kind, value, where)


def _read(kind: Callable[[str], Any], value: Any, where: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidData(explain("expected text or a number", got=repr(value), where=where))
    try:
        return kind(str(value))
    except ArgumentTypeError as error:
        raise InvalidData(explain(str(error), where=where)) from None
