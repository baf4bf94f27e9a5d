"""The methods of the wrapped estimator, where it has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn import get_config
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import available_if

from atoll.blas import one_thread

__all__ = ["Methods"]


def _has(name: str) -> Callable[[Any], bool]:
    def check(self: Any) -> bool:
        getattr(self._answering(), name)  # raises scikit-learn's own AttributeError, with its reason
        return True

    return check


class Methods:
    """Hands each call to the fitted estimator, or to its stand-in that asks the nodes.

    A method exists where the wrapped estimator has it. Metadata such as `sample_weight` are routed to the wrapped
    estimator as scikit-learn's meta-estimators do it: asked for there, with `set_fit_request`.
    """

    estimator: Any
    fit: Callable[..., Any]

    def _answering(self) -> Any:
        """The fitted estimator; before `fit`, the one that was given."""
        raise TypeError("mixed into a wrapper that knows its fitted estimator")

    def _fitted(self) -> Any:
        """The fitted estimator, or scikit-learn's NotFittedError."""
        raise TypeError("mixed into a wrapper that knows its fitted estimator")

    def get_metadata_routing(self) -> MetadataRouter:
        """Who wants which metadata; see scikit-learn's guide to metadata routing."""
        mapping = MethodMapping().add(caller="fit", callee="fit").add(caller="score", callee="score")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(estimator=self.estimator, method_mapping=mapping)

    def _routed(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The metadata that the wrapped estimator's method asked for; all, where routing is switched off."""
        if not params or not get_config()["enable_metadata_routing"]:
            return params
        return dict(process_routing(self, method, **params)["estimator"][method])

    def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        fitted = self._fitted()
        with one_thread():
            return getattr(fitted, method)(*args, **kwargs)

    @available_if(_has("predict"))
    def predict(self, X: Any, **params: Any) -> Any:
        """Predict the target of each row of X, array-like or sparse of shape (m, d); `params`: such as `return_std`."""
        return self._ask("predict", X, **params)

    @available_if(_has("predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Class probabilities, shape (m, n_classes), for each row of X; a list of such with several outputs."""
        return self._ask("predict_proba", X)

    @available_if(_has("predict_log_proba"))
    def predict_log_proba(self, X: Any) -> Any:
        """Logarithms of `predict_proba`."""
        return self._ask("predict_log_proba", X)

    @available_if(_has("decision_function"))
    def decision_function(self, X: Any) -> Any:
        """Scores of each row of X, as scikit-learn defines them for the wrapped estimator."""
        return self._ask("decision_function", X)

    @available_if(_has("transform"))
    def transform(self, X: Any, **params: Any) -> Any:
        """Transform each row of X."""
        return self._ask("transform", X, **params)

    @available_if(_has("inverse_transform"))
    def inverse_transform(self, X: Any, **params: Any) -> Any:
        """Undo `transform`."""
        return self._ask("inverse_transform", X, **params)

    @available_if(_has("get_feature_names_out"))
    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Names of the columns that `transform` makes."""
        return self._fitted().get_feature_names_out(input_features)

    @available_if(_has("get_support"))
    def get_support(self, indices: bool = False) -> Any:
        """The columns that are kept: a mask, or their positions."""
        return self._fitted().get_support(indices)

    @available_if(_has("transform"))
    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Fit over nodes, then transform X."""
        return self.fit(X, y, **fit_params).transform(X)

    @available_if(_has("fit_predict"))
    def fit_predict(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Fit over nodes, then predict X."""
        return self.fit(X, y, **fit_params).predict(X)

    @available_if(_has("mahalanobis"))
    def mahalanobis(self, X: Any) -> Any:
        """Squared Mahalanobis distances of the rows of X, shape (m,)."""
        return self._ask("mahalanobis", X)

    @available_if(_has("error_norm"))
    def error_norm(self, comp_cov: Any, norm: str = "frobenius", scaling: bool = True, squared: bool = True) -> Any:
        """Distance from another covariance, as scikit-learn measures it."""
        return self._ask("error_norm", comp_cov, norm, scaling, squared)

    @available_if(_has("get_covariance"))
    def get_covariance(self) -> Any:
        """The covariance of the fitted model, shape (d, d)."""
        return self._ask("get_covariance")

    @available_if(_has("get_precision"))
    def get_precision(self) -> Any:
        """The inverse of `get_covariance`."""
        return self._ask("get_precision")

    @available_if(_has("predict_joint_log_proba"))
    def predict_joint_log_proba(self, X: Any) -> Any:
        """Joint log probabilities of rows and classes, shape (m, n_classes)."""
        return self._ask("predict_joint_log_proba", X)

    @available_if(_has("aic"))
    def aic(self, X: Any) -> Any:
        """Akaike's criterion of the fitted mixture on X."""
        return self._ask("aic", X)

    @available_if(_has("bic"))
    def bic(self, X: Any) -> Any:
        """Bayes' criterion of the fitted mixture on X."""
        return self._ask("bic", X)

    @available_if(_has("score"))
    def score(self, X: Any, y: Any = None, **params: Any) -> Any:
        """The score that scikit-learn defines for the wrapped estimator (accuracy, R², log-likelihood)."""
        return self._ask("score", X, y, **self._routed("score", params))

    @available_if(_has("score_samples"))
    def score_samples(self, X: Any) -> Any:
        """The log-likelihood of each row of X, shape (m,)."""
        return self._ask("score_samples", X)

    @available_if(_has("sample"))
    def sample(self, n_samples: int = 1, random_state: Any = None) -> Any:
        """Draw new rows from the fitted density."""
        return self._ask("sample", n_samples, *(() if random_state is None else (random_state,)))

    @available_if(_has("kneighbors"))
    def kneighbors(self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True) -> Any:
        """Distances and global row ids of the nearest rows, each (m, n_neighbors), ordered by (distance, id)."""
        return self._ask("kneighbors", X, n_neighbors, return_distance)

    @available_if(_has("kneighbors_graph"))
    def kneighbors_graph(self, X: Any = None, n_neighbors: int | None = None, mode: str = "connectivity") -> Any:
        """The graph of nearest rows, a CSR matrix of shape (m, n)."""
        return self._ask("kneighbors_graph", X, n_neighbors, mode)

    @available_if(_has("radius_neighbors"))
    def radius_neighbors(
        self, X: Any = None, radius: float | None = None, return_distance: bool = True, sort_results: bool = False
    ) -> Any:
        """Distances and global row ids of the rows within a radius: object arrays of shape (m,), ordered by id."""
        return self._ask("radius_neighbors", X, radius, return_distance, sort_results)

    @available_if(_has("radius_neighbors_graph"))
    def radius_neighbors_graph(
        self, X: Any = None, radius: float | None = None, mode: str = "connectivity", sort_results: bool = False
    ) -> Any:
        """The graph of rows within a radius, a CSR matrix of shape (m, n)."""
        return self._ask("radius_neighbors_graph", X, radius, mode, sort_results)
