"""What stands beside the rows: codes of labels, and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from atoll.errors import InvalidData, explain
from atoll.shards import Shard, weight_names, weights
from atoll.specs import Spec
from atoll.trees import Array, Tree
from atoll.views.base import views

__all__ = ["class_weighted", "codes", "of_class", "raveled", "step_weights"]


def codes(classes: Sequence[Array]) -> Spec:
    """The view that adds the column `code`: for each label its index among the agreed classes.

    Parameters
    ----------
    classes : sequence of ndarray
        Sorted classes, one array per output.

    Returns
    -------
    Spec
        `code` has shape (n,), or (n, n_outputs) where y has two dimensions; int64.
    """
    written = [np.asarray(c, dtype=np.str_) if c.dtype == object else c for c in classes]
    return Spec("codes", {}, {str(i): c for i, c in enumerate(written)})


@views.register("codes")
def _codes(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    if shard.y is None:
        raise InvalidData(explain("these rows have no labels", where=f"node {shard.name!r}"))
    labels = shard.y if shard.y.ndim == 2 else shard.y[:, None]
    code = np.stack([_encode(labels[:, i], arrays[str(i)], shard.name) for i in range(labels.shape[1])], axis=1)
    return shard.with_columns(code=np.ascontiguousarray(code.reshape(shard.y.shape)))


def _encode(labels: Array, classes: Array, node: str) -> Array:
    code = np.searchsorted(classes, labels).astype(np.int64)
    near = classes[np.minimum(code, len(classes) - 1)]
    if (strange := labels[near != labels]).size:
        raise InvalidData(explain("a label is not among the agreed classes", got=strange[0], where=f"node {node!r}"))
    return code


def class_weighted(weight: Array) -> Spec:
    """The view that multiplies the sample weight of each row by the weight of its class; wants the view `codes`.

    Parameters
    ----------
    weight : ndarray of shape (n_classes,)
        In the order of the agreed classes.

    Returns
    -------
    Spec
    """
    return Spec("class_weighted", {}, {"weight": np.asarray(weight, dtype=np.float64)})


@views.register("class_weighted")
def _class_weighted(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    own, factor = weights(shard), arrays["weight"][shard.columns["code"]]
    return shard.with_columns(sample_weight=factor if own is None else own * factor)


def of_class(code: int) -> Spec:
    """The view of the rows of one class; wants the view `codes`.

    Parameters
    ----------
    code : int
        Its index among the agreed classes.

    Returns
    -------
    Spec
    """
    return Spec("of_class", {"code": int(code)})


@views.register("of_class")
def _of_class(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    return shard.take(np.flatnonzero(shard.columns["code"] == settings["code"]))


def raveled() -> Spec:
    """The view of rows whose targets, a single column, have one dimension.

    Returns
    -------
    Spec
    """
    return Spec("raveled", {})


@views.register("raveled")
def _raveled(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    return shard if shard.y is None else replace(shard, y=shard.y.reshape(-1))


def step_weights(step: str, *, plain: bool) -> Spec:
    """The view of rows with the weights that are meant for one step of a pipeline.

    Parameters
    ----------
    step : str
        Its name; ``step__sample_weight`` becomes ``sample_weight``, weights for other steps are left out.
    plain : bool
        Whether weights that name no step are for this one too.

    Returns
    -------
    Spec
    """
    return Spec("step_weights", {"step": step, "plain": plain})


@views.register("step_weights")
def _step_weights(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    names, prefix = weight_names(shard), f"{settings['step']}__"
    kept = {name: array for name, array in shard.columns.items() if name not in names}
    if settings["plain"] and "sample_weight" in names:
        kept["sample_weight"] = shard.columns["sample_weight"]
    kept |= {name.removeprefix(prefix): shard.columns[name] for name in names if name.startswith(prefix)}
    return replace(shard, columns=kept)
