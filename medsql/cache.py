"""What one job of a process loaded is kept for the next one that wants the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

_kept: dict[str, tuple[Hashable, object]] = {}
"""Kind → what determines it, and the value: one of each, so that memory does not grow with a sweep."""


def cached(kind: str, key: Hashable, load: Callable[[], T]) -> tuple[T, bool]:
    """What is kept under `key`, or else loaded and kept from now on; and whether it was there."""
    if kind in _kept and _kept[kind][0] == key:
        log.info("%s: as loaded before in this process", kind)
        return _kept[kind][1], True  # type: ignore[return-value]  # a kind has one type
    forget(kind)  # first, so that two are never in memory at once
    value = load()
    _kept[kind] = key, value
    return value, False


def forget(kind: str) -> None:
    """Whoever wants it next loads it afresh."""
    _kept.pop(kind, None)
