"""Nodes with their rows, where they run, and the rules that hold there: what a run is held over.

The rows are here, as shards, or where they belong (`Remote`).
"""

from __future__ import annotations

import html
import os
import secrets
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from atoll.datasets import Stream
from atoll.engines import Engine, Remote, Reporting, find, live
from atoll.engines.base import Handover
from atoll.errors import InvalidData, NotAvailable, explain
from atoll.messages import DEFAULT_RULE, Rule
from atoll.progress import reporter
from atoll.rng import as_seed
from atoll.rounds import Rounds
from atoll.run import Run
from atoll.shards import Shard, stacked
from atoll.specs import Spec, check_settings, read
from atoll.topology import plans

__all__ = ["Nodes", "counted", "numbered", "weighed"]


class Nodes:
    """Shards, or nodes that keep their rows, the name of an engine, and the rules that hold there.

    It is a value: it can be pickled, and holds no live handle. Nodes start at first use; when it is collected they are
    given back. `atoll.Federation` is what users make of it.

    Parameters
    ----------
    rows : sequence of Shard, or Remote
        One shard per node, names distinct; nodes are numbered by sorted name. Or the data set at nodes that keep their
        rows: they are asked at once how many there are.
    engine : str, default="inprocess"
        Where nodes run: ``inprocess``, ``processes``, or what a plug-in brings.
    n_workers : int, optional
        Worker processes, where the engine has any.
    topology : str or Spec, default="star"
        Who sends what to whom: ``star``, ``tree``, ``tree(fan_out=3)``, ``ring``; for models that are trained in rounds
        also a graph, ``gossip('torus')`` or `atoll.topology.gossip`.
    rule : Rule, optional
        Deadline, quorum and lateness of every round; by default everyone is waited for.
    journal : path-like, optional
        Folder in which answered rounds are kept, so that a killed program that is run again continues where it was.
    run : str, optional
        Names runs in the journal, or at the coordinator of nodes that keep their rows: ``july``, then ``july.2`` for
        the next fit once that is done. None: ``"run"``, and a new name for every run where nodes keep their rows.
    random_state : int, RandomState, Generator or None
        Seed of everything drawn at random; None is 0.
    verbose : int or None
        0 is silent, 1 prints a line per round, None does so on a terminal.
    max_norm : float, optional
        Largest Euclidean norm that one node's contribution to a round of training may have; any by default.

    Attributes
    ----------
    names : tuple of str
        Node names, in order of their numbers.
    remote : Remote or None
        Where the rows are, if they are not here.
    streams : dict of str to Stream
        By node, where its rows keep coming; empty where they lie there.
    """

    def __init__(
        self,
        rows: Sequence[Shard] | Remote,
        *,
        engine: str = "inprocess",
        n_workers: int | None = None,
        topology: str | Spec = "star",
        rule: Rule | None = None,
        journal: str | os.PathLike[str] | None = None,
        run: str | None = None,
        random_state: int | np.random.RandomState | np.random.Generator | None = None,
        verbose: int | None = None,
        max_norm: float | None = None,
    ) -> None:
        self.remote = rows if isinstance(rows, Remote) else None
        self._shards = () if isinstance(rows, Remote) else tuple(sorted(rows, key=lambda s: s.name))
        self.names = tuple(s.name for s in self._shards)
        self.engine = engine
        self.n_workers = n_workers
        self.plan = topology if isinstance(topology, Spec) else read(plans, topology)
        self.rule = (rule or DEFAULT_RULE).validated()
        self.journal = None if journal is None else os.fspath(journal)
        self.run_name = run
        self.seed = as_seed(random_state)
        self.verbose = verbose
        self.max_norm = max_norm
        self.streams: dict[str, Stream] = {}
        self._attachment: _Attachment | None = None
        self._fits = 1
        self._last: Run | None = None
        find(self.engine)
        check_settings(plans, self.plan)
        if max_norm is not None and not max_norm > 0:
            raise InvalidData(explain("max_norm must be positive or None", got=max_norm))
        if self.remote is None:
            _check_shards(self._shards)
        else:
            self.live()
        plans[self.plan.name](self.n_nodes, **self.plan.settings)

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return len(self.names)

    def __len__(self) -> int:
        return self.n_nodes

    def live(self) -> tuple[Engine, str]:
        """A running engine and the key of these nodes there; started at first use."""
        attachment = self._attachment
        if attachment is None or not attachment.current(self.engine, self.n_workers):
            attachment = self._attach()
        return attachment.engine, attachment.key

    def _attach(self) -> _Attachment:
        """Hand the shards over; an engine that copies them may let go of each as it is copied."""
        if self.remote is not None:
            self._attachment = _Attachment(self, self.remote)
            self.remote = self._attachment.remote()
            self.names = self.remote.nodes
            return self._attachment
        shards, self._shards = Handover(self._shards), ()
        try:
            attachment = _Attachment(self, shards)
            self._shards = tuple(attachment.engine.held(attachment.key))
        finally:
            self._shards = self._shards or tuple(shards)
        self._attachment = attachment
        return attachment

    def rounds(
        self, estimator: str, trust: str = "federated", name: str | None = None, asks: Sequence[str] = ()
    ) -> Rounds:
        """Open a run.

        Parameters
        ----------
        estimator : str
            What is fitted, for the record.
        trust : {"federated", "distributed"}
            Who owns the rows.
        name : str, optional
            Of the run in the journal. By default it is the federation's `run` for the first fit, and once that is done
            ``july.2`` for the second: a script with several fits finds each again. Where nodes keep their rows `name`
            is added to the federation's, for their coordinator knows the runs of many.
        asks : sequence of str
            Operations that the run may come to ask; owners who keep their rows are told.

        Returns
        -------
        Rounds
        """
        own = self._fit() if name is None else self._run(name)
        run = Run(own, estimator, trust, self.names, self.engine, _written(self.plan), self.seed)
        if name is None:
            self._last = run
        engine, key = self.live() if self.remote else (None, "")
        if isinstance(engine, Reporting):
            engine.begin(key, run.name, estimator, asks)
        return Rounds(self, run, reporter(self.verbose))

    def _fit(self) -> str:
        """The name of the next fit; one that did not end is taken up again."""
        base, kept = self._base(), self.journal is not None or (self.remote is not None and self.run_name is not None)
        if kept and self._last is not None and self._last.ended:
            self._fits += 1
        return base if self._fits == 1 else f"{base}.{self._fits}"

    def _run(self, name: str) -> str:
        return name if self.remote is None else f"{self._base()}.{name}"

    def _base(self) -> str:
        if self.run_name is not None:
            return self.run_name
        return "run" if self.remote is None else f"run-{secrets.token_hex(4)}"

    def pooled(self) -> Shard:
        """All rows in the order of their global ids; for `Distributed`, where the rows are yours.

        Raises
        ------
        NotAvailable
            If the nodes keep their rows.
        """
        if self.remote is not None:
            raise NotAvailable(explain("these rows stay on their nodes", got=", ".join(self.names[:8])))
        ids = np.concatenate([s.ids for s in self._shards])
        X = stacked([s.X for s in self._shards])
        y = None if self._shards[0].y is None else np.concatenate([s.labels() for s in self._shards])
        columns = {c: np.concatenate([s.columns[c] for s in self._shards]) for c in self._shards[0].columns}
        names = self._shards[0].feature_names
        whole = Shard.of("(all rows)", X, y, ids=ids, feature_names=names, columns=columns)
        return whole.take(np.argsort(ids, kind="stable"))

    def __getstate__(self) -> dict[str, Any]:
        if self.streams:
            hint = "make the federation where it is used"
            raise InvalidData(explain("a federation of streams cannot be copied or pickled", hint=hint))
        return {**self.__dict__, "_attachment": None}

    def __repr__(self) -> str:
        sizes = self._sizes
        few, many = min(sizes), max(sizes)
        rows = f"{few} rows each" if few == many else f"{few} to {many} rows"
        where = f"engine={self.engine!r}, topology={_written(self.plan)!r}"
        what = f"data={self.remote.data!r}" if self.remote else f"{self._shards[0].n_features} features"
        where = f"url={self.remote.url!r}" if self.remote else where
        nodes = "1 node" if self.n_nodes == 1 else f"{self.n_nodes} nodes"
        return f"{type(self).__name__}({nodes}, {rows}, {what}, {where})"

    @property
    def _sizes(self) -> tuple[int, ...]:
        """Rows of each node."""
        return self.remote.rows if self.remote else tuple(s.n_rows for s in self._shards)

    def _repr_html_(self) -> str:
        sizes = list(zip(self.names, self._sizes, strict=True))
        shown = sizes if self.n_nodes <= _SHOWN else sizes[: _SHOWN - 1]
        rows = [
            f'<tr><th scope="row">{html.escape(name)}</th><td style="text-align:right">{n}</td></tr>'
            for name, n in shown
        ]
        rest = self.n_nodes - len(shown)
        rows += [f'<tr><th scope="row">and {rest} more</th><td></td></tr>'] if rest else []
        head = '<th scope="col">node</th><th scope="col">rows</th>'
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        return f"<p>{html.escape(repr(self))}</p>{table}"


_SHOWN = 20


def _check_shards(shards: Sequence[Shard]) -> None:
    if not shards:
        raise InvalidData(explain("a federation needs at least one node"))
    twice = sorted({a.name for a, b in pairwise(shards) if a.name == b.name})
    if twice:
        raise InvalidData(explain("two nodes have the same name", got=", ".join(map(repr, twice))))
    empty = [s.name for s in shards if not s.n_rows]
    if empty:
        raise InvalidData(explain("a node has no rows", where=f"node {empty[0]!r}", hint="leave it out"))


class _Attachment:
    """Shards at a live engine, or the way to nodes that keep theirs; given back when their owner is collected."""

    def __init__(self, nodes: Nodes, rows: list[Shard] | Remote) -> None:
        self._bare = live(nodes.engine, nodes.n_workers)
        self.engine: Engine = self._bare
        if nodes.journal is not None:
            from atoll.journal import Journal  # with the wire format, which nothing else in this process may need

            self.engine = Journal(self._bare, nodes.journal)
        self.key = self.engine.attach(rows)
        weakref.finalize(nodes, self._bare.detach, self.key)

    def remote(self) -> Remote:
        """Where the rows are, with data set, nodes and rows as they were found."""
        if not isinstance(self.engine, Reporting):
            raise InvalidData(explain("this engine takes rows, not the name of a data set", got=type(self.engine)))
        return self.engine.remote(self.key)

    def current(self, name: str, n_workers: int | None) -> bool:
        """Whether the engine is still the live one: it is not after it was closed, or after a fork."""
        return live(name, n_workers) is self._bare


def _written(spec: Spec) -> str:
    inside = ", ".join(f"{k}={v}" for k, v in spec.settings.items())
    return f"{spec.name}({inside})" if inside else spec.name


def weighed(name: str, X: Any, y: Any = None, sample_weight: Any = None, **settings: Any) -> Shard:
    """Rows with their targets and weights.

    Parameters
    ----------
    name, X, y, **settings
        As in `Shard.of`.
    sample_weight : array-like of shape (n,) or mapping of str to array-like, optional
        Weights of the rows; a mapping has weights for single steps of a pipeline too.

    Raises
    ------
    InvalidData
        If there is not one weight per row; names the node.
    """
    given = sample_weight if isinstance(sample_weight, Mapping) else {"sample_weight": sample_weight}
    columns = {which: np.asarray(w, dtype=np.float64) for which, w in given.items() if w is not None}
    shard = Shard.of(name, X, y, columns=columns, **settings)
    for weight in columns.values():
        if weight.shape != (shard.n_rows,):
            got, expected = f"shape {weight.shape}", f"({shard.n_rows},)"
            raise InvalidData(explain("one weight per row", got=got, expected=expected, where=f"node {name!r}"))
    return shard


def counted(shards: Sequence[Shard]) -> list[Shard]:
    """The same shards, their rows numbered through, nodes in order of their names."""
    ordered = sorted(shards, key=lambda s: s.name)
    starts = np.cumsum([0, *(s.n_rows for s in ordered)])
    return [replace(s, ids=np.arange(a, a + s.n_rows, dtype=np.int64)) for s, a in zip(ordered, starts, strict=False)]


def numbered(n: int) -> tuple[str, ...]:
    """Names for n nodes whose sorted order is the order of their numbers."""
    width = len(str(max(n - 1, 0)))
    return tuple(f"node-{i:0{width}d}" for i in range(n))
