"""The page: one HTML document."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from atoll import __version__, svg
from atoll.errors import InvalidData, explain
from atoll.evaluation import Evaluation
from atoll.markup import RING, STYLE, Cell, breakable, cells, details, picture, table, text
from atoll.partition import PartitionReport
from atoll.report.records import Report, Result
from atoll.report.training import training
from atoll.run import Run, human_bytes
from atoll.trees import Array

__all__ = ["html", "html_of_run", "write_report", "write_run"]

_MOST_BARS = 40  # nodes; more are not drawn one by one
_MOST_LABELS = 30  # classes of a confusion matrix
_MOST_SERIES = 16  # classes of stacked bars; beyond these, the rarest share a piece


def write_report(path: str | os.PathLike[str], report: Report) -> Path:
    """Write the page, whole or not at all.

    Parameters
    ----------
    path : path-like
        The file; one that exists is replaced.
    report : Report
        What the page shows.

    Returns
    -------
    Path
        The file, absolute.

    Raises
    ------
    InvalidData
        If it cannot be written there.

    Examples
    --------
    >>> import numpy as np
    >>> from atoll.report import Report, Result, write_report
    >>> pooled = Result("pooled", 0.9, None, 0.1, np.array(["a", "b"]))
    >>> report = Report("a comparison", "accuracy", [pooled], 8, 2, {}, "atoll demo", "")
    >>> write_report("page.html", report).name
    'page.html'
    """
    return _write(path, html(report))


def write_run(
    path: str | os.PathLike[str], run: Run, *, title: str | None = None, evaluation: Evaluation | None = None
) -> Path:
    """Write a page about one run: how the training went, what left each node, how good the model is.

    Parameters
    ----------
    path : path-like
        The file; one that exists is replaced.
    run : Run
        The record.
    title : str, optional
        Heading; by default what was trained.
    evaluation : Evaluation, optional
        What `Federation.evaluate` or `atoll.evaluation.evaluate_answers` found: the worst node, every node, every
        class.

    Returns
    -------
    Path
        The file, absolute.

    Raises
    ------
    InvalidData
        If it cannot be written there.
    """
    return _write(path, html_of_run(run, title=title, evaluation=evaluation))


def _write(path: str | os.PathLike[str], page: str) -> Path:
    """Write a page, whole or not at all."""
    file = Path(path).absolute()
    name = None
    try:
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".atoll-")
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as stream:
            stream.write(page)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, file)
    except OSError as error:
        raise InvalidData(explain("the report cannot be written", got=error.strerror, where=file)) from None
    finally:
        if name is not None:
            Path(name).unlink(missing_ok=True)
    return file


def html(report: Report) -> str:
    """The page as text.

    Parameters
    ----------
    report : Report
        What it shows.

    Returns
    -------
    str
        An HTML document.
    """
    over = report.over_nodes
    sections = [
        ("Result", _result_table(report)),
        ("Training", "".join(training(result.label, run) for result, run in over)),
        ("Where the rows are", "".join(_rows_figure(result.label, result.rows) for result, _ in over if result.rows)),
        ("By node and by class", "".join(_judged(result, found) for result, found in report.judged)),
        ("Right and wrong answers", "" if report.truth is None else _confusion(report, report.truth)),
        ("What left each node", "".join(_left(result, run) for result, run in over)),
        ("Rounds", "".join(_rounds(result, run) for result, run in over)),
        ("Settings and versions", _pairs(report)),
        ("Do it again", _again(report)),
    ]
    return _document(report.title, _opening(report), sections)


def html_of_run(run: Run, *, title: str | None = None, evaluation: Evaluation | None = None) -> str:
    """The page about one run as text.

    Parameters
    ----------
    run, title, evaluation
        As for `write_run`.

    Returns
    -------
    str
        An HTML document.
    """
    only = Result(run.estimator, np.nan, None, run.seconds, np.zeros(0), run, None, run.trust, evaluation)
    up, down = _bytes(run.bytes_up), _bytes(run.bytes_down)
    lead = f"{run.rounds} rounds over {len(run.nodes)} nodes, {up} from them, {down} to them, {run.seconds:.3f} s."
    facts = {"engine": run.engine, "topology": run.topology, "seed": str(run.seed), "nodes": str(len(run.nodes))}
    head = title or f"{run.estimator}, {run.trust}"
    sections = [
        ("Training", training(only.label, run)),
        ("By node and by class", "" if evaluation is None else _judged(only, evaluation)),
        ("What left each node", _left(only, run)),
        ("Rounds", _rounds(only, run)),
        ("Settings and versions", _listed(facts, {"atoll": __version__, **run.versions})),
    ]
    return _document(head, _headed(head, lead, "", run.notes), sections)


def _document(title: str, opening: str, sections: Sequence[tuple[str, str]]) -> str:
    body = "".join(f"<section><h2>{name}</h2>{content}</section>" for name, content in sections if content)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="color-scheme" content="light dark">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{opening}\n{body}\n</main></body></html>\n"
    )


def _opening(report: Report) -> str:
    lead = f"Trained on {report.n_train} rows, asked about {report.n_test} others. {report.verdict()}"
    source = f"<p class=quiet>Rows: {text(report.source)}</p>" if report.source else ""
    return _headed(report.title, lead, source, report.notes)


def _headed(title: str, lead: str, source: str, notes: Sequence[str]) -> str:
    today = f"Atoll report, {date.today().isoformat()}"
    items = "".join(f"<li>{text(note)}</li>" for note in notes)
    return (
        f"<header>{RING}<div><p class=quiet>{today}</p><h1>{breakable(title)}</h1></div></header>"
        f"<p class=lead>{text(lead)}</p>{source}" + (f"<ul class=notes>{items}</ul>" if items else "")
    )


def _result_table(report: Report) -> str:
    """One column per way, so that it fits a narrow screen."""
    head = [Cell(""), *(Cell(result.name, result.label.partition(", ")[2]) for result in report.results)]
    facts = [_facts(result) for result in report.results]
    names = [report.measure, "agreement with pooled", "rounds", "bytes moved", "seconds", "left each node"]
    body = [[Cell(name), *map(Cell, row)] for name, row in zip(names, zip(*facts, strict=True), strict=True)]
    caption = "Pooled is scikit-learn on all training rows. Bytes are those of arrays, to and from the nodes."
    return table(caption, head, body)


def _facts(result: Result) -> list[str]:
    run, score, seconds = result.run, f"{result.score:.4f}", f"{result.seconds:.3f}"
    if run is None:
        return [score, "–", "–", "–", seconds, "all its rows"]
    agreement = "–" if result.agreement is None else f"{100 * result.agreement:.4g} %"
    left = ", ".join(op.rpartition(".")[2] for op in result.left())
    return [score, agreement, str(run.rounds), _bytes(run.bytes_up + run.bytes_down), seconds, left]


def _rows_figure(label: str, rows: PartitionReport) -> str:
    shown = _frequent(rows)
    head = ["node", "rows", *shown.classes, "variation", "divergence", "effective classes"]
    apart = zip(rows.total_variation, rows.jensen_shannon, rows.effective_classes, strict=True)
    numbers = zip(rows.names, rows.rows, shown.counts, apart, strict=True)
    body = [[name, n, *counts, *map(_two, distances)] for name, n, counts, distances in numbers]
    caption = (
        f"Rows of each label on each node ({label}). Variation and divergence: distance from all nodes' mix, by total "
        "variation and by Jensen and Shannon in bits. Effective classes: how many of equal size would be as diverse."
    )
    uneven = f"The sizes of the nodes have a Gini coefficient of {rows.gini:.2f}: 0 is even, 1 is all rows on one."
    numbers_too = details(table(caption, cells(head), map(cells, body)))
    return f"<h3>{text(label)}</h3>{picture(shown.to_svg())}<p class=quiet>{uneven}</p>{numbers_too}"


def _two(value: float) -> str:
    return "–" if np.isnan(value) else f"{abs(value):.2f}"


def _frequent(rows: PartitionReport) -> PartitionReport:
    """The same with the rarest classes as one, where there are too many to tell apart."""
    if len(rows.classes) <= _MOST_SERIES:
        return rows
    order = np.argsort(-rows.counts.sum(axis=0), kind="stable")
    kept = np.sort(order[: _MOST_SERIES - 1])
    others = rows.counts.sum(axis=1) - rows.counts[:, kept].sum(axis=1)
    names = [*(rows.classes[k] for k in kept), f"{len(rows.classes) - len(kept)} others"]
    return PartitionReport.from_counts(rows.names, names, np.column_stack([rows.counts[:, kept], others]))


def _judged(result: Result, found: Evaluation) -> str:
    """How good the answers to the held-out rows are: overall, on the worst node, on each node, and by class."""
    summary, nodes = found.summary(), found.by_node()
    caption = f"Metrics over all held-out rows, and on the node where each is lowest ({result.label})."
    each = "Metrics on the held-out rows of each node. A dash: undefined there, as for a class of which it has none."
    drawn, notes = found.to_svg(), "".join(f"<li>{text(note)}</li>" for note in found.notes())
    parts = [f"<h3>{text(result.label)}</h3>", _plain_table(caption, summary), picture(drawn) if drawn else ""]
    parts.append(details(_plain_table(each, nodes), "Every node"))
    if found.classes:
        parts.append(_plain_table(f"The held-out rows by class ({result.label}).", found.by_class()))
    return "".join(parts) + (f"<ul class=notes>{notes}</ul>" if notes else "")


def _plain_table(caption: str, rows: Sequence[Sequence[str]]) -> str:
    return table(caption, cells(rows[0]), map(cells, rows[1:]))


def _confusion(report: Report, truth: Array) -> str:
    """One matrix for all results with the same answers."""
    groups: list[tuple[Array, list[str]]] = []
    for result in report.results:
        names = next((n for answers, n in groups if np.array_equal(answers, result.answers)), None)
        if names is None:
            groups.append((result.answers, [result.name]))
        else:
            names.append(result.name)
    seen = {label for answers, _ in groups for label in np.unique(answers).tolist()}
    classes = {**report.classes, **{label: str(label) for label in sorted(seen - report.classes.keys())}}
    if not 1 < len(classes) <= _MOST_LABELS:
        return ""
    return "".join(_matrix(classes, truth, answers, names) for answers, names in groups)


def _matrix(classes: Mapping[Any, str], truth: Array, answers: Array, names: Sequence[str]) -> str:
    code = {label: i for i, label in enumerate(classes)}
    counts = np.zeros((len(code), len(code)), dtype=np.int64)
    for true, answer in zip(truth.tolist(), answers.tolist(), strict=True):
        counts[code[true], code[answer]] += 1
    labels, title = list(classes.values()), "Held-out rows by class"
    drawn = svg.heatmap(counts, labels, labels, title=title, x_label="answer", y_label="true class", diagonal=True)
    who = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} alike"
    caption = f"Held-out rows by true class (down) and answer (across): {who}."
    body = [cells([name, *row]) for name, row in zip(labels, counts.tolist(), strict=True)]
    return f"<h3>{text(who)}</h3>{picture(drawn)}{details(table(caption, cells(['true class', *labels]), body))}"


def _left(result: Result, run: Run) -> str:
    found = {one.op: one for one in run.disclosures()}
    body = [
        [Cell(op, found[op].what), Cell(found[op].times), Cell(_span(sizes)), Cell(_bytes(sum(sizes)))]
        for op, sizes in result.left().items()
    ]
    caption = f"What left the nodes ({result.label}), in bytes of arrays; times counts rounds."
    said = table(caption, cells(["a node tells", "times", "each node", "all nodes"]), body)
    return f"<h3>{text(result.label)}</h3>{said}{_bytes_figure(run)}"


def _bytes_figure(run: Run) -> str:
    """Bytes that left each node, where they differ enough to be seen."""
    sizes: dict[str, int] = {}
    for one in run.disclosures():
        sizes[one.node] = sizes.get(one.node, 0) + one.bytes
    if not 1 < len(sizes) <= _MOST_BARS or max(sizes.values()) < 1.05 * min(sizes.values()):
        return ""
    return picture(svg.bars(list(sizes), list(sizes.values()), title="Bytes that left each node"))


def _span(sizes: Sequence[int]) -> str:
    low, high = _bytes(min(sizes)), _bytes(max(sizes))
    return low if low == high else f"{low} to {high}"


def _bytes(size: int) -> str:
    """A size that no line end tears apart."""
    return human_bytes(size).replace(" ", "\N{NO-BREAK SPACE}")


def _rounds(result: Result, run: Run) -> str:
    head = ["round", "operation", "answered", "to nodes", "from nodes", "seconds"]
    body = [
        cells(
            [r.number, r.op, f"{r.answered} of {r.asked}", _bytes(r.bytes_down), _bytes(r.bytes_up), f"{r.seconds:.4f}"]
        )
        for r in run.history
    ]
    return details(table(f"Every round: {result.label}.", cells(head), body), f"{result.label}: {run.rounds} rounds")


def _pairs(report: Report) -> str:
    return _listed(report.settings, report.versions)


def _listed(settings: Mapping[str, str], versions: Mapping[str, str]) -> str:
    def listed(caption: str, pairs: Mapping[str, str]) -> str:
        return table(caption, cells(["name", "value"]), map(cells, pairs.items()), "words")

    return f'<div class="side">{listed("Settings", settings)}{listed("Versions", versions)}</div>'


def _again(report: Report) -> str:
    blocks = [("On the command line", "wrap", report.command), ("In Python", "code", report.script)]
    return "".join(
        f'<h3>{title}</h3><pre class="{kind}" tabindex="0" role="region" aria-label="{title}">'
        f"<code>{text(code)}</code></pre>"
        for title, kind, code in blocks
        if code
    )
