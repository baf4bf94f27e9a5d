"""Rows, targets and weights of nodes, refused where scikit-learn refuses the pooled ones, before any work."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import DataConversionWarning
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_array, get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import has_fit_parameter

from atoll.errors import InvalidData, explain
from atoll.recipes.needs import (
    entry,
    finiteness,
    parts,
    several_targets,
    takes_tensors,
    wants_classes,
    wants_targets,
)
from atoll.rounds import Rounds
from atoll.schema import Schema
from atoll.trees import Array
from atoll.views import raveled

__all__ = ["check_labels", "check_rows", "counts", "meet_for", "refuse_text", "refuse_weightless", "stand_ins"]


_MADE_OF_OTHERS = (CalibratedClassifierCV, ColumnTransformer, FeatureUnion)


def meet_for(estimator: Any, rounds: Rounds) -> Rounds:
    """Hold round 0 for an estimator, and refuse what it cannot be fitted on.

    Parameters
    ----------
    estimator : estimator
        Not fitted.
    rounds : Rounds
        Of nodes that have not met.

    Returns
    -------
    Rounds
        The way to the rows as the estimator takes them: a single column of targets has one dimension where scikit-learn
        would make it so, with its warning.

    Raises
    ------
    ValueError
        What scikit-learn refuses on the pooled rows: values, targets or weights that are not finite, labels that are no
        classes, several targets where it takes one, weights that are all zero. Among them `SchemaMismatch`, which names
        node and column, and `NodeValueError`, which names the nodes that hold such values.
    TypeError
        For sparse rows where it takes dense ones, and for weights where it takes none.
    """
    targets = wants_targets(estimator)
    schema = rounds.meet(
        classes=wants_classes(estimator), ensure_all_finite=finiteness(estimator), ensure_targets=targets
    )
    check_rows(estimator, schema)
    _check_weights(estimator, schema)
    return _with_targets(estimator, rounds) if targets else rounds


def check_rows(estimator: Any, schema: Schema) -> None:
    """Refuse sparse rows where an estimator takes dense ones, and rows without columns.

    Parameters
    ----------
    estimator : estimator
        Not fitted.
    schema : Schema
        Of the rows that it is to see.

    Raises
    ------
    TypeError, ValueError
        In scikit-learn's words.
    """
    first = entry(estimator)
    if first is None or isinstance(estimator, _MADE_OF_OTHERS) or isinstance(first, _MADE_OF_OTHERS):
        return  # what these are made of is looked at by itself
    tags = get_tags(first)
    if tags.no_validation or not tags.input_tags.two_d_array or takes_tensors(first):
        return
    if schema.sparse and not tags.input_tags.sparse:
        if not tags.target_tags.required:
            clone(first).fit(csr_matrix((2, schema.n_features)))  # which may say more
        check_array(csr_matrix((1, 1)), accept_sparse=False, input_name="X", estimator=first)
    if not schema.n_features:
        check_array(np.empty((schema.n_rows, 0)), estimator=first)


def _check_weights(estimator: Any, schema: Schema) -> None:
    """Refuse weights that do not count; where an estimator is made of others, they count for those that take any."""
    made_of_others = isinstance(estimator, Pipeline | ColumnTransformer | FeatureUnion)
    if schema.weighted and not made_of_others and not counts(estimator, "sample_weight"):
        what = f"{type(estimator).__name__}.fit() got an unexpected keyword argument 'sample_weight'"
        hint = "make the federation without weights: this estimator counts every row once"
        raise TypeError(explain(what, got="rows with weights", hint=hint))
    for name in schema.weights:
        if name != "sample_weight" and not counts(estimator, name):
            raise _for_nobody(estimator, name)
    for name in schema.weightless:
        if counts(estimator, name):
            refuse_weightless(0.0, where=name)


def _for_nobody(estimator: Any, name: str) -> TypeError:
    """The error for weights that name a step which takes none, or which there is not."""
    step, _, inner = name.partition("__")
    steps = _steps(estimator)
    if step in steps and inner != "sample_weight":
        return _for_nobody(steps[step], inner)
    refuses, what = (steps[step], inner) if step in steps else (estimator, name)
    expected = f"weights for one of the steps {', '.join(steps)}" if steps and step not in steps else None
    hint = f"make the federation without the weights {name}"
    words = f"{type(refuses).__name__}.fit() got an unexpected keyword argument {what!r}"
    return TypeError(explain(words, got="rows with such weights", expected=expected, hint=hint))


def _steps(estimator: Any) -> dict[str, Any]:
    """The parts of an estimator by name, as weights name them."""
    if isinstance(estimator, ColumnTransformer):
        return {name: step for name, step, _ in estimator.transformers}
    return dict(getattr(estimator, "steps", getattr(estimator, "transformer_list", ())))


def refuse_weightless(total: float, where: str = "sample_weight") -> None:
    """Refuse rows that have weights, all of which are zero.

    Parameters
    ----------
    total : float
        The sum of their weights.
    where : str
        Which rows these are, or which weights.

    Raises
    ------
    InvalidData
    """
    if total == 0:
        what = "Sample weights must contain at least one non-zero number."
        raise InvalidData(explain(what, got="zeros", where=where))


def counts(estimator: Any, name: str) -> bool:
    """Whether weights of this name count: ``sample_weight`` for all parts that take any, others for one part.

    Parameters
    ----------
    estimator : estimator
        It, or one of the parts that it is made of, may take weights.
    name : str
        ``sample_weight`` or ``step__sample_weight``.
    """
    step, _, inner = name.partition("__")
    if inner and isinstance(estimator, CalibratedClassifierCV):
        return any(counts(part, name) for part in parts(estimator))
    if inner:
        named = _steps(estimator)
        return step in named and counts(named[step], inner)
    if isinstance(estimator, Pipeline | ColumnTransformer | FeatureUnion):
        return any(counts(part, name) for part in parts(estimator))
    return bool(has_fit_parameter(estimator, name))


def _with_targets(estimator: Any, rounds: Rounds) -> Rounds:
    schema = rounds.raw.schema
    if not schema.target_dtype:
        if hasattr(estimator, "score_func"):  # which may look at none
            return rounds
        hint = "give y to Federation.simulate, or (X, y) pairs to Federation.from_shards"
        raise InvalidData(explain(f"{type(estimator).__name__} needs targets, and these nodes have none", hint=hint))
    if is_regressor(estimator):
        refuse_text(estimator, schema.target_dtype in ("U", "O"))
    rounds = _single(estimator, rounds)
    if is_classifier(estimator):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whoever warns pooled has a recipe that does
            check_labels(rounds.raw.schema)
    return rounds


def _single(estimator: Any, rounds: Rounds) -> Rounds:
    """Rows whose targets have as many dimensions as the estimator takes."""
    schema, tags = rounds.raw.schema, get_tags(estimator)
    indicators = tags.classifier_tags is not None and tags.classifier_tags.multi_label
    scores = hasattr(estimator, "score_func")  # which looks at y itself
    several = several_targets(estimator) or scores
    ravels = not get_tags(estimator).target_tags.multi_output  # also MLPRegressor, which takes several all the same
    if schema.n_outputs == 1 and (is_classifier(estimator) or scores or ravels):
        what = "A column-vector y was passed when a 1d array was expected. Please change the shape of y to"
        warnings.warn(f"{what} (n_samples,), for example using ravel().", DataConversionWarning, stacklevel=5)
        return rounds.through(raveled())
    if schema.n_outputs > 1 and not several:
        if not indicators:
            shape = (schema.n_rows, schema.n_outputs)
            raise InvalidData(f"y should be a 1d array, got an array of shape {shape} instead.")
        LabelBinarizer().fit(stand_ins(schema))
    return rounds


def check_labels(schema: Schema) -> None:
    """What scikit-learn's `check_classification_targets` makes of the pooled targets: an error, a warning, or nothing.

    Parameters
    ----------
    schema : Schema
        With classes.

    Raises
    ------
    ValueError
        If the labels are no classes, such as fractions.
    """
    check_classification_targets(stand_ins(schema))


def stand_ins(schema: Schema) -> Array:
    """Labels made up, of which scikit-learn thinks what it thinks of the pooled ones.

    Parameters
    ----------
    schema : Schema
        With classes.

    Returns
    -------
    ndarray of shape (m,) or (m, n_outputs)
        Every class occurs; m is large enough to tell whether most rows are a class of their own.
    """
    rows = min(schema.n_rows, 2 * max(schema.n_classes) + 22)
    columns = [np.resize(classes, rows) for classes in schema.classes]
    return np.stack(columns, axis=1) if schema.n_outputs else columns[0]


def refuse_text(estimator: Any, is_text: bool) -> None:
    """Refuse text as the targets of an estimator that wants numbers.

    Parameters
    ----------
    estimator : estimator
        Named in the error.
    is_text : bool
        Whether the targets are text.

    Raises
    ------
    InvalidData
    """
    if is_text:
        name = type(estimator).__name__
        raise InvalidData(explain(f"{name} is a regressor: its targets are numbers", got="text", where="y"))
