"""`Distributed`: your rows, split over nodes that work at the same time."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

import numpy as np
from sklearn.base import clone

from atoll.algorithms import Algorithm, Decentralized, Local
from atoll.errors import InvalidData, explain
from atoll.estimators.base import OverNodes
from atoll.estimators.checks import checked, checked_weights
from atoll.federation import Federation
from atoll.messages import Rule
from atoll.specs import Spec
from atoll.table import Table
from atoll.training import Callback

__all__ = ["Distributed"]


class Distributed(OverNodes):
    """Fit a scikit-learn estimator over nodes that share the rows between them.

    You own the rows and the machines. `fit` splits the rows over nodes that work at the same time; what they send each
    other is a few sums, and where mathematics allows the result is that of fitting on the pooled rows.

    Parameters
    ----------
    estimator : estimator
        A scikit-learn estimator that Atoll supports, unchanged.
    n_nodes : int, default=4
        Number of nodes.
    engine : str, default="inprocess"
        Where nodes run: ``inprocess`` or ``processes``. The result is the same, bit for bit.
    partition : str, default="iid"
        How rows are split; see `atoll.partition`.
    topology : str or Spec, default="star"
        Who sends what to whom: ``star``, ``tree``, ``tree(fan_out=3)`` or ``ring``. The result is the same, bit for
        bit, but for estimators that are trained in rounds: round a ring nodes need no hub, and add in another order.
        Those take graphs besides, ``gossip('torus')`` or `atoll.topology.gossip`: each node has a model of its own, and
        mixes in those of its neighbours.
    n_workers : int, optional
        Worker processes for ``processes``; one per core by default.
    method : str or Algorithm, optional
        Picks a way to fit where there is a choice; the exact one by default. Estimators that are trained in rounds take
        any method of `atoll.algorithms`, by default ``fedavg()``, and over a graph of nodes ``dpsgd()``.
    local : Local, optional
        What nodes do between exchanges, where the estimator is trained in rounds; see `atoll.algorithms.sgd` and
        `atoll.algorithms.own`. By default the estimator's own steps, one epoch.
    rounds : int, optional
        How many, where the estimator is trained in rounds; its `max_iter` by default.
    nodes_per_round : int, optional
        Nodes asked in a round, where the estimator is trained in rounds; all by default.
    balance : {"reweight", "logits", "sampler"}, optional
        How unequal classes are answered, where a classifier is trained in rounds: rare ones weigh more in the loss, are
        adjusted for in the logits, or are drawn more often. By the class frequencies of all nodes, which tell them.
    callbacks : sequence of callable, optional
        Where the estimator is trained in rounds, called after every round with a `Trained`; one that returns True ends
        the training. See `atoll.training`.
    resume : path-like, optional
        Where the estimator is trained in rounds: a checkpoint that `atoll.training.checkpoint` wrote, or their folder.
        `fit` over the same rows goes on from there to `rounds` in all, with the bits of a training that never ended.
    rule : Rule, optional
        Deadline, quorum and lateness of every round.
    journal : path-like, optional
        Folder in which answered rounds are kept, so that a killed program that is run again continues where it was.
    random_state : int, RandomState or None
        Seed of the split and of the run; None is 0.
    verbose : int or None
        0 is silent, 1 prints a line per round, None does so on a terminal.

    Attributes
    ----------
    estimator_ : estimator
        The fitted, ordinary scikit-learn estimator.
    run_ : Run
        The record: rounds, bytes, seconds, what left each node. What `predict` asks of nodes is added to it.
    classes_ : ndarray of shape (n_classes,)
        For classifiers.
    n_features_in_ : int
        Columns seen by `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Where X had names that are all strings.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from atoll import Distributed
    >>> X, y = load_iris(return_X_y=True)
    >>> knn = Distributed(KNeighborsClassifier(n_neighbors=3), n_nodes=4).fit(X, y)
    >>> knn.score(X, y)
    0.96
    """

    trust = "distributed"

    def __init__(
        self,
        estimator: Any,
        n_nodes: int = 4,
        *,
        engine: str = "inprocess",
        partition: str = "iid",
        topology: str | Spec = "star",
        n_workers: int | None = None,
        method: str | Algorithm | Decentralized | None = None,
        local: Local | None = None,
        rounds: int | None = None,
        nodes_per_round: int | None = None,
        balance: str | None = None,
        callbacks: Sequence[Callback] | None = None,
        resume: str | os.PathLike[str] | None = None,
        rule: Rule | None = None,
        journal: str | os.PathLike[str] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.n_nodes = n_nodes
        self.engine = engine
        self.partition = partition
        self.topology = topology
        self.n_workers = n_workers
        self.method = method
        self.local = local
        self.rounds = rounds
        self.nodes_per_round = nodes_per_round
        self.balance = balance
        self.callbacks = callbacks
        self.resume = resume
        self.rule = rule
        self.journal = journal
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> Self:
        """Split the rows over nodes and fit by rounds.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, d)
            Training rows.
        y : array-like of shape (n,) or (n, n_outputs), optional
            Targets.
        **fit_params
            `sample_weight` of shape (n,), where the wrapped estimator's `fit` takes it; ``step__sample_weight`` for a
            step of a pipeline.

        Returns
        -------
        Distributed
            Itself.

        Raises
        ------
        UnsupportedEstimator
            Before anything else, if Atoll cannot fit this estimator.
        InvalidData
            If the rows cannot be used, or there are more nodes than rows.
        """
        recipe = self._recipe()
        if isinstance(X, Federation):
            hint = "give the federation to Federated(…).fit"
            raise InvalidData(explain("Distributed splits rows that are yours", got="a federation", hint=hint))
        X, y = checked(self, X, y)
        weights = checked_weights(self.estimator, X, self._routed("fit", fit_params))
        federation = Federation.simulate(
            X, y, n_nodes=self.n_nodes, partition=self.partition, random_state=self.random_state,
            feature_names=self._names(), sample_weight=weights, engine=self.engine, n_workers=self.n_workers,
            topology=self.topology, rule=self.rule, journal=self.journal, verbose=self.verbose,
        )  # fmt: skip
        return self._train(federation, recipe)

    def _with_rows(self, model: Any) -> Any:
        if "_ordinary" not in self.__dict__:
            whole = self._federation.pooled()
            if self._asks:
                X = whole.X.rows() if isinstance(whole.X, Table) else whole.X
                self._ordinary = clone(self.estimator).fit(X, whole.labels(), **whole.columns)
                if whole.feature_names is not None:
                    self._ordinary.feature_names_in_ = self.feature_names_in_
            else:
                self._ordinary = copy.copy(model)
            for name, of in self._per_row().items():
                with suppress(AttributeError):  # parameters decide whether it is there at all
                    setattr(self._ordinary, name, of(self._ordinary, whole))
        return self._ordinary

    def _row_attribute(self, name: str) -> Any:
        return getattr(self.to_sklearn(), name)
