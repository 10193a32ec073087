"""A score with its interval; apart from what computes it, so that reading one imports no scipy."""

from __future__ import annotations

from typing import NamedTuple


class Estimate(NamedTuple):
    """A score from 0 to 1 with its 95 % interval and the number of rows behind it."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """`33.0 (25.0–43.0)`, in percent."""
        return f"{100 * self.value:.1f} ({100 * self.low:.1f}–{100 * self.high:.1f})"
