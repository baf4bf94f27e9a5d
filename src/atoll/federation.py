"""A federation: nodes with their rows, and what can be asked of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import GridSearchCV

from atoll.datasets import Stream, open_rows
from atoll.engines import Remote
from atoll.errors import InvalidData, explain
from atoll.evaluation import (
    Description,
    Evaluation,
    count_classes,
    describe,
    evaluate,
    operations_for,
    subject_of,
)
from atoll.messages import DEFAULT_RULE, Rule, digest
from atoll.models import to_bytes
from atoll.nodes import Nodes, counted, numbered, weighed
from atoll.partition import PartitionReport, by_column, split
from atoll.recipes import meet_for, operations_of
from atoll.rng import as_seed
from atoll.search import check_candidates, search
from atoll.shards import Shard, as_target
from atoll.trees import Array

__all__ = ["Federation"]


class Federation(Nodes):
    """Nodes with their rows, the name of an engine, and the rules that hold there.

    A federation is a value: it can be pickled, and holds no live handle. Its nodes start at first use; when it is
    collected they are given back. Make one with `simulate` or `from_shards`, or reach nodes that keep their rows with
    `connect`.

    Parameters
    ----------
    rows : sequence of Shard, or Remote
        One shard per node, names distinct; nodes are numbered by sorted name. Or the data set at nodes that keep their
        rows.
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
        Names the runs in the journal: ``july``, then ``july.2`` for the next fit once that is done.
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
    """

    @classmethod
    def connect(
        cls,
        url: str,
        data: str | None = None,
        *,
        nodes: Sequence[str] | None = None,
        rule: Rule | None = None,
        run: str | None = None,
        home: str | os.PathLike[str] | None = None,
        random_state: int | np.random.RandomState | np.random.Generator | None = None,
        verbose: int | None = None,
        max_norm: float | None = None,
        patience: float = 300.0,
        models: Sequence[Any] = (),
    ) -> Federation:
        """Reach nodes that keep their rows, through their coordinator.

        The nodes are asked at once how many rows they have, which is all that this tells of them. Everything else is
        as over shards, with the same bits.

        Parameters
        ----------
        url : str
            Of the coordinator, at which ``atoll login`` made this machine known.
        data : str, optional
            Name of the data set; may be left out where nodes offer one alone.
        nodes : sequence of str, optional
            Names of the nodes; by default all that offer the data set.
        rule : Rule, optional
            Deadline, quorum and lateness of every round; by default everyone is waited for. With a quorum below 1,
            nodes that do not tell how many rows they have are left out.
        run : str, optional
            Name of the run at the coordinator: a program that died and is run again under the same name goes on from
            the first round that was not answered. The next fit is named ``july.2`` after ``july``. None: a new name for
            every fit.
        home : path-like, optional
            Folder with the logins; ``$ATOLL_HOME`` or ``~/.config/atoll`` by default.
        random_state : int, RandomState, Generator or None
            Seed of everything drawn at random; None is 0.
        verbose : int or None
            0 is silent, 1 prints a line per round, None does so on a terminal.
        max_norm : float, optional
            Largest Euclidean norm that one node's contribution to a round of training may have; any by default.
        patience : float, default=300.0
            Seconds for which a coordinator that cannot be reached is tried again.
        models : sequence of estimator, optional
            What is going to be fitted. Owners who have not allowed it are shown everything that these ask, so that they
            can allow it in one go; a fit tells them that too, but not before it begins.

        Returns
        -------
        Federation
            Global row ids count the rows of all nodes, nodes in order of their names.

        Raises
        ------
        MissingExtra
            If ``atoll[silo]`` is not installed.
        SiloError
            If there is no login for this coordinator, it cannot be reached or is another one, nobody offers the data
            set, or an owner does not allow the question.
        """
        remote = Remote(
            url, data, tuple(sorted(nodes or ())), home=None if home is None else os.fspath(home),
            rule=(rule or DEFAULT_RULE).validated(), patience=patience,
            asks=tuple(sorted({op for model in models for op in operations_of(model)})),
        )  # fmt: skip
        return cls(
            remote, engine="silos", rule=rule, run=run, random_state=random_state, verbose=verbose, max_norm=max_norm
        )

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
        sample_weight : array-like of shape (n,) or mapping of str to array-like, optional
            Weights of the rows, for estimators whose `fit` takes them; in a pipeline for every step that does. A
            mapping has weights for single steps too: ``{"ridge__sample_weight": …}``.
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
        whole = weighed("(all rows)", X, y, sample_weight, feature_names=feature_names)
        if isinstance(partition, str):
            labels = whole.n_rows if whole.y is None else whole.y
            parts = split(labels, n_nodes, partition, random_state=seed, min_rows=min_rows)
            names: Sequence[str] = numbered(len(parts))
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
        cls,
        shards: Sequence[tuple[Any, ...] | Any] | Mapping[str, tuple[Any, ...] | Any],
        names: Sequence[str] | None = None,
        **settings: Any,
    ) -> Federation:
        """Make a federation from rows that lie at their nodes already.

        Parameters
        ----------
        shards : sequence or mapping of (X, y), (X, y, sample_weight) or X
            Rows per node, or by the name of a node; what is no tuple is taken as X alone.
        names : sequence of str, optional
            Node names, ``node-0`` … by default; not where `shards` has them.
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
        if isinstance(shards, Mapping):
            if names is not None:
                raise InvalidData(explain("the shards have names", got="names= besides", hint="leave names out"))
            names, shards = list(shards), list(shards.values())
        own = list(numbered(len(shards)) if names is None else names)
        if len(own) != len(shards):
            raise InvalidData(explain("one name per node", got=f"{len(own)} names", expected=f"{len(shards)}"))
        given = [s if isinstance(s, tuple) else (s,) for s in shards]
        return cls(counted([weighed(str(name), *parts) for name, parts in zip(own, given, strict=True)]), **settings)

    @classmethod
    def from_streams(
        cls,
        streams: Sequence[Iterable[tuple[Any, Any]]],
        *,
        rows: int = 256,
        names: Sequence[str] | None = None,
        **settings: Any,
    ) -> Federation:
        """Make a federation whose nodes' rows keep coming, for `atoll.train`.

        In every round in which it takes part a node trains on the next rows of its stream; one that ends begins again.
        What else is asked of a node (its classes, how good a model is) is asked of the first of them.

        Parameters
        ----------
        streams : sequence of iterable of (x, y)
            One per node, such as a `torch.utils.data.IterableDataset`. It is read in this process, on demand.
        rows : int, default=256
            Rows of a round.
        names : sequence of str, optional
            Node names, ``node-0`` … by default.
        **settings
            As for `Federation`.

        Returns
        -------
        Federation
            It cannot be pickled, nor be used with a journal: what a stream gave is gone.

        Raises
        ------
        InvalidData
            If a stream gives nothing, or other things than pairs; names the node.
        """
        own = list(numbered(len(streams)) if names is None else names)
        if len(own) != len(streams):
            raise InvalidData(explain("one name per node", got=f"{len(own)} names", expected=f"{len(streams)}"))
        if settings.get("journal") is not None:
            raise InvalidData(explain("a journal needs rows that can be read again", got="streams"))
        if not isinstance(rows, int) or rows < 1:
            raise InvalidData(explain("rows must be a whole number of at least 1", got=repr(rows)))
        made = [Stream(str(name), source, rows) for name, source in zip(own, streams, strict=True)]
        federation = cls(counted([stream.first for stream in made]), **settings)
        federation.streams = {stream.name: stream for stream in made}
        return federation

    @classmethod
    def from_files(
        cls,
        files: Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]],
        target: str | None = None,
        **settings: Any,
    ) -> Federation:
        """Make a federation whose rows lie in files, one per node, and need not fit memory.

        What is asked of a node piece by piece (every sum, moment and Gram matrix is) then reads the file piece by
        piece.

        Parameters
        ----------
        files : sequence or mapping of path-like
            ``.npy`` or Parquet files; a mapping names the nodes, otherwise they have the names of their files.
        target : str, optional
            The column to predict, in Parquet files.
        **settings
            As for `Federation`.

        Returns
        -------
        Federation

        Raises
        ------
        InvalidData
            If a file cannot be used; names the file and the column.
        """
        named = files if isinstance(files, Mapping) else {Path(file).stem: file for file in files}
        if len(named) != len(files):
            raise InvalidData(explain("two files have the same name", hint="give a mapping of node names to files"))
        made = []
        for name, file in named.items():
            rows = open_rows(file, target)
            made.append(Shard.of(name, rows.X, rows.y, feature_names=rows.names))
        return cls(counted(made), **settings)

    def evaluate(
        self,
        model: Any,
        scoring: str | Sequence[str] | None = None,
        *,
        per_node: bool = True,
        sample_weight: bool = True,
        bins: int | None = None,
    ) -> Evaluation:
        """How good a fitted model is on the rows of these nodes: on all of them, on each node, and by class.

        The model travels to the nodes as data; what leaves them are counts of confusions and sums of losses, and for
        ROC AUC and average precision their distinct scores.

        Parameters
        ----------
        model : estimator
            Fitted, of scikit-learn, `Distributed` or `Federated`.
        scoring : str, sequence of str, or None
            Names of metrics as scikit-learn has them (`sklearn.metrics.get_scorer_names`), such as ``"accuracy"`` or
            ``["r2", "neg_mean_absolute_error"]``; None: a few that suit the model.
        per_node : bool, default=True
            Whether nodes tell their own sums, or only the sum over all of them is formed.
        sample_weight : bool, default=True
            Whether weights count where rows have them.
        bins : int, optional
            Count scores in so many ranges for ROC AUC and average precision, so that what leaves a node does not grow
            with its rows; the result then has bounds. By default the result is exact.

        Returns
        -------
        Evaluation

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        NotAvailable
            If the model asks the nodes for its answers, as federated nearest neighbours do.
        InvalidData, UnknownName
            For metrics that cannot be computed, or rows that do not suit the model.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.neighbors import NearestCentroid
        >>> from atoll import Federated, Federation
        >>> X, y = load_iris(return_X_y=True)
        >>> sites = Federation.simulate(X, y, n_nodes=3)
        >>> model = Federated(NearestCentroid()).fit(sites)
        >>> print(sites.evaluate(model, ["accuracy", "f1_macro"], per_node=False))
        NearestCentroid on 150 rows of 3 nodes
        metric    all rows
        accuracy    0.9267
        f1_macro    0.9266
        <BLANKLINE>
        class  rows  precision  recall      f1
        0        50     1.0000  1.0000  1.0000
        1        50     0.8679  0.9200  0.8932
        2        50     0.9149  0.8600  0.8866
        """
        found = subject_of(model, scoring)
        what = digest([to_bytes(found.model), [w.name for w in found.wanted], per_node, sample_weight, bins])
        rounds = self.rounds(found.name, name=f"evaluate-{what[:16]}", asks=operations_for(found, bins))
        with rounds.ending():
            rounds.meet(classes=found.task == "classes")  # the model refuses values that it cannot take
            return evaluate(rounds, found.model, scoring, per_node=per_node, sample_weight=sample_weight, bins=bins)

    def search(
        self,
        estimator: Any,
        grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]],
        *,
        scoring: str | Sequence[str] | None = None,
        cv: Any = None,
        refit: bool | str = True,
        error_score: Any = np.nan,
    ) -> GridSearchCV:
        """Find the best parameters by cross-validation that happens on the nodes.

        Folds are views on the nodes, scores are summed, candidates share every question that they have in common, and
        the models of a fold are judged together: a grid of fifty ridge penalties costs one Gram matrix per fold.

        Parameters
        ----------
        estimator : estimator
            A scikit-learn estimator or pipeline that can be fitted exactly.
        grid : mapping or sequence of mapping
            As for `sklearn.model_selection.GridSearchCV`.
        scoring : str, sequence of str, or None
            Names of metrics, as for `evaluate`; None: accuracy of a classifier, R² of a regressor.
        cv : int, KFold, StratifiedKFold, "node" or None
            scikit-learn's folds of the pooled rows, without shuffling (None: five); or ``"node"``: each node is left
            out once.
        refit : bool or str, default=True
            Whether to fit the best candidate on all rows; by which metric, where there are several.
        error_score : "raise" or number, default=nan
            What a candidate scores that cannot be fitted.

        Returns
        -------
        GridSearchCV
            Fitted, with the record as `run_`; everything else is as `GridSearchCV` gives it on the pooled rows.

        Raises
        ------
        UnsupportedEstimator
            If a candidate cannot be fitted over nodes, or its model asks the nodes at predict.
        InvalidData
            For folds that cannot be formed over nodes.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.linear_model import Ridge
        >>> from atoll import Federation
        >>> sites = Federation.simulate(*load_diabetes(return_X_y=True), n_nodes=4)
        >>> sites.search(Ridge(), {"alpha": [0.01, 0.1, 1.0]}).best_params_
        {'alpha': 0.01}
        """
        name = type(estimator).__name__
        check_candidates(estimator, grid, scoring, refit)
        asks = operations_of(estimator) if self.remote else ()
        rounds = self.rounds(f"a search over {name}", name=f"search-{name}", asks=asks)
        with rounds.ending():
            seen = meet_for(estimator, rounds)
            found = search(seen, estimator, grid, scoring=scoring, cv=cv, refit=refit, error_score=error_score)
        found.run_ = rounds.run
        return found

    def describe(self, *, per_node: bool = True) -> Description:
        """What the rows are like: what `DataFrame.describe(include="all")` says of them, and how they are spread.

        Counts, means and spreads are added up, quartiles are found by counting rows below thresholds, the values of
        categories are joined; no row leaves its node. With `per_node` each node also tells the same of its own rows.

        Parameters
        ----------
        per_node : bool, default=True
            Whether nodes tell about their own rows, or only what is common to all is formed.

        Returns
        -------
        Description
            Columns of all rows and by node; `imbalance` is what `report` gives.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from atoll import Federation
        >>> X, y = load_iris(return_X_y=True)
        >>> found = Federation.simulate(X, y, n_nodes=3, partition="label").describe()
        >>> found.columns["0"].q50, found.by_node["node-1"]["0"].q50
        (5.8, 5.9)
        """
        rounds = self.rounds("describe", name=f"describe-{'nodes' if per_node else 'sums'}")
        with rounds.ending():
            rounds.meet(classes=False)
            return describe(rounds, per_node=per_node)

    def report(self) -> PartitionReport:
        """Who has how many rows of which class, and how far that is from the same mix everywhere.

        Nodes tell how many rows of each class they have, nothing else; of a quantity how many rows in each tenth of it.

        Returns
        -------
        PartitionReport
            Rows per node and label, distances of each node's mix from the pooled one, effective classes, and how uneven
            the sizes are.

        Raises
        ------
        NotAvailable
            If the rows have no labels to count.
        """
        rounds = self.rounds("report", name="report")
        with rounds.ending():
            rounds.meet(classes=False)
            return count_classes(rounds)
