"""What a verification found."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from atoll.display import aligned, data_frame, html_table
from atoll.run import Run
from atoll.verification.differences import Difference

__all__ = ["Verification"]


@dataclass(frozen=True, eq=False, repr=False)
class Verification:
    """Where, and by how much, a fit over nodes differs from scikit-learn's on the pooled rows.

    Attributes
    ----------
    estimator : str
        What was fitted.
    where : str
        Over which nodes.
    differences : tuple of Difference
        Fitted attributes first, then answers to the training rows, then warnings or errors.
    rtol, atol : float
        Numbers a and b, the pooled one, are the same where ``|a - b| <= rtol * |b| + atol``.
    pooled_seconds, seconds : float
        That the two fits took.
    pooled, over : estimator or None
        The two fitted models; None where fitting failed.
    run : Run or None
        The record of the fit over nodes.
    """

    estimator: str
    where: str
    differences: tuple[Difference, ...]
    rtol: float
    atol: float
    pooled_seconds: float
    seconds: float
    pooled: Any = None
    over: Any = None
    run: Run | None = None

    @property
    def ok(self) -> bool:
        """Whether everything is the same within the tolerances."""
        return all(one.ok for one in self.differences)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def failed(self) -> tuple[Difference, ...]:
        """What is not the same."""
        return tuple(one for one in self.differences if not one.ok)

    @property
    def largest(self) -> float:
        """The largest relative difference of all that were compared as numbers."""
        return max((d.relative for d in self.differences if not np.isnan(d.relative)), default=0.0)

    def to_frame(self) -> Any:
        """The differences as a pandas data frame, indexed by name.

        Returns
        -------
        DataFrame

        Raises
        ------
        MissingExtra
            If pandas is not installed.
        """
        fields = [f for f in Difference._fields if f != "name"]
        columns = {f: [getattr(one, f) for one in self.differences] for f in fields}
        return data_frame(columns, [one.name for one in self.differences], "name")

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values, ready for JSON.

        Returns
        -------
        dict
            `estimator`, `where`, `ok`, `rtol`, `atol`, `largest`, `pooled_seconds`, `seconds`, `differences`.
        """
        return {
            "estimator": self.estimator, "where": self.where, "ok": self.ok, "rtol": self.rtol, "atol": self.atol,
            "largest": _finite(self.largest), "pooled_seconds": self.pooled_seconds, "seconds": self.seconds,
            "differences": [
                {**one._asdict(), "shape": list(one.shape), "absolute": _finite(one.absolute),
                 "relative": _finite(one.relative)}
                for one in self.differences
            ],
        }  # fmt: skip

    def headline(self) -> str:
        """The result in one sentence."""
        said = f"{self.estimator} over {self.where}: "
        if self.ok:
            same = not any(one.differ for one in self.differences)
            return f"{said}as on the pooled rows{', in every bit' if same else f' within {self.rtol or self.atol:g}'}"
        some, all_ = len(self.failed), len(self.differences)
        return f"{said}{some} of {all_} {'is' if some == 1 else 'are'} not as on the pooled rows"

    def table(self) -> list[list[str]]:
        """A line per thing that was compared; the first is the header."""
        head = ["what", "type", "shape", "differ", "absolute", "relative", "result"]
        return [head, *map(_line, self.differences)]

    def notes(self) -> list[str]:
        """What is to be said of a thing besides its numbers."""
        return [f"{one.name}: {one.why}" for one in self.differences if one.why]

    def __repr__(self) -> str:
        return f"Verification({self.estimator}, ok={self.ok}, largest={self.largest:.2g})"

    def __str__(self) -> str:
        return "\n".join([self.headline(), aligned(self.table(), words=2), *self.notes()])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes())
        return f"<p>{escape(self.headline())}</p>{html_table(self.table(), words=2)}{notes}"


def _line(one: Difference) -> list[str]:
    counted = "" if one.kind in ("error", "warning") else f"{one.differ} of {int(np.prod(one.shape))}"
    numbers = ["–" if np.isnan(v) else f"{v:.2g}" for v in (one.absolute, one.relative)]
    return [one.name, one.kind, " × ".join(map(str, one.shape)), counted, *numbers, "same" if one.ok else "differs"]


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
