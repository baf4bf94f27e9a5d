"""Which operations each estimator asks, measured: what a driver declares when it opens a run at nodes that keep rows.

Every example of `tests/examples` is fitted over three nodes, in every form of the rows that it takes, and asked all
that it answers; skorch nets are one layer each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from sklearn.tree import DecisionTreeClassifier  # noqa: E402
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor  # noqa: E402
from torch import nn  # noqa: E402

import atoll.recipes.nets  # noqa: F401, E402 - so that nets are among what is supported
from atoll import Federated, Federation  # noqa: E402
from atoll.catalogue import run_of  # noqa: E402
from atoll.datasets import load  # noqa: E402
from atoll.errors import AtollError  # noqa: E402
from atoll.recipes import generic_ways, supported  # noqa: E402
from atoll.recipes.needs import parts  # noqa: E402
from cases import queries  # noqa: E402
from examples_base import Example  # noqa: E402
from laws import EXAMPLES, TRAINED, answers, forms  # noqa: E402

__all__ = ["asked", "written"]

NODES = 3
DATA = 3
NETS = {
    NeuralNetBinaryClassifier: ("breast_cancer", nn.Sequential(nn.Linear(30, 1), nn.Flatten(0))),
    NeuralNetClassifier: ("iris", nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1))),
    NeuralNetRegressor: ("diabetes", nn.Linear(10, 1)),
}
EVERY = {**EXAMPLES, **TRAINED}
TABLE = HERE.parent / "src" / "atoll" / "recipes" / "asked.json"
Asked = dict[str, dict[str, list[str]]]


def asked(names: tuple[str, ...] | None = None) -> Asked:
    """Operations by class name and method; those of the generic ways stand under an empty name.

    Parameters
    ----------
    names : tuple of str, optional
        Class names; everything by default.
    """
    found: Asked = {}
    kinds = {kind.__name__: kind for kind in supported(by_name=True)}
    for name in sorted(kinds):
        if names is None or name in names:
            ways = supported(by_name=True)[kinds[name]].values()
            found[name] = {way.method: sorted(_of(kinds[name], way.method, default=way.default)) for way in ways}
    if names is None or "" in names:
        found[""] = {method: sorted(_of(DecisionTreeClassifier, method, default=False)) for method in generic_ways()}
    return found


def _of(kind: Any, method: str, *, default: bool) -> set[str]:
    if kind in NETS:
        return _of_net(kind)
    found: set[str] = set()
    for example in EVERY.get(kind, [Example(lambda _: kind(), ("iris", "diabetes"))]):
        for name in example.names[:DATA]:
            for rows in forms(example, name).values():
                found |= _of_fit(rows, name, None if default else method)
    run = None if found else run_of(kind(), method)
    return found if run is None else {row.op for row in run.rows}


def _of_fit(rows: Any, name: str, method: str | None) -> set[str]:
    """Operations of one fit and its answers, but for those that its parts ask by themselves; none where it fails."""
    try:
        model = Federated(rows.estimator, method=method).fit(Federation(rows.shards(name, NODES, "iid"), verbose=0))
        answers(model, queries(name))
    except (AtollError, ValueError, TypeError):
        return set()
    inner = {op for part in _parts(rows.estimator) for op in _inner(type(part).__name__)}
    return {row.op for row in model.run_.rows} - inner | {"describe.schema"}


def _of_net(kind: Any) -> set[str]:
    name, module = NETS[kind]
    X, y = load(name).X.astype("float32"), load(name).y
    y = y.astype("float32")[:, None] if kind is NeuralNetRegressor else y
    net = kind(module, max_epochs=2, train_split=None, verbose=0)
    return {row.op for row in Federated(net).fit(X, y, node=[i % NODES for i in range(len(X))]).run_.rows}


def _parts(estimator: Any) -> Iterator[Any]:
    for part in parts(estimator):
        yield part
        yield from _parts(part)


@cache
def _inner(name: str) -> set[str]:
    return {op for ops in asked((name,)).get(name, {}).values() for op in ops}


def written() -> str:
    """The file."""
    return json.dumps(asked(), indent=1) + "\n"
