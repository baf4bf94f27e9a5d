"""Random features that approximate kernels."""

from __future__ import annotations

from sklearn.kernel_approximation import AdditiveChi2Sampler, PolynomialCountSketch, RBFSampler, SkewedChi2Sampler

from examples_base import Example

POSITIVE = ("iris", "digits", "wine", "breast_cancer")

EXAMPLES: dict[type, list[Example]] = {
    AdditiveChi2Sampler: [Example(lambda name: AdditiveChi2Sampler(), ("iris", "wine"), close=0, atol=0)],
    PolynomialCountSketch: [
        Example(lambda name: PolynomialCountSketch(n_components=8, random_state=0), close=0, atol=0)
    ],
    RBFSampler: [
        Example(lambda name: RBFSampler(n_components=8, random_state=0), close=0, atol=0),
        # the variance of all numbers is summed column by column, and a cosine of thousands loses three digits
        Example(lambda name: RBFSampler(gamma="scale", n_components=8, random_state=0), atol=1e-10),
    ],
    SkewedChi2Sampler: [
        Example(lambda name: SkewedChi2Sampler(n_components=8, random_state=0), POSITIVE, close=0, atol=0)
    ],
}
