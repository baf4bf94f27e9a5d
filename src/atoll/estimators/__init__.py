"""`Distributed` and `Federated`: scikit-learn meta-estimators over nodes."""

from __future__ import annotations

from atoll.estimators.distributed import Distributed
from atoll.estimators.federated import Federated

__all__ = ["Distributed", "Federated"]
