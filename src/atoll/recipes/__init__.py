"""How scikit-learn estimators are fitted by rounds; modules mirror scikit-learn's names."""

from __future__ import annotations

from atoll.recipes import centroids, neighbors
from atoll.recipes.base import Fit, Recipe, find, recipe, supported

__all__ = ["Fit", "Recipe", "centroids", "find", "neighbors", "recipe", "supported"]
