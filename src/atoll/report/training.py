"""How a training went: curves against rounds, bytes and time, and a table of rounds."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.display import middle_left_out, shown
from atoll.errors import InvalidData
from atoll.markup import cells, details, picture, table, text
from atoll.run import Run, human_bytes
from atoll.svg import Line, lines
from atoll.training.curves import AXES, curve, metrics_of

__all__ = ["training"]

_MOST_ROUNDS = 80
_HIDDEN = ("staleness", "dropped", "virtual_seconds")  # in the table, but no curves


def training(label: str, run: Run) -> str:
    """What the page shows of one training; nothing of a run that has none.

    Parameters
    ----------
    label : str
        Names the run on the page.
    run : Run
        Its record.

    Returns
    -------
    str
    """
    if not run.training:
        return ""
    named = [name for name in metrics_of(run) if name not in _HIDDEN]
    alike = [[name for name in named if name.endswith("loss")], [n for n in named if not n.endswith("loss")]]
    first = "".join(_against("rounds", names, run) for names in alike if names)
    rest = "".join(_against(x, alike[0], run) for x in AXES if x != "rounds")
    every = f"Every round of training: {label}. Bytes are those of arrays."
    return (
        f"<h3>{text(label)}</h3>{first}{details(rest, 'Against bytes and time')}"
        f"{details(table(every, cells(_head(run)), map(cells, _rows(run))), f'{len(run.training)} rounds of training')}"
    )


def _against(x: str, names: Sequence[str], run: Run) -> str:
    """One picture; nothing where the record does not say."""
    found = []
    for name in names:
        try:
            found.append(Line(name.replace("_", " "), *curve(run, x, name)))
        except InvalidData:
            continue
    if not found or (x != "rounds" and len(found[0].x) < 2):
        return ""
    what = " and ".join(line.name for line in found) if len(found) < 4 else "metrics"
    title = f"{what[0].upper()}{what[1:]} against {AXES[x]}"
    return picture(lines(found, title=title, x_label=AXES[x]))


def _head(run: Run) -> list[str]:
    names = [name.replace("_", " ") for name in metrics_of(run)]
    return ["round", "answered", *names, "to nodes", "from nodes", "seconds"]


def _rows(run: Run) -> list[Sequence[str]]:
    """A line per round; of very many, the first and the last."""
    names = metrics_of(run)
    return middle_left_out(
        [
            [
                str(row.round), f"{row.answered} of {row.asked}",
                *(shown(row.metrics[name]) if name in row.metrics else "–" for name in names),
                human_bytes(row.bytes_down), human_bytes(row.bytes_up), f"{row.seconds:.4f}",
            ]
            for row in run.training
        ],
        _MOST_ROUNDS,
    )  # fmt: skip
