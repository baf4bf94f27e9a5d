"""Work on large answers that is done in another thread than the writer's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from atoll.combine import Combine
from atoll.errors import WireError
from atoll.silo.broker.store import full, room
from atoll.silo.durable import reached
from atoll.silo.fold import Part, fold
from atoll.silo.outlines import examine
from atoll.silo.tasks import Blob
from atoll.trees import Tree, TreeSpec

__all__ = ["Examination", "FoldJob"]


class Examination:
    """A large answer that is to be held against its contract; `run` may be called from any thread, once.

    Attributes
    ----------
    blob : Blob
        The answer.
    nbytes : int
        Bytes of its arrays.
    fault : WireError or None
        What is wrong with it.
    """

    def __init__(self, blob: Blob, path: Path, expects: TreeSpec) -> None:
        self.blob, self.nbytes, self.done = blob, 0, False
        self.fault: WireError | None = None
        self._path, self._expects = path, expects

    def run(self) -> Examination:
        """Read the file and remember what is wrong with it, if anything; raises nothing on account of its content."""
        try:
            self.nbytes = examine(self._path, self._expects)
        except WireError as error:
            self.fault = error
        self.done = True
        return self


class FoldJob:
    """Parts to add; `run` may be called from any thread, once.

    Attributes
    ----------
    exchange : int
        Which exchange.
    lo, hi : int
        The segment.
    made : Blob or None
        The sum, in the file `target`.
    target : Path
        The file.
    error : Exception or None
        Why there is none: `Misfit`, `DiskFull`, or a file that is gone with its exchange.
    """

    def __init__(
        self,
        exchange: int,
        lo: int,
        hi: int,
        parts: Sequence[Part],
        combine: Combine,
        expand: Callable[[Tree], Tree] | None,
        target: Path,
    ) -> None:
        self.exchange, self.lo, self.hi, self.target = exchange, lo, hi, target
        self.made: Blob | None = None
        self.error: Exception | None = None
        self._parts, self._combine, self._expand = parts, combine, expand

    def run(self) -> FoldJob:
        """Add into a new file, in bounded memory, and remember how it went."""
        try:
            room(self.target.parent, max([p.what.stat().st_size for p in self._parts if isinstance(p.what, Path)]))
            made = fold(self._parts, self.lo, self.hi, self._combine, self._expand, self.target)
            self.made = made if isinstance(made, Blob) else None
            reached("coordinator.fold.written")
        except Exception as error:
            self.error = full(error) or error
        return self
