"""Covariances."""

from __future__ import annotations

from sklearn.covariance import OAS, EmpiricalCovariance, LedoitWolf, ShrunkCovariance

from examples_base import Example

REGULAR = ("iris", "diabetes")  # the covariances of the others are singular, or nearly: inverting them loses digits

EXAMPLES: dict[type, list[Example]] = {
    EmpiricalCovariance: [
        Example(lambda name: EmpiricalCovariance(), REGULAR),
        Example(lambda name: EmpiricalCovariance(store_precision=False)),
    ],
    ShrunkCovariance: [Example(lambda name: ShrunkCovariance(shrinkage=0.2, assume_centered=True))],
    LedoitWolf: [Example(lambda name: LedoitWolf())],
    OAS: [Example(lambda name: OAS())],
}
