"""What a person sees while a long call runs: one line per round, and who is missing."""

from __future__ import annotations

from atoll.progress.base import Progress, Silent, reporter

__all__ = ["Progress", "Silent", "reporter"]
