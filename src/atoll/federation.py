"""A federation: nodes with their rows, where they run, and the rules that hold there."""

from __future__ import annotations

import html
import os
import weakref
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp

from atoll.combine import Each
from atoll.engines import Engine, find, live
from atoll.errors import InvalidData, NotAvailable, explain
from atoll.messages import DEFAULT_RULE, Rule
from atoll.partition import PartitionReport, by_column, split
from atoll.progress import reporter
from atoll.rng import as_seed
from atoll.rounds import Rounds
from atoll.run import Run
from atoll.shards import Shard, as_target, is_sparse
from atoll.specs import Spec, check_settings, read
from atoll.topology import plans
from atoll.trees import Array
from atoll.views import codes

__all__ = ["Federation"]


class Federation:
    """Nodes with their rows, the name of an engine, and the rules that hold there.

    A federation is a value: it can be pickled, and holds no live handle. Its nodes start at first use; when it is
    collected they are given back. Make one with `simulate` or `from_shards`.

    Parameters
    ----------
    shards : sequence of Shard
        One per node, names distinct. Nodes are numbered by sorted name.
    engine : str, default="inprocess"
        Where nodes run: ``inprocess``, ``processes``, or what a plug-in brings.
    n_workers : int, optional
        Worker processes, where the engine has any.
    topology : str or Spec, default="star"
        Who sends what to whom: ``star``, ``tree``, or ``tree(fan_out=3)``.
    rule : Rule, optional
        Deadline, quorum and lateness of every round; by default everyone is waited for.
    journal : path-like, optional
        Folder in which answered rounds are kept, so that a killed program that is run again continues where it was.
    run : str, default="run"
        Names runs in the journal; a second fit under the same journal needs another name.
    random_state : int, RandomState, Generator or None
        Seed of everything drawn at random; None is 0.
    verbose : int or None
        0 is silent, 1 prints a line per round, None does so on a terminal.

    Attributes
    ----------
    names : tuple of str
        Node names, in order of their numbers.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        engine: str = "inprocess",
        n_workers: int | None = None,
        topology: str | Spec = "star",
        rule: Rule | None = None,
        journal: str | os.PathLike[str] | None = None,
        run: str = "run",
        random_state: int | np.random.RandomState | np.random.Generator | None = None,
        verbose: int | None = None,
    ) -> None:
        self._shards = tuple(sorted(shards, key=lambda s: s.name))
        self.names = tuple(s.name for s in self._shards)
        self.engine = engine
        self.n_workers = n_workers
        self.plan = topology if isinstance(topology, Spec) else read(plans, topology)
        self.rule = (rule or DEFAULT_RULE).validated()
        self.journal = None if journal is None else os.fspath(journal)
        self.run_name = run
        self.seed = as_seed(random_state)
        self.verbose = verbose
        self._check()
        self._attachment: _Attachment | None = None

    def _check(self) -> None:
        if not self._shards:
            raise InvalidData(explain("a federation needs at least one node"))
        twice = sorted({a for a, b in pairwise(self.names) if a == b})
        if twice:
            raise InvalidData(explain("two nodes have the same name", got=", ".join(map(repr, twice))))
        empty = [s.name for s in self._shards if not s.n_rows]
        if empty:
            raise InvalidData(explain("a node has no rows", where=f"node {empty[0]!r}", hint="leave it out"))
        find(self.engine)
        check_settings(plans, self.plan)
        plans[self.plan.name](self.n_nodes, **self.plan.settings)

    @classmethod
    def simulate(
        cls,
        X: Any,
        y: Any = None,
        *,
        n_nodes: int = 4,
        partition: str | Array = "iid",
        min_rows: int = 1,
        feature_names: Sequence[str] | None = None,
        sample_weight: Any = None,
        random_state: int | np.random.RandomState | np.random.Generator | None = None,
        **settings: Any,
    ) -> Federation:
        """Split rows that you hold over pretended sites, to study how a federation would do.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, d)
            Rows; data frames keep their column names.
        y : array-like of shape (n,) or (n, n_outputs), optional
            Targets.
        n_nodes : int, default=4
            Number of nodes; not looked at when `partition` is a column.
        partition : str or array of shape (n,), default="iid"
            A partition by name, such as ``"label"``, ``"dirichlet(alpha=0.3)"`` or ``"classes=2"`` (see
            `atoll.partition`), or the node of each row.
        min_rows : int, default=1
            Rows that every node has at least.
        feature_names : sequence of str, optional
            Names of the columns; those of a data frame by default.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows, for estimators whose `fit` takes them.
        random_state : int, RandomState, Generator or None
            Seed of the split and of every run; None is 0.
        **settings
            As for `Federation`: `engine`, `n_workers`, `topology`, `rule`, `journal`, `run`, `verbose`.

        Returns
        -------
        Federation
            Global row ids are the row numbers of X, so ties fall as on the pooled rows.

        Raises
        ------
        InvalidData
            If there are more nodes than rows, or the rows cannot be used.
        UnknownName
            If there is no such partition, topology or engine.
        """
        seed = as_seed(random_state)
        columns = {} if sample_weight is None else {"sample_weight": np.asarray(sample_weight, dtype=np.float64)}
        whole = Shard.of("(all rows)", X, y, feature_names=feature_names, columns=columns)
        if isinstance(partition, str):
            labels = whole.n_rows if whole.y is None else whole.y
            parts = split(labels, n_nodes, partition, random_state=seed, min_rows=min_rows)
            names: Sequence[str] = _numbered(len(parts))
        else:
            ids = as_target(partition, where="the column of node ids")
            if ids.shape != (whole.n_rows,):
                got, expected = f"shape {ids.shape}", f"({whole.n_rows},)"
                raise InvalidData(explain("a column of node ids has one entry per row", got=got, expected=expected))
            names, parts = by_column(ids)
        shards = [whole.take(part, name) for name, part in zip(names, parts, strict=True)]
        return cls(shards, random_state=seed, **settings)

    @classmethod
    def from_shards(
        cls, shards: Sequence[tuple[Any, Any] | Any], names: Sequence[str] | None = None, **settings: Any
    ) -> Federation:
        """Make a federation from rows that lie at their nodes already.

        Parameters
        ----------
        shards : sequence of (X, y) or of X
            Rows per node. A tuple is taken as ``(X, y)``.
        names : sequence of str, optional
            Node names, ``node-0`` … by default.
        **settings
            As for `Federation`.

        Returns
        -------
        Federation
            Global row ids count the rows of all nodes, nodes in order of their names.

        Raises
        ------
        InvalidData
            If names and shards differ in number, or the rows of a node cannot be used; names the node.
        """
        own = list(_numbered(len(shards)) if names is None else names)
        if len(own) != len(shards):
            raise InvalidData(explain("one name per node", got=f"{len(own)} names", expected=f"{len(shards)}"))
        pairs = [s if isinstance(s, tuple) else (s, None) for s in shards]
        made, first = [], 0
        for name, (X, y) in sorted(zip(own, pairs, strict=True), key=lambda item: str(item[0])):
            shard = Shard.of(str(name), X, y)
            made.append(replace(shard, ids=np.arange(first, first + shard.n_rows, dtype=np.int64)))
            first += shard.n_rows
        return cls(made, **settings)

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return len(self._shards)

    def __len__(self) -> int:
        return self.n_nodes

    def live(self) -> tuple[Engine, str]:
        """A running engine and the key of these nodes there; started at first use."""
        attachment = self._attachment
        if attachment is None or not attachment.current(self.engine, self.n_workers):
            attachment = self._attachment = _Attachment(self)
            self._shards = tuple(attachment.engine.held(attachment.key))
        return attachment.engine, attachment.key

    def rounds(self, estimator: str, trust: str = "federated", name: str | None = None) -> Rounds:
        """Open a run.

        Parameters
        ----------
        estimator : str
            What is fitted, for the record.
        trust : {"federated", "distributed"}
            Who owns the rows.
        name : str, optional
            Of the run in the journal; the federation's `run` by default.

        Returns
        -------
        Rounds
        """
        run = Run(name or self.run_name, estimator, trust, self.names, self.engine, _written(self.plan), self.seed)
        return Rounds(self, run, reporter(self.verbose))

    def pooled(self) -> Shard:
        """All rows in the order of their global ids; for `Distributed`, where the rows are yours."""
        ids = np.concatenate([s.ids for s in self._shards])
        stack: Any = sp.vstack if is_sparse(self._shards[0].X) else np.concatenate
        X = stack([s.X for s in self._shards])
        y = None if self._shards[0].y is None else np.concatenate([s.labels() for s in self._shards])
        columns = {c: np.concatenate([s.columns[c] for s in self._shards]) for c in self._shards[0].columns}
        names = self._shards[0].feature_names
        whole = Shard.of("(all rows)", X, y, ids=ids, feature_names=names, columns=columns)
        return whole.take(np.argsort(ids, kind="stable"))

    def report(self) -> PartitionReport:
        """Who has how many rows of which class: labels per node, total variation, effective classes, Gini of sizes.

        Nodes tell how many rows of each class they have, nothing else.

        Raises
        ------
        NotAvailable
            If the rows have no labels to count.
        """
        if self._shards[0].y is None:
            raise NotAvailable(explain("these rows have no labels to count", hint="give y to simulate or from_shards"))
        rounds = self.rounds("report", name="report")
        schema = rounds.meet(classes=True)
        n = schema.n_classes
        counted = rounds.through(codes(schema.classes)).round(
            "describe.labels", combine=Each(), settings={"n_classes": n}
        )
        names = [name for name in schema.nodes if name not in rounds.run.rows[-1].refused]
        counts = counted["count.0"].reshape(len(names), n[0])
        return PartitionReport.from_counts(names, schema.classes[0].tolist(), counts)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_attachment": None}

    def __repr__(self) -> str:
        sizes = [s.n_rows for s in self._shards]
        few, many = min(sizes), max(sizes)
        rows = f"{few} rows each" if few == many else f"{few} to {many} rows"
        where = f"engine={self.engine!r}, topology={_written(self.plan)!r}"
        nodes = "1 node" if self.n_nodes == 1 else f"{self.n_nodes} nodes"
        return f"Federation({nodes}, {rows}, {self._shards[0].n_features} features, {where})"

    def _repr_html_(self) -> str:
        shown = self._shards if self.n_nodes <= _SHOWN else self._shards[: _SHOWN - 1]
        rows = [
            f'<tr><th scope="row">{html.escape(s.name)}</th><td style="text-align:right">{s.n_rows}</td></tr>'
            for s in shown
        ]
        rest = self.n_nodes - len(shown)
        rows += [f'<tr><th scope="row">and {rest} more</th><td></td></tr>'] if rest else []
        head = '<th scope="col">node</th><th scope="col">rows</th>'
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        return f"<p>{html.escape(repr(self))}</p>{table}"


_SHOWN = 20


class _Attachment:
    """A federation's shards at a live engine; given back when the federation is collected."""

    def __init__(self, federation: Federation) -> None:
        self._bare = live(federation.engine, federation.n_workers)
        self.engine: Engine = self._bare
        if federation.journal is not None:
            from atoll.journal import Journal  # with the wire format, which nothing else in this process may need

            self.engine = Journal(self._bare, federation.journal)
        self.key = self.engine.attach(federation._shards)
        weakref.finalize(federation, self._bare.detach, self.key)

    def current(self, name: str, n_workers: int | None) -> bool:
        """Whether the engine is still the live one: it is not after it was closed, or after a fork."""
        return live(name, n_workers) is self._bare


def _numbered(n: int) -> tuple[str, ...]:
    """Names for n nodes whose sorted order is the order of their numbers."""
    width = len(str(max(n - 1, 0)))
    return tuple(f"node-{i:0{width}d}" for i in range(n))


def _written(spec: Spec) -> str:
    inside = ", ".join(f"{k}={v}" for k, v in spec.settings.items())
    return f"{spec.name}({inside})" if inside else spec.name
