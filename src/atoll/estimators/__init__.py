"""`Distributed` and `Federated`: scikit-learn meta-estimators over nodes."""

from __future__ import annotations

from atoll.estimators.wrappers import Distributed, Federated

__all__ = ["Distributed", "Federated"]
