"""The one thing everything else is made of: a question and the SQL that answers it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """A question in natural language and its gold query, both trimmed and in Unicode NFC."""

    question: str
    sql: str
