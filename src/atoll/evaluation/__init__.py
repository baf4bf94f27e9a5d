"""How good a model is, and what the rows are like, from sums that nodes form over rows that stay where they are.

- `evaluate` asks nodes how good a fitted model is on their rows; `atoll.Federation.evaluate` calls it;
- `scores` asks the same about several models together, for a search;
- `evaluate_answers` does the same for answers that are known already, by the node of each row;
- `describe` asks what a person would ask of a data frame, and `count_classes` who has how many rows of which class;
- `METRICS` has every metric that can be computed, by scikit-learn's name.
"""

from __future__ import annotations

from atoll.evaluation.describing import describe
from atoll.evaluation.description import ColumnSummary, Description
from atoll.evaluation.imbalance import count_classes
from atoll.evaluation.judge import evaluate, evaluate_answers, operations_for
from atoll.evaluation.result import Evaluation, Worst
from atoll.evaluation.scoring import METRICS
from atoll.evaluation.several import scores
from atoll.evaluation.subject import subject_of

__all__ = [
    "METRICS",
    "ColumnSummary",
    "Description",
    "Evaluation",
    "Worst",
    "count_classes",
    "describe",
    "evaluate",
    "evaluate_answers",
    "operations_for",
    "scores",
    "subject_of",
]
