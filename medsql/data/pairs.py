"""The one thing everything else is made of: a question and the SQL that answers it."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Pair:
    """A question in natural language and its gold query, both trimmed and in Unicode NFC."""

    question: str
    sql: str


class Prediction(NamedTuple):
    """What a model wrote for a question; `truncated` where it would have gone on past its bound."""

    sql: str
    truncated: bool = False
