"""Round 0 and label counts: what nodes tell each other before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.validation import check_non_negative

from atoll.context import Ctx
from atoll.errors import InvalidData, explain
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.shards import Shard, for_good, is_sparse, outputs, weight_names
from atoll.table import Kind, Table
from atoll.trees import Array, Tree

__all__ = ["check_finite", "count_labels", "count_rows", "describe_rows"]

_EMPTY: Tree = {
    "text": np.zeros(0, dtype="U1"),
    "integer": np.zeros(0, dtype=np.int64),
    "real": np.zeros(0, dtype=np.float64),
}


@operation(
    "describe.schema",
    discloses="the number of rows and whether they have weights other than zero, the names and types of the columns "
    "and whether one is empty, whether values are missing or infinite, and for a classifier which classes occur",
)
def describe_rows(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """What a node's rows look like; arrays of all nodes are joined in node order (`Each`).

    Classes travel in one of three arrays (text, integer, real) by the kind of the target, `n_classes` long per output.
    A table tells in `columns` what each of its columns is, a matrix only where one of them has no values at all, or
    was given as whole numbers or truth values.

    `wildest` is 0, 1 where a value is missing, 2 where one is infinite. A node whose weights are not finite, or below
    zero, refuses.

    Settings: `classes`, whether to tell them; `ensure_all_finite`, as in scikit-learn (False where it is left out): a
    node that holds NaN or infinity refuses, naming the column; `ensure_targets`: likewise for the targets.
    """
    wildest = _check_finite(shard, ctx.settings.get("ensure_all_finite", False))
    weighing = _check_weights(shard)
    if ctx.settings.get("ensure_targets", False) and shard.y is not None and shard.y.dtype.kind == "f":
        assert_all_finite(shard.y, input_name="y")
    names, kinds = shard.feature_names or (), _kinds(shard.X, shard.given)
    tree: Tree = {
        "rows": np.array([shard.n_rows], dtype=np.int64),
        "features": np.array([shard.n_features], dtype=np.int64),
        "named": np.array([len(names)], dtype=np.int64),
        "names": np.asarray(names, dtype=np.str_),
        "dtype": np.array([_dtype(shard.X)]),
        "columns": kinds,
        "told": np.array([len(kinds) > 0]),
        "sparse": np.array([is_sparse(shard.X)]),
        "target": np.array([_target_dtype(shard)]),
        "outputs": np.array([outputs(shard.y)], dtype=np.int64),
        "weights": np.asarray(weight_names(shard), dtype=np.str_),
        "weighing": np.asarray(weighing, dtype=np.str_),
        "wildest": np.array([wildest], dtype=np.int8),
        **_classes(shard.y if ctx.settings["classes"] else None),
    }
    return Reply(tree)


def _dtype(X: Any) -> str:
    """NumPy's name for what a matrix holds; of a table what it came as, and whether its text is Python objects."""
    return f"{X.source} {'objects' if X.boxed else 'text'}" if isinstance(X, Table) else X.dtype.str


def _kinds(X: Any, given: tuple[str, ...] | None) -> Array:
    """What each column is, shape (d, 4) of text; (0, 4) for a matrix whose columns were all given as floats."""
    kinds: tuple[Kind, ...] = ()
    if isinstance(X, Table):
        kinds = X.form.columns
    elif not is_sparse(X) and len(X) and (given or np.isnan(X[0]).any()):
        empty = np.isnan(X[0])
        empty[empty] = np.isnan(X[:, empty]).all(axis=0)
        kinds = _of_matrix(given or (X.dtype.str,) * len(empty), empty) if given or empty.any() else ()
    return np.array([[k.holds, k.dtype, str(k.coded), k.declared] for k in kinds], dtype=np.str_).reshape(-1, 4)


def _of_matrix(dtypes: Sequence[str], empty: Array) -> tuple[Kind, ...]:
    return tuple(Kind("nothing" if e else "numbers", t, False, "") for t, e in zip(dtypes, empty.tolist(), strict=True))


@operation("describe.rows", discloses="the number of its rows")
def count_rows(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``rows`` of shape (1,), int64; joined (`Each`), nodes know from it which number their first row has."""
    return Reply({"rows": np.array([shard.n_rows], dtype=np.int64)})


@operation("describe.finite", discloses="that its rows, as the model is to see them, are complete")
def check_finite(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``rows`` of shape (1,), int64, where all values are finite; otherwise the node refuses, naming the column.

    Settings: `ensure_all_finite`, as in scikit-learn (True where it is left out).
    """
    _check_finite(shard, ctx.settings.get("ensure_all_finite", True))
    return Reply({"rows": np.array([shard.n_rows], dtype=np.int64)})


def _check_finite(shard: Shard, ensure: bool | str) -> int:
    """0, 1 where a value is missing, 2 where one is infinite; where `ensure` forbids it, an error names the column."""
    if isinstance(shard.X, Table):
        return max([0, *(_wildest_of_column(shard, i, ensure) for i in range(shard.n_features))])
    values = shard.X.data if is_sparse(shard.X) else shard.X
    if shard.memo("describe.finite", lambda: _sums_up(values)) if for_good(values) else _sums_up(values):
        return 0
    bad = _bad(values, ensure)
    if bad.any():
        i = int(shard.X.indices[bad].min() if is_sparse(shard.X) else bad.any(axis=0).argmax())
        _refuse_infinite(values[bad], shard, i, ensure)
    return _wildest(values)


def _sums_up(values: Array) -> bool:
    """Whether the sum of all values is finite; then each of them is."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum()))


def _wildest_of_column(shard: Shard, i: int, ensure: bool | str) -> int:
    column = shard.X.columns[i]
    numbers = column.numbers() if column.kind.holds == "numbers" else np.zeros(0)
    _refuse_infinite(numbers, shard, i, ensure)
    return max(int(column.missing.any()), _wildest(numbers))


def _wildest(values: Array) -> int:
    return 2 if np.isinf(values).any() else int(np.isnan(values).any())


def _check_weights(shard: Shard) -> list[str]:
    """The columns of weights in which a row has one; those that scikit-learn's estimators refuse are refused."""
    names = weight_names(shard)
    for name in names:
        weight = check_array(
            shard.columns[name], ensure_2d=False, ensure_min_samples=0, dtype=np.float64, input_name="sample_weight"
        )
        if len(weight):
            check_non_negative(weight, "`sample_weight`")
    return [name for name in names if shard.columns[name].any()]


def _bad(values: Array, ensure: bool | str) -> Array:
    if not ensure:
        return np.zeros(values.shape, dtype=bool)
    return np.isinf(values) if ensure == "allow-nan" else ~np.isfinite(values)


def _refuse_infinite(values: Array, shard: Shard, i: int, ensure: bool | str) -> None:
    """Refuse the values of a column that are not finite, naming it."""
    bad = _bad(values, ensure)
    if not bad.any():
        return
    named = f"column {shard.feature_names[i]!r}" if shard.feature_names else f"column {i}"
    held = ", ".join(np.unique(values[bad].astype(str)).tolist())
    hint = "impute them, or leave those rows out"
    raise InvalidData(explain(f"X has values that are not finite in {named}: NaN or infinity", got=held, hint=hint))


def _target_dtype(shard: Shard) -> str:
    """Empty without targets; U for text, O for text that came as Python objects."""
    if shard.y is None:
        return ""
    if shard.y.dtype.kind == "U":
        return "O" if shard.object_text else "U"
    return shard.y.dtype.str


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
