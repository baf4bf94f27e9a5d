"""``atoll doctor``: looks whether everything is here that Atoll needs."""

from __future__ import annotations

import operator
import os
import platform
import re
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, NamedTuple

from atoll.cli import show

__all__ = ["Finding", "Range", "examine", "execute"]

_EXTRAS = {
    "faiss": "an index that finds nearest neighbours faster",
    "frames": "data frames and Parquet files",
    "plots": "plots with matplotlib",
    "silo": "a coordinator, and nodes that keep their rows",
}
_IMPORTED_AS = {"faiss-cpu": "faiss", "scikit-learn": "sklearn"}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_OLDEST = (3, 11)  # Python
_LITTLE = 1 << 30  # bytes of free memory that are worth a note
_PATIENCE = 30.0  # seconds within which workers must answer


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes
    ----------
    name : str
        The thing.
    state : {"ok", "note", "problem"}
        A note is worth knowing; with a problem something does not work.
    what : str
        What was found.
    fix : str
        What to do about it; empty where there is nothing to do.
    """

    name: str
    state: str
    what: str
    fix: str = ""


class Range(NamedTuple):
    """A package and the versions of it that will do.

    Attributes
    ----------
    package : str
        Its name.
    bounds : tuple of (str, str)
        Comparison and version.
    extra : str
        The extra that brings it; empty for the core.
    """

    package: str
    bounds: tuple[tuple[str, str], ...]
    extra: str = ""

    @classmethod
    def of(cls, requirement: str) -> Range:
        """Read a requirement as a distribution declares it, such as ``faiss-cpu>=1.9; extra == 'faiss'``."""
        wanted, _, marker = requirement.partition(";")
        name = re.match(r"\s*([\w.-]+)", wanted)
        extra = re.search(r"extra\s*==\s*['\"]([\w.-]+)", marker)
        bounds = re.findall(r"(>=|<=|==|!=|<|>)\s*([\w.]+)", wanted)
        return cls(name[1] if name else "", tuple(bounds), extra[1] if extra else "")

    def holds(self, version: str) -> bool:
        """Whether a version is inside the bounds."""
        return all(_COMPARE[how](_numbers(version), _numbers(bound)) for how, bound in self.bounds)

    def __str__(self) -> str:
        return ",".join(how + version for how, version in self.bounds) or "any version"


def _numbers(version: str) -> list[int]:
    """The release of a version as numbers, without zeros at its end."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(n) for n in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers


def execute(args: Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    args : Namespace
        What was given.

    Returns
    -------
    int
        Exit status: 1 if there is a problem.
    """
    with show.busy("looking"):
        findings = list(examine())
    well = all(finding.state != "problem" for finding in findings)
    if args.json:
        show.emit_json({"ok": well, "findings": [finding._asdict() for finding in findings]})
    else:
        _print(findings)
    return 0 if well else 1


def _print(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    colours = {"ok": "green", "note": "yellow", "problem": "bold red"}
    for finding in findings:
        table.add_row(Text(finding.state, colours[finding.state]), Text(finding.name, "bold"), Text(finding.what))
        if finding.fix:
            table.add_row("", "", Text(finding.fix))
    counts = {state: sum(f.state == state for f in findings) for state in colours}
    show.render(table, Text(f"\n{counts['ok']} ok, {counts['note']} to note, {counts['problem']} problems"))


def examine() -> Iterator[Finding]:
    """Look at everything, one finding at a time."""
    yield _python()
    yield from _packages()
    yield _blas()
    yield _cores()
    yield _memory()
    yield _shared_memory()
    yield _workers()


def _python() -> Finding:
    what = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()}"
    if tuple(map(int, platform.python_version_tuple()[:2])) < _OLDEST:
        return Finding("python", "problem", what, "Atoll needs Python {}.{} or newer".format(*_OLDEST))
    if platform.system() != "Linux":
        return Finding("python", "note", what, "Atoll is tested on Linux only")
    return Finding("python", "ok", what)


def _packages() -> Iterator[Finding]:
    """The core's packages and those of the extras, as Atoll's own metadata asks for them."""
    try:
        requirements = [Range.of(text) for text in metadata.requires("atoll") or ()]
    except metadata.PackageNotFoundError:
        fix = "pip install . in the clone, so that its packages can be held against what it needs"
        yield Finding("atoll", "note", "not installed as a package", fix)
        return
    for wanted in sorted(requirements, key=lambda r: (r.extra, r.package)):
        if wanted.extra in ("", *_EXTRAS):
            yield _package(wanted)


def _package(wanted: Range) -> Finding:
    name, module = wanted.package, _IMPORTED_AS.get(wanted.package, wanted.package)
    fix = f"pip install 'atoll[{wanted.extra}]'" if wanted.extra else f"pip install '{name}{wanted}'"
    try:
        version = metadata.version(name)
        import_module(module)
    except (metadata.PackageNotFoundError, ModuleNotFoundError):
        if wanted.extra:
            return Finding(name, "note", f"not installed; it brings {_EXTRAS[wanted.extra]}", fix)
        return Finding(name, "problem", f"not installed; {wanted} is needed", fix)
    except Exception as error:  # a broken installation may raise anything
        return Finding(
            name, "problem", f"cannot be imported: {error}", f"pip install --force-reinstall '{name}{wanted}'"
        )
    if not wanted.holds(version):
        return Finding(name, "problem", f"{version}, and {wanted} is needed", fix)
    return Finding(name, "ok", f"{version} ({wanted})")


def _blas() -> Finding:
    import scipy.linalg  # noqa: F401  loads the library that is to be looked at
    from threadpoolctl import threadpool_info

    pools = [p for p in threadpool_info() if p["user_api"] == "blas"]
    if not pools:
        return Finding("BLAS", "note", "none that threadpoolctl knows", "results may depend on its number of threads")
    kinds = dict.fromkeys(f"{p['internal_api']} {p['version']}, {p['num_threads']} threads" for p in pools)
    return Finding("BLAS", "ok", "; ".join(kinds) + "; Atoll computes with one thread per worker")


def _cores() -> Finding:
    there = os.cpu_count() or 1
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    what = f"{mine} of {there} cores may be used; the engine processes starts one worker on each"
    if mine == 1:
        return Finding("cores", "note", what, "the engine inprocess gives the same results and starts at once")
    return Finding("cores", "ok", what)


def _memory() -> Finding:
    free = _free_memory()
    if free is None:
        return Finding("memory", "note", "unknown: there is no /proc/meminfo")
    from atoll.run import human_bytes

    if free < _LITTLE:
        return Finding("memory", "note", f"{human_bytes(free)} free", "end other programs, or use fewer workers")
    return Finding("memory", "ok", f"{human_bytes(free)} free")


def _free_memory() -> int | None:
    """Bytes that the machine, or the container's limit where there is one, leaves free."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    if found is None:
        return None
    free = int(found[1]) * 1024
    try:
        group = Path("/sys/fs/cgroup")
        left = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return min(free, max(left, 0))


def _shared_memory() -> Finding:
    if hasattr(os, "memfd_create"):
        try:
            handle = os.memfd_create("atoll-doctor")
            os.ftruncate(handle, 1 << 20)
            os.close(handle)
        except OSError as error:
            fix = "allow memfd_create in this container, or use the engine inprocess"
            return Finding("shared memory", "problem", f"memfd_create fails: {error}", fix)
        return Finding("shared memory", "ok", "anonymous files in memory (memfd)")
    fix = "a folder in memory, such as TMPDIR=/dev/shm, is faster"
    return Finding("shared memory", "note", f"through files in {tempfile.gettempdir()}", fix)


def _workers() -> Finding:
    """Start two workers, and hold what they answer against this process's own answer, bit for bit."""
    begin = time.perf_counter()
    try:
        same = _neighbours("processes") == _neighbours("inprocess")
    except Exception as error:  # whatever it is, it is the finding
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return Finding("workers", "problem", f"the engine processes fails: {what}", "use the engine inprocess")
    if not same:
        what = "the engines processes and inprocess give different bits"
        return Finding("workers", "problem", what, "please report this with the output of atoll doctor --json")
    seconds = time.perf_counter() - begin
    return Finding("workers", "ok", f"2 processes started and answered bit for bit alike in {seconds:.1f} s")


def _neighbours(engine: str) -> bytes:
    """Distances and rows that a small federation answers, as bytes."""
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    from atoll import Federated, Federation, Rule

    X = np.sin(np.arange(120.0)).reshape(40, 3)
    sites = Federation.simulate(X, n_nodes=4, engine=engine, n_workers=2, rule=Rule(deadline=_PATIENCE), verbose=0)
    distances, rows = Federated(NearestNeighbors(n_neighbors=3)).fit(sites).kneighbors(X[:10] + 0.5)
    return bytes(distances.tobytes() + rows.tobytes())
