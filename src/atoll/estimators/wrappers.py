"""`Distributed` and `Federated`: scikit-learn meta-estimators over nodes."""

from __future__ import annotations

import os
import warnings
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier, is_regressor
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, has_fit_parameter, validate_data

from atoll.blas import one_thread
from atoll.errors import InvalidData, NotAvailable, explain
from atoll.estimators.methods import Methods
from atoll.federation import Federation
from atoll.messages import Rule
from atoll.recipes import Recipe, find
from atoll.run import Run
from atoll.shards import as_target, is_sparse
from atoll.trees import Array

__all__ = ["Distributed", "Federated"]


class _OverNodes(Methods, MetaEstimatorMixin, BaseEstimator):
    """What both trust models share: validation, fitting by rounds, and handing calls on."""

    estimator: Any
    method: str | None
    run_: Run

    def _answering(self) -> Any:
        return self.__dict__.get("_model", self.estimator)

    def _fitted(self) -> Any:
        check_is_fitted(self, "run_")
        return self._model

    def _train(self, federation: Federation, recipe: Recipe, trust: str) -> Self:
        rounds = federation.rounds(type(self.estimator).__name__, trust)
        if recipe.exact and federation.rule.late == "next":
            raise InvalidData(
                explain(
                    "an exact fit counts every row in the round that asked",
                    got="late='next'",
                    expected="'drop' or 'wait'",
                )
            )
        rounds.progress.start(f"{trust} {type(self.estimator).__name__} over {federation.n_nodes} nodes")
        try:
            with one_thread():
                schema = rounds.meet(classes=is_classifier(self.estimator))
                model = recipe.fit(clone(self.estimator), rounds)
        finally:
            rounds.progress.stop()
        self._model, self._recipe, self._federation = model, recipe, federation
        self.run_ = rounds.run
        self.n_features_in_ = schema.n_features
        if schema.feature_names is not None:
            self.feature_names_in_ = model.feature_names_in_ = np.asarray(schema.feature_names, dtype=object)
        if hasattr(model, "classes_"):
            self.classes_ = model.classes_
        return self

    def __getattr__(self, name: str) -> Any:
        """Fitted attributes of the wrapped estimator, such as `centroids_`."""
        model = self.__dict__.get("_model")
        if model is None or not name.endswith("_") or name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name in self._recipe.per_row:
            return self._row_attribute(name)
        return getattr(model, name)

    def _row_attribute(self, name: str) -> Any:
        raise NotAvailable(
            explain(
                f"{name} has one entry per training row, and those rows stay on their nodes",
                hint="use Distributed where the rows are yours",
            )
        )

    @property
    def estimator_(self) -> Any:
        """The fitted, ordinary scikit-learn estimator; see `to_sklearn`."""
        return self.to_sklearn()

    def to_sklearn(self) -> Any:
        """The fitted, ordinary scikit-learn estimator, which works without Atoll.

        Returns
        -------
        estimator
            Of the wrapped estimator's own class.

        Raises
        ------
        NotAvailable
            If it would consist of rows that stay on their nodes.
        """
        model = self._fitted()
        return self._with_rows() if self._recipe.asks else model

    def _with_rows(self) -> Any:
        raise NotAvailable(
            explain(
                f"a fitted {type(self.estimator).__name__} consists of its rows, and those stay on their nodes",
                hint="predict with this object: it asks the nodes",
            )
        )

    def __sklearn_tags__(self) -> Any:
        return get_tags(self.estimator)

    def _validated(self, X: Any, y: Any) -> tuple[Any, Array | None]:
        """X and y as scikit-learn checks them for the wrapped estimator."""
        tags = get_tags(self.estimator)
        checks: dict[str, Any] = {
            "accept_sparse": "csr" if tags.input_tags.sparse else False,
            "ensure_all_finite": "allow-nan" if tags.input_tags.allow_nan else True,
        }
        if not (tags.target_tags.required or is_classifier(self.estimator) or is_regressor(self.estimator)):
            return validate_data(self, X, **checks), None
        several = bool(tags.target_tags.multi_output)
        X, y = validate_data(self, X, y, multi_output=several, y_numeric=is_regressor(self.estimator), **checks)
        return X, self._checked_target(y, several)

    def _checked_target(self, y: Any, several: bool) -> Array:
        y = y.toarray() if is_sparse(y) else as_target(y)
        if is_classifier(self.estimator):
            if several and y.ndim == 2 and y.shape[1] == 1:
                warnings.warn(
                    "A column-vector y was passed when a 1d array was expected. Please change the shape of y to "
                    "(n_samples,), for example using ravel().",
                    DataConversionWarning,
                    stacklevel=5,
                )
                y = y.ravel()
            check_classification_targets(y)
        return y

    def _weight(self, X: Any, fit_params: dict[str, Any]) -> Array | None:
        """The sample weights among the parameters of `fit`, if the wrapped estimator takes them."""
        unknown = set(fit_params) - {"sample_weight"}
        weight = fit_params.get("sample_weight")
        if unknown or (weight is not None and not has_fit_parameter(self.estimator, "sample_weight")):
            name = next(iter(unknown), "sample_weight")
            raise TypeError(f"fit() of {type(self.estimator).__name__} got an unexpected keyword argument {name!r}")
        return None if weight is None else _check_sample_weight(weight, X, dtype=np.float64, ensure_non_negative=True)

    def _names(self) -> tuple[str, ...] | None:
        names = self.__dict__.get("feature_names_in_")
        return None if names is None else tuple(names)


class Distributed(_OverNodes):
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
    topology : str, default="star"
        Who sends what to whom: ``star``, ``tree`` or ``tree(fan_out=3)``. The result is the same, bit for bit.
    n_workers : int, optional
        Worker processes for ``processes``; one per core by default.
    method : str, optional
        Picks a way to fit where there is a choice; the exact one by default.
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
    feature_names_in_ : ndarray of shape (n_features_in_,)
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

    def __init__(
        self,
        estimator: Any,
        n_nodes: int = 4,
        *,
        engine: str = "inprocess",
        partition: str = "iid",
        topology: str = "star",
        n_workers: int | None = None,
        method: str | None = None,
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
            `sample_weight` of shape (n,), where the wrapped estimator's `fit` takes it.

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
        recipe = find(self.estimator, self.method)
        X, y = self._validated(X, y)
        weight = self._weight(X, fit_params)
        federation = Federation.simulate(
            X, y, n_nodes=self.n_nodes, partition=self.partition, random_state=self.random_state,
            feature_names=self._names(), sample_weight=weight, engine=self.engine, n_workers=self.n_workers,
            topology=self.topology, rule=self.rule, journal=self.journal, verbose=self.verbose,
        )  # fmt: skip
        return self._train(federation, recipe, "distributed")

    def _with_rows(self) -> Any:
        if "_ordinary" not in self.__dict__:
            whole = self._federation.pooled()
            self._ordinary = clone(self.estimator).fit(whole.X, whole.labels(), **whole.columns)
            if whole.feature_names is not None:
                self._ordinary.feature_names_in_ = self.feature_names_in_
        return self._ordinary

    def _row_attribute(self, name: str) -> Any:
        return getattr(self.to_sklearn(), name)


class Federated(_OverNodes):
    """Fit a scikit-learn estimator over nodes whose rows stay where they are.

    Nodes answer declared questions; a server combines the answers and sends the result back. `run_` shows what left
    each node, in words and in bytes.

    Parameters
    ----------
    estimator : estimator
        A scikit-learn estimator that Atoll supports, unchanged.
    method : str, optional
        Picks a way to fit where there is a choice; the exact one by default.
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
    feature_names_in_ : ndarray of shape (n_features_in_,)
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

    def __init__(
        self, estimator: Any, *, method: str | None = None, engine: str = "inprocess", n_workers: int | None = None
    ) -> None:
        self.estimator = estimator
        self.method = method
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
        recipe = find(self.estimator, self.method)
        return self._train(self._as_federation(X, y, node, fit_params), recipe, "federated")

    def _as_federation(self, X: Any, y: Any, node: Any, fit_params: dict[str, Any]) -> Federation:
        if isinstance(X, Federation):
            if y is not None or node is not None or fit_params:
                hint = "give fit the federation alone"
                raise InvalidData(explain("a federation brings its own targets and nodes", hint=hint))
            return X
        X, y = self._validated(X, y)
        column = np.full(X.shape[0], "node-0") if node is None else np.asarray(node)
        return Federation.simulate(
            X, y, partition=column, feature_names=self._names(), sample_weight=self._weight(X, fit_params),
            engine=self.engine, n_workers=self.n_workers,
        )  # fmt: skip
