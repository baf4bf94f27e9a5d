"""Write a measured table into a page of the documentation, between two comments that name it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from scipy.stats import t as student

__all__ = ["interval", "put", "table", "verdict"]

PAGE = Path(__file__).parents[1] / "docs" / "experiments.md"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def interval(values: Sequence[float], digits: int = 1) -> str:
    """Mean and 95 % interval of a few measurements (Student's t)."""
    mean, wide = _bounds(values)
    return f"{mean:.{digits}f}" if wide is None else f"{mean:.{digits}f} ± {wide:.{digits}f}"


def verdict(differences: Sequence[float]) -> str:
    """Whether differences are positive, as they ought to be: yes, no, or open; with their mean and 95 % interval."""
    mean, wide = _bounds(differences)
    if wide is None:
        return f"{mean:.2g}"
    digits = max(0, 1 - math.floor(math.log10(wide))) if wide else 2
    said = "yes" if mean > wide else "no" if mean < -wide else "open"
    return f"{said}: {mean:.{digits}f} ± {wide:.{digits}f}"


def _bounds(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and half of the 95 % interval where there are two values or more."""
    n, mean = len(values), sum(values) / len(values)
    if n < 2:
        return mean, None
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return mean, float(student.ppf(0.975, n - 1)) * spread / math.sqrt(n)


def put(name: str, text: str, page: Path = PAGE) -> None:
    """Replace what stands between ``<!-- name begins -->`` and ``<!-- name ends -->``."""
    begins, ends = f"<!-- {name} begins -->", f"<!-- {name} ends -->"
    old = page.read_text("utf-8")
    if begins not in old or ends not in old:
        raise SystemExit(f"{page} has no place for {name}")
    between = re.compile(re.escape(begins) + ".*?" + re.escape(ends), re.DOTALL)
    page.write_text(between.sub(lambda _: f"{begins}\n{text}\n{ends}", old), "utf-8")
    print(f"wrote {name} into {page}")
