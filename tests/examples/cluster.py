"""Clustering around centres."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans

from cases import Asked, data
from examples_base import Example


def start(name: str, n: int = 3) -> np.ndarray:
    """Centres to begin with: rows far apart in the table, moved a little."""
    X = data(name)[0]
    return X[np.linspace(0, len(X) - 1, n).astype(int)] + 0.0123


EXAMPLES: dict[type, list[Example]] = {
    KMeans: [
        Example(lambda name: KMeans(3, init=start(name), tol=0)),
        Example(lambda name: KMeans(4, random_state=3), sends_rows=True),
        Example(  # Elkan's bounds settle rows that lie between two centres an iteration earlier or later
            lambda name: KMeans(3, init="random", n_init=2, random_state=0, algorithm="elkan"),
            leave=("n_iter_",),
            sends_rows=True,
        ),
    ],
    MiniBatchKMeans: [
        Example(
            lambda name: MiniBatchKMeans(3, init=start(name), batch_size=64, max_iter=3, random_state=0),
            sends_rows=True,
        ),
        Example(lambda name: MiniBatchKMeans(3, batch_size=64, max_iter=3, random_state=1), sends_rows=True),
    ],
}


def asked(name: str) -> dict[str, Asked]:
    """An example of each operation."""
    X = data(name)[0]
    origin, K = X.mean(axis=0), 3
    centers = start(name) - origin
    about, none = {"origin": origin, "centers": centers}, np.zeros(0, dtype=np.int64)
    sample = np.array([5, 0, 5, len(X) - 1])
    ranges = {"start": np.array([0, 64]), "without": none, "chosen": centers, "origin": origin}
    return {
        "clusters.assign": Asked({"weighted": True, "inertia": True}, {**about, "before": centers + 0.5}, "Sum"),
        "clusters.inertia": Asked({}, {**about, "by": centers + 0.5, "sample": sample}, "Sum"),
        "clusters.agree": Asked({}, {"origin": origin, "one": centers, "other": centers + 0.5}, "Sum"),
        "clusters.farthest": Asked({"k": K}, about, "TopK", combine_settings={"k": K}),
        "clusters.span": Asked({}, {}, "Extrema"),
        "clusters.rows": Asked({}, {"sample": sample}, "Sum"),
        "clusters.mass": Asked({"width": 8, "buckets": 8, "mass": "distance"}, ranges, "Sum"),
        "clusters.potential": Asked({}, {"origin": origin, "chosen": centers, "candidates": centers + 1}, "Sum"),
    }
