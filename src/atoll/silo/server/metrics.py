"""Numbers for Prometheus, in its text format (version 0.0.4)."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["KIND", "Metrics"]

KIND = b"text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Metrics:
    """What the server counts itself. Used by the event loop's thread only."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, int], int] = {}
        self._refusals: dict[str, int] = {}
        self._seconds = [0] * (len(_SECONDS) + 1)
        self._total = 0.0
        self.bytes_in = self.bytes_out = 0

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request was answered; `seconds` is negative where it was meant to wait."""
        self._answers[route, status] = self._answers.get((route, status), 0) + 1
        if seconds >= 0:
            self._total += seconds
            self._seconds[sum(seconds > bound for bound in _SECONDS)] += 1

    def refused(self, code: str) -> None:
        """A request was refused."""
        self._refusals[code] = self._refusals.get(code, 0) + 1

    def text(self, now: Mapping[str, float]) -> str:
        """The page.

        Parameters
        ----------
        now : mapping of str to float
            What others count, as gauges; names without the prefix.
        """
        lines = _head("requests_total", "counter", "Requests by path and status.")
        lines += [
            f'atoll_requests_total{{path="{_escape(route)}",status="{status}"}} {count}'
            for (route, status), count in sorted(self._answers.items())
        ]
        lines += _head("refusals_total", "counter", "Requests that were refused, by code.")
        lines += [f'atoll_refusals_total{{code="{code}"}} {n}' for code, n in sorted(self._refusals.items())]
        lines += self._histogram()
        for name, told, value in (("received", "received", self.bytes_in), ("sent", "sent", self.bytes_out)):
            lines += [*_head(f"{name}_bytes_total", "counter", f"Bytes of bodies {told}."),
                      f"atoll_{name}_bytes_total {value}"]  # fmt: skip
        for name, number in sorted({**now, "resident_bytes": _resident()}.items()):
            lines += [*_head(name, "gauge", f"{name.replace('_', ' ').capitalize()}."), f"atoll_{name} {number:.16g}"]
        return "\n".join(lines) + "\n"

    def _histogram(self) -> list[str]:
        lines = _head("request_seconds", "histogram", "Seconds until an answer, long polls left out.")
        count = 0
        for bound, n in zip((*map(str, _SECONDS), "+Inf"), self._seconds, strict=True):
            count += n
            lines.append(f'atoll_request_seconds_bucket{{le="{bound}"}} {count}')
        return [*lines, f"atoll_request_seconds_sum {self._total:.9g}", f"atoll_request_seconds_count {count}"]


def _head(name: str, kind: str, told: str) -> list[str]:
    return [f"# HELP atoll_{name} {told}", f"# TYPE atoll_{name} {kind}"]


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE
