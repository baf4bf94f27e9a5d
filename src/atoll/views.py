"""How rows look to the next step: label codes, a fitted scaler, a fold.

A view is a `Spec` that travels with a task. The node looks it up here, applies it to its rows and keeps the result as
long as it is used; it can be rebuilt at will.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from atoll.errors import InvalidData, explain
from atoll.messages import digest
from atoll.shards import Shard
from atoll.specs import Registry, Spec
from atoll.trees import Array, Tree

__all__ = ["codes", "viewer", "views"]

views: Registry[Callable[[Shard, dict[str, Any], Tree], Shard]] = Registry("view")


def viewer(specs: Sequence[Spec]) -> Callable[[Shard], Shard]:
    """Bind some views once; the result maps a node's rows to what the operation sees.

    The views' arrays are hashed here, once per exchange and not once per node.
    """
    if not specs:
        return lambda shard: shard
    steps = [(digest([tuple(s) for s in specs[: i + 1]]), views[s.name], s) for i, s in enumerate(specs)]

    def see(shard: Shard) -> Shard:
        for key, view, spec in steps:
            base = shard
            shard = base.memo(("view", key), lambda b=base, v=view, s=spec: v(b, s.settings, s.arrays))  # type: ignore[misc]
        return shard

    return see


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
