"""Who sends what to whom: plans are data that can be drawn, costed and tested.

A plan is a list of moves in phases. Positions of the cohort are numbered from 0; -1 is the hub, where the driver is. A
plan of kind ``reduce`` ends in one sum at its root; a plan of kind ``mix`` ends in one result per node. Because sums
are taken in the aligned tree of positions (`atoll.combine`), every reduce plan gives the same bits.
"""

from __future__ import annotations

from atoll.topology.base import HUB, MIXED, Move, Plan, is_mix, mixes, plans
from atoll.topology.graphs import GRAPHS, Wiring, connected, edges_of, neighbours, spectral_gap, weights
from atoll.topology.mixing import Mixed, allreduce, among, gossip, gossip_plan, matrix, mix, rewired
from atoll.topology.picture import Cost, cost, draw
from atoll.topology.reduce import Routed, ring, route, star, traffic, tree

__all__ = [
    "GRAPHS",
    "HUB",
    "MIXED",
    "Cost",
    "Mixed",
    "Move",
    "Plan",
    "Routed",
    "Wiring",
    "allreduce",
    "among",
    "connected",
    "cost",
    "draw",
    "edges_of",
    "gossip",
    "gossip_plan",
    "is_mix",
    "matrix",
    "mix",
    "mixes",
    "neighbours",
    "plans",
    "rewired",
    "ring",
    "route",
    "spectral_gap",
    "star",
    "traffic",
    "tree",
    "weights",
]
