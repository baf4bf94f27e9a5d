"""Does a fit over nodes give what scikit-learn gives on the pooled rows? Attribute by attribute, answer by answer."""

from __future__ import annotations

from atoll.verification.differences import Difference, compare
from atoll.verification.fits import verify
from atoll.verification.result import Verification

__all__ = ["Difference", "Verification", "compare", "verify"]
