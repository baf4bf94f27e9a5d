"""How rows look to the next step: label codes, a fitted scaler, a fold.

A view is a `Spec` that travels with a task. The node looks it up here, applies it to its rows and keeps the result as
long as it is used; it can be rebuilt at will.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn import config_context
from sklearn.base import BaseEstimator

from atoll import models
from atoll.errors import InvalidData, explain
from atoll.messages import digest
from atoll.shards import Shard, as_rows, empty_shard, is_sparse, weight_names, weights
from atoll.specs import Registry, Spec
from atoll.table import Form, Table
from atoll.trees import Array, Tree

__all__ = [
    "arrange",
    "beside",
    "blanked",
    "chosen",
    "class_weighted",
    "codes",
    "columns",
    "fold",
    "numbers",
    "of_class",
    "scaled",
    "step_weights",
    "transformed",
    "viewer",
    "views",
]

views: Registry[Callable[[Shard, dict[str, Any], Tree], Shard]] = Registry("view")


def viewer(specs: Sequence[Spec]) -> Callable[[Shard], Shard]:
    """Bind some views once; the result maps a node's rows to what the operation sees.

    The views' arrays are hashed here, once for all nodes; for the same specs, which nobody changes, once at all.
    """
    if not specs:
        return lambda shard: shard
    same = tuple(map(id, specs))
    if same not in _viewers:
        _viewers[same] = (tuple(specs), _bind(specs))
        if len(_viewers) > _BOUND:
            _viewers.pop(next(iter(_viewers)), None)
    return _viewers[same][1]


# Bound views by the identity of their specs, which stand beside them so that no other object takes an identity over.
_viewers: dict[tuple[int, ...], tuple[tuple[Spec, ...], Callable[[Shard], Shard]]] = {}
_BOUND = 32


def _bind(specs: Sequence[Spec]) -> Callable[[Shard], Shard]:
    steps, key = [], ""
    for spec in specs:
        key = digest([key, tuple(spec)])
        steps.append((key, views[spec.name], spec))

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


def fold(threshold: Array, number: int, *, keep: str) -> Spec:
    """The view of the rows that a fold trains on, or tests; wants the view `codes` where there are several classes.

    Parameters
    ----------
    threshold : ndarray of shape (C, n_splits + 1), int64
        Fold k tests the rows of class c with an id from ``[c, k]`` to below ``[c, k + 1]``; see `recipes.folds`.
    number : int
        The fold.
    keep : {"train", "test"}
        Which rows stay.

    Returns
    -------
    Spec
    """
    return Spec("fold", {"fold": int(number), "keep": keep}, {"threshold": np.asarray(threshold, dtype=np.int64)})


@views.register("fold")
def _fold(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    k, edges = settings["fold"], arrays["threshold"]
    low, high = (edge if len(edges) == 1 else edge[shard.columns["code"]] for edge in (edges[:, k], edges[:, k + 1]))
    tested = (shard.ids >= low) & (shard.ids < high)
    return shard.take(np.flatnonzero(tested if settings["keep"] == "test" else ~tested))


def chosen(ids: Array) -> Spec:
    """The view of the rows with some ids.

    Parameters
    ----------
    ids : ndarray of shape (m,), int64
        Row ids, distinct.

    Returns
    -------
    Spec
    """
    return Spec("chosen", {}, {"ids": np.asarray(ids, dtype=np.int64)})


@views.register("chosen")
def _chosen(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    return shard.take(np.flatnonzero(np.isin(shard.ids, arrays["ids"])))


def nodes_but(names: Sequence[str]) -> Spec:
    """The view of rows in which some nodes have none, as when a node is left out.

    Parameters
    ----------
    names : sequence of str
        The nodes that are left out.

    Returns
    -------
    Spec
    """
    return Spec("nodes_but", {"names": list(names)})


@views.register("nodes_but")
def _nodes_but(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    return empty_shard(shard) if shard.name in settings["names"] else shard


def arrange(names: Sequence[str] | None, form: Form | None = None) -> Spec:
    """The view of rows whose columns stand in the agreed order; of tables also in the agreed types.

    Parameters
    ----------
    names : sequence of str or None
        Names of the columns, in the agreed order.
    form : Form, optional
        What all nodes agreed on, where rows are tables.

    Returns
    -------
    Spec
        Leaves rows alone that are so already.
    """
    settings = {"names": None if names is None else list(names), "form": None if form is None else form.write()}
    return Spec("arrange", settings)


@views.register("arrange")
def _arrange(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    names, own = settings["names"], shard.feature_names
    if names is not None and own is not None and list(own) != names:
        place = {name: i for i, name in enumerate(own)}
        shard = shard.select([place[name] for name in names])
    if settings["form"] is None:
        return shard
    form = Form.read(settings["form"])
    table = shard.X if isinstance(shard.X, Table) else Table.of(shard.X, names=shard.feature_names)
    return shard if table.form == form else replace(shard, X=table.arranged(form))


def columns(which: Sequence[int] | Array) -> Spec:
    """The view of some columns, by position.

    Parameters
    ----------
    which : sequence of int
        Positions, in any order.

    Returns
    -------
    Spec
    """
    return Spec("columns", {}, {"which": np.asarray(which, dtype=np.int64)})


@views.register("columns")
def _columns(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    return shard.select(arrays["which"])


def numbers() -> Spec:
    """The view of a table as a matrix of floats, NaN where a value is missing; a table with text stays what it is.

    Returns
    -------
    Spec
    """
    return Spec("numbers")


@views.register("numbers")
def _numbers(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    if not isinstance(shard.X, Table) or shard.X.form.first_text() is not None:
        return shard
    return replace(shard, X=shard.X.matrix())


def blanked(value: float) -> Spec:
    """The view of numbers in which NaN stands for some value, for rows that write a missing one so.

    Parameters
    ----------
    value : float
        What stands for a missing value; in sparse rows among those that are stored.

    Returns
    -------
    Spec
    """
    return Spec("blanked", {"value": float(value)})


@views.register("blanked")
def _blanked(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    X: Any = shard.X.matrix() if isinstance(shard.X, Table) else shard.X.copy()
    value = settings["value"]
    values = X.data if is_sparse(X) else X
    values[values == value] = np.nan
    return replace(shard, X=X)


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


def transformed(transformer: Any) -> Spec:
    """The view of rows as a fitted transformer makes them.

    Parameters
    ----------
    transformer : transformer
        A fitted transformer of scikit-learn; it travels as data.

    Returns
    -------
    Spec
    """
    plain = copy.copy(transformer)
    plain.__dict__.pop("_sklearn_output_config", None)  # a view gives arrays, whatever the user is given
    return Spec("transformed", {}, {"model": np.frombuffer(models.to_bytes(plain), dtype=np.uint8)})


@views.register("transformed")
def _transformed(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    framed = isinstance(shard.X, Table) and shard.X.source != "array"
    model = read_model(arrays["model"].tobytes(), named=framed)
    with config_context(transform_output="default"):
        if shard.n_rows:
            return shard.with_rows(model.transform(shard.X.rows() if isinstance(shard.X, Table) else shard.X))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a row without names
            return shard.with_rows(as_rows(model.transform(_specimen(model, shard)), raw=True)[:0])


@lru_cache(maxsize=4)
def read_model(data: bytes, *, named: bool) -> Any:
    """A fitted estimator out of bytes, read once for all nodes of this process; it is not to be changed.

    Parameters
    ----------
    data : bytes
        From `models.to_bytes`.
    named : bool
        Whether the rows that it will see have column names. Where they have none, scikit-learn would warn of each
        estimator that was fitted with some, so the names are forgotten.

    Returns
    -------
    estimator
    """
    model = models.from_bytes(data)
    if not named:
        _forget_names(model)
    return model


def _forget_names(thing: Any) -> None:
    if isinstance(thing, BaseEstimator):
        vars(thing).pop("feature_names_in_", None)
    inside = vars(thing) if isinstance(thing, BaseEstimator) else thing
    for part in inside.values() if isinstance(inside, dict) else inside:
        if isinstance(part, BaseEstimator | list | tuple | dict):
            _forget_names(part)


def _specimen(model: Any, shard: Shard) -> Any:
    """One row that the model accepts, since scikit-learn transforms no fewer."""
    if is_sparse(shard.X):
        return sp.csr_matrix(np.ones((1, shard.n_features), dtype=shard.X.dtype))
    if isinstance(shard.X, Table):
        row = [["" if kind.holds == "text" else 1.0 for kind in shard.X.form.columns]]
        row = [[c[0] for c in model.categories_]] if hasattr(model, "categories_") else row
        numeric = all(isinstance(v, int | float | np.number) for v in row[0])
        return np.array(row, dtype=np.float64 if numeric else object)
    values = [c[0] for c in model.categories_] if hasattr(model, "categories_") else np.ones(shard.n_features)
    return np.array([values], dtype=shard.X.dtype)


def named(names: Sequence[str]) -> Spec:
    """The view of rows whose columns have these names, as in the data frame that a transformer is asked to make.

    Parameters
    ----------
    names : sequence of str
        One per column.

    Returns
    -------
    Spec
    """
    return Spec("named", {"names": list(names)})


@views.register("named")
def _named(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    X = shard.X.with_names(settings["names"]) if isinstance(shard.X, Table) else shard.X
    return replace(shard, X=X, feature_names=tuple(settings["names"]))


def scaled(factor: float) -> Spec:
    """The view of rows times a factor.

    Parameters
    ----------
    factor : float
        As in `transformer_weights`.

    Returns
    -------
    Spec
    """
    return Spec("scaled", {"factor": float(factor)})


@views.register("scaled")
def _scaled(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    return shard.with_rows(shard.X * settings["factor"])


def beside(blocks: Sequence[Sequence[Spec]], *, sparse: bool | None = None) -> Spec:
    """The view of what several chains of views make of the same rows, side by side.

    Parameters
    ----------
    blocks : sequence of sequence of Spec
        One chain per block of columns; at least one.
    sparse : bool, optional
        Whether the rows become a CSR matrix; by default if any block is one.

    Returns
    -------
    Spec
    """
    steps = [(b, i, spec) for b, block in enumerate(blocks) for i, spec in enumerate(block)]
    written = [[b, spec.name, spec.settings] for b, _, spec in steps]
    arrays = {f"{k}.{name}": array for k, (_, _, spec) in enumerate(steps) for name, array in spec.arrays.items()}
    return Spec("beside", {"steps": written, "n_blocks": len(blocks), "sparse": sparse}, arrays)


@views.register("beside")
def _beside(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    made = [shard] * settings["n_blocks"]
    for k, (b, name, inner) in enumerate(settings["steps"]):
        own = {n.partition(".")[2]: a for n, a in arrays.items() if n.partition(".")[0] == str(k)}
        made[b] = views[name](made[b], inner, own)
    parts = [block.X.matrix() if isinstance(block.X, Table) else block.X for block in made]
    if any(map(is_sparse, parts)) if settings["sparse"] is None else settings["sparse"]:
        return shard.with_rows(sp.hstack(parts, format="csr"))
    return shard.with_rows(np.hstack([p.toarray() if is_sparse(p) else p for p in parts]))
