"""What stands in for sites in these tests."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils.validation import _num_samples

from atoll import Distributed, Federated

__all__ = ["WRAPPERS", "FederatedOverSites"]


class FederatedOverSites(Federated):
    """The rows belong to three sites in turn, so that arrays alone make a federation of three."""

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> Self:
        return super().fit(X, y, node=np.arange(_num_samples(X)) % 3, **fit_params)


def _over_three(estimator: Any) -> Distributed:
    return Distributed(estimator, n_nodes=3)


WRAPPERS = [_over_three, FederatedOverSites]
