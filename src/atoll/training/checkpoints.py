"""How far a training has come, as a file: arrays as safetensors, everything else as JSON in their header.

Nothing in such a file is code, and nothing is made from it before its names, shapes and dtypes were held against the
module that goes on. It is written beside its place and then put there, so it is whole or not there.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from atoll.algorithms import Algorithm, Local, algorithms
from atoll.algorithms.schedules import Schedule
from atoll.algorithms.settings import whole
from atoll.errors import InvalidData, MissingExtra, UnknownName, explain
from atoll.learners import Model
from atoll.run import Run
from atoll.specs import Spec
from atoll.topology import is_mix
from atoll.training.loop import At, Callback, Course, Trained
from atoll.trees import Tree

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Checkpoint", "checkpoint", "load_checkpoint", "read_checkpoint", "resumed", "write_checkpoint"]

_FORMAT = 1
_NAME = re.compile(r"round-(\d+)\.safetensors")
_KINDS = {
    "step": int, "seed": int, "now": float, "algorithm": dict, "local": dict, "way": str, "block": int,
    "versions": dict,
}  # fmt: skip


class Checkpoint(NamedTuple):
    """How far a training has come, and how it went there.

    Attributes
    ----------
    at : At
        Rounds done, the model, what server and selection keep, losses, virtual seconds.
    seed : int
        Of the run.
    algorithm : Algorithm or None
        How it was trained; None where a setting is a function, which is not written.
    local : Local or None
        What nodes did; None likewise.
    facts : dict
        As they stand in the file.
    """

    at: At
    seed: int
    algorithm: Algorithm | None
    local: Local | None
    facts: dict[str, Any]


def checkpoint(folder: str | os.PathLike[str], *, every: int = 1, keep: int | None = 3) -> Callback:
    """A callback that writes how far a training has come, so that `resume=` goes on from there.

    Parameters
    ----------
    folder : path-like
        For the files ``round-00012.safetensors``; it is made.
    every : int, default=1
        Rounds from one file to the next; the last round is written in any case.
    keep : int or None, default=3
        So many of the newest are kept; None: all.

    Returns
    -------
    callable
        For `callbacks`. It raises `InvalidData` where the folder has files of later rounds, which a training that
        begins anew would be mistaken for.

    Raises
    ------
    InvalidData
        If a setting is out of range.
    MissingExtra
        Without safetensors.

    Examples
    --------
    >>> from atoll.training import checkpoint
    >>> save = checkpoint("checkpoints", every=10)
    """
    whole(every=every, keep=keep)
    _safetensors()
    place, first = Path(folder), True

    def save(seen: Trained) -> None:
        nonlocal first
        place.mkdir(parents=True, exist_ok=True)
        if first:
            _check_place(place, seen.step)
            first = False
        last = seen.course is not None and seen.step == seen.course.rounds
        if seen.step % every == 0 or last:
            write_checkpoint(place / f"round-{seen.step:05d}.safetensors", seen)
            for _, file in _files(place)[: -keep if keep else 0]:
                file.unlink(missing_ok=True)

    return save


def _check_place(folder: Path, step: int) -> None:
    later = [file.name for n, file in _files(folder) if n > step]
    if later:
        got, where = f"{later[-1]} after round {step}", folder
        hint = "take another folder, go on with resume=, or remove them"
        raise InvalidData(explain("this folder has checkpoints of later rounds", got=got, where=where, hint=hint))


def _files(folder: Path) -> list[tuple[int, Path]]:
    """Checkpoints of a folder, by round."""
    found = [(_NAME.fullmatch(file.name), file) for file in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(name[1]), file) for name, file in found if name)


def write_checkpoint(path: str | os.PathLike[str], seen: Trained) -> None:
    """Write how far a training has come, whole or not at all.

    Parameters
    ----------
    path : path-like
        The file; one that exists is replaced.
    seen : Trained
        What a callback is called with.

    Raises
    ------
    InvalidData
        If it cannot be written there.
    """
    save_file, _ = _safetensors()
    file, arrays, name = Path(path), _arrays(seen), None
    try:
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".atoll-")
        os.close(handle)
        save_file(arrays, name, metadata={"atoll": json.dumps(_facts(seen))})
        with open(name, "rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, file)
    except OSError as error:
        raise InvalidData(explain("a checkpoint cannot be written", got=error.strerror, where=file)) from None
    finally:
        if name is not None:
            Path(name).unlink(missing_ok=True)


def _arrays(seen: Trained) -> Tree:
    """Parameters under their names, and everything else that is an array."""
    w, algorithm = seen.model.w, None if seen.course is None else seen.course.algorithm
    tree = {f"model/{p.name}": w[p.start : p.stop].reshape(p.shape) for p in seen.model.layout}
    tree |= {"buffers": seen.model.buffers, "losses": np.array(seen.losses)}
    tree |= {f"state/{name}": array for name, array in seen.state.items()}
    tree |= {f"picked/{name}": array for name, array in seen.picked.items()}
    tree |= {} if algorithm is None else {f"algorithm/{name}": a for name, a in algorithm.spec.arrays.items()}
    return {name: np.ascontiguousarray(array) for name, array in tree.items()}


def _facts(seen: Trained) -> dict[str, Any]:
    course, run = seen.course, seen.run
    if course is None or run is None:
        raise InvalidData(explain("a checkpoint is written of what a callback is called with"))
    spec = course.algorithm.spec
    return {
        "format": _FORMAT, "step": seen.step, "rounds": course.rounds, "seed": run.seed, "now": float(seen.now),
        "algorithm": {"name": spec.name, "settings": _plain(spec.settings)}, "local": _plain(course.local._asdict()),
        "nodes": len(run.nodes), "nodes_per_round": course.nodes_per_round, "selection": repr(course.selection),
        "way": course.way, "block": course.at_once, "trained": run.estimator, "versions": run.versions,
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """A setting as JSON has it; a function that is no schedule as what it is called."""
    if isinstance(value, Schedule):
        return {"schedule": value.name, "settings": _plain(value.settings)}
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    if callable(value):
        return {
            "function": f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else repr(value)
        }
    return value


def read_checkpoint(path: str | os.PathLike[str], model: Model) -> Checkpoint:
    """Read how far a training of a model has come.

    Parameters
    ----------
    path : path-like
        A file, or a folder of which the newest is read.
    model : Model
        Names, shapes and dtypes that the file must have.

    Returns
    -------
    Checkpoint

    Raises
    ------
    InvalidData
        If there is none, it is damaged, or it is of another model; names the parameter.
    MissingExtra
        Without safetensors.
    """
    _, open_file = _safetensors()
    file = _newest(Path(path))
    try:
        with open_file(file, framework="np") as stored:
            facts = _read_facts((stored.metadata() or {}).get("atoll"), file)
            _check_arrays(stored, facts["step"], model, file)
            tree: Tree = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
    except InvalidData:
        raise
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise InvalidData(explain("this is no checkpoint, or it is damaged", got=got, where=file)) from None
    flat = [tree[f"model/{part.name}"].ravel() for part in model.layout]
    whole_model = model._replace(w=np.concatenate(flat), buffers=tree["buffers"])
    state, picked, own = (_within(tree, prefix) for prefix in ("state/", "picked/", "algorithm/"))
    at = At(facts["step"], whole_model, state, tuple(tree["losses"].tolist()), picked, float(facts["now"]))
    return Checkpoint(at, facts["seed"], _algorithm(facts, own), _local(facts), facts)


def _newest(path: Path) -> Path:
    if path.is_file():
        return path
    found = _files(path)
    if not found:
        expected = "a file, or a folder with files round-….safetensors"
        raise InvalidData(explain("there is no checkpoint", got=path, expected=expected))
    return found[-1][1]


def _read_facts(text: str | None, file: Path) -> dict[str, Any]:
    if text is None:
        raise InvalidData(explain("this file is no checkpoint of Atoll", where=file, hint="see atoll.training"))
    facts = json.loads(text)
    if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
        got, expected = facts.get("format") if isinstance(facts, dict) else type(facts).__name__, f"format {_FORMAT}"
        raise InvalidData(explain("this checkpoint is of another version", got=got, expected=expected, where=file))
    wrong = [k for k, kind in _KINDS.items() if not isinstance(facts.get(k), kind) or isinstance(facts[k], bool)]
    if wrong or facts["step"] < 0 or not 0 <= facts["seed"] < 1 << 64:
        got = ", ".join(f"{name}={facts.get(name)!r}" for name in wrong or ("step", "seed"))
        raise InvalidData(explain("this checkpoint does not say what it must", got=got, where=file))
    return facts


def _check_arrays(stored: Any, step: int, model: Model, file: Path) -> None:
    """Hold names, shapes and dtypes of a file against a model, before an array is read."""
    held = {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
    wanted = {f"model/{part.name}": (part.shape, model.w.dtype) for part in model.layout}
    wanted |= {"buffers": (model.buffers.shape, model.buffers.dtype), "losses": ((step,), np.dtype(float))}
    missing = sorted(wanted.keys() - held)
    foreign = sorted(n for n in held.keys() - wanted if n.partition("/")[0] not in ("state", "picked", "algorithm"))
    if missing or foreign:
        got = ", ".join([*(f"no {name}" for name in missing[:3]), *(f"a foreign {name}" for name in foreign[:3])])
        raise InvalidData(explain("this checkpoint is of another model", got=got, where=file))
    for name, (shape, dtype) in wanted.items():
        its, kind = tuple(held[name].get_shape()), held[name].get_dtype()
        if its != shape or kind != _DTYPES.get(dtype.str[1:]):
            expected = f"{shape}, {dtype}"
            what = f"{name} has another shape or dtype in this checkpoint"
            raise InvalidData(explain(what, got=f"{its}, {kind}", expected=expected, where=file))


_DTYPES = {"f8": "F64", "f4": "F32", "f2": "F16"}


def _within(tree: Tree, prefix: str) -> Tree:
    return {name.removeprefix(prefix): array for name, array in tree.items() if name.startswith(prefix)}


def _algorithm(facts: Mapping[str, Any], arrays: Tree) -> Algorithm | None:
    name, settings = facts["algorithm"].get("name"), _made(facts["algorithm"].get("settings", {}))
    try:
        return None if settings is None else algorithms[name](**settings, **arrays)
    except (TypeError, UnknownName):
        got = f"{name}({facts['algorithm'].get('settings')})"
        raise InvalidData(explain("this checkpoint names a method that is not there", got=got)) from None


def _local(facts: Mapping[str, Any]) -> Local | None:
    settings = _made(facts["local"])
    if settings is not None and settings.keys() != set(Local._fields):
        got, expected = sorted(settings), sorted(Local._fields)
        raise InvalidData(explain("this checkpoint has other local settings", got=got, expected=expected))
    return None if settings is None else Local(**settings)


def _made(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Settings from JSON; None where one of them was a function."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and "function" in value:
            return None
        if isinstance(value, dict) and "schedule" in value:
            inside = _made(value["settings"])
            if inside is None:
                return None
            value = Schedule(value["schedule"], inside)
        found[name] = value
    return found


def resumed(found: Checkpoint, course: Course, wiring: Spec, run: Run) -> Course:
    """A course that goes on from a checkpoint; the record notes where, and what is other than it was.

    Parameters
    ----------
    found : Checkpoint
        What was read.
    course : Course
        How the training goes on.
    wiring : Spec
        Who sends what to whom.
    run : Run
        The record of the run that goes on.

    Returns
    -------
    Course
        Computed the way it was, unless another was asked for.

    Raises
    ------
    InvalidData
        If the file does not hold everything that the rest of the training depends on, or is of another.
    """
    way, block = found.facts["way"] if course.way == "auto" else course.way, course.block or found.facts["block"]
    course = course._replace(start=found.at, way=way, block=block)
    if run.seed != found.seed:
        hint = f"random_state={found.seed}"
        raise InvalidData(explain("a training goes on with its seed", got=run.seed, expected=found.seed, hint=hint))
    _check_resumed(found, course, wiring)
    run.notes += [f"goes on after round {found.at.step}", *_changed(found, course, run)]
    return course


def _check_resumed(found: Checkpoint, course: Course, wiring: Spec) -> None:
    algorithm, layout = course.algorithm, found.at.model.layout
    bound = algorithm if algorithm.bind is None else algorithm.bind(layout)
    written = found.facts["algorithm"].get("name")
    if written != algorithm.spec.name:
        raise InvalidData(explain("this checkpoint is of another method", got=written, expected=algorithm.spec.name))
    if found.at.step > course.rounds:
        got = f"round {found.at.step}, rounds={course.rounds}"
        raise InvalidData(explain("this checkpoint is of a later round than the last", got=got))
    if course.mixing is not None or is_mix(wiring) or wiring.name == "ring" or bound.arrivals is not None:
        hint = "give the federation a journal and run it again, or go on with topology='star'"
        what = "a checkpoint has what a server knows; here nodes, or what is on its way to it, know more"
        raise InvalidData(explain(what, got=wiring.name if bound.arrivals is None else algorithm.spec.name, hint=hint))
    if bound.remembers:
        hint = "give the federation a journal: Federation.simulate(…, journal=folder), and run it again"
        what = f"nodes keep something of their own under {algorithm.spec.name}, which a checkpoint does not hold"
        raise InvalidData(explain(what, got="resume=", hint=hint))
    _check_state(found.at, bound)


def _changed(found: Checkpoint, course: Course, run: Run) -> list[str]:
    """What is other than it was: then the rest of the training is not what it would have been."""
    algorithm = course.algorithm
    now = {
        "algorithm": {"name": algorithm.spec.name, "settings": _plain(algorithm.spec.settings)},
        "local": _plain(course.local._asdict()), "selection": repr(course.selection),
        "way": course.way, "block": course.at_once, "nodes_per_round": course.nodes_per_round, "nodes": len(run.nodes),
        **run.versions,
    }  # fmt: skip
    was = {**found.facts, **found.facts["versions"]}
    return [f"{name} was {was.get(name)}" for name, value in now.items() if was.get(name) != value]


def _check_state(at: At, algorithm: Algorithm) -> None:
    """Hold what the server kept against what it begins with."""
    wanted = {name: (a.shape, a.dtype) for name, a in algorithm.init(at.model.w).items()}
    got = {name: (a.shape, a.dtype) for name, a in at.state.items()}
    if got != wanted:
        what = f"this checkpoint has not what the server keeps under {algorithm.spec.name}"
        raise InvalidData(explain(what, got=got, expected=wanted))


def load_checkpoint(path: str | os.PathLike[str], module: nn.Module) -> nn.Module:
    """The module of a checkpoint.

    Parameters
    ----------
    path : path-like
        A file, or a folder of which the newest is read.
    module : torch.nn.Module
        One like it; it is not touched.

    Returns
    -------
    torch.nn.Module
        A copy with the numbers of the file.

    Raises
    ------
    InvalidData
        As `read_checkpoint` does.
    """
    from atoll import nets

    model = read_checkpoint(path, nets.as_model(module)).at.model
    return nets.load(copy.deepcopy(module), model.w, model.buffers)


def _safetensors() -> tuple[Any, Any]:
    with contextlib.suppress(ImportError):
        from safetensors import safe_open
        from safetensors.numpy import save_file

        return save_file, safe_open
    raise MissingExtra(explain("checkpoints need safetensors", hint="pip install 'atoll[torch]'"))
