"""Round 0 and label counts: what nodes tell each other before anything is trained."""

from __future__ import annotations

import numpy as np

from atoll.context import Ctx
from atoll.errors import InvalidData, explain
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.shards import Shard, is_sparse
from atoll.trees import Array, Tree

__all__ = ["count_labels", "describe_rows"]

_EMPTY: Tree = {
    "text": np.zeros(0, dtype="U1"),
    "integer": np.zeros(0, dtype=np.int64),
    "real": np.zeros(0, dtype=np.float64),
}


@operation(
    "describe.schema",
    discloses="the number of rows, the names and types of the columns, and for a classifier which classes occur",
)
def describe_rows(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """What a node's rows look like; arrays of all nodes are joined in node order (`Each`).

    Classes travel in one of three arrays (text, integer, real) by the kind of the target, `n_classes` long per output.

    Settings: `classes`, whether to tell them; `ensure_all_finite`, as in scikit-learn (False where it is left out): a
    node that holds NaN or infinity refuses, naming the column.
    """
    _check_finite(shard, ctx.settings.get("ensure_all_finite", False))
    names = shard.feature_names or ()
    tree: Tree = {
        "rows": np.array([shard.n_rows], dtype=np.int64),
        "features": np.array([shard.n_features], dtype=np.int64),
        "named": np.array([len(names)], dtype=np.int64),
        "names": np.asarray(names, dtype=np.str_),
        "dtype": np.array([shard.X.dtype.str]),
        "sparse": np.array([is_sparse(shard.X)]),
        "target": np.array([_target_dtype(shard)]),
        "outputs": np.array([_outputs(shard.y)], dtype=np.int64),
        **_classes(shard.y if ctx.settings["classes"] else None),
    }
    return Reply(tree)


def _check_finite(shard: Shard, ensure: bool | str) -> None:
    values = shard.X.data if is_sparse(shard.X) else shard.X
    with np.errstate(over="ignore", invalid="ignore"):
        if not ensure or np.isfinite(values.sum()):
            return
    bad = np.isinf(values) if ensure == "allow-nan" else ~np.isfinite(values)
    if not bad.any():
        return
    column = int(shard.X.indices[bad].min() if is_sparse(shard.X) else bad.any(axis=0).argmax())
    named = f"column {shard.feature_names[column]!r}" if shard.feature_names else f"column {column}"
    held = np.unique(values[bad].astype(str)).tolist()
    raise InvalidData(
        explain(
            f"X has values that are not finite in {named}",
            got=", ".join(held),
            hint="impute them, or leave those rows out",
        )
    )


def _target_dtype(shard: Shard) -> str:
    """Empty without targets; U for text, O for text that came as Python objects."""
    if shard.y is None:
        return ""
    if shard.y.dtype.kind == "U":
        return "O" if shard.object_text else "U"
    return shard.y.dtype.str


def _outputs(y: Array | None) -> int:
    """0: one output in one dimension; otherwise the number of columns."""
    return 0 if y is None or y.ndim == 1 else y.shape[1]


def _classes(y: Array | None) -> Tree:
    tree = dict(_EMPTY, n_classes=np.zeros(0, dtype=np.int64))
    if y is None or not len(y):
        return tree
    unique = [np.unique(column) for column in y.reshape(len(y), -1).T]
    kind = {"U": "text", "f": "real"}.get(y.dtype.kind, "integer")
    tree[kind] = np.concatenate(unique).astype(tree[kind].dtype if kind != "text" else y.dtype)
    tree["n_classes"] = np.array([len(u) for u in unique], dtype=np.int64)
    return tree


@operation("describe.labels", discloses="how many rows of each class it has")
def count_labels(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Rows per class, int64 of shape (n_classes,), one array ``count.i`` per output; wants the view `codes`.

    Settings: `n_classes`, a list with the number of classes of each output.
    """
    code = shard.columns["code"]
    code = code if code.ndim == 2 else code[:, None]
    sizes = ctx.settings["n_classes"]
    return Reply({f"count.{i}": np.bincount(code[:, i], minlength=n)[:n].astype(np.int64) for i, n in enumerate(sizes)})
