"""Train one scikit-learn model over many nodes: distributed, or federated with every row staying where it is."""

from __future__ import annotations

from atoll.errors import AtollError
from atoll.estimators import Distributed, Federated
from atoll.federation import Federation
from atoll.messages import Rule
from atoll.run import Run

__all__ = ["AtollError", "Distributed", "Federated", "Federation", "Rule", "Run", "__version__"]

__version__ = "0.1.0"
