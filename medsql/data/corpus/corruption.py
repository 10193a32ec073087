"""Span corruption, the task that T5 itself is pretrained on (Raffel et al. 2020, section 3.1.4)."""

from __future__ import annotations

import random

SENTINELS = tuple(f"<extra_id_{number}>" for number in range(16))
"""Stand for the holes of a text, in this order; T5's names for them."""

SHARE_MASKED = 0.25
"""Of the words; T5 masks 0.15 of much longer texts."""


def corrupt(rng: random.Random, text: str) -> tuple[str, str]:
    """The text with holes, and what stood in each hole behind its sentinel.

    The end of the sequence stands for the sentinel that T5 puts behind the last hole.
    """
    words = text.split(" ")
    holes = min(max(1, round(len(words) * SHARE_MASKED / 2)), len(SENTINELS))
    kept: list[str] = []
    missing: list[str] = []
    sentinels = iter(SENTINELS)
    position = 0
    for start in sorted(rng.sample(range(len(words)), holes)):
        if start < position:
            continue
        sentinel = next(sentinels)
        end = min(start + rng.choice((1, 2, 3)), len(words))
        kept += [*words[position:start], sentinel]
        missing += [sentinel, *words[start:end]]
        position = end
    return " ".join(kept + words[position:]), " ".join(missing)
