"""How close a predicted query is to the gold query, as text: the report's two measures.

Both are defined to the letter as in the report (section 6.1), its rules for empty text included,
so that scores can lie beside its tables.
"""

from __future__ import annotations

from typing import NamedTuple


class TokenOverlap(NamedTuple):
    """Precision, recall and F1, each from 0 to 1, of one prediction against its reference."""

    precision: float
    recall: float
    f1: float


def exact_match(prediction: str, reference: str) -> bool:
    """Whether the two are equal after stripping and upper-casing; inner white space counts."""
    return prediction.strip().upper() == reference.strip().upper()


def token_overlap(prediction: str, reference: str) -> TokenOverlap:
    """Overlap of the two *sets* of lower-cased tokens, a token being what white space separates.

    Empty text scores 0 even against empty text; white space alone on both sides scores 1, as in
    the report.
    """
    if not prediction or not reference:
        return TokenOverlap(0.0, 0.0, 0.0)
    predicted, gold = set(prediction.lower().split()), set(reference.lower().split())
    if not predicted or not gold:
        same = float(not predicted and not gold)
        return TokenOverlap(same, same, same)
    shared = len(predicted & gold)
    precision, recall = shared / len(predicted), shared / len(gold)
    f1 = 2 * precision * recall / (precision + recall) if shared else 0.0
    return TokenOverlap(precision, recall, f1)
