"""`main`: find the command, run it, and turn whatever goes wrong into a message and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import atoll
from atoll.cli import options, show
from atoll.errors import (
    AtollError,
    InvalidData,
    JournalMismatch,
    UnknownName,
    UnsupportedEstimator,
    closest,
    explain,
)

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["main"]

_BAD_INPUT = (InvalidData, JournalMismatch, UnknownName, UnsupportedEstimator)
_EXTRAS = dict.fromkeys(("cryptography", "httptools", "uvicorn", "uvloop"), "silo") | {"sqlalchemy": "sql"}
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_NO_READER = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        What stands after ``atoll``; by default what this process was given.

    Returns
    -------
    int
        Exit status: 0 well, 1 the run failed, 2 bad usage or bad input, 130 interrupted, 141 the reader of the output
        has gone.

    Examples
    --------
    >>> from atoll.cli import main
    >>> main(["--version"])
    atoll 0.1.0
    0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except BrokenPipeError:
        _swallow_output()
        return _NO_READER


def _dispatch(words: list[str]) -> int:
    words = options.spelled(words)
    first = words[0] if words else ""
    if first in ("", "-h", "--help", "help"):
        (show.emit if first else show.say)(options.overview())
        return 0 if first else 2
    if first == "--version":
        show.emit(f"atoll {atoll.__version__}\n")
        return 0
    if options.shared(first) and (len(words) == 1 or words[1] in ("-h", "--help", "help")):
        (show.emit if words[1:] else show.say)(options.overview(first))
        return 0 if words[1:] else 2
    name, rest = options.named(words)
    if name not in options.COMMANDS:
        what = "the command comes first" if first.startswith("-") else closest(name, options.COMMANDS)
        show.say(explain(f"atoll: error: unknown command {name!r}", hint=what) + "\n")
        return 2
    try:
        args = options.parser(name).parse(rest)
        args.command = name
    except SystemExit as done:
        return int(done.code or 0)
    return _guarded(name, args)


def _guarded(name: str, args: Namespace) -> int:
    """Run a command; every error becomes a message, warnings become notes."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _notes()
            command: Callable[[Namespace], int] = import_module(f"atoll.cli.{name.partition(' ')[0]}").execute
            return command(args)
    except KeyboardInterrupt:
        again = "; the same command goes on from its journal" if getattr(args, "journal", None) else ""
        show.say(f"\natoll {name}: interrupted{again}\n")
        return _INTERRUPTED
    except BrokenPipeError:
        raise
    except AtollError as error:
        return _failed(name, args, str(error), 2 if isinstance(error, _BAD_INPUT) else 1)
    except ImportError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        hint = f"pip install 'atoll[{extra}]'" if extra else None
        what = f"this needs the extra {extra!r}" if extra else f"{type(error).__name__}: {error}"
        return _failed(name, args, explain(what, got=error if extra else None, hint=hint), 1)
    except Exception as error:
        hint = None if args.debug else "the same command with --debug shows where"
        return _failed(name, args, explain(f"{type(error).__name__}: {error}", hint=hint), 1)


def _failed(name: str, args: Namespace, message: str, status: int) -> int:
    if args.debug:
        show.say(traceback.format_exc())
    show.say(f"atoll {name}: error: {message}\n")
    return status


def _notes() -> Callable[..., None]:
    """Says each warning once, as a note."""
    said = set()

    def say(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in said:
            said.add(str(message))
            show.say(f"note: {message}\n")

    return say


def _swallow_output() -> None:
    """Nobody reads any more: what is still buffered must not fail again when the interpreter ends."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
