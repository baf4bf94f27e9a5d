"""The end of a command that compares: the files it writes, and what it prints."""

from __future__ import annotations

import os
from pathlib import Path

from atoll.cli import show
from atoll.errors import InvalidData, explain
from atoll.report import Report, write_report

__all__ = ["finish", "writable"]


def writable(path: str | None) -> str | None:
    """A file to write, looked at before any work; None for none.

    Raises
    ------
    InvalidData
        If it is a folder, or its folder is not there or may not be written to.
    """
    if path is None or path == "none":
        return None
    file = Path(path).expanduser()
    folder = file.absolute().parent
    if file.is_dir():
        raise InvalidData(explain("a file cannot be written over a folder", got=path, hint="name a file in it"))
    if not folder.is_dir():
        raise InvalidData(explain("the folder to write to is not there", got=path, where=folder, hint="make it first"))
    if not os.access(folder, os.W_OK):
        raise InvalidData(explain("the folder may not be written to", got=path, where=folder, hint="name another file"))
    return str(file)


def finish(report: Report, path: str | None, predictions: str | None, *, json: bool) -> int:
    """Write the report and print the comparison.

    Parameters
    ----------
    report : Report
        The comparison.
    path : str or None
        Where the report goes.
    predictions : str or None
        Where the predictions went.
    json : bool
        Whether to print data instead of a table.

    Returns
    -------
    int
        Exit status 0.
    """
    written = [("predictions", predictions)] if predictions is not None else []
    if path is not None:
        written.insert(0, ("report", str(write_report(path, report))))
    if json:
        show.emit_json(show.as_data(report, written))
    else:
        show.print_report(report, written)
    return 0
