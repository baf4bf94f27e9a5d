"""`Federated`: rows that stay on their nodes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from atoll.algorithms import Algorithm, Decentralized, Local
from atoll.errors import InvalidData, explain
from atoll.estimators.base import OverNodes
from atoll.estimators.checks import checked, checked_weights
from atoll.federation import Federation
from atoll.training import Callback

__all__ = ["Federated"]


class Federated(OverNodes):
    """Fit a scikit-learn estimator over nodes whose rows stay where they are.

    Nodes answer declared questions; a server combines the answers and sends the result back. `run_` shows what left
    each node, in words and in bytes.

    Parameters
    ----------
    estimator : estimator
        A scikit-learn estimator that Atoll supports, unchanged.
    method : str or Algorithm, optional
        Picks a way to fit where there is a choice; the exact one by default. Estimators that are trained in rounds take
        any method of `atoll.algorithms`, ``fedavg()`` by default.
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
    engine : str, default="inprocess"
        Where nodes run when `fit` is given arrays; a `Federation` brings its own.
    n_workers : int, optional
        As for `engine`.

    Attributes
    ----------
    estimator_ : estimator
        The fitted, ordinary scikit-learn estimator, where one can exist without the rows.
    run_ : Run
        The record: rounds, bytes, seconds, what left each node. What `predict` asks of nodes is added to it.
    classes_ : ndarray of shape (n_classes,)
        For classifiers: the union over the nodes.
    n_features_in_ : int
        Columns that the nodes agreed on.
    feature_names_in_ : ndarray of shape (n_features,)
        Where the nodes' data had names.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from atoll import Federated, Federation
    >>> X, y = load_iris(return_X_y=True)
    >>> sites = Federation.simulate(X, y, n_nodes=5, partition="label")
    >>> knn = Federated(KNeighborsClassifier(n_neighbors=3)).fit(sites)
    >>> knn.score(X, y)
    0.96
    """

    trust = "federated"
    __metadata_request__fit = {"node": True}  # so that cross_validate(…, params={"node": …}) needs no set_fit_request

    def __init__(
        self,
        estimator: Any,
        *,
        method: str | Algorithm | Decentralized | None = None,
        local: Local | None = None,
        rounds: int | None = None,
        nodes_per_round: int | None = None,
        balance: str | None = None,
        callbacks: Sequence[Callback] | None = None,
        resume: str | os.PathLike[str] | None = None,
        engine: str = "inprocess",
        n_workers: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.local = local
        self.rounds = rounds
        self.nodes_per_round = nodes_per_round
        self.balance = balance
        self.callbacks = callbacks
        self.resume = resume
        self.engine = engine
        self.n_workers = n_workers

    def fit(self, X: Any, y: Any = None, *, node: Any = None, **fit_params: Any) -> Self:
        """Fit by rounds over the nodes of a federation.

        Parameters
        ----------
        X : Federation, or array-like or sparse matrix of shape (n, d)
            The nodes; or rows, with the node of each row in `node`.
        y : array-like of shape (n,) or (n, n_outputs), optional
            Targets, when X is an array.
        node : array-like of shape (n,), optional
            The node of each row, when X is an array; without it all rows are one node.
        **fit_params
            `sample_weight` of shape (n,), when X is an array and the wrapped estimator's `fit` takes it.

        Returns
        -------
        Federated
            Itself.

        Raises
        ------
        UnsupportedEstimator
            Before any node is contacted, if Atoll cannot fit this estimator.
        SchemaMismatch
            If the nodes' columns or labels do not fit together; names node and column.
        """
        recipe = self._recipe()
        return self._train(self._as_federation(X, y, node, fit_params), recipe)

    def _as_federation(self, X: Any, y: Any, node: Any, fit_params: dict[str, Any]) -> Federation:
        if isinstance(X, Federation):
            if y is not None or node is not None or fit_params:
                hint = "give fit the federation alone"
                raise InvalidData(explain("a federation brings its own targets and nodes", hint=hint))
            return X
        X, y = checked(self, X, y)
        weights = checked_weights(self.estimator, X, self._routed("fit", fit_params))
        column = np.full(X.shape[0], "node-0") if node is None else np.asarray(node)
        return Federation.simulate(
            X, y, partition=column, feature_names=self._names(), sample_weight=weights, engine=self.engine,
            n_workers=self.n_workers,
        )  # fmt: skip
