"""One self-contained HTML page about a comparison: how good, how fast, and what left each node.

The page needs no other file, no network and no script. It follows the reader's choice of light or dark, every picture
stands beside its numbers, and whatever came from a user is escaped.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from atoll import __version__, svg
from atoll.errors import InvalidData, explain
from atoll.partition import PartitionReport
from atoll.run import Run, human_bytes
from atoll.trees import Array

__all__ = ["Report", "Result", "page", "write_report"]

_MOST_BARS = 40  # nodes; more are not drawn one by one
_MOST_ROWS = 100  # of a table
_MOST_LABELS = 30  # classes of a confusion matrix


class Result(NamedTuple):
    """One way to train and to answer, as it was measured.

    Attributes
    ----------
    name : str
        ``pooled``, ``distributed``, ``federated``.
    score : float
        The measure over the held-out rows.
    agreement : float or None
        Share of the held-out rows that are answered as the pooled model answers them; None for the pooled one itself.
    seconds : float
        To train and to answer.
    answers : ndarray of shape (n_rows, …)
        The answer to each held-out row.
    run : Run or None
        The record, where there are nodes.
    rows : PartitionReport or None
        Who holds which rows, where there are nodes.
    split : str
        How the rows came to the nodes.
    """

    name: str
    score: float
    agreement: float | None
    seconds: float
    answers: Array
    run: Run | None = None
    rows: PartitionReport | None = None
    split: str = ""

    @property
    def label(self) -> str:
        """The name, with the number of nodes and how the rows came to them."""
        return self.name if self.run is None else f"{self.name}, {len(self.run.nodes)} nodes, {self.split}"

    def left(self) -> dict[str, list[int]]:
        """Bytes that left each node, in order of the nodes, by operation."""
        found: dict[str, list[int]] = {}
        for one in [] if self.run is None else self.run.disclosures():
            found.setdefault(one.op, []).append(one.bytes)
        return found


class Report(NamedTuple):
    """What the page shows.

    Attributes
    ----------
    title : str
        What was compared.
    measure : str
        What the scores are, such as ``accuracy``.
    results : sequence of Result
        The pooled one first.
    n_train, n_test : int
        Rows to train on, and rows held out.
    settings : mapping of str to str
        As they were in force.
    command : str
        The command line that does this again.
    script : str
        Python that does this again.
    source : str, default=""
        Where the rows come from.
    truth : ndarray of shape (n_test,), optional
        Classes of the held-out rows, for a confusion matrix.
    classes : mapping of label to str, optional
        Names of the classes by label, sorted by label.
    notes : sequence of str
        What a person should know.
    """

    title: str
    measure: str
    results: Sequence[Result]
    n_train: int
    n_test: int
    settings: Mapping[str, str]
    command: str
    script: str
    source: str = ""
    truth: Array | None = None
    classes: Mapping[Any, str] = {}
    notes: Sequence[str] = ()

    @property
    def over_nodes(self) -> list[Result]:
        """The results that have nodes."""
        return [result for result in self.results if result.run is not None]

    @property
    def versions(self) -> dict[str, str]:
        """Versions of what made the numbers."""
        runs = [result.run for result in self.over_nodes]
        return {"atoll": __version__} | {k: v for run in runs if run is not None for k, v in run.versions.items()}

    def words(self) -> dict[str, str]:
        """By operation: what a node tells by it."""
        runs = [result.run for result in self.over_nodes]
        return {one.op: one.what for run in runs if run is not None for one in run.disclosures()}

    def verdict(self) -> str:
        """How far the answers are those of the pooled model, in one sentence."""
        parts = []
        for result in self.over_nodes:
            same = round((result.agreement or 0.0) * self.n_test)
            parts.append(f"{result.name} on {same} of {self.n_test}")
        return f"Held-out rows answered as by the pooled model: {', '.join(parts)}."


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
    file = Path(path).absolute()
    name = None
    try:
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".atoll-")
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as stream:
            stream.write(page(report))
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


def page(report: Report) -> str:
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
    sections = [
        ("Result", _result_table(report)),
        ("Where the rows are", "".join(map(_rows_figure, report.over_nodes))),
        ("Right and wrong answers", _confusion(report)),
        ("What left each node", "".join(_left(result) for result in report.over_nodes)),
        ("Rounds", "".join(_rounds(result) for result in report.over_nodes)),
        ("Settings and versions", _pairs(report)),
        ("Do it again", _again(report)),
    ]
    body = "".join(f"<section><h2>{title}</h2>{content}</section>" for title, content in sections if content)
    source = f"<p class=quiet>Rows: {_text(report.source)}</p>" if report.source else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="color-scheme" content="light dark">'
        f"<title>{_text(report.title)}</title><style>{_STYLE}</style></head>\n<body><main><header>{_RING}"
        f"<div><p class=quiet>Atoll report, {date.today().isoformat()}</p><h1>{_text(report.title)}</h1></div></header>"
        f"<p class=lead>{report.n_train} rows to train on, {report.n_test} held out. {_text(report.verdict())}</p>"
        f"{source}{_notes(report)}\n{body}\n</main></body></html>\n"
    )


def _result_table(report: Report) -> str:
    head = ["", report.measure, "agreement with pooled", "rounds", "bytes moved", "seconds", "left each node"]
    rows = []
    for result in report.results:
        run = result.run
        moved = "–" if run is None else human_bytes(run.bytes_up + run.bytes_down)
        agreement = "–" if result.agreement is None else f"{100 * result.agreement:.4g} %"
        each = "nothing: all rows in one place" if run is None else ", ".join(result.left())
        rounds = "–" if run is None else str(run.rounds)
        rows.append([result.label, f"{result.score:.4f}", agreement, rounds, moved, f"{result.seconds:.3f}", each])
    caption = "Pooled is scikit-learn on all training rows. Bytes are those of arrays, to and from the nodes."
    return _table(caption, head, rows, words=(6,))


def _rows_figure(result: Result) -> str:
    rows = result.rows
    if rows is None:
        return ""
    head = ["node", "rows", *map(str, rows.classes), "variation"]
    numbers = zip(rows.names, rows.rows, rows.counts, rows.total_variation, strict=True)
    body = [[name, str(n), *map(str, counts), _number(variation)] for name, n, counts, variation in numbers]
    caption = f"Rows of each label on each node; variation is the total variation distance from all nodes' mix ({result.label})."
    return (
        f"<h3>{_text(result.label)}</h3>{_picture(rows.to_svg())}"
        f"<details><summary>The numbers</summary>{_table(caption, head, body)}</details>"
    )


def _confusion(report: Report) -> str:
    """One matrix for all results with the same answers."""
    if report.truth is None or not 1 < len(report.classes) <= _MOST_LABELS:
        return ""
    groups: list[tuple[Array, list[str]]] = []
    for result in report.results:
        names = next((n for answers, n in groups if np.array_equal(answers, result.answers)), None)
        if names is None:
            groups.append((result.answers, [result.name]))
        else:
            names.append(result.name)
    return "".join(_matrix(report, answers, names) for answers, names in groups)


def _matrix(report: Report, answers: Array, names: Sequence[str]) -> str:
    labels, classes = list(report.classes), list(report.classes.values())
    code = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    assert report.truth is not None
    for truth, answer in zip(report.truth.tolist(), answers.tolist(), strict=True):
        counts[code[truth], code[answer]] += 1
    title = "Held-out rows: " + ", ".join(names)
    drawn = svg.heatmap(counts, classes, classes, title=title, x_label="answer", y_label="true class", diagonal=True)
    head = ["true class", *classes]
    body = [[name, *map(str, row)] for name, row in zip(classes, counts.tolist(), strict=True)]
    table = _table(f"Held-out rows by true class (down) and answer (across): {', '.join(names)}.", head, body)
    return f"{_picture(drawn)}<details><summary>The numbers</summary>{table}</details>"


def _left(result: Result) -> str:
    run = result.run
    assert run is not None
    words, times = {}, {}
    for one in run.disclosures():
        words[one.op], times[one.op] = one.what, max(one.times, times.get(one.op, 0))
    body = [
        [op, words[op], str(times[op]), _span(sizes), human_bytes(sum(sizes))] for op, sizes in result.left().items()
    ]
    head = ["operation", "a node tells", "times", "bytes per node", "all nodes"]
    table = _table(f"What left the nodes: {result.label}.", head, body, words=(1,))
    per_node: dict[str, int] = {}
    for one in run.disclosures():
        per_node[one.node] = per_node.get(one.node, 0) + one.bytes
    drawn = ""
    if 0 < len(per_node) <= _MOST_BARS:
        drawn = _picture(svg.bars(list(per_node), list(per_node.values()), title="Bytes that left each node"))
    return f"<h3>{_text(result.label)}</h3>{table}{drawn}"


def _span(sizes: Sequence[int]) -> str:
    low, high = human_bytes(min(sizes)), human_bytes(max(sizes))
    return low if low == high else f"{low} to {high}"


def _rounds(result: Result) -> str:
    run = result.run
    assert run is not None
    head = ["round", "operation", "nodes answered", "to nodes", "from nodes", "seconds"]
    shown = run.history[:_MOST_ROWS]
    body = [
        [str(r.number), r.op, f"{r.answered} of {r.asked}", human_bytes(r.bytes_down), human_bytes(r.bytes_up),
         f"{r.seconds:.4f}"]
        for r in shown
    ]  # fmt: skip
    more = f" The first {len(shown)} of {run.rounds}." if run.rounds > len(shown) else ""
    table = _table(f"Every round: {result.label}.{more}", head, body, words=(1,))
    return f"<details><summary>{_text(result.label)}: {run.rounds} rounds</summary>{table}</details>"


def _pairs(report: Report) -> str:
    def listed(caption: str, pairs: Iterable[tuple[str, str]]) -> str:
        return _table(caption, ["name", "value"], [list(pair) for pair in pairs], words=(1,))

    return f'<div class="side">{listed("Settings", report.settings.items())}{listed("Versions", report.versions.items())}</div>'


def _again(report: Report) -> str:
    blocks = [("On the command line", report.command), ("In Python", report.script)]
    return "".join(
        f'<h3>{title}</h3><pre tabindex="0" role="region" aria-label="{title}"><code>{_text(code)}</code></pre>'
        for title, code in blocks
        if code
    )


def _notes(report: Report) -> str:
    if not report.notes:
        return ""
    return f"<ul class=notes>{''.join(f'<li>{_text(note)}</li>' for note in report.notes)}</ul>"


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = ()) -> str:
    """A table in a box of its own that scrolls; columns of words, the first among them, are set flush left."""
    flush = {0, *words}
    if len(rows) > _MOST_ROWS:
        caption = f"{caption} The first {_MOST_ROWS} of {len(rows)} lines."
    columns = "".join(f'<th scope="col"{_align(i, flush)}>{_text(cell)}</th>' for i, cell in enumerate(head))
    lines = "".join(
        f'<tr><th scope="row">{_text(first)}</th>'
        + "".join(f"<td{_align(i, flush)}>{_text(cell)}</td>" for i, cell in enumerate(rest, 1))
        + "</tr>"
        for first, *rest in rows[:_MOST_ROWS]
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{_text(caption)}"><table><caption>{_text(caption)}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _align(column: int, flush: set[int]) -> str:
    return "" if column in flush else " class=n"


def _picture(drawn: str) -> str:
    return f'<div class="picture" tabindex="0" role="group" aria-label="picture">{drawn}</div>'


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"


def _text(words: object) -> str:
    """Words of anybody as HTML: escaped, without characters that HTML does not allow."""
    return escape("".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in str(words)), quote=True)


_RING = (
    '<svg width="44" height="44" viewBox="-22 -22 44 44" aria-hidden="true"><circle r="13" fill="none" stroke="currentColor"'
    ' stroke-width="1.2" opacity=".35"/><g fill="var(--accent)"><circle cy="-14" r="5"/><circle cx="13" cy="-5" r="3.4"/>'
    '<circle cx="10" cy="10" r="4.4"/><circle cx="-6" cy="13" r="3"/><circle cx="-14" r="4.2"/></g></svg>'
)

_STYLE = """
:root{color-scheme:light dark;--paper:#fcfcfa;--card:#fff;--ink:#1d2733;--quiet:#5a6673;--line:#dde2e4;--accent:#00707c;
--tint:#eef4f4}
@media (prefers-color-scheme:dark){:root{--paper:#12171c;--card:#181e25;--ink:#e3e8ec;--quiet:#9daab5;--line:#2d3741;
--accent:#57c3cb;--tint:#1c262d;--atoll-1:#4aa3df;--atoll-2:#e8ab35;--atoll-3:#2fb98d;--atoll-4:#e8743b;--atoll-5:#8fcdf2;
--atoll-6:#dc93bd;--atoll-7:#e6db55;--atoll-8:#a3a3a3}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Helvetica,Arial,
sans-serif;-webkit-text-size-adjust:100%}
main{max-width:58rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
header{display:flex;gap:1rem;align-items:center}
header svg{flex:none}
h1{font-size:1.7rem;line-height:1.2;margin:0;font-weight:650;overflow-wrap:anywhere;letter-spacing:-.01em}
h2{font-size:1.2rem;margin:3rem 0 .75rem;padding-top:1.5rem;border-top:1px solid var(--line);font-weight:650}
h3{font-size:1rem;margin:1.75rem 0 .5rem;font-weight:600;overflow-wrap:anywhere}
p{margin:.4rem 0}
.lead{font-size:1.1rem;margin:1.25rem 0 .5rem;max-width:44rem}
.quiet,caption{color:var(--quiet);font-size:.875rem}
.quiet{margin:0;overflow-wrap:anywhere}
.notes{margin:1rem 0;padding:.75rem 1rem .75rem 2rem;background:var(--tint);border-radius:.5rem}
.wide,.picture,pre{overflow-x:auto;border-radius:.5rem}
.wide:focus-visible,.picture:focus-visible,pre:focus-visible,summary:focus-visible{outline:2px solid var(--accent);
outline-offset:3px}
.picture{margin:.75rem 0 1rem}
.picture svg{display:block;min-width:30rem}
table{border-collapse:collapse;width:100%;font-size:.9375rem;font-variant-numeric:tabular-nums}
caption{text-align:left;caption-side:bottom;padding:.5rem 0}
th,td{text-align:left;padding:.45rem .9rem .45rem 0;border-bottom:1px solid var(--line);vertical-align:baseline}
th:last-child,td:last-child{padding-right:0}
thead th{font-size:.8125rem;color:var(--quiet);font-weight:600}
tbody th{font-weight:550}
.n{text-align:right;white-space:nowrap}
.side{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:0 2.5rem;align-items:start}
.side td{overflow-wrap:anywhere}
details{margin:.5rem 0}
summary{cursor:pointer;color:var(--accent);width:fit-content;border-radius:.25rem}
pre{background:var(--tint);padding:1rem;margin:.5rem 0;font:.875rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
@media (max-width:40rem){main{padding:1.5rem 1rem 3rem}h1{font-size:1.35rem}.lead{font-size:1rem}
.wide table{font-size:.875rem}.wide td,.wide th{padding-right:.7rem}}
@media print{.wide,.picture,pre{overflow:visible}pre{white-space:pre-wrap}section{break-inside:avoid-page}}
"""
