"""What every picture is made of: text, shapes, colours, legends, round numbers, and the element round them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any
from unicodedata import east_asian_width

__all__ = [
    "FONT",
    "LINE",
    "PALETTE",
    "SMALL",
    "WIDTH",
    "clean",
    "coordinate",
    "document",
    "exact",
    "heading",
    "heading_height",
    "legend",
    "linear",
    "nice_step",
    "nice_ticks",
    "number",
    "paint",
    "rect",
    "short",
    "text",
    "text_width",
    "unique_id",
]

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#8A8A8A")

WIDTH = 760.0
FONT = 12.0
SMALL = 11.0
LINE = 1.35  # height of a line of text, in font sizes

_FAMILY = "system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif"
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def document(
    width: float, height: float, title: str, description: str, uid: str, body: Sequence[str], *, fixed: bool = False
) -> str:
    """The `<svg>` element round a picture, with what screen readers say about it.

    Parameters
    ----------
    width, height : float
        Size in pixels; a picture that is not `fixed` shrinks with its page.
    title, description : str
        Plain text.
    uid : str
        Prefix of the ids inside.
    body : sequence of str
        Elements.
    fixed : bool, default=False
        Keep the size, and sit in the middle of a line of text.

    Returns
    -------
    str
    """
    w, h = coordinate(width), coordinate(height)
    size = f"width:{w}px;height:{h}px;vertical-align:middle" if fixed else f"width:100%;max-width:{w}px;height:auto"
    said = f'<title id="{uid}-t">{clean(title or description)}</title><desc id="{uid}-d">{clean(description)}</desc>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" role="img" style="{size}" '
        f'aria-labelledby="{uid}-t {uid}-d" fill="currentColor" font-family="{_FAMILY}">{said}{"".join(body)}</svg>'
    )


def unique_id(*content: Any) -> str:
    """An id that is the same for the same content and differs between pictures on one page."""
    return "atoll-" + hashlib.blake2b(repr(content).encode(errors="replace"), digest_size=5).hexdigest()


def heading(title: str) -> str:
    """The title of a picture, at its top."""
    return text(0, 16, title, 15, extra=' font-weight="600"') if title else ""


def heading_height(title: str) -> float:
    """Where the next thing below a title may begin."""
    return 32.0 if title else 8.0


def text(
    x: float,
    y: float,
    words: str,
    size: float = FONT,
    anchor: str = "start",
    *,
    opacity: float = 1.0,
    transform: str = "",
    extra: str = "",
) -> str:
    """One line of text.

    Parameters
    ----------
    x, y : float
        Where its base line starts, has its middle or ends, as `anchor` says; a `transform` stands instead of both.
    words : str
        Plain text; of an empty one nothing is drawn.
    size : float
        Font size in pixels.
    anchor : {"start", "middle", "end"}
        Which part of the line is at x.
    opacity : float
        Less than 1 for what matters less.
    transform : str
        SVG transform that puts the origin in place.
    extra : str
        Further attributes.

    Returns
    -------
    str
    """
    if not words:
        return ""
    where = f'transform="{transform}"' if transform else f'x="{coordinate(x)}" y="{coordinate(y)}"'
    aligned = "" if anchor == "start" else f' text-anchor="{anchor}"'
    faint = "" if opacity == 1 else f' opacity="{opacity:g}"'
    return f'<text {where} font-size="{coordinate(size)}"{aligned}{faint}{extra}>{clean(words)}</text>'


def rect(x: float, y: float, width: float, height: float, tip: str = "") -> str:
    """A rectangle, with a tooltip."""
    sides = f'width="{coordinate(max(width, 0))}" height="{coordinate(max(height, 0))}"'
    said = f"<title>{clean(tip)}</title>" if tip else ""
    return f'<rect x="{coordinate(x)}" y="{coordinate(y)}" {sides}>{said}</rect>'


def paint(k: int, uid: str = "") -> str:
    """The fill of a series: a colour that the page may replace or, inside a picture with a legend, a pattern of it."""
    if k >= len(PALETTE) and uid:
        return f'fill="url(#{uid}-{k})"'
    colour = PALETTE[k % len(PALETTE)]
    return f'fill="{colour}" style="fill:var(--atoll-{k % len(PALETTE) + 1},{colour})"'


def legend(names: Sequence[str], uid: str, top: float) -> tuple[str, float]:
    """Swatches and names of series; where one line does not hold them, in columns.

    Parameters
    ----------
    names : sequence of str
        One per series.
    uid : str
        Prefix of the ids of the patterns that are defined here.
    top : float
        Where it begins.

    Returns
    -------
    str
        Elements.
    float
        Where the next thing may begin.
    """
    shown = [short(name, 28) for name in names]
    widths = [34 + text_width(name, FONT) for name in shown]
    if sum(widths) > WIDTH:
        n_columns = max(1, int(WIDTH // max(widths)))
        places = [(WIDTH / n_columns * (k % n_columns), top + 19 * (k // n_columns)) for k in range(len(names))]
    else:
        places = [(sum(widths[:k]), top) for k in range(len(names))]
    items = [
        f"<g {paint(k, uid)}>{rect(x, y, 12, 12)}</g>{text(x + 18, y + 10.5, name)}"
        for k, (name, (x, y)) in enumerate(zip(shown, places, strict=True))
    ]
    patterns = "".join(_pattern(k, uid) for k in range(len(PALETTE), len(names)))
    defined = f"<defs>{patterns}</defs>" if patterns else ""
    return defined + "".join(items), (places[-1][1] + 26 if places else top)


def _pattern(k: int, uid: str) -> str:
    """Stripes from the ninth series on, dots from the seventeenth, both finer from the twenty-fifth."""
    turn = k // len(PALETTE)
    side = max(6 - (turn - 1) // 2, 3)
    mark = (
        f'<path d="M0 0H{side}" stroke="#fff" stroke-width="{side / 2:g}"/>'
        if turn % 2
        else f'<circle cx="{side / 2:g}" cy="{side / 2:g}" r="{side / 4:g}" fill="#fff"/>'
    )
    size = f'width="{side}" height="{side}"'
    return (
        f'<pattern id="{uid}-{k}" {size} patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<g {paint(k % len(PALETTE))}><rect {size}/></g><g opacity=".7">{mark}</g></pattern>'
    )


def linear(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """The straight line that takes low to start and high to end."""
    return lambda value: start + (float(value) - low) / (high - low) * (end - start)


def nice_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below a positive number."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))


def nice_ticks(low: float, high: float, *, n_steps: int = 5, whole: bool = False) -> list[float]:
    """Round numbers that span a range, for an axis.

    Parameters
    ----------
    low, high : float
        The range; the first tick is at or below `low`, the last at or above `high`.
    n_steps : int, default=5
        At most about so many steps.
    whole : bool, default=False
        Whole numbers only.

    Returns
    -------
    list of float
        At least two, evenly spaced by 1, 2 or 5 times a power of ten.

    Examples
    --------
    >>> from atoll.svg import nice_ticks
    >>> nice_ticks(0, 37)
    [0.0, 10.0, 20.0, 30.0, 40.0]
    """
    if not high > low:
        high = low + (abs(low) or 1.0)
    step = nice_step((high - low) / n_steps)
    step = max(step, 1.0) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step)))
    return [round(i * step, digits) for i in range(first, max(last, first + 1) + 1)]


def text_width(words: str, size: float) -> float:
    """About how wide a text is, in the unit of its size; rather too wide than too narrow."""
    return size * sum(_letter_width(letter) for letter in words)


def _letter_width(letter: str) -> float:
    if east_asian_width(letter) in "WF":
        return 1.05
    if letter in "iljtfrI.,:;'|!()[] ":
        return 0.42
    if letter in "mwMWQOG@%—…":
        return 1.0
    return 0.73 if letter.isupper() else 0.65


def short(words: str, letters: int) -> str:
    """A text of at most so many letters' width, cut in the middle: names often differ at their ends."""
    most = 0.65 * letters
    if text_width(words, 1.0) <= most:
        return words
    head = tail = ""
    for front, back in zip(words, reversed(words), strict=True):
        if text_width(head + front + back + tail, 1.0) + 1.0 > most:
            break
        head, tail = head + front, back + tail
    return f"{head}…{tail}"


def number(value: float) -> str:
    """A number in about six letters at most: 12.3k for 12345, a dash for NaN."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "-∞")
    if value == round(value) and abs(value) < 1e4:
        return f"{value:.0f}"
    for unit, letter in _UNITS:
        if abs(value) >= max(unit, 1e4) * 0.9995:
            return f"{value / unit:.4g}{letter}" if abs(value) < 999.5 * unit else f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def exact(value: float) -> str:
    """A number with all its digits, for tooltips and descriptions."""
    return f"{value:.15g}"


def clean(words: Any) -> str:
    """Text for XML: escaped, and without the characters that XML does not allow."""
    return escape("".join(c if c.isprintable() else " " for c in str(words)), quote=True)


def coordinate(value: float) -> str:
    """A length to a tenth of a pixel, without a zero that says nothing."""
    return f"{round(float(value), 1) + 0.0:g}"
