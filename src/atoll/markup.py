"""The pieces of a page: tables, pictures and text, everything escaped, and the style sheet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

__all__ = ["RING", "STYLE", "Cell", "breakable", "cells", "details", "picture", "table", "text"]

_MOST_ROWS = 100


class Cell(NamedTuple):
    """What stands in one place of a table.

    Attributes
    ----------
    words : object
        Shown as text.
    below : str
        Shown small, below them.
    """

    words: object
    below: str = ""

    def html(self) -> str:
        """The content of the place."""
        return text(self.words) + (f"<small>{text(self.below)}</small>" if self.below else "")


def cells(words: Iterable[object]) -> list[Cell]:
    """Plain cells."""
    return [Cell(word) for word in words]


def table(caption: str, head: Sequence[Cell], rows: Iterable[Sequence[Cell]], kind: str = "numbers") -> str:
    """A table in a box of its own, which scrolls where the screen is narrow.

    Parameters
    ----------
    caption : str
        What it shows; also the name of the box.
    head : sequence of Cell
        One per column.
    rows : iterable of sequence of Cell
        The first of each heads its row. Of very many the first are shown, and the caption says so.
    kind : {"numbers", "words"}
        Whether all columns but the first are set flush right.

    Returns
    -------
    str
    """
    body = list(rows)
    if len(body) > _MOST_ROWS:
        caption = f"{caption} The first {_MOST_ROWS} of {len(body)} lines."
    columns = "".join(f'<th scope="col">{cell.html()}</th>' if cell.words else "<td></td>" for cell in head)
    lines = "".join(
        f'<tr><th scope="row">{first.html()}</th>{"".join(f"<td>{cell.html()}</td>" for cell in rest)}</tr>'
        for first, *rest in body[:_MOST_ROWS]
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(caption)}"><table class="{kind}">'
        f"<caption>{text(caption)}</caption><thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def details(content: str, summary: str = "The same as a table") -> str:
    """Content that is shown when the reader asks for it; the summary is plain text."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def picture(drawn: str) -> str:
    """A picture of `atoll.svg` in a box that scrolls before its letters become too small to read."""
    found = re.search(r"max-width:([\d.]+)px", drawn)
    least = f"min({found[1]}px,30rem)" if found else "0"
    return f'<div class="picture" tabindex="0" role="group"><div style="min-width:{least}">{drawn}</div></div>'


def text(words: object) -> str:
    """Words of anybody as HTML: escaped, without characters that HTML does not allow."""
    return escape("".join(c if c.isprintable() or c in "\n\t\xa0" else "\ufffd" for c in str(words)), quote=True)


def breakable(words: str) -> str:
    """Words as HTML with places where a line may end, as in a long call."""
    return re.sub(r"([(,=_./])(?=\w)", r"\1<wbr>", text(words))


RING = (
    '<svg width="44" height="44" viewBox="-22 -22 44 44" aria-hidden="true">'
    '<circle r="13" fill="none" stroke="currentColor" stroke-width="1.2" opacity=".35"/><g fill="var(--accent)">'
    '<circle cy="-14" r="5"/><circle cx="13" cy="-5" r="3.4"/><circle cx="10" cy="10" r="4.4"/>'
    '<circle cx="-6" cy="13" r="3"/><circle cx="-14" r="4.2"/></g></svg>'
)

STYLE = """
:root{color-scheme:light dark;--paper:#fcfcfa;--ink:#1d2733;--quiet:#5a6673;--line:#dde2e4;--accent:#00707c;
--tint:#eef4f4}
@media (prefers-color-scheme:dark){:root{--paper:#12171c;--ink:#e3e8ec;--quiet:#9daab5;--line:#2d3741;--accent:#57c3cb;
--tint:#1c262d;--atoll-1:#2079b9;--atoll-2:#e8ab35;--atoll-3:#2fb98d;--atoll-4:#c0500f;--atoll-5:#8fcdf2;
--atoll-6:#dc93bd;--atoll-7:#e6db55;--atoll-8:#a3a3a3}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);-webkit-text-size-adjust:100%;
font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif}
main{max-width:58rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
header{display:flex;gap:1rem;align-items:center}
header svg{flex:none}
h1{font-size:1.7rem;line-height:1.2;margin:0;font-weight:650;overflow-wrap:anywhere;letter-spacing:-.01em}
h2{font-size:1.2rem;margin:3rem 0 .75rem;padding-top:1.5rem;border-top:1px solid var(--line);font-weight:650}
h3{font-size:1rem;margin:1.75rem 0 .5rem;font-weight:600;overflow-wrap:anywhere}
h3::first-letter,summary::first-letter{text-transform:uppercase}
p{margin:.4rem 0}
.lead{font-size:1.1rem;margin:1.25rem 0 .5rem;max-width:44rem}
.quiet,caption{color:var(--quiet);font-size:.875rem}
.quiet{margin:0;overflow-wrap:anywhere}
.notes{margin:1rem 0;padding:.75rem 1rem .75rem 2rem;background:var(--tint);border-radius:.5rem}
.wide,.picture,pre{overflow-x:auto;border-radius:.5rem}
:focus-visible{outline:2px solid var(--accent);outline-offset:3px}
.picture{margin:.75rem 0 1rem}
.picture svg{display:block}
table{border-collapse:collapse;width:100%;font-size:.9375rem;font-variant-numeric:tabular-nums}
caption{text-align:left;caption-side:bottom;padding:.5rem 0}
th,td{text-align:left;padding:.45rem .9rem .45rem 0;border-bottom:1px solid var(--line);vertical-align:baseline}
th:last-child,td:last-child{padding-right:0}
thead th{font-size:.8125rem;color:var(--quiet);font-weight:600}
tbody th{font-weight:550}
small{display:block;font-size:.8125rem;font-weight:400;color:var(--quiet)}
.numbers td,.numbers th:not(:first-child){text-align:right}
.numbers tbody th{min-width:6rem}
.words th{white-space:nowrap}
.words caption{caption-side:top;color:var(--ink);font-weight:600}
.wrap{white-space:pre-wrap;overflow-wrap:anywhere}
.side{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:0 2.5rem;align-items:start}
.side td{overflow-wrap:anywhere}
details{margin:.5rem 0}
summary{cursor:pointer;color:var(--accent);width:fit-content;border-radius:.25rem}
pre{background:var(--tint);padding:1rem;margin:.5rem 0;
font:.875rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
@media (max-width:40rem){main{padding:1.5rem 1rem 3rem}h1{font-size:1.35rem}.lead{font-size:1rem}
.wide table{font-size:.875rem}.wide td,.wide th{padding-right:.7rem}
.wide td:last-child,.wide th:last-child{padding-right:0}}
@media print{.wide,.picture,pre{overflow:visible}pre{white-space:pre-wrap}}
"""
