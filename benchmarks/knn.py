"""Brute-force neighbours of 2,000 queries among 200,000 rows of 64 features, k = 5, beside scikit-learn.

Atoll runs in 2 workers, scikit-learn with all cores.

Claims: float64 not slower than scikit-learn's own `kneighbors`; float32 with a faiss index at least twice as fast.
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from _turns import report, take_turns
from atoll import Distributed


def main() -> None:
    rng = np.random.default_rng(0)
    X, Q = rng.standard_normal((200_000, 64)), rng.standard_normal((2_000, 64))
    for dtype in (np.float64, np.float32):
        rows, queries = X.astype(dtype), Q.astype(dtype)
        search = NearestNeighbors(n_neighbors=5, algorithm="brute", n_jobs=-1)
        pooled = search.fit(rows)
        nodes = {
            f"atoll, 2 workers, method={method}": Distributed(
                search, n_nodes=2, engine="processes", n_workers=2, method=method
            ).fit(rows)
            for method in ("exact", "faiss")
        }
        for model in nodes.values():
            assert (model.kneighbors(queries[:200])[1] == pooled.kneighbors(queries[:200])[1]).mean() > 0.999
        programs = {"scikit-learn, all cores": lambda p=pooled, q=queries: p.kneighbors(q)}
        programs |= {name: (lambda m=model, q=queries: m.kneighbors(q)) for name, model in nodes.items()}
        report(f"kneighbors, {np.dtype(dtype).name}", take_turns(programs), "scikit-learn, all cores")


if __name__ == "__main__":
    main()
