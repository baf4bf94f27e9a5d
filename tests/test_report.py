"""The report page: well-formed, self-contained, escaped, and its numbers are those of the results."""

from __future__ import annotations

import re
import stat
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.errors import InvalidData
from atoll.evaluation import evaluate_answers
from atoll.markup import Cell, breakable, cells, table, text
from atoll.partition import PartitionReport
from atoll.report import Report, Result, html, html_of_run, write_report, write_run
from atoll.run import Row, Run

VOID = {"meta", "wbr", "br"}
SVG_LEAVES = {"rect", "path", "circle"}


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects what a test asks for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        assert tag in SVG_LEAVES

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "svg"} & set(self.open):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.seen if name == tag]

    @property
    def shown(self) -> str:
        return " ".join(" ".join(self.words).split())


def run_of(nodes: tuple[str, ...], sizes: list[int], what: str = "how many rows it has") -> Run:
    run = Run("run", "NearestCentroid", "federated", nodes, "inprocess", "star", 0)
    for number in range(2):
        row = Row(number, 0, "statistics.weight", len(nodes), len(nodes), 8, sum(sizes), 0.25, {}, {})
        run.add(row, dict(zip(nodes, sizes, strict=True)), what)
    return run


def report_of(
    nodes: tuple[str, ...] = ("oslo", "rome"),
    classes: tuple[str, ...] = ("cat", "dog"),
    answers: str = "cdcd",
    **settings: Any,
) -> Report:
    truth = np.array(list("ccdd"))
    rows = PartitionReport.from_counts(nodes, classes, np.arange(2 * len(nodes)).reshape(len(nodes), 2))
    named = dict(zip("cdx", (*classes, "x"), strict=True))
    judged = evaluate_answers([named[v] for v in truth], [named[v] for v in answers], [*nodes[:1] * 3, nodes[-1]])
    over = Result(
        "federated", 0.5, 0.75, 1.5, np.array(list(answers)), run_of(nodes, [100, 900][: len(nodes)]), rows, "label",
        judged,
    )  # fmt: skip
    pooled = Result("pooled", 0.75, None, 0.125, np.array(list("ccdc")))
    names = dict(zip("cd", classes, strict=True))
    given: dict[str, Any] = {
        "title": "a comparison", "measure": "accuracy", "settings": {"seed": "1"}, "command": "atoll demo",
        "script": "print(1 < 2)", "source": "a table", "notes": ["mind the gap"], "truth": truth, "classes": names,
    }  # fmt: skip
    return Report(results=[pooled, over], n_train=8, n_test=4, **{**given, **settings})


def test_the_numbers_are_there() -> None:
    page = Page(html(report_of()))
    for words in (
        "Trained on 8 rows, asked about 4 others. federated gives the pooled model's answer to 3 of them.",
        "accuracy 0.7500 0.5000",
        "agreement with pooled – 75 %",
        "rounds – 2",
        "bytes moved – 2.02\N{NO-BREAK SPACE}kB".replace("\N{NO-BREAK SPACE}", " "),
        "seconds 0.125 1.500",
        "left each node all its rows weight",
        "statistics.weight how many rows it has 2 200 B to 1.80 kB 2.00 kB",
        "atoll demo", "print(1 < 2)", "mind the gap", "Rows: a table",
    ):  # fmt: skip
        assert words in page.shown, words


def test_every_picture_stands_beside_its_numbers() -> None:
    page = Page(html(report_of()))
    assert "oslo 1 0 1" in page.shown
    assert "rome 5 2 3" in page.shown
    assert "cat 2 0 dog 1 1" in page.shown  # pooled: true class down, answer across
    assert "cat 1 1 dog 1 1" in page.shown
    assert len(page.all("svg")) == 6  # the ring, rows per label, recall by node, two confusion matrices, bytes per node


def test_the_worst_node_and_every_class_are_there() -> None:
    page = Page(html(report_of()))
    for words in (
        "By node and by class", "accuracy 0.5000 0.3333 (oslo)", "f1_macro 0.5000 0.2500 (oslo)",
        "rome 1 1.0000 1.0000 1.0000", "cat 2 0.5000 0.5000 0.5000", "rome has no rows of cat",
        "Metrics over all held-out rows, and on the node where each is lowest (federated, 2 nodes, label).",
    ):  # fmt: skip
        assert words in page.shown, words


def test_how_uneven_the_rows_are_is_there() -> None:
    page = Page(html(report_of()))
    assert "variation divergence effective classes" in page.shown
    assert "rome 5 2 3 0.07 0.00 1.96" in page.shown
    assert "Gini coefficient of 0.33" in page.shown


def test_without_a_truth_nothing_is_judged() -> None:
    pooled, over = report_of().results
    page = Page(html(report_of()._replace(results=[pooled, over._replace(by_node=None)])))
    assert "By node and by class" not in page.shown


def test_results_with_the_same_answers_share_a_matrix() -> None:
    page = Page(html(report_of(answers="ccdc")))
    assert "pooled and federated alike" in page.shown


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_an_answer_that_is_no_class_of_the_table_is_shown() -> None:
    assert "x 0 0 0" in Page(html(report_of(answers="xccc"))).shown


def test_a_perfect_agreement_is_said_as_such() -> None:
    whole = report_of()
    pooled, over = whole.results
    same = whole._replace(
        results=[pooled, over._replace(agreement=1.0), over._replace(name="distributed", agreement=1.0)]
    )
    assert same.verdict() == "Federated and distributed give the pooled model's answer to every one of them."
    assert whole._replace(results=[pooled, over._replace(agreement=1.0)]).verdict().startswith("Federated gives")


def test_without_classes_there_is_no_matrix() -> None:
    page = Page(html(report_of(truth=None, classes={"c": "cat", "d": "dog"})))
    assert "Right and wrong" not in page.shown


def test_many_nodes_and_classes_are_shortened() -> None:
    nodes = tuple(f"n{i:03d}" for i in range(150))
    run = run_of(nodes, [10 * (i + 1) for i in range(150)])
    counts = np.ones((150, 200), dtype=int)
    rows = PartitionReport.from_counts(nodes, range(200), counts)
    over = Result("federated", 0.5, 0.75, 1.5, np.arange(60), run, rows, "label")
    truth = np.arange(60)
    many = Report("many", "accuracy", [over], 8, 60, {}, "", "", truth=truth, classes={i: str(i) for i in range(60)})
    page = Page(html(many))
    assert "The first 100 of 150 lines." in page.shown
    assert "185 others" in page.shown
    assert "Right and wrong" not in page.shown
    assert "Do it again" not in page.shown


def test_the_page_needs_nothing_else_and_no_script() -> None:
    source = html(report_of())
    page = Page(source)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & {tag for tag, _ in page.seen}
    assert "url(" not in re.sub(r"url\(#atoll-[0-9a-f]+-\d+\)", "", source)
    assert not [v for _, attrs in page.seen for k, v in attrs.items() if k in ("src", "href") or k.startswith("on")]
    assert "@import" not in source
    policies = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert "prefers-color-scheme:dark" in source


def test_it_can_be_read_by_keyboard_and_screen_reader() -> None:
    page = Page(html(report_of()))
    assert page.all("html") == [{"lang": "en"}]
    tables, captions = len(page.all("table")), len(page.all("caption"))
    assert tables == captions >= 6
    assert {attrs.get("scope") for attrs in page.all("th")} == {"col", "row"}
    regions = [attrs for _, attrs in page.seen if attrs.get("role") == "region"]
    assert all(attrs.get("tabindex") == "0" and attrs.get("aria-label") for attrs in regions)
    pictures = [attrs for attrs in page.all("svg") if attrs.get("aria-hidden") != "true"]
    assert all(attrs.get("role") == "img" and attrs.get("aria-labelledby") for attrs in pictures)
    levels = [int(tag[1]) for tag, _ in page.seen if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    ids = [attrs["id"] for _, attrs in page.seen if "id" in attrs]
    assert len(ids) == len(set(ids))


HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x00\u202e]]>--!>"


def test_nothing_of_a_user_becomes_markup() -> None:
    hostile = report_of(
        (HOSTILE, "rome"), (HOSTILE + "c", "dog"), title=HOSTILE, measure=HOSTILE, settings={HOSTILE: HOSTILE},
        command=HOSTILE, script=HOSTILE, source=HOSTILE, notes=[HOSTILE],
    )  # fmt: skip
    run = run_of((HOSTILE, "rome"), [100, 900], what=HOSTILE)
    hostile = hostile._replace(
        results=[*hostile.results, hostile.results[1]._replace(run=run, split=HOSTILE, name=HOSTILE)]
    )
    source = html(hostile)
    page = Page(source)
    assert not page.all("script")
    assert not page.all("img")
    assert not [k for _, attrs in page.seen for k in attrs if k.startswith("on")]
    assert "\x00" not in source
    assert "\u202e" not in source
    assert "<script>alert(1)</script>" in page.shown  # said, not done
    tags = {tag for tag, _ in page.seen}
    assert tags == {tag for tag, _ in Page(html(report_of())).seen} | {"wbr"}


@given(st.text())
def test_any_text_stays_text(words: str) -> None:
    found = Page(f"<p>{text(words)}</p>")
    assert found.all("p") == [{}]
    assert len(found.seen) == 1
    shown = "".join("\N{REPLACEMENT CHARACTER}" if not (c.isprintable() or c in "\n\t\xa0") else c for c in words)
    assert "".join(found.words) == shown


@given(st.text())
def test_places_to_break_a_line_change_no_letter(words: str) -> None:
    assert breakable(words).replace("<wbr>", "") == text(words)


def test_a_table_says_what_it_leaves_out() -> None:
    short = table("numbers", cells(["a", "b"]), [cells([i, i]) for i in range(100)])
    long = table("numbers", cells(["a", "b"]), [[Cell(i, "below"), Cell(i)] for i in range(101)])
    assert short.count("<tr>") == long.count("<tr>") == 101
    assert "The first" not in short
    assert "numbers The first 100 of 101 lines." in long


def trained_run(n: int = 3, **more: float) -> Run:
    """A record with so many rounds of training."""
    run = run_of(("oslo", "rome"), [100, 900])
    for step in range(n):
        told = {"loss": 1 / (step + 1), "validation_loss": 2 / (step + 1), "validation_accuracy": 0.5, **more}
        run.add(Row(step + 2, step, "train.local", 2, 2, 5000, 2500, 0.5, {}, {}, told), {"oslo": 2500}, "the change")
    return run


def test_a_training_is_curves_and_a_folded_table() -> None:
    report = report_of()
    pooled, over = report.results
    plain = Page(html(report))
    page = Page(html(report._replace(results=[pooled, over._replace(run=trained_run())])))
    assert "Training" not in plain.shown
    titles = page.all("svg")
    assert len(titles) == len(plain.all("svg")) + 4  # losses against rounds, MB and seconds; accuracy against rounds
    for words in (
        "Training federated, 2 nodes, label", "Against bytes and time", "3 rounds of training",
        "round answered loss validation loss validation accuracy to nodes from nodes seconds",
        "2 2 of 2 0.5000 1.0000 0.5000 5.00 kB 2.50 kB 0.5000",
    ):  # fmt: skip
        assert words in page.shown.replace("\N{NO-BREAK SPACE}", " "), words


def test_of_very_many_rounds_the_first_and_the_last_are_shown() -> None:
    page = Page(html_of_run(trained_run(500)))
    assert "500 2 of 2 0.0020" in page.shown
    assert "250 2 of 2" not in page.shown.partition("What left each node")[0]
    assert "500 rounds of training" in page.shown


def test_virtual_seconds_have_a_curve() -> None:
    run, timed = trained_run(), trained_run(virtual_seconds=1.0)
    for i, row in enumerate(timed.training):
        row.metrics["virtual_seconds"] = float(i)
    assert len(Page(html_of_run(timed)).all("svg")) == len(Page(html_of_run(run)).all("svg")) + 1


def test_the_page_of_a_run(tmp_path: Path) -> None:
    run = trained_run()
    run.notes.append("the gap is <wide>")
    judged = evaluate_answers(list("ccdd"), list("cdcd"), ["oslo", "oslo", "oslo", "rome"])
    file = write_run(tmp_path / "run.html", run, title="A <training>", evaluation=judged)
    page = Page(file.read_text("utf-8"))
    for words in (
        "A <training>", "5 rounds over 2 nodes", "the gap is <wide>", "accuracy 0.5000 0.3333 (oslo)",
        "train.local the change 3 7.50 kB 7.50 kB", "engine inprocess", "atoll",
    ):  # fmt: skip
        assert words in page.shown.replace("\N{NO-BREAK SPACE}", " "), words
    assert not page.all("script")
    bare = Page(html_of_run(run_of(("oslo",), [1])))
    assert "Training" not in bare.shown
    assert "NearestCentroid, federated" in bare.shown


def test_writing(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("before")
    assert write_report(path, report_of()) == path
    assert path.read_text("utf-8").startswith("<!doctype html>")
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none" / "page.html", tmp_path / "folder"):
        with pytest.raises(InvalidData, match="the report cannot be written"):
            write_report(path, report_of())
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
