"""``atoll verify``: fit on the pooled rows and over nodes, and say where and by how much they differ."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from sklearn.base import is_classifier, is_regressor
from sklearn.utils import get_tags

from atoll.cli import options, show
from atoll.cli.estimators import make, parse_values
from atoll.datasets import Dataset, load, read_table
from atoll.errors import InvalidData, explain
from atoll.verification import verify

__all__ = ["execute"]


def execute(args: Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    args : Namespace
        What was given.

    Returns
    -------
    int
        Exit status: 0 where everything is the same, 1 where something differs.
    """
    chosen = {
        o.key: o.default if getattr(args, o.key) is None else getattr(args, o.key) for o in options.VERIFY.options
    }
    estimator = make(args.ESTIMATOR, parse_values(chosen["set"]), chosen["method"])
    table = _rows(estimator, args.FILE, chosen)
    with show.busy("fitting on the pooled rows and over nodes"):
        found = verify(
            estimator, table.X, _targets(estimator, table), n_nodes=chosen["nodes"], partition=chosen["partition"],
            engine=chosen["engine"], n_workers=chosen["workers"], topology=chosen["topology"], method=chosen["method"],
            random_state=chosen["seed"], rtol=chosen["rtol"],
        )  # fmt: skip
    if args.json:
        show.emit_json({"rows": table.source, **found.to_dict()})
    else:
        show.emit(f"{found}\n")
    return 0 if found.ok else 1


def _rows(estimator: Any, file: str | None, chosen: dict[str, Any]) -> Dataset:
    if file is None:
        if chosen["target"] or chosen["drop"]:
            raise InvalidData(explain("which table has these columns?", hint="atoll verify ESTIMATOR FILE --target …"))
        return load(chosen["data"] or ("diabetes" if is_regressor(estimator) else "iris"))
    if chosen["data"]:
        got = f"{file} and --data {chosen['data']}"
        raise InvalidData(explain("rows come from a file or from a bundled data set", got=got))
    return read_table(file, chosen["target"], drop=chosen["drop"])


def _targets(estimator: Any, table: Dataset) -> Any:
    """The targets, if the estimator takes any; a regressor's whole numbers are quantities."""
    name = type(estimator).__name__
    wanted = get_tags(estimator).target_tags.required or is_classifier(estimator) or is_regressor(estimator)
    if not wanted:
        return None
    if table.y is None:
        raise InvalidData(explain(f"{name} needs a column to predict", hint="--target COLUMN"))
    return table.y.astype(float) if is_regressor(estimator) and table.y.dtype.kind in "if" else table.y
