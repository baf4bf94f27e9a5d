"""One thread for every number.

The order in which a threaded BLAS adds depends on how many threads it has, so results would too. Wherever Atoll makes a
number, on a node or in the driver, BLAS and OpenMP run one thread; parallelism comes from workers. The controller is
made once (it searches the loaded libraries for some milliseconds) and kept; a switch then costs about 12 µs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_thread"]

_lock = threading.Lock()
_depth = 0
_controller: ThreadpoolController | None = None
_limiter: Any = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the body with one BLAS and OpenMP thread; nests, and is shared by all threads of the process."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _controller, _depth, _limiter
    with _lock:
        if _depth == 0:
            if _controller is None:
                _controller = ThreadpoolController()
            _limiter = _controller.limit(limits=1)
        _depth += 1


def _leave() -> None:
    global _depth
    with _lock:
        _depth -= 1
        if _depth == 0:
            _limiter.restore_original_limits()
