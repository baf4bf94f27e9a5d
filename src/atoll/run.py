"""The record of a run: rounds, nodes, bytes, seconds, what left each node."""

from __future__ import annotations

import html
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, SupportsIndex, overload

from atoll.errors import MissingExtra, explain

if TYPE_CHECKING:
    import pandas

__all__ = ["Disclosure", "History", "Row", "Run", "human_bytes"]


class Row(NamedTuple):
    """One exchange, as the record keeps it.

    Attributes
    ----------
    number : int
        Counts the exchanges of the run from 0.
    step : int
        Position in a training schedule.
    op : str
        The operation.
    asked, answered : int
        Nodes asked, and nodes whose answer is in the sum.
    bytes_down, bytes_up : int
        Bytes of arrays sent to nodes, and from nodes, in all.
    seconds : float
        From asking to the finished sum.
    refused : dict of str to str
        Node name to reason.
    links : dict of str to int
        `"src>dst"` to bytes, by position; -1 is the hub.
    metrics : dict of str to float
        What the round came to: the training loss, and what was measured after it.
    """

    number: int
    step: int
    op: str
    asked: int
    answered: int
    bytes_down: int
    bytes_up: int
    seconds: float
    refused: dict[str, str]
    links: dict[str, int]
    metrics: dict[str, float] = {}

    @property
    def round(self) -> int:
        """Rounds of training that are done with it, 1 for the first; 0 where it is no round of training."""
        return self.step + 1 + int(self.metrics.get("staleness", 0)) if "loss" in self.metrics else 0


class Disclosure(NamedTuple):
    """What left one node through one operation.

    Attributes
    ----------
    node : str
        The node's name.
    op : str
        The operation.
    times : int
        How often.
    bytes : int
        In all.
    what : str
        In plain words.
    """

    node: str
    op: str
    times: int
    bytes: int
    what: str


class History(tuple[Row, ...]):
    """The rows of a record; slices are histories too."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Row | History:
        """One row, or a slice of rows."""
        rows = tuple(self)
        return History(rows[index]) if isinstance(index, slice) else rows[index]

    def to_frame(self) -> pandas.DataFrame:
        """The rows as a pandas data frame, indexed by number, with a column per metric.

        Links are left out: they are a table of their own.

        Raises
        ------
        MissingExtra
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtra(explain("to_frame() needs pandas", hint="pip install 'atoll[frames]'")) from None
        frame = pd.DataFrame([row._asdict() for row in self], columns=list(Row._fields)).set_index("number")
        metrics = pd.DataFrame([row.metrics for row in self], index=frame.index)
        return frame.drop(columns=["links", "metrics"]).join(metrics)


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    """Versions of Python and of the libraries that make numbers, with the BLAS kernel in use."""
    import numpy
    import scipy
    import sklearn
    from threadpoolctl import threadpool_info

    blas = sorted({f"{i['internal_api']} {i['version']} {i.get('architecture', '')}".strip()
                   for i in threadpool_info() if i["user_api"] == "blas"})  # fmt: skip
    return {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
        "blas": ", ".join(blas),
        "machine": platform.machine(),
    }


@dataclass
class Run:
    """A live, append-only record; what `predict` asks of nodes is added to it.

    Attributes
    ----------
    name : str
        Names the run in a journal.
    estimator : str
        What was fitted.
    trust : {"distributed", "federated"}
        Who owns the rows.
    nodes : tuple of str
        Node names, in order of their numbers.
    engine : str
        Where nodes ran.
    topology : str
        Who sent what to whom.
    seed : int
        Seed of the run.
    versions : dict of str to str
        Of Python and the libraries that make numbers.
    rows : list of Row
        One per exchange.
    notes : list of str
        What a person should know: a worker that died, a way that was chosen.
    ended : bool
        Whether what the run is for is done; a model may still ask nodes when it predicts.
    """

    name: str
    estimator: str
    trust: str
    nodes: tuple[str, ...]
    engine: str
    topology: str
    seed: int
    versions: dict[str, str] = field(default_factory=lambda: dict(_versions()))
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ended: bool = False
    _left: dict[tuple[str, str], list[int]] = field(default_factory=dict, repr=False)
    _words: dict[str, str] = field(default_factory=dict, repr=False)

    def add(self, row: Row, left: dict[str, int], what: str) -> None:
        """Append an exchange.

        Parameters
        ----------
        row : Row
            The exchange.
        left : dict of str to int
            Node name to the bytes that left it.
        what : str
            What the operation discloses, in words.
        """
        self.rows.append(row)
        self._words[row.op] = what
        for node, size in left.items():
            entry = self._left.setdefault((node, row.op), [0, 0])
            entry[0] += 1
            entry[1] += size

    def measure(self, done: int, **metrics: float) -> None:
        """Add what was found after a round of training to the row of that round.

        Parameters
        ----------
        done : int
            Rounds of training done, 1 for the first. Where no row is of that round (nobody could be asked), nothing is
            added.
        **metrics : float
            Such as ``validation_loss``.
        """
        row = next((row for row in reversed(self.rows) if row.round == done), None)
        if row is not None:
            row.metrics.update(metrics)

    def learnt(self, op: str, losses: Sequence[float]) -> None:
        """Add the losses of rounds of training that are known only later, where no server sees them.

        Parameters
        ----------
        op : str
            The operation of these rounds.
        losses : sequence of float
            Of every round so far.
        """
        for row in reversed(self.rows):
            if row.op == op:
                if row.round:
                    break
                row.metrics["loss"] = losses[row.step]

    @property
    def training(self) -> History:
        """The rows so far that are rounds of training."""
        return History(row for row in self.rows if row.round)

    @property
    def history(self) -> History:
        """The rows so far."""
        return History(self.rows)

    @property
    def rounds(self) -> int:
        """Exchanges so far."""
        return len(self.rows)

    @property
    def bytes_up(self) -> int:
        """Bytes of arrays that left nodes so far."""
        return sum(row.bytes_up for row in self.rows)

    @property
    def bytes_down(self) -> int:
        """Bytes of arrays that were sent to nodes so far."""
        return sum(row.bytes_down for row in self.rows)

    @property
    def seconds(self) -> float:
        """Time spent in exchanges so far."""
        return sum(row.seconds for row in self.rows)

    def disclosures(self) -> list[Disclosure]:
        """What left each node, by node and operation."""
        order = {name: i for i, name in enumerate(self.nodes)}
        found = [Disclosure(n, op, t, size, self._words[op]) for (n, op), (t, size) in self._left.items()]
        return sorted(found, key=lambda d: (order.get(d.node, -1), d.op))

    def in_words(self) -> list[str]:
        """What left the nodes, one sentence per operation."""
        sizes: dict[str, int] = {}
        for (_, op), (_, size) in self._left.items():
            sizes[op] = sizes.get(op, 0) + size
        return [f"{op}: a node tells {self._words[op]} ({human_bytes(size)})" for op, size in sizes.items()]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def _summary(self) -> str:
        up, down = human_bytes(self.bytes_up), human_bytes(self.bytes_down)
        where = f"{_counted(len(self.nodes), 'node')} ({self.engine}, {self.topology})"
        return (
            f"{self.estimator}, {self.trust} over {where}: "
            f"{_counted(self.rounds, 'round')}, {up} up, {down} down, {self.seconds:.3f} s"
        )

    def _trained(self) -> str:
        """How rounds of training went: every metric, at first and at last."""
        rows = self.training
        names = dict.fromkeys(name for row in rows for name in row.metrics)
        seen = {name: [row.metrics[name] for row in rows if name in row.metrics] for name in names}
        spans = [f"{name} {v[0]:.4g}" + (f" to {v[-1]:.4g}" if len(v) > 1 else "") for name, v in seen.items()]
        return f"training, {_counted(max(row.round for row in rows), 'round')}: {', '.join(spans)}" if rows else ""

    def __str__(self) -> str:
        lines = [line for line in (self._summary(), self._trained()) if line]
        lines += ["what left the nodes:", *(f"  {line}" for line in self.in_words())] if self._left else []
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(n)}</p>" for n in (self._trained(), *self.notes) if n)
        return f"<p>{html.escape(self._summary())}</p>{notes}{self._left_table()}"

    def _left_table(self) -> str:
        """What left the nodes: a row per operation, since nodes may be many."""
        cells = []
        for op, what in self._words.items():
            sizes = [size for (_, o), (_, size) in self._left.items() if o == op]
            times = max((t for (_, o), (t, _) in self._left.items() if o == op), default=0)
            low, high = human_bytes(min(sizes, default=0)), human_bytes(max(sizes, default=0))
            numbers = (len(sizes), times, low if low == high else f"{low} – {high}")
            shown = "".join(f'<td style="text-align:right;white-space:nowrap">{n}</td>' for n in numbers)
            cells.append(f'<tr><th scope="row">{html.escape(op)}</th>{shown}<td>{html.escape(what)}</td></tr>')
        heads = ("operation", "nodes", "times", "bytes per node", "what a node told")
        head = "".join(f'<th scope="col">{h}</th>' for h in heads)
        return (
            f"<table><caption>what left the nodes</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(cells)}</tbody></table>"
        )


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def human_bytes(size: float) -> str:
    """A size as a person reads it.

    Examples
    --------
    >>> from atoll.run import human_bytes
    >>> human_bytes(5), human_bytes(123_456), human_bytes(5.5e9)
    ('5 B', '123 kB', '5.50 GB')
    """
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 1000 or unit == "TB":
            break
    return f"{size:.3g} {unit}" if size >= 100 else f"{size:.2f} {unit}" if size < 10 else f"{size:.1f} {unit}"
