"""How rows look to the next step: label codes, a fitted scaler, a fold.

A view is a `Spec` that travels with a task. The node looks it up here, applies it to its rows and keeps the result as
long as it is used; it can be rebuilt at will.
"""

from __future__ import annotations

from atoll.views.base import viewer, views
from atoll.views.labels import class_weighted, codes, of_class, raveled, step_weights
from atoll.views.rows import chosen, fold, nodes_but, sampled
from atoll.views.tables import arrange, beside, blanked, columns, named, numbers, scaled
from atoll.views.transformers import read_models, transformed

__all__ = [
    "arrange",
    "beside",
    "blanked",
    "chosen",
    "class_weighted",
    "codes",
    "columns",
    "fold",
    "named",
    "nodes_but",
    "numbers",
    "of_class",
    "raveled",
    "read_models",
    "sampled",
    "scaled",
    "step_weights",
    "transformed",
    "viewer",
    "views",
]
