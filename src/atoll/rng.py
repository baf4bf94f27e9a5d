"""Random streams keyed by what they are for, so that nobody's draws depend on who drew before.

A stream is a Philox generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) whose key is a hash
of seed, step, node and use. Building one costs some 25 µs, so streams are made where they are used and nowhere else.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.random import Generator, Philox

__all__ = ["as_seed", "stream"]


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
