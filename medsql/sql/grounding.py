"""Whether the text values of a query are known, or stand in the question: what `decode=grounded` prefers."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

from medsql.sql.parsing import parse_as_written
from medsql.sql.parts import Column
from medsql.sql.scope import Scope


def is_grounded(sql: str, asked: str, known: Mapping[Column, Container[str]]) -> bool:
    """Whether each literal of a column of words is a `known` value of it, or stands in what was asked.

    Whole words of it, capitals and punctuation aside. What does not parse is not grounded.
    """
    query = parse_as_written(sql)
    if query is None:
        return False
    try:
        literals = list(Scope(query).literals(query))
    except RecursionError:
        return False
    in_question = _words(asked)
    return all(
        literal.name in known.get(column, ()) or _words(literal.name) in in_question
        for column, literal in literals
    )


def _words(text: str) -> str:
    """With a blank around each, so that what holds the others holds them whole."""
    words = re.findall(r"[^\W_]+", text.casefold()) or ["\0"]  # no words are in no text
    return f" {' '.join(words)} "
