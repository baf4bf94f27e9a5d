"""The order of a cohort: blocks with about as much to do each, whoever computes them."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.messages import n_blocks
from atoll.training.cohort import evened


def loads(nodes: list[int], rows: dict[int, int], at_once: int, steps: int) -> list[int]:
    """Rows of each block, and those of its longest node as often as `steps` says."""
    blocks = n_blocks(len(nodes), at_once)
    found: list[list[int]] = [[] for _ in range(blocks)]
    for p, node in enumerate(nodes):
        found[p * blocks // len(nodes)].append(rows[node])
    return [sum(own) + steps * max(own) for own in found]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(("n", "at_once"), [(100, 50), (100, 25), (37, 5), (9, 2)])
def test_blocks_are_even(n: int, at_once: int, together: bool) -> None:
    seed = 3
    sizes = np.random.default_rng(seed).lognormal(3, 1.0, n).astype(int) + 1
    rows = {10 + i: int(size) for i, size in enumerate(sizes)}
    nodes = evened(sorted(rows), rows, at_once, together)
    steps = 2 if together else 0
    before, after = loads(sorted(rows), rows, at_once, steps), loads(nodes, rows, at_once, steps)
    assert sorted(nodes) == sorted(rows)
    assert max(after) <= max(before), f"seed {seed}"
    alone = max(rows.values()) * (1 + steps) + sum(sorted(rows.values())[: at_once - 1])  # and the shortest beside it
    assert max(after) <= max(alone, 1.1 * np.mean(after)), f"seed {seed}"


def test_nodes_that_are_alike_stay_where_they_are() -> None:
    nodes = [5, 3, 9, 1, 7]
    assert evened(nodes, dict.fromkeys(nodes, 20), 2, True) == nodes
    assert evened(nodes, {node: node for node in nodes}, 1, True) == nodes
    assert evened(nodes, {node: node for node in nodes}, 5, True) == nodes


@pytest.mark.parametrize(("n", "size", "blocks"), [(1, 1, 1), (5, 1, 8), (5, 2, 4), (100, 25, 4), (100, 24, 8)])
def test_there_is_a_power_of_two_of_blocks(n: int, size: int, blocks: int) -> None:
    assert n_blocks(n, size) == blocks
