"""Writing and reading 40 MB of arrays, and a small exchange: the wire format against pickle and np.save, taking turns.

    python benchmarks/wire.py

Prints the median of each and its ratio to the wire format's own. `pickle` is protocol 5 with buffers out of band, which
copies as little as the wire format does and checks nothing; `np.save` writes each array into memory and reads it back.
"""

from __future__ import annotations

import io
import pickle
import statistics
import time
from collections.abc import Callable

import numpy as np

from atoll import wire
from atoll.messages import Exchange, Rule
from atoll.specs import Spec
from atoll.trees import Leaf, Tree, TreeSpec

TURNS = 11
CALLS_LARGE = 10
CALLS_SMALL = 200


def pickled(message: object) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """Protocol 5, arrays out of band."""
    buffers: list[pickle.PickleBuffer] = []
    return pickle.dumps(message, protocol=5, buffer_callback=buffers.append), buffers


def saved(tree: Tree) -> list[bytes]:
    """One .npy file in memory for each array."""
    files = []
    for array in tree.values():
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        files.append(file.getvalue())
    return files


def loaded(files: list[bytes]) -> list[object]:
    """The arrays of these files."""
    return [np.load(io.BytesIO(file), allow_pickle=False) for file in files]


def small() -> Exchange:
    """An exchange as a round of nearest neighbours sends it: ten nodes, three arrays."""
    return Exchange(
        run="run", number=3, step=0, seed=42, op="neighbors.candidates", settings={"k": 5, "metric": "euclidean"},
        payload={"queries": np.zeros((4, 4)), "radius": np.zeros(1)}, each={},
        view=(Spec("scaled", {}, {"mean": np.zeros(4)}),), cohort=tuple(range(10)), base=(-1,) * 10,
        combine=Spec("topk", {"k": 5}), transform=(), plan=Spec("star"), rule=Rule(),
        expects=TreeSpec({"distance": Leaf("<f8", (-1, 5), "inf"), "row": Leaf("<i8", (-1, 5))}),
    )  # fmt: skip


def medians(ways: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Microseconds that one call takes, the ways taking turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            start = time.perf_counter()
            for _ in range(repeat):
                way()
            times[name].append((time.perf_counter() - start) / repeat * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def show(title: str, ways: dict[str, Callable[[], object]], repeat: int) -> None:
    """Measure the ways and print each against the first."""
    measured = medians(ways, repeat)
    first = next(iter(measured.values()))
    print(title)
    for name, value in measured.items():
        print(f"  {name:<24}{value:>12.1f} µs{value / first:>10.1f} ×")


def main() -> None:
    """Measure and print."""
    rows = np.random.default_rng(0).standard_normal((50_000, 64))
    tree: Tree = {"rows": rows, "more": rows[:, :32].astype("f4"), "y": np.arange(50_000), "w": rows[:, 0].copy()}
    tree["rest"] = np.zeros((40_000_000 - sum(array.nbytes for array in tree.values())) // 8)
    data, (head, buffers), files = wire.encode(tree), pickled(tree), saved(tree)
    show(
        f"writing {len(data) / 1e6:.1f} MB in {len(tree)} arrays",
        {"wire.frames": lambda: wire.frames(tree), "pickle": lambda: pickled(tree), "np.save": lambda: saved(tree)},
        CALLS_LARGE,
    )
    show(
        "reading them",
        {
            "wire.decode": lambda: wire.decode(data, Tree),
            "pickle": lambda: pickle.loads(head, buffers=buffers),
            "np.load": lambda: loaded(files),
        },
        CALLS_LARGE,
    )
    exchange = small()
    data, (head, buffers) = wire.encode(exchange), pickled(exchange)
    show(
        f"writing an exchange of {len(data)} bytes",
        {"wire.encode": lambda: wire.encode(exchange), "pickle": lambda: pickled(exchange)},
        CALLS_SMALL,
    )
    show(
        "reading it",
        {
            "wire.decode": lambda: wire.decode(data, Exchange),
            "pickle": lambda: pickle.loads(head, buffers=buffers),
        },
        CALLS_SMALL,
    )


if __name__ == "__main__":
    main()
