"""Forests over nodes, asked for by name: each node grows a share of the trees on its rows, and they are united."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.tree._tree import NODE_DTYPE
from sklearn.tree._tree import Tree as DecisionTree

from atoll.combine import Each
from atoll.errors import InvalidData, WireError, explain
from atoll.partition.rounding import apportion
from atoll.recipes.base import recipe
from atoll.recipes.generic import as_payload
from atoll.rounds import Rounds
from atoll.schema import Schema
from atoll.trees import Array, Tree
from atoll.views import codes

__all__ = ["fit_forest", "plant"]

_LEAF, _UNDEFINED = -1, -2
_FORESTS = (ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor)


@recipe(*_FORESTS, method="forest", exact=False)
def fit_forest(estimator: Any, rounds: Rounds) -> Any:
    """Not exact: the trees of all nodes, in the order of the nodes, each grown on the rows of one node.

    Nodes grow trees in proportion to their rows, at least one each. Trees travel as arrays and are checked before
    anything is built from them.
    """
    schema = rounds.schema
    if estimator.oob_score:
        hint = "leave oob_score out, and score rows that no node has"
        raise InvalidData(explain("a tree knows which rows of its own node it has not seen, no others", hint=hint))
    n_classes = schema.n_classes if is_classifier(estimator) else None
    shares = apportion(np.asarray(schema.rows, dtype=float), max(estimator.n_estimators, len(schema.rows)), floor=1)
    seen = rounds.through(codes(schema.classes)) if n_classes else rounds
    grown = seen.round(
        "forest.grow",
        as_payload(estimator, rounds),
        combine=Each(),
        settings={"n_classes": n_classes, "n_outputs": max(1, schema.n_outputs)},
        each={position: {"share": np.array([share])} for position, share in enumerate(shares)},
    )
    _unite(estimator, grown, schema)
    rounds.run.notes.append(
        f"forest: {len(schema.rows)} nodes grew {len(estimator.estimators_)} trees, each on the rows of one node, in "
        "proportion to their rows; this is not the forest that the pooled rows would give"
    )
    return estimator


def _unite(estimator: Any, grown: Tree, schema: Schema) -> None:
    """Make the fitted forest; what does not depend on rows is settled by scikit-learn's own `fit` on made-up ones."""
    made_up = clone(estimator).set_params(n_estimators=1, max_samples=None, random_state=0, warm_start=False)
    made_up.fit(*_made_up(schema))
    (like,) = made_up.estimators_
    left_behind = {"_n_samples", "_n_samples_bootstrap", "_sample_weight", "estimators_"}
    settled = vars(made_up).keys() - estimator.get_params(deep=False).keys() - left_behind
    vars(estimator).update({name: vars(made_up)[name] for name in settled})
    ends = np.cumsum(grown["nodes"])
    counts = grown["nodes"]
    if not len(counts) or counts.min() < 1 or len(grown["seed"]) != len(ends) or ends[-1] != len(grown["value"]):
        raise WireError(explain("trees that nodes have sent do not fit the number of their nodes"))
    estimator.estimators_ = []
    for start, end, seed in zip(ends - counts, ends, grown["seed"], strict=True):
        tree = copy.copy(like).set_params(random_state=int(seed))
        tree.tree_ = plant({name: grown[name][start:end] for name in (*NODE_DTYPE.names, "value")}, like.tree_)
        estimator.estimators_.append(tree)


def _made_up(schema: Schema) -> tuple[Array, Array]:
    """A row for each class."""
    classes = schema.classes or (np.ones(1),) * max(1, schema.n_outputs)
    n = max(len(c) for c in classes)
    y = np.stack([np.resize(c, n) for c in classes], axis=1)
    return np.zeros((n, schema.n_features), dtype=np.float32), y if schema.n_outputs else y[:, 0]


def plant(arrays: Tree, like: Any) -> Any:
    """A tree of scikit-learn from arrays that came from elsewhere; what compiled code trusts is checked first.

    Parameters
    ----------
    arrays : Tree
        scikit-learn's fields of each node, (nodes,), and `value` (nodes, n_outputs, max_n_classes).
    like : sklearn.tree._tree.Tree
        A tree for the same columns, outputs and classes.

    Returns
    -------
    sklearn.tree._tree.Tree

    Raises
    ------
    WireError
        If the arrays are no such tree: a child that does not come after its parent, or has two, a column that does not
        exist.
    """
    value = np.ascontiguousarray(arrays["value"], dtype=np.float64)
    n = len(value)
    if value.shape != (n, like.n_outputs, like.max_n_classes):
        raise WireError(explain("a tree has values of another shape", got=value.shape))
    if any(arrays[name].shape != (n,) for name in NODE_DTYPE.names):
        raise WireError(explain("a tree has arrays of different lengths"))
    nodes = np.zeros(n, dtype=NODE_DTYPE)
    for name in NODE_DTYPE.names:
        nodes[name] = arrays[name]
    _check(nodes, like.n_features)
    tree = DecisionTree(*like.__reduce__()[1])
    tree.__setstate__({"max_depth": _depth(nodes), "node_count": n, "nodes": nodes, "values": value})
    return tree


def _check(nodes: Array, n_features: int) -> None:
    inner = nodes["left_child"] != _LEAF
    left, right, feature = (nodes[name][inner] for name in ("left_child", "right_child", "feature"))
    parent = np.flatnonzero(inner)
    children = np.sort(np.concatenate([left, right]))
    if not (np.array_equal(children, np.arange(1, len(nodes))) and (left > parent).all() and (right > parent).all()):
        raise WireError(explain("a tree has a node that does not come after its one parent"))
    if ((feature < 0) | (feature >= n_features)).any():
        raise WireError(explain("a tree splits a column that does not exist", expected=f"0 to {n_features - 1}"))
    leaf = nodes[~inner]
    if (leaf["right_child"] != _LEAF).any() or (leaf["feature"] != _UNDEFINED).any():
        raise WireError(explain("a leaf of a tree has a child, or splits a column"))
    if not all(np.isfinite(nodes[name]).all() for name in ("threshold", "impurity", "weighted_n_node_samples")):
        raise WireError(explain("a tree has a threshold, impurity or weight that is not finite"))


def _depth(nodes: Array) -> int:
    depth, level = 0, np.zeros(1, dtype=np.int64)
    while len(level := level[nodes["left_child"][level] != _LEAF]):
        level = np.concatenate([nodes["left_child"][level], nodes["right_child"][level]])
        depth += 1
    return depth
