"""Random projections."""

from __future__ import annotations

from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from examples_base import Example

EXAMPLES: dict[type, list[Example]] = {
    GaussianRandomProjection: [Example(lambda name: GaussianRandomProjection(3, random_state=0), close=0, atol=0)],
    SparseRandomProjection: [
        Example(
            lambda name: SparseRandomProjection(3, compute_inverse_components=True, random_state=1), close=0, atol=0
        )
    ],
}
