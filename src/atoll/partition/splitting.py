"""`split` and `by_column`: checks before any work, and the way from names to row numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator, RandomState

from atoll.errors import InvalidData, UnknownName, explain
from atoll.partition.labels import distinct, encode
from atoll.partition.schemes import partitions
from atoll.rng import as_seed, stream
from atoll.specs import Spec, check_settings, read
from atoll.trees import Array

__all__ = ["by_column", "split"]


def split(
    y_or_n: Any,
    n_nodes: int | None,
    partition: str | Spec | Sequence[Any] | Array = "iid",
    *,
    random_state: int | RandomState | Generator | None = None,
    min_rows: int = 1,
    **settings: Any,
) -> list[Array]:
    """Split rows over nodes.

    Parameters
    ----------
    y_or_n : array-like of shape (n_rows,) or (n_rows, n_outputs), or int
        Labels, or the number of rows where there are none (then only `iid`, `quantity` and node ids work). Of several
        outputs the first counts. Floats with more than 20 distinct values are a regression target: `label` and
        `shards` sort by them, the others use their deciles as classes.
    n_nodes : int or None
        Number of nodes; None where `partition` holds node ids.
    partition : str, Spec or array-like of shape (n_rows,), default="iid"
        A name, or a name with settings: ``"dirichlet(alpha=0.3)"``, ``"shards(per_node=2)"``, and in short
        ``"classes=2"`` for the first setting. Or the node id of each row, as in `by_column`.

        - `iid`: rows at random, equal sizes
        - `label`: rows sorted by label, one equal piece per node
        - `classes(per_node=2)`: rows of at most so many classes per node
        - `dirichlet(alpha=0.5)`: each class spread by its own Dirichlet shares, from which sizes follow [1]_
        - `dirichlet-by-node(alpha=0.5)`: for each node a mix of classes from a Dirichlet about the pooled mix, equal
          sizes [2]_
        - `shards(per_node=2)`: rows sorted by label, several equal pieces per node [3]_
        - `quantity(alpha=0.5)` or `quantity(sigma=1)`: rows at random, sizes by Dirichlet shares or log-normal
    random_state : int, RandomState, Generator or None, default=None
        Seed. An int gives the same rows every time, and so does None (seed 0); a RandomState or Generator is drawn
        from.
    min_rows : int, default=1
        Every node gets at least so many rows.
    **settings
        Settings of the partition by keyword; they win over those written into `partition`.

    Returns
    -------
    list of ndarray of int64
        Row numbers of each node, ascending; together all rows, each once.

    Raises
    ------
    InvalidData
        For fewer rows than nodes times `min_rows`, labels that are needed but missing, or settings out of range.
    UnknownName
        For a partition or a setting that does not exist.

    Notes
    -----
    Drawn shares are fitted to whole sizes and class counts and then rounded so that all sums hold. Nothing is drawn
    again until it fits, so every call ends, also for a concentration of 1e-8 with as many nodes as rows.

    References
    ----------
    .. [1] Yurochkin et al. (2019), "Bayesian Nonparametric Federated Learning of Neural Networks", ICML.
    .. [2] Hsu, Qi & Brown (2019), "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
       Classification", arXiv:1909.06335.
    .. [3] McMahan et al. (2017), "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS.

    Examples
    --------
    >>> from atoll.partition import split
    >>> [part.tolist() for part in split(["b", "a", "b", "a"], 2, "label")]
    [[1, 3], [0, 2]]
    >>> [len(part) for part in split(10, 3, "iid", random_state=0)]
    [4, 3, 3]
    """
    min_rows = _whole_number(min_rows, "min_rows")
    if not isinstance(partition, str | Spec):
        return _split_by_ids(y_or_n, n_nodes, partition, min_rows, settings)
    n_nodes = _whole_number(n_nodes, "n_nodes")
    spec = read(partitions, partition) if isinstance(partition, str) else partition
    spec = Spec(spec.name, {**spec.settings, **settings})
    check_settings(partitions, spec)
    labels = encode(y_or_n)
    _check_enough_rows(labels.n_rows, n_nodes, min_rows)
    owner = partitions[spec.name](labels, n_nodes, min_rows, _stream(random_state), **spec.settings)
    return _grouped(owner, n_nodes)


def by_column(ids: Any) -> tuple[tuple[str, ...], list[Array]]:
    """Split rows by a column that says which node each belongs to.

    Parameters
    ----------
    ids : array-like of shape (n_rows,)
        Node ids: text, whole numbers, or anything else that sorts.

    Returns
    -------
    names : tuple of str
        The ids as text, in sorted order of the ids (numbers by value).
    parts : list of ndarray of int64
        Row numbers of each node, ascending.

    Raises
    ------
    InvalidData
        For ids that are missing or of mixed type.

    Examples
    --------
    >>> from atoll.partition import by_column
    >>> names, parts = by_column(["rome", "oslo", "rome"])
    >>> names, [part.tolist() for part in parts]
    (('oslo', 'rome'), [[1], [0, 2]])
    """
    values, codes = distinct(ids, "node id")
    return tuple(str(v) for v in values.tolist()), _grouped(codes, len(values))


def _whole_number(value: Any, name: str) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise InvalidData(explain(f"bad {name}", got=repr(value), expected="a positive whole number"))
    return int(value)


def _check_enough_rows(n_rows: int, n_nodes: int, min_rows: int) -> None:
    if n_rows < n_nodes * min_rows:
        raise InvalidData(
            explain(
                f"n_samples={n_rows} is not enough for {n_nodes} nodes with at least {min_rows} "
                + ("row each" if min_rows == 1 else "rows each"),
                expected=f"at least {n_nodes * min_rows} rows, or at most {max(n_rows, 0) // min_rows} nodes",
                hint="lower n_nodes" if min_rows == 1 else "lower n_nodes or min_rows",
            )
        )


def _split_by_ids(y_or_n: Any, n_nodes: int | None, ids: Any, min_rows: int, settings: dict[str, Any]) -> list[Array]:
    if settings:
        raise UnknownName(explain("a column of node ids takes no settings", got=", ".join(sorted(settings))))
    names, parts = by_column(ids)
    n_ids = sum(len(part) for part in parts)
    n_rows = encode(y_or_n).n_rows
    if n_ids != n_rows:
        raise InvalidData(explain("expected one node id per row", got=f"{n_ids} ids", expected=f"{n_rows} rows"))
    if n_nodes is not None and _whole_number(n_nodes, "n_nodes") != len(names):
        raise InvalidData(
            explain(
                "n_nodes and the column of node ids do not agree",
                got=f"n_nodes={n_nodes}, {len(names)} distinct ids",
                hint="leave n_nodes out (None) to have one node per id",
            )
        )
    for name, part in zip(names, parts, strict=True):
        if len(part) < min_rows:
            raise InvalidData(
                explain(f"node {name!r} has too few rows", got=len(part), expected=f"at least {min_rows} (min_rows)")
            )
    return parts


def _grouped(owner: Array, n_nodes: int) -> list[Array]:
    """Row numbers of each node, ascending."""
    order = np.argsort(owner, kind="stable").astype(np.int64)
    return np.split(order, np.cumsum(np.bincount(owner, minlength=n_nodes))[:-1])


def _stream(random_state: Any) -> Generator:
    number = isinstance(random_state, int | np.integer) and not isinstance(random_state, bool)
    if random_state is not None and not number and not isinstance(random_state, RandomState | Generator):
        raise InvalidData(
            explain("bad random_state", got=repr(random_state),
                    expected="a whole number, a numpy.random.RandomState or Generator, or None")
        )  # fmt: skip
    return stream(as_seed(random_state), 0, -1, "partition")
