"""Turning shares into whole rows with exact sums.

A partition is drawn as a table of expected rows, node × class. Two steps make whole rows of it:

1. `fit_margins` scales the table until its sums are the wanted ones: iterative proportional fitting (Deming & Stephan
   1940) for a bounded number of sweeps, then one step onto the transportation polytope that makes the sums exact
   whatever the sweeps reached (Altschuler, Weed & Rigollet 2017, algorithm 2).
2. `round_table` rounds every cell up or down and keeps all sums (controlled rounding; Cox 1987): as long as fractions
   remain they contain a cycle, and moving along a cycle makes one of its cells whole, so it ends after at most one
   step per cell.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.random import Generator

from atoll.trees import Array

__all__ = ["apportion", "draw_shares", "fit_margins", "round_table"]

_BACKGROUND = 1e-9  # share of the independent table mixed into a seed, so that no wanted sum is out of reach
_SWEEPS = 200
_WHOLE = 1e-9  # a fraction nearer than this to a whole number is rounding error


def draw_shares(concentration: Array, n_draws: int, rng: Generator) -> Array:
    """Draw from a Dirichlet distribution, for any positive concentration however extreme.

    Gamma variates are kept as logarithms, with ``Gamma(a) = Gamma(a + 1) · U^(1/a)``, so that concentrations far
    below 1 neither underflow nor divide by zero.

    Parameters
    ----------
    concentration : ndarray of shape (n_shares,), float64
        Parameters of the distribution, positive.
    n_draws : int
        Number of independent draws.
    rng : Generator
        Source of randomness.

    Returns
    -------
    ndarray of shape (n_draws, n_shares), float64
        Non-negative; every row adds to 1.
    """
    a = np.clip(concentration, 1e-300, 1e300)
    shape = (n_draws, len(a))
    log_gamma = np.log(rng.standard_gamma(a + 1.0, shape)) + np.log1p(-rng.random(shape)) / a
    weights = np.exp(log_gamma - log_gamma.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def apportion(weights: Array, total: int, floor: int = 0) -> Array:
    """Whole numbers in proportion to weights, with an exact sum and a least value (largest remainders).

    Parameters
    ----------
    weights : ndarray of shape (n,), float64
        Non-negative; all zero counts as all equal.
    total : int
        The sum wanted, at least ``n * floor``.
    floor : int, default=0
        The least value of an entry.

    Returns
    -------
    ndarray of shape (n,), int64
    """
    share = _with_floor(np.asarray(weights, dtype=np.float64), total, floor)
    whole = np.floor(share).astype(np.int64)
    order = np.argsort(whole - share, kind="stable")
    whole[order[: total - int(whole.sum())]] += 1
    return whole


def _with_floor(weights: Array, total: int, floor: int) -> Array:
    """Shares of a total in proportion to weights, where those below the floor are lifted to it and the others pay."""
    if not weights.sum() > 0:
        weights = np.ones_like(weights)
    order = np.argsort(weights, kind="stable")
    ascending = weights[order]
    remaining = np.cumsum(ascending[::-1])[::-1]  # weight of an entry and of all larger ones
    rest = total - floor * np.arange(len(weights))  # what is left when all smaller ones take the floor
    n_lifted = int(np.argmax(ascending * rest >= floor * remaining))
    share = np.full(len(weights), float(floor))
    share[order[n_lifted:]] = np.maximum(ascending[n_lifted:] / remaining[n_lifted] * rest[n_lifted], floor)
    return share


def fit_margins(seed: Array, rows: Array, columns: Array) -> Array:
    """Scale a table until its row and column sums are the wanted ones.

    Where the seed cannot reach the sums (all nodes want a class that has too few rows), what is missing is filled
    from the other classes in proportion to what is left of them.

    Parameters
    ----------
    seed : ndarray of shape (n_rows, n_columns), float64
        Non-negative, not all zero.
    rows : ndarray of shape (n_rows,), int64
        Row sums, positive.
    columns : ndarray of shape (n_columns,), int64
        Column sums, positive; they add up to as much as the row sums.

    Returns
    -------
    ndarray of shape (n_rows, n_columns), float64
        Non-negative, with these sums up to rounding error.
    """
    total = float(rows.sum())
    independent = np.outer(rows, columns) / total
    table = (1 - _BACKGROUND) * seed * (total / seed.sum()) + _BACKGROUND * independent
    for _ in range(_SWEEPS):
        table *= (rows / table.sum(axis=1))[:, None]
        table *= columns / table.sum(axis=0)
        if np.abs(table.sum(axis=1) - rows).max() <= 1e-12 * total:
            break
    return _onto_polytope(table, rows, columns)


def _onto_polytope(table: Array, rows: Array, columns: Array) -> Array:
    """Shrink what is too large, then add what is missing as a table of rank one."""
    table = table * np.minimum(rows / table.sum(axis=1), 1.0)[:, None]
    table = table * np.minimum(columns / table.sum(axis=0), 1.0)
    row_gap = np.maximum(rows - table.sum(axis=1), 0.0)
    column_gap = np.maximum(columns - table.sum(axis=0), 0.0)
    missing = column_gap.sum()
    return np.asarray(table + np.outer(row_gap, column_gap / missing) if missing > 0 else table)


def round_table(expected: Array, rng: Generator) -> Array:
    """Round every cell of a table up or down so that all row and column sums stay what they are.

    Up and down are drawn so that each cell is rounded without bias.

    Parameters
    ----------
    expected : ndarray of shape (n_rows, n_columns), float64
        Non-negative, with row and column sums that are whole up to rounding error.
    rng : Generator
        Source of randomness.

    Returns
    -------
    ndarray of shape (n_rows, n_columns), int64
        Each cell is the floor or the ceiling of the expected one.

    Notes
    -----
    Cells that are still fractional are the edges of a forest over rows and columns. An edge that would close a cycle
    is balanced against the cycle at once, which makes an edge of it whole. A forest cannot hold fractions when its
    sums are whole (a leaf would be the only fraction of its row or column), so what remains at the end are rounding
    errors. A path of the forest visits rows and columns in turn, so a step costs at most twice the smaller side of
    the table.
    """
    whole = np.floor(expected + _WHOLE).astype(np.int64)
    fraction = expected - whole
    cells = np.argwhere(fraction > _WHOLE)
    forest = _Forest(len(expected), sum(expected.shape))
    coins = rng.random(len(cells)).tolist()
    for (row, column), coin in zip(cells.tolist(), coins, strict=True):
        for cell in forest.add(row, len(expected) + column, float(fraction[row, column]), coin):
            whole[cell] += 1
    for cell in forest.rest():
        whole[cell] += 1
    return whole


class _Forest:
    """Fractional cells as edges between rows and columns of a table; every vertex knows the edge towards its root."""

    def __init__(self, n_rows: int, n_vertices: int) -> None:
        self.n_rows = n_rows
        self.parent = [-1] * n_vertices
        self.value = [0.0] * n_vertices  # fraction on the edge from a vertex to its parent

    def add(self, row: int, column: int, value: float, coin: float) -> list[tuple[int, int]]:
        """Add an edge; if it closes a cycle, balance that, and return the cells that became one."""
        self._make_root(row)
        *path, root = self._path_to_root(column)
        ones: list[tuple[int, int]] = []
        if root == row:
            value += self._balance(path, value, coin)
            ones = self._cut_whole(path)
            if value <= _WHOLE:
                return ones
            if value >= 1 - _WHOLE:
                return [*ones, (row, column - self.n_rows)]
        self.parent[row], self.value[row] = column, value
        return ones

    def rest(self) -> list[tuple[int, int]]:
        """The cells among the remaining edges that are one up to rounding error."""
        return [self._cell(v) for v, up in enumerate(self.parent) if up >= 0 and self.value[v] > 0.5]

    def _balance(self, path: list[int], value: float, coin: float) -> float:
        """Move the edges of a cycle up and down in turn until one is whole; returns the move of the new edge."""
        falling, rising = path[::2], path[1::2]  # an edge goes by its lower end; the new edge rises
        up = min(1 - value, *(self.value[v] for v in falling), *(1 - self.value[v] for v in rising))
        down = min(value, *(1 - self.value[v] for v in falling), *(self.value[v] for v in rising))
        step = up if coin * (up + down) < down else -down
        for v in falling:
            self.value[v] -= step
        for v in rising:
            self.value[v] += step
        return step

    def _cut_whole(self, path: list[int]) -> list[tuple[int, int]]:
        """Cut the edges of a path that became zero or one; returns the cells that became one."""
        whole = [v for v in path if not _WHOLE < self.value[v] < 1 - _WHOLE]
        ones = [self._cell(v) for v in whole if self.value[v] > 0.5]
        for v in whole:
            self.parent[v] = -1
        return ones

    def _cell(self, vertex: int) -> tuple[int, int]:
        row, column = sorted((vertex, self.parent[vertex]))
        return row, column - self.n_rows

    def _path_to_root(self, vertex: int) -> list[int]:
        path = [vertex]
        while (vertex := self.parent[vertex]) >= 0:
            path.append(vertex)
        return path

    def _make_root(self, vertex: int) -> None:
        """Turn the edges between a vertex and its root round."""
        path = self._path_to_root(vertex)
        for lower, upper in reversed(list(pairwise(path))):
            self.parent[upper], self.value[upper] = lower, self.value[lower]
        self.parent[vertex] = -1
