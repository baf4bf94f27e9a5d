"""Tables as a person sees them: aligned text, HTML for a notebook, a data frame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from atoll.errors import MissingExtra, explain

if TYPE_CHECKING:
    import pandas

__all__ = ["aligned", "data_frame", "html_table", "middle_left_out", "shown"]


_WIDTH = 120  # letters


def aligned(rows: Sequence[Sequence[str]], words: int = 1, width: float = _WIDTH) -> str:
    """Lines with their columns under each other; where they are too wide, the rest of the columns as a further table.

    Parameters
    ----------
    rows : sequence of sequence of str
        The first is the header.
    words : int, default=1
        So many columns hold words and are set flush left; the others are flush right.
    width : float, default=120
        Letters in a line, at most.

    Returns
    -------
    str

    Examples
    --------
    >>> from atoll.display import aligned
    >>> print(aligned([["node", "rows"], ["oslo", "12"], ["rome", "8"]]))
    node  rows
    oslo    12
    rome     8
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n\n".join(_block(rows, widths, words, part) for part in _parts(widths, words, width))


def _parts(widths: Sequence[int], words: int, width: float) -> list[list[int]]:
    """Columns of each table: as many as fit beside the words, which every table repeats."""
    parts: list[list[int]] = []
    room = 0.0
    for i in range(words, len(widths)):
        room -= widths[i] + 2
        if room < 0 or not parts:
            parts.append(list(range(words)))
            room = width - sum(widths[:words]) - 2 * words - widths[i]
        parts[-1].append(i)
    return parts or [list(range(len(widths)))]


def _block(rows: Sequence[Sequence[str]], widths: Sequence[int], words: int, columns: Sequence[int]) -> str:
    lines = (
        "  ".join(row[i].ljust(widths[i]) if i < words else row[i].rjust(widths[i]) for i in columns) for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def html_table(rows: Sequence[Sequence[str]], words: int = 1, caption: str = "") -> str:
    """A ``<table>``; whatever came from a user is escaped.

    Parameters
    ----------
    rows, words
        As for `aligned`.
    caption : str, default=""
        What it shows.

    Returns
    -------
    str
    """
    right = ' style="text-align:right"'
    head = "".join(f'<th scope="col"{right if i >= words else ""}>{escape(c)}</th>' for i, c in enumerate(rows[0]))
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td{right if i >= words else ''}>{escape(cell)}</td>" for i, cell in enumerate(rest, 1))
        + "</tr>"
        for first, *rest in rows[1:]
    )
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{said}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def data_frame(columns: Mapping[str, Any], index: Sequence[Any], name: str) -> pandas.DataFrame:
    """A pandas data frame.

    Parameters
    ----------
    columns : mapping of str to sequence
        Values by column.
    index : sequence
        Names of the rows.
    name : str
        What the rows are.

    Returns
    -------
    DataFrame

    Raises
    ------
    MissingExtra
        If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise MissingExtra(explain("to_frame() needs pandas", hint="pip install 'atoll[frames]'")) from None
    return pd.DataFrame(dict(columns), index=pd.Index(list(index), name=name))


def middle_left_out(rows: Sequence[Sequence[str]], most: int) -> list[Sequence[str]]:
    """At most so many rows, the first and the last, and between them a line of dots where some are left out."""
    if len(rows) <= most:
        return list(rows)
    half = most // 2
    return [*rows[:half], ["…"] * len(rows[0]), *rows[-half:]]


def shown(value: float, digits: int = 4) -> str:
    """A number in a table: so many decimals, fewer digits where it is large or small, a dash where it is undefined."""
    if math.isnan(value):
        return "–"
    if value == 0 or 10.0**-digits <= abs(value) < 1e5:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}g}"
