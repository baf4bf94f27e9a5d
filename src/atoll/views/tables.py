"""Some of the columns, in order, under names, as numbers, or side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from atoll.shards import Shard, is_sparse
from atoll.specs import Spec
from atoll.table import Form, Table
from atoll.trees import Array, Tree
from atoll.views.base import views

__all__ = ["arrange", "beside", "blanked", "columns", "named", "numbers", "scaled"]


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
    parts: list[Any] = [block.X.matrix() if isinstance(block.X, Table) else block.X for block in made]
    if any(map(is_sparse, parts)) if settings["sparse"] is None else settings["sparse"]:
        return shard.with_rows(sp.hstack(parts, format="csr"))
    return shard.with_rows(np.hstack([p.toarray() if is_sparse(p) else p for p in parts]))
