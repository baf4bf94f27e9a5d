"""What `Distributed` and `Federated` share: fitting by rounds, and handing calls and attributes on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils import estimator_html_repr, get_tags
from sklearn.utils.validation import check_is_fitted

from atoll.algorithms import Algorithm, Decentralized, Local
from atoll.blas import one_thread
from atoll.errors import InvalidData, NotAvailable, explain
from atoll.estimators.methods import Methods
from atoll.federation import Federation
from atoll.recipes import (
    PerRow,
    Recipe,
    Wish,
    check_parameters,
    check_wiring,
    check_wish,
    find,
    fit_over,
    meet_for,
    of_labels,
    operations_of,
    supported,
)
from atoll.run import Run
from atoll.training import Callback

__all__ = ["OverNodes"]

_FITTED = ("_model", "_ordinary", "classes_", "feature_names_in_", "n_features_in_", "run_")


class OverNodes(Methods, MetaEstimatorMixin, BaseEstimator):
    """A scikit-learn meta-estimator whose wrapped estimator is fitted over nodes.

    Attributes
    ----------
    estimator : estimator
        As it was given; it is never fitted.
    method : str, Algorithm or None
        Picks a way to fit where there is a choice, or how parameters are trained in rounds.
    local : Local or None
        What nodes do between exchanges, where parameters are trained in rounds.
    rounds : int or None
        How many, where parameters are trained in rounds.
    nodes_per_round : int or None
        Nodes asked in a round, where parameters are trained in rounds.
    balance : str or None
        How unequal classes are answered, where parameters are trained in rounds.
    callbacks : sequence of callable or None
        Called after every round, where parameters are trained in rounds.
    resume : path-like or None
        A checkpoint to go on from, or a folder of them, where parameters are trained in rounds.
    run_ : Run
        The record, once fitted.
    """

    trust: ClassVar[str]
    estimator: Any
    method: str | Algorithm | Decentralized | None
    local: Local | None
    rounds: int | None
    nodes_per_round: int | None
    balance: str | None
    callbacks: Sequence[Callback] | None
    resume: str | os.PathLike[str] | None
    run_: Run

    def _answering(self) -> Any:
        return self.__dict__.get("_model", self.estimator)

    def _fitted(self) -> Any:
        if "_model" not in self.__dict__ and not get_tags(self.estimator).requires_fit:
            return self.estimator
        check_is_fitted(self, "run_")
        return self._model

    def _recipe(self) -> Recipe:
        """The way to fit the wrapped estimator, its parameters checked; nobody has been asked anything yet."""
        recipe = find(self.estimator, self.method)
        check_parameters(self.estimator)
        return recipe

    def _train(self, federation: Federation, recipe: Recipe) -> Self:
        name = type(self.estimator).__name__
        if recipe.exact and federation.rule.late == "next":
            expected = "'drop' or 'wait'"
            raise InvalidData(
                explain("an exact fit counts every row in the round that asked", got="late='next'", expected=expected)
            )
        wish = Wish(
            self.method, self.local, self.rounds, self.nodes_per_round, self.balance, self.callbacks, self.resume
        )
        check_wish(self.estimator, wish, federation.n_nodes)
        check_wiring(self.estimator, wish, federation.plan, federation.n_nodes)
        asks = operations_of(self.estimator, self.method) if federation.remote else ()
        rounds = federation.rounds(name, self.trust, asks=asks)
        rounds.wish = wish
        rounds.progress.start(f"{self.trust} {name} over {federation.n_nodes} nodes")
        try:
            with rounds.ending(), one_thread():
                rows = meet_for(self.estimator, rounds)
                schema = rows.raw.schema
                model = fit_over(self.estimator, rows, self.method, last=self.__dict__.get("_model"))
        finally:
            rounds.progress.stop()
        for attribute in _FITTED:
            self.__dict__.pop(attribute, None)
        self._model, self._asks, self._way = model, recipe.asks, (type(self.estimator), recipe.method)
        self._federation, self.run_, self._exact = federation, rounds.run, recipe.exact
        if not of_labels(self.estimator):
            self.n_features_in_ = schema.n_features
        if schema.feature_names is not None:
            self.feature_names_in_ = np.asarray(schema.feature_names, dtype=object)
        if hasattr(model, "classes_"):
            self.classes_ = model.classes_
        return self

    def __getattr__(self, name: str) -> Any:
        """`estimator_`, made when it is asked for, and the fitted attributes of the wrapped estimator."""
        model = self.__dict__.get("_model")
        if model is None or not name.endswith("_") or name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name == "estimator_":
            return self.to_sklearn()
        return self._row_attribute(name) if name in self._per_row() else getattr(model, name)

    def _per_row(self) -> Mapping[str, PerRow]:
        """Attributes with one entry per row; looked up, since functions are not pickled."""
        kind, method = self._way
        way = supported().get(kind, {}).get(method)
        return way.per_row if way else {}

    def to_sklearn(self) -> Any:
        """The fitted, ordinary scikit-learn estimator, which works without Atoll; also `estimator_`.

        Returns
        -------
        estimator
            Of the wrapped estimator's own class.

        Raises
        ------
        NotAvailable
            If it would consist of rows, or of models, that stay on their nodes.
        """
        model = self._fitted()
        if self._asks and not self._exact:
            what = f"with method={self.method!r} every node keeps a {type(self.estimator).__name__} of its own"
            raise NotAvailable(explain(what, hint="predict with this object: it asks the nodes"))
        return self._with_rows(model) if self._asks or self._per_row() else model

    def _with_rows(self, model: Any) -> Any:
        """The ordinary estimator where it holds rows, or attributes with one entry per row."""
        if not self._asks:
            return model
        raise NotAvailable(
            explain(
                f"a fitted {type(self.estimator).__name__} consists of its rows, and those stay on their nodes",
                hint="predict with this object: it asks the nodes",
            )
        )

    def _row_attribute(self, name: str) -> Any:
        raise NotAvailable(
            explain(
                f"{name} has one entry per training row, and those rows stay on their nodes",
                hint="use Distributed where the rows are yours",
            )
        )

    def _names(self) -> tuple[str, ...] | None:
        """Column names of the rows that were just checked."""
        names = self.__dict__.get("feature_names_in_")
        return None if names is None else tuple(names)

    def __sklearn_tags__(self) -> Any:
        return get_tags(self.estimator)

    def _html_repr(self) -> str:
        """scikit-learn's diagram, and below it the record."""
        run = self.__dict__.get("run_")
        diagram: str = estimator_html_repr(self)
        return diagram if run is None else diagram + run._repr_html_()
