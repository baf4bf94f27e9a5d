"""The pictures: stacked bars, bars, heat map, sparkline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from atoll.svg import marks
from atoll.svg.marks import FONT, LINE, PALETTE, SMALL, WIDTH, coordinate, exact, number, paint, rect, text, text_width
from atoll.trees import Array

__all__ = ["bars", "heatmap", "sparkline", "stacked_bars"]

_SLANT = math.sqrt(0.5)  # sine and cosine of slanted labels
_LETTERS = 18  # longer labels are shortened


def stacked_bars(
    labels: Sequence[Any],
    series_names: Sequence[Any],
    counts: Any,
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
) -> str:
    """One bar per label, made of one piece per series.

    Parameters
    ----------
    labels : sequence of length n_bars
        Under the bars; slanted or thinned out where there is no room for all.
    series_names : sequence of length n_series
        In the legend.
    counts : array-like of shape (n_bars, n_series)
        Finite, non-negative lengths of the pieces, such as rows per node and class.
    title : str
        Heading.
    x_label, y_label : str, default=""
        What the axes show.

    Returns
    -------
    str
        An ``<svg>`` element.

    Examples
    --------
    >>> from atoll.svg import stacked_bars
    >>> stacked_bars(["oslo", "rome"], ["cat", "dog"], [[3, 1], [0, 4]], title="Rows per label").startswith("<svg ")
    True
    """
    table = np.asarray(counts, dtype=np.float64).reshape(len(labels), len(series_names))
    totals = table.sum(axis=1)
    bar_names, names = [str(label) for label in labels], [str(name) for name in series_names]
    uid = marks.unique_id(title, bar_names, names, table.tolist())
    legend, top = marks.legend(names, uid, marks.heading_height(title))
    ticks = marks.nice_ticks(0.0, float(totals.max(initial=0.0)), whole=_is_whole(table))
    axis = _slots(bar_names, max(text_width(number(t), SMALL) for t in ticks) + 10, WIDTH)
    box = _Box(axis.left, top + (30 if y_label else 18), axis.right, top + 260)
    height = box.bottom + axis.height + (20 if x_label else 6)
    scale = marks.linear(ticks[0], ticks[-1], box.bottom, box.top)
    body = [
        marks.heading(title),
        legend,
        text(0, box.top - 16, y_label, opacity=0.7),
        *(_level(box, scale(t), number(t), bold=t == 0) for t in ticks),
        *_pieces(bar_names, names, table, axis, scale, uid),
        *_bar_totals(totals, axis, scale),
        *axis.texts(box.bottom),
        text((box.left + box.right) / 2, height - 6, x_label, anchor="middle", opacity=0.7),
    ]
    said = f"Stacked bars of {', '.join(names[:20])}. {_in_words(bar_names, totals, y_label)}"
    return marks.document(WIDTH, height, title, said, uid, body)


def bars(labels: Sequence[Any], values: Any, *, title: str, x_label: str = "", limit: float | None = None) -> str:
    """One horizontal bar per label, with its value at the end.

    Parameters
    ----------
    labels : sequence of length n_bars
        On the left.
    values : array-like of shape (n_bars,)
        Lengths from zero; of one that is not finite no bar is drawn.
    title : str
        Heading.
    x_label : str, default=""
        What the axis shows.
    limit : float, optional
        Where the axis ends at least, such as 1 for an accuracy.

    Returns
    -------
    str
        An ``<svg>`` element.
    """
    lengths = np.asarray(values, dtype=np.float64).reshape(len(labels))
    names = [marks.short(str(label), 28) for label in labels]
    uid = marks.unique_id(title, names, lengths.tolist(), limit)
    finite = lengths[np.isfinite(lengths)]
    ends = [0.0, *finite.tolist(), *([] if limit is None else [limit])]
    ticks = marks.nice_ticks(min(ends), max(ends), whole=limit is None and _is_whole(finite))
    row = 26.0 if len(names) <= 30 else 18.0
    left = max([text_width(name, FONT) for name in names], default=0.0) + 12
    margin = max(text_width(number(v), SMALL) for v in [*lengths, *ticks]) + 10
    top = marks.heading_height(title)
    box = _Box(left + (margin if ticks[0] < 0 else 0), top, WIDTH - margin, top + row * len(names) + 4)
    scale = marks.linear(ticks[0], ticks[-1], box.left, box.right)
    height = box.bottom + (40 if x_label else 22)
    body = [marks.heading(title), *(_plumb(box, scale(t), bold=t == 0) for t in ticks)]
    every = math.ceil((margin - 2) / (scale(ticks[1]) - scale(ticks[0])))
    body += [text(scale(t), box.bottom + 15, number(t), SMALL, "middle", opacity=0.7) for t in ticks[::every]]
    for i, value in enumerate(lengths):
        middle = box.top + row * (i + 0.5) + 2
        body += [text(left - 8, middle + 4, names[i], anchor="end"), _bar(labels[i], value, scale, middle, row * 0.68)]
    body.append(text((box.left + box.right) / 2, height - 6, x_label, anchor="middle", opacity=0.7))
    return marks.document(WIDTH, height, title, _in_words(labels, lengths, x_label), uid, body)


def heatmap(
    matrix: Any,
    row_labels: Sequence[Any],
    column_labels: Sequence[Any],
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    diagonal: bool = False,
) -> str:
    """A table of numbers on coloured cells.

    Parameters
    ----------
    matrix : array-like of shape (n_rows, n_columns)
        Numbers; NaN is a cell without one. The depth of a colour goes with the square root of the size, so that small
        numbers are seen.
    row_labels : sequence of length n_rows
        On the left.
    column_labels : sequence of length n_columns
        Below; slanted or thinned out where there is no room for all.
    title : str
        Heading.
    x_label, y_label : str, default=""
        What columns and rows are.
    diagonal : bool, default=False
        Give cells off the diagonal the second colour, as in a confusion matrix, where they are errors. Otherwise
        negative numbers have it.

    Returns
    -------
    str
        An ``<svg>`` element.
    """
    values = np.asarray(matrix, dtype=np.float64).reshape(len(row_labels), len(column_labels))
    rows = [marks.short(str(label), _LETTERS) for label in row_labels]
    columns = [str(label) for label in column_labels]
    uid = marks.unique_id(title, rows, columns, values.tolist(), diagonal)
    left = (22 if y_label else 0) + max([text_width(r, FONT) for r in rows], default=0.0) + 8
    widest = max([text_width(marks.short(c, _LETTERS), SMALL) for c in columns], default=0.0) + 8
    side = min((WIDTH - left) / max(len(columns), 1), max(widest, 64.0))
    axis = _slots(columns, left, left + side * len(columns))
    side_y = min(max(axis.slot, FONT * LINE), 40.0)
    top = marks.heading_height(title)
    box = _Box(axis.left, top, axis.right, top + side_y * len(rows))
    height = box.bottom + axis.height + (20 if x_label else 4)
    middle = max((box.left + box.right) / 2, text_width(x_label, FONT) / 2)
    body = [
        marks.heading(title),
        *(text(box.left - 8, box.top + side_y * (i + 0.5) + 4, r, anchor="end") for i, r in enumerate(rows)),
        *_cells(values, row_labels, column_labels, axis, box, diagonal),
        *axis.texts(box.bottom),
        text(middle, height - 6, x_label, anchor="middle", opacity=0.7),
        text(0, 0, y_label, anchor="middle", opacity=0.7,
             transform=f"translate(12 {coordinate((box.top + box.bottom) / 2)}) rotate(-90)"),
    ]  # fmt: skip
    width = max(box.right + 2, text_width(title, 16), middle + text_width(x_label, FONT) / 2)
    said = f"Table of {len(rows)} rows{_of(y_label)} and {len(columns)} columns{_of(x_label)}. "
    lines = zip(row_labels[:20], values, strict=False)
    said += "; ".join(f"{label}: {', '.join(map(exact, line[:20]))}" for label, line in lines)
    return marks.document(width, height, title, said, uid, body)


def sparkline(values: Any, *, title: str = "", width: float = 120.0, height: float = 28.0) -> str:
    """A line the size of a word.

    Parameters
    ----------
    values : array-like of shape (n,)
        Heights, evenly spaced; where one is not finite the line has a gap.
    title : str, default=""
        What the line shows, for tooltips and screen readers.
    width, height : float
        Size in pixels.

    Returns
    -------
    str
        An ``<svg>`` element.
    """
    heights = np.asarray(values, dtype=np.float64).ravel()
    uid = marks.unique_id(title, heights.tolist(), width, height)
    known = np.flatnonzero(np.isfinite(heights))
    if not len(known):
        return marks.document(width, height, title or "no values", "No values.", uid, [], fixed=True)
    low, high = float(heights[known].min()), float(heights[known].max())
    y = marks.linear(low, high, height - 4, 4) if high > low else (lambda _: height / 2)
    x = marks.linear(0, max(len(heights) - 1, 1), 4, width - 4)
    runs = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
    paths = ["M" + "L".join(f"{coordinate(x(i))} {coordinate(y(heights[i]))}" for i in run) for run in runs]
    line = (
        f'<path d="{"".join(p for p in paths if "L" in p)}" fill="none" stroke="{PALETTE[0]}" '
        f'style="stroke:var(--atoll-1,{PALETTE[0]})" stroke-width="1.5" stroke-linejoin="round"/>'
    )
    last = int(known[-1])
    dots = [(int(run[0]), 1.0) for run in runs if len(run) == 1 and run[0] != last] + [(last, 2.5)]
    body = [line if any("L" in p for p in paths) else ""]
    body += [
        f'<circle cx="{coordinate(x(i))}" cy="{coordinate(y(heights[i]))}" r="{r:g}" {paint(0)}/>' for i, r in dots
    ]
    said = f"{len(known)} values from {exact(heights[known[0]])} to {exact(heights[last])}, "
    said += f"lowest {exact(low)}, highest {exact(high)}."
    return marks.document(width, height, title or said, said, uid, body, fixed=True)


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float


class _Axis(NamedTuple):
    """Equal slots from left to right, and the labels below them."""

    left: float
    right: float
    labels: list[str]
    slanted: bool
    every: int  # one label in so many is shown
    height: float

    @property
    def slot(self) -> float:
        return (self.right - self.left) / max(len(self.labels), 1)

    def middle(self, i: int) -> float:
        return self.left + self.slot * (i + 0.5)

    def texts(self, top: float) -> Iterator[str]:
        for i in range(0, len(self.labels), self.every):
            if self.slanted:
                place = f"translate({coordinate(self.middle(i) + 4)} {coordinate(top + 13)}) rotate(-45)"
                yield text(0, 0, self.labels[i], SMALL, "end", transform=place)
            else:
                yield text(self.middle(i), top + 16, self.labels[i], SMALL, "middle")


def _slots(labels: Sequence[str], left: float, right: float) -> _Axis:
    """Slots for labels: straight where there is room or labels are short, else slanted; thinned out as needed."""
    shown = [marks.short(label, _LETTERS) for label in labels]
    longest = max([text_width(label, SMALL) for label in shown], default=0.0)
    straight = _Axis(left, right, shown, False, 1, 22.0)
    if not labels or longest + 6 <= straight.slot:
        return straight
    if longest <= 28:
        thinned = straight._replace(left=left + longest / 2, right=right - longest / 2)
        return thinned._replace(every=int(marks.nice_step(max((longest + 6) / thinned.slot, 1.0))))
    reach = longest * _SLANT
    slanted = straight._replace(left=max(left, reach), right=right - 6, slanted=True, height=reach + 20)
    return slanted._replace(every=math.ceil(SMALL * LINE / _SLANT / slanted.slot))


def _pieces(
    labels: Sequence[str], names: Sequence[str], table: Array, axis: _Axis, y: Callable[[float], float], uid: str
) -> Iterator[str]:
    """The pieces of all bars, one group per series so that its colour is said once."""
    width = min(axis.slot * (0.78 if axis.slot > 3 else 1.0), 56.0)
    floors = np.cumsum(table, axis=1) - table
    for k, name in enumerate(names):
        shapes = []
        for i in np.flatnonzero(table[:, k] > 0).tolist():
            low, high = y(floors[i, k]), y(floors[i, k] + table[i, k])
            seam = 0.8 if low - high > 3 and floors[i, k] > 0 else 0.0
            tip = f"{labels[i]}, {name}: {exact(table[i, k])}"
            shapes.append(rect(axis.middle(i) - width / 2, high, width, low - high - seam, tip))
        if shapes:
            yield f"<g {paint(k, uid)}>{''.join(shapes)}</g>"


def _bar_totals(totals: Array, axis: _Axis, y: Callable[[float], float]) -> Iterator[str]:
    """The total above each bar, if there is room for all."""
    texts = [number(total) for total in totals]
    if max([text_width(words, SMALL) for words in texts], default=0.0) + 4 <= axis.slot:
        for i, (words, total) in enumerate(zip(texts, totals, strict=True)):
            yield text(axis.middle(i), y(total) - 4, words, SMALL, "middle", opacity=0.8)


def _bar(label: Any, value: float, x: Callable[[float], float], middle: float, thickness: float) -> str:
    """One horizontal bar and its value."""
    start, end = sorted((x(0.0), x(value if math.isfinite(value) else 0.0)))
    shape = rect(start, middle - thickness / 2, end - start, thickness, f"{label}: {exact(value)}")
    at, anchor = (start - 6, "end") if value < 0 else (end + 6, "start")
    return f"<g {paint(0)}>{shape}</g>" + text(at, middle + 4, number(value), SMALL, anchor)


def _cells(
    values: Array, row_labels: Sequence[Any], column_labels: Sequence[Any], axis: _Axis, box: _Box, diagonal: bool
) -> Iterator[str]:
    """Coloured cells, with their numbers where all of them fit."""
    largest = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    side_y = (box.bottom - box.top) / max(len(values), 1)
    widest = max([text_width(number(v), 1.0) for v in values.ravel()], default=1.0)
    size = min(13.0, (axis.slot - 3) / widest, side_y / LINE)
    for (i, j), value in np.ndenumerate(values):
        x, y = axis.left + axis.slot * j, box.top + side_y * i
        depth = 0.0 if math.isnan(value) else math.sqrt(abs(value) / largest)
        second = i != j if diagonal else value < 0
        colour = f'{paint(3 if second else 0)} fill-opacity="{max(depth, 0.1):.2f}"' if depth else 'opacity=".04"'
        tip = f"{row_labels[i]}, {column_labels[j]}: {exact(value)}"
        yield f"<g {colour}>{rect(x + 0.5, y + 0.5, axis.slot - 1, side_y - 1, tip)}</g>"
        if size >= 6.5:
            # Letters in the page's colour are readable on every depth of vermilion, on blue only up to here.
            white = ' style="fill:#fff"' if depth > 0.72 and not second else ""
            middle = (x + axis.slot / 2, y + side_y / 2 + size * 0.36)
            yield text(
                *middle,
                number(value),
                size,
                "middle",
                opacity=1 if depth else 0.45,
                extra=white + ' pointer-events="none"',
            )


def _level(box: _Box, y: float, words: str, *, bold: bool) -> str:
    """A horizontal grid line and its number."""
    path = f"M{coordinate(box.left)} {coordinate(y)}H{coordinate(box.right)}"
    return _grid(path, bold) + text(box.left - 7, y + 4, words, SMALL, "end", opacity=0.7)


def _plumb(box: _Box, x: float, *, bold: bool) -> str:
    """A vertical grid line."""
    return _grid(f"M{coordinate(x)} {coordinate(box.top)}V{coordinate(box.bottom)}", bold)


def _grid(path: str, bold: bool) -> str:
    return f'<path d="{path}" stroke="currentColor" opacity="{".5" if bold else ".15"}"/>'


def _in_words(labels: Sequence[Any], values: Array, unit: str) -> str:
    """The numbers of a picture as a sentence; of many, the range."""
    if len(labels) <= 20:
        return "; ".join(f"{label}: {exact(v)}" for label, v in zip(labels, values, strict=True)) + _of(unit) + "."
    return f"{len(labels)} bars from {exact(np.nanmin(values))} to {exact(np.nanmax(values))}{_of(unit)}."


def _of(label: str) -> str:
    return f" ({label})" if label else ""


def _is_whole(values: Array) -> bool:
    return bool((values == np.floor(values)).all())
