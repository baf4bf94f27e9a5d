"""What to say of a file that is not there."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from atoll.errors import closest

__all__ = ["nearby"]

_LOOKED = 1000  # files of a folder that are looked at
_OTHERS = 5  # of them are named where none is of the right kind


def nearby(file: Path, suffixes: Iterable[str]) -> str:
    """What stands in a folder in place of a file that is missing.

    Parameters
    ----------
    file : Path
        That is not there.
    suffixes : iterable of str
        Endings of files that could be meant, in lower case.

    Returns
    -------
    str
        "did you mean …?", the files of the right kind, or what else is there.
    """
    folder, wanted = file.parent, tuple(suffixes)
    if not folder.is_dir():
        return f"there is no folder {str(folder)!r} either"
    found = sorted(other.name for other in islice(folder.iterdir(), _LOOKED))
    fitting = [name for name in found if name.lower().endswith(wanted)]
    if fitting:
        near = closest(file.name, fitting)
        return near.replace("known:", f"{str(folder)!r} holds:", 1) if near.startswith("known:") else near
    others = ", ".join(found[:_OTHERS]) + (" and more" if len(found) > _OTHERS else "")
    return f"{str(folder)!r} holds no {', '.join(wanted)} file: " + (others or "it is empty")
