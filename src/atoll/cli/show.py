"""What is printed: data on the standard output, messages on the standard error stream."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from atoll.report import Report, Result

__all__ = ["as_data", "busy", "emit", "emit_json", "print_report", "render", "say"]

_WIDTH = 110  # columns where there is no terminal
_MOST_CLASSES = 30  # more are shown in the report only


def emit(text: str) -> None:
    """Write to the standard output, at once; what its encoding lacks becomes a question mark."""
    _write(sys.stdout, text)


def say(text: str) -> None:
    """Write to the standard error stream."""
    _write(sys.stderr, text)


def _write(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()


def emit_json(data: Mapping[str, Any]) -> None:
    """Write data as JSON; numbers that are not finite become null."""
    emit(json.dumps(_plain(data), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return value


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    plain = bool(os.environ.get("NO_COLOR"))
    known = stream.isatty() or "COLUMNS" in os.environ
    return Console(
        file=stream,
        width=None if known else _WIDTH,
        color_system=None if plain else "auto",
        highlight=False,
        emoji=False,
    )


def render(*things: RenderableType) -> None:
    """Print tables and texts of rich to the standard output."""
    console = _console(sys.stdout)
    with console.capture() as captured:
        for thing in things:
            console.print(thing, markup=False)
    emit("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Say what is going on while the body runs, on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with _console(sys.stderr).status(what):
        yield


def print_report(report: Report, written: Sequence[tuple[str, str]]) -> None:
    """Print a comparison: one table, what left the nodes in words, and which files were written.

    Parameters
    ----------
    report : Report
        The comparison.
    written : sequence of (str, str)
        Kind and path of each file.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = f"{report.title}: {report.n_train} rows to train on, {report.n_test} held out"
    table = Table(box=box.SIMPLE_HEAD, title=Text(title, "bold"), title_justify="left", pad_edge=False)
    table.add_column("", min_width=len("distributed,"))
    for name in (
        report.measure.replace("mean ", "mean\n"),
        "agreement\nwith pooled",
        "rounds",
        "bytes\nmoved",
        "seconds",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("left each node")
    for result in report.results:
        table.add_row(*map(Text, _cells(result)))
    render(
        table, *_by_node(report), *_by_class(report), *_words(report), *(Text(f"note: {note}") for note in report.notes)
    )
    for kind, path in written:
        emit(f"{kind}: {path}\n")


def _cells(result: Result) -> list[str]:
    from atoll.run import human_bytes

    run = result.run
    agreement = "–" if result.agreement is None else f"{100 * result.agreement:.4g} %"
    if run is None:
        return [result.label, f"{result.score:.4f}", agreement, "–", "–", f"{result.seconds:.3f}", "all its rows"]
    left = ", ".join(op.rpartition(".")[2] for op in result.left())
    moved = human_bytes(run.bytes_up + run.bytes_down)
    return [result.label, f"{result.score:.4f}", agreement, str(run.rounds), moved, f"{result.seconds:.3f}", left]


def _by_node(report: Report) -> list[RenderableType]:
    """Every metric over all held-out rows and on the worst node, a column per way to train."""
    from rich.table import Table
    from rich.text import Text

    if not report.judged:
        return []
    table = Table.grid(padding=(0, 2))
    table.add_row("", *(Text(result.name, "bold") for result, _ in report.judged))
    columns = [found.summary()[1:] for _, found in report.judged]
    for lines in zip(*columns, strict=True):
        table.add_row(Text(lines[0][0], "bold"), *(Text(f"{line[1]}, worst {line[-1]}") for line in lines))
    return [Text("Held-out rows, all and on the worst node:"), table, Text("")]


def _by_class(report: Report) -> list[RenderableType]:
    """Precision, recall and F of each class, as the first result over nodes has them."""
    from rich.table import Table
    from rich.text import Text

    named = [(result, found) for result, found in report.judged if 1 < len(found.classes) <= _MOST_CLASSES]
    if not named:
        return []
    result, found = named[0]
    table = Table.grid(padding=(0, 2))
    for i in range(5):
        table.add_column(justify="right" if i else "left")
    for j, line in enumerate(found.by_class()):
        table.add_row(*(Text(word, "bold" if not j or not i else "") for i, word in enumerate(line)))
    return [Text(f"Held-out rows by class ({result.name}):"), table, Text("")]


def _words(report: Report) -> list[RenderableType]:
    """What every operation tells, a line each."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for op, what in report.words().items():
        table.add_row(Text(op.rpartition(".")[2], "bold"), Text(what))
    return [Text("What left each node:"), table, Text("")] if report.words() else []


def as_data(report: Report, written: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A comparison as plain values.

    Parameters
    ----------
    report : Report
        The comparison.
    written : sequence of (str, str)
        Kind and path of each file.

    Returns
    -------
    dict
    """
    return {
        "title": report.title,
        "measure": report.measure,
        "rows": {"train": report.n_train, "test": report.n_test},
        "results": [_result(result) for result in report.results],
        "settings": dict(report.settings),
        "versions": dict(report.versions),
        "notes": list(report.notes),
        "written": dict(written),
    }


def _result(result: Result) -> dict[str, Any]:
    run = result.run
    data: dict[str, Any] = {
        "name": result.name, "score": result.score, "agreement": result.agreement, "seconds": result.seconds,
    }  # fmt: skip
    if run is None:
        return data
    return data | {
        "nodes": list(run.nodes), "split": result.split, "engine": run.engine, "topology": run.topology,
        "rounds": run.rounds, "bytes_up": run.bytes_up, "bytes_down": run.bytes_down,
        "partition": None if result.rows is None else result.rows.to_dict(),
        "left": [one._asdict() for one in run.disclosures()], "notes": list(run.notes),
        "evaluation": None if result.by_node is None else result.by_node.to_dict(),
    }  # fmt: skip
