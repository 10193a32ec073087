"""The one thing everything else is made of: a question and the SQL that answers it."""

import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

from medsql.errors import UserError


@dataclass(frozen=True, slots=True)
class Pair:
    """A question in natural language and its gold query, both trimmed and in Unicode NFC."""

    question: str
    sql: str


def trimmed(text: str) -> str:
    """`text` as both texts of a pair are. Raises `UnicodeEncodeError` for half a surrogate pair."""
    text.encode(
        "utf-8"
    )  # JSON and command lines may hold such a half, and nothing further down can encode it
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
    """What a model wrote for a question; `truncated` where it would have gone on past its bound."""

    sql: str
    truncated: bool = False
