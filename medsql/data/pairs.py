"""The one thing everything else is made of: a question and the SQL that answers it."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from medsql.errors import UserError

if TYPE_CHECKING:  # they import sqlglot
    from medsql.sql.choice import Choice
    from medsql.sql.repair import Repair


@dataclass(frozen=True, slots=True)
class Pair:
    """A question in natural language and its gold query, both trimmed and in Unicode NFC."""

    question: str
    sql: str


def pairs_digest(pairs: Sequence[Pair]) -> str:
    """SHA-256 over the pairs in their order, as one JSON line each, in hexadecimal."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps([pair.question, pair.sql], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def trimmed(text: str) -> str:
    """`text` as both texts of a pair are. Raises `UnicodeEncodeError` for half a surrogate pair."""
    text.encode("utf-8")  # JSON and command lines may hold such a half, which no file takes
    return unicodedata.normalize("NFC", text).strip()


def checked_question(text: str, number: int) -> str:
    """A question somebody asks, as those of pairs. Raises `UserError`, which says the `number`, for none."""
    try:
        question = trimmed(text)
    except UnicodeEncodeError:
        raise UserError(f"question {number} is no Unicode text") from None
    if not question:
        raise UserError(f"question {number} is empty")
    return question


class Prediction(NamedTuple):
    """What a model wrote for a question; `truncated` where it would have gone on past its bound.

    `choice` says how it was chosen among the beams, where that was guided by execution. Where it was to be
    repaired, `repairs` says what was, if anything, and `written` is what the model wrote.
    """

    sql: str
    truncated: bool = False
    choice: Choice | None = None
    written: str | None = None
    repairs: tuple[Repair, ...] = ()

    def guidance(self) -> dict[str, Any]:
        """How its beam was chosen and what was repaired, ready for JSON; nothing where neither was to be."""
        row: dict[str, Any] = {}
        if self.choice is not None:
            beam, _, verdicts = self.choice
            row |= {"beam": beam, "beams_tried": len(verdicts), "beam_verdicts": verdicts}
        if self.written is not None:
            row |= {"written": self.written, "repairs": [each._asdict() for each in self.repairs]}
        return row
