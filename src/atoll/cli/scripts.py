"""The same in Python: the scripts that a report ends with."""

from __future__ import annotations

from typing import Any

from sklearn import config_context
from sklearn.base import is_regressor

from atoll.cli.compare import Nodes, Task
from atoll.cli.pipelines import imports_of
from atoll.cli.settings import Settings
from atoll.recipes import as_given

__all__ = ["demo_script", "run_script"]


def demo_script(name: str, test_size: float, spread: Nodes, sites: Nodes) -> str:
    """What ``atoll demo`` does, as a script.

    Parameters
    ----------
    name : str
        The data set.
    test_size : float
        Share of the rows held out.
    spread, sites : Nodes
        The distributed and the federated ones.

    Returns
    -------
    str
    """
    seeded = f", random_state={spread.seed}"
    where = "" if spread.engine == "inprocess" else f", engine={spread.engine!r}"
    where += "" if spread.workers is None else f", n_workers={spread.workers}"
    return f"""\
from sklearn.datasets import load_{name}
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from atoll import Distributed, Federated, Federation

X, y = load_{name}(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size={test_size}{seeded})

# distributed: the rows are split over {spread.n_nodes} nodes
knn = Distributed(KNeighborsClassifier(n_neighbors=3), n_nodes={spread.n_nodes}{where}{seeded})
knn.fit(X_train, y_train)
print("Accuracy:", accuracy_score(y_test, knn.predict(X_test)))

# federated: the rows belong to {sites.n_nodes} sites and stay there
sites = Federation.simulate(
    X_train, y_train, n_nodes={sites.n_nodes}, partition={sites.partition!r}{where}{seeded}
)
knn = Federated(KNeighborsClassifier(n_neighbors=3)).fit(sites)
print("Accuracy:", accuracy_score(y_test, knn.predict(X_test)))
print(knn.run_)  # rounds, bytes, seconds, and what left each node
"""


_SCORES = {
    "mean log-density": "model.score_samples(X_test).mean()",
    "mean distance": "model.kneighbors(X_test)[0].mean()",
}


def run_script(settings: Settings, estimator: Any, task: Task) -> str:
    """What ``atoll run`` does, as a script.

    Parameters
    ----------
    settings : Settings
        What it was asked for.
    estimator : estimator
        Not fitted.
    task : Task
        What it is asked.

    Returns
    -------
    str
    """
    s, imports = settings, "\n".join(imports_of(estimator))
    read = [repr(s.file), *([] if s.target is None else [repr(s.target)])]
    read += [f"drop={list(s.drop)!r}"] if s.drop else []
    read += [f"node={s.node_column!r}"] if s.node_column else []
    read += ["kinds=True"] if as_given(estimator) else []
    y = "table.y.astype(float)" if is_regressor(estimator) else "table.y"
    columns = [
        ("X", "table.X.rows()" if as_given(estimator) else "table.X"),
        *([("y", y)] if task.needs_target else []),
        *([("node", "table.node")] if s.node_column else []),
    ]
    parts = ", ".join(f"{name}_train, {name}_test" for name, _ in columns)
    given = ", ".join(values for _, values in columns)
    fitted = "X_train, y_train" if task.needs_target else "X_train"
    federated = s.trust == "federated"
    uses = (["Federated", "Federation"] if federated else ["Distributed"]) + (["Rule"] if _rule(s) else [])
    score = _SCORES.get(task.measure, "model.score(X_test, y_test)")
    method = f", method={s.method!r}" if s.method else ""
    where = "".join(f", {key}={value}" for key, value in _where(s).items())
    name = _written(estimator)
    train = (
        f"sites = Federation.simulate({fitted}{where})\nmodel = Federated({name}{method}).fit(sites)"
        if federated
        else f"model = Distributed({name}{where}{method}).fit({fitted})"
    )
    return f"""\
from sklearn.model_selection import train_test_split
{imports}
from atoll import {", ".join(uses)}
from atoll.datasets import read_table

table = read_table({", ".join(read)})
{parts} = train_test_split({given}, test_size={s.test_size}, random_state={s.seed})
{train}
print("{task.measure}:", {score})
print(model.run_)
"""


def _written(estimator: Any) -> str:
    """An estimator as Python, its parameters where they are not the default ones."""
    with config_context(print_changed_only=True):
        return " ".join(estimator.__repr__(N_CHAR_MAX=1 << 20).split())


def _rule(s: Settings) -> str:
    parts = [f"deadline={s.deadline}"] if s.deadline is not None else []
    parts += [f"quorum={s.quorum}"] if s.quorum != 1 else []
    return f"Rule({', '.join(parts)})" if parts else ""


def _where(s: Settings) -> dict[str, str]:
    """Keyword arguments of `Distributed` or `Federation.simulate` that are not the default."""
    where = {"partition": "node_train"} if s.node_column else {"n_nodes": str(s.nodes)}
    if not s.node_column and s.partition != "iid":
        where["partition"] = repr(s.partition)
    if s.engine != "inprocess":
        where["engine"] = repr(s.engine)
    if s.workers is not None:
        where["n_workers"] = str(s.workers)
    if s.topology != "star":
        where["topology"] = repr(s.topology)
    if _rule(s):
        where["rule"] = _rule(s)
    if s.journal is not None:
        where["journal"] = repr(s.journal)
    return where | {"random_state": str(s.seed)}
