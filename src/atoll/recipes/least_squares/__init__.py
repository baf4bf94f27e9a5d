"""Linear models by least squares, exact from one summary of the rows."""

from __future__ import annotations

from atoll.recipes.least_squares import bayes, descent, descent_cv, lars, ordinary, pursuit, ridge, ridge_cv

__all__ = ["bayes", "descent", "descent_cv", "lars", "ordinary", "pursuit", "ridge", "ridge_cv"]
