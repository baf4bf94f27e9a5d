"""Leading singular vectors of wide rows: scikit-learn's iterations, each product of rows and directions a round.

Where a triangle would be large (a vocabulary has thousands of columns, and a triangle the square of that), nodes answer
with as many numbers per column as there are directions, and sparse rows stay sparse.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import RandomState
from scipy.linalg import eigh, qr, svd
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.utils._arpack import _init_arpack_v0
from sklearn.utils.extmath import svd_flip

from atoll.combine import Sum
from atoll.rounds import Rounds
from atoll.trees import Array

__all__ = ["Leading", "is_wide"]

_WIDE = 2048
_FEW = 4


def is_wide(n_features: int, n_components: Any) -> bool:
    """Whether columns are many, and the components that are wanted few among them."""
    return n_features > _WIDE and isinstance(n_components, int | np.integer) and n_components * _FEW < n_features


class Leading:
    """Leading singular vectors of the rows about a mean.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows.
    mean : ndarray of shape (d,)
        What they are taken about; zeros: the rows as they are.
    """

    def __init__(self, rounds: Rounds, mean: Array) -> None:
        self.rounds = rounds
        self.mean = mean

    def products(self, directions: Array) -> Array:
        """``XᵀX directions``, (d, k), of the rows about the mean; one round."""
        payload = {"directions": directions, "mean": self.mean}
        return self.rounds.round("decomposition.products", payload, combine=Sum())["products"]

    def randomized(self, k: int, n_oversamples: int, n_iter: Any, rng: RandomState) -> tuple[Array, Array]:
        """Halko et al. (2009), "Finding structure with randomness", as scikit-learn's `randomized_svd` runs it.

        Parameters
        ----------
        k, n_oversamples : int
            Vectors that are wanted, and directions besides.
        n_iter : int or "auto"
            Power iterations.
        rng : RandomState
            Directions to begin with; those of scikit-learn where there are no fewer rows than columns.

        Returns
        -------
        values : ndarray of shape (k,)
            Singular values, the largest first.
        vectors : ndarray of shape (k, d)
            The largest entry of each is positive.
        """
        n, d = self.rounds.schema.n_rows, len(self.mean)
        steps = (7 if k < 0.1 * min(n, d) else 4) if n_iter == "auto" else n_iter
        basis: Array = rng.normal(size=(d, k + n_oversamples))
        for _ in range(steps):
            basis, _ = qr(self.products(basis), mode="economic")
        products = self.products(basis)
        squares, turn = eigh(basis.T @ products)
        some = squares > squares[-1] * len(squares) * np.finfo(np.float64).eps
        _, values, vectors = svd((products @ (turn[:, some] / np.sqrt(squares[some]))).T, full_matrices=False)
        return values[:k], svd_flip(None, vectors[:k], u_based_decision=False)[1]

    def arpack(self, k: int, tol: float, rng: RandomState) -> tuple[Array, Array]:
        """ARPACK on ``XᵀX``, as `scipy.sparse.linalg.svds` runs it; returns what `randomized` does."""
        d = len(self.mean)
        gram = LinearOperator((d, d), matvec=lambda v: self.products(v.reshape(d, 1))[:, 0], dtype=np.float64)
        squares, vectors = eigsh(gram, k=k, tol=tol**2, v0=_init_arpack_v0(d, rng))
        values = np.sqrt(np.maximum(squares[::-1], 0.0))
        return values, svd_flip(None, np.ascontiguousarray(vectors.T[::-1]), u_based_decision=False)[1]
