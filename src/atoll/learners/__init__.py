"""What can be trained in rounds, and how a node takes its steps."""

from __future__ import annotations

from atoll.learners.balance import Balance, Balanced, balance_of, check_balance
from atoll.learners.base import (
    Blocks,
    Layout,
    Model,
    Part,
    Program,
    Turn,
    batches,
    batches_of,
    node_weight,
    order_of,
    program_of,
)
from atoll.learners.descent import Descent
from atoll.learners.idle import Idle

__all__ = [
    "Balance",
    "Balanced",
    "Blocks",
    "Descent",
    "Idle",
    "Layout",
    "Model",
    "Part",
    "Program",
    "Turn",
    "balance_of",
    "batches",
    "batches_of",
    "check_balance",
    "node_weight",
    "order_of",
    "program_of",
]
