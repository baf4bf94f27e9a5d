"""What a report is about: ways to train and to answer, as they were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from atoll import __version__
from atoll.evaluation import Evaluation
from atoll.partition import PartitionReport
from atoll.run import Run
from atoll.trees import Array

__all__ = ["Report", "Result"]


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
    by_node : Evaluation or None
        The answers to the held-out rows by node and by class, where there are nodes and a truth.
    """

    name: str
    score: float
    agreement: float | None
    seconds: float
    answers: Array
    run: Run | None = None
    rows: PartitionReport | None = None
    split: str = ""
    by_node: Evaluation | None = None

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
    def over_nodes(self) -> list[tuple[Result, Run]]:
        """The results that have nodes, each with its record."""
        return [(result, result.run) for result in self.results if result.run is not None]

    @property
    def versions(self) -> dict[str, str]:
        """Versions of what made the numbers."""
        return {"atoll": __version__} | {k: v for _, run in self.over_nodes for k, v in run.versions.items()}

    @property
    def judged(self) -> list[tuple[Result, Evaluation]]:
        """The results that were evaluated by node, each with what was found."""
        return [(result, result.by_node) for result in self.results if result.by_node is not None]

    def words(self) -> dict[str, str]:
        """By operation: what a node tells by it."""
        return {one.op: one.what for _, run in self.over_nodes for one in run.disclosures()}

    def verdict(self) -> str:
        """How far the answers are those of the pooled model, in one sentence."""
        same = {result.name: round((result.agreement or 0.0) * self.n_test) for result, _ in self.over_nodes}
        if same and set(same.values()) == {self.n_test}:
            verb = "give" if len(same) > 1 else "gives"
            return f"{' and '.join(same).capitalize()} {verb} the pooled model's answer to every one of them."
        return "; ".join(f"{name} gives the pooled model's answer to {n} of them" for name, n in same.items()) + "."
