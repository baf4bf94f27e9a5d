"""Linear models by least squares, exact from one summary of the rows."""

from __future__ import annotations

from atoll.recipes.least_squares import ordinary, ridge
from atoll.recipes.least_squares.ordinary import fit_linear_regression, fit_matching_pursuit
from atoll.recipes.least_squares.ridge import fit_ridge, fit_ridge_classifier

__all__ = [
    "fit_linear_regression",
    "fit_matching_pursuit",
    "fit_ridge",
    "fit_ridge_classifier",
    "ordinary",
    "ridge",
]
