"""Random streams keyed by what they are for, so that nobody's draws depend on who drew before.

A stream is a Philox generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) whose key is a hash
of seed, step, node and use. Building one costs some 25 µs, so streams are made where they are used and nowhere else.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray

__all__ = ["as_seed", "shuffles", "stream", "uniforms"]


def stream(seed: int, step: int, node: int, use: str) -> Generator:
    """The stream of one use on one node at one step.

    Parameters
    ----------
    seed : int
        Seed of the run.
    step : int
        Position in the schedule.
    node : int
        Node number; -1 for the driver.
    use : str
        What the numbers are for; two uses never share a stream.

    Returns
    -------
    numpy.random.Generator

    Examples
    --------
    >>> from atoll.rng import stream
    >>> int(stream(0, 0, 3, "shuffle").integers(1000)) == int(stream(0, 0, 3, "shuffle").integers(1000))
    True
    """
    key = hashlib.blake2b(f"{seed}/{step}/{node}/{use}".encode(), digest_size=16).digest()
    return Generator(Philox(key=np.frombuffer(key, dtype="<u8")))


def shuffles(seed: int, step: int, nodes: NDArray[np.int64], n: int, epoch: int, use: str) -> NDArray[np.int64]:
    """An order of n rows for each of some nodes, all at once.

    Every row of a node gets a key, a hash of (seed, step, use, epoch, node, row), and rows are sorted by it. So an
    order depends on nobody else's, and a thousand nodes cost two array operations instead of a thousand generators.

    Parameters
    ----------
    seed, step : int
        Of the run, and the position in the schedule.
    nodes : ndarray of shape (m,), int64
        Node numbers.
    n : int
        Rows.
    epoch : int
        Counts the passes over the rows within a step.
    use : str
        What the order is for.

    Returns
    -------
    ndarray of shape (m, n), int64

    References
    ----------
    Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (SplitMix64).
    """
    base = hashlib.blake2b(f"{seed}/{step}/{epoch}/{use}".encode(), digest_size=16).digest()
    first, second = np.frombuffer(base, dtype="<u8")
    with np.errstate(over="ignore"):
        of_node = _mixed(first + nodes.astype(np.uint64) * _GOLDEN)
        keys = _mixed(of_node[:, None] + second + np.arange(n, dtype=np.uint64) * _GOLDEN)
    return np.argsort(keys, axis=1, kind="stable")


def uniforms(seed: int, ids: NDArray[np.int64], use: str) -> NDArray[np.float64]:
    """A number from 0 to below 1 for each id, the same whatever the others are.

    Parameters
    ----------
    seed : int
        Of the run.
    ids : ndarray of shape (n,), int64
        Of rows, say.
    use : str
        What the numbers are for.

    Returns
    -------
    ndarray of shape (n,), float64
    """
    base = hashlib.blake2b(f"{seed}/{use}".encode(), digest_size=8).digest()
    with np.errstate(over="ignore"):
        keys = _mixed(_mixed(np.frombuffer(base, dtype="<u8")[0] + ids.astype(np.uint64) * _GOLDEN))
    return np.asarray((keys >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def as_seed(random_state: int | np.random.RandomState | Generator | None) -> int:
    """Turn scikit-learn's `random_state` into the integer seed of a run.

    None gives seed 0: a run is reproducible unless another seed is asked for. A generator is drawn from, so that two
    fits with the same generator differ, as in scikit-learn.
    """
    if random_state is None:
        return 0
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if isinstance(random_state, Generator):
        return int(random_state.integers(2**31 - 1))
    return int(random_state)
