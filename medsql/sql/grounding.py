"""Whether the text values of a query are known, or stand in the question: what `decode=grounded` prefers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rapidfuzz import fuzz, process

from medsql.sql.closest import KnownValues, plain
from medsql.sql.parsing import parse_as_written
from medsql.sql.parts import Column
from medsql.sql.scope import Scope

COPIED = 70.0
"""How like a name words are that it was meant to copy (rapidfuzz's `ratio`, 0 to 100)."""

NAME = re.compile(r"\w+(?:[-'’](?!s\b)\w+)*")
"""A word that may be a part of a name: `O'Brien`, and of `Brock's` only the name."""


def is_grounded(sql: str, asked: str, known: Mapping[Column, KnownValues]) -> bool:
    """Whether each literal of a column of words is a `known` value of it, or stands in what was asked.

    One that is known of another column alone is that one's, whatever was asked. What does not parse is not
    grounded.
    """
    query = parse_as_written(sql)
    if query is None:
        return False
    try:
        literals = list(Scope(query).literals(query))
    except RecursionError:
        return False
    return all(
        literal.name in known.get(column, ())
        or (is_asked(literal.name, asked) and not _known_of_any(literal.name, known))
        for column, literal in literals
    )


def is_asked(text: str, asked: str) -> bool:
    """Whether a text stands in what was asked, as whole words, capitals and punctuation aside."""
    return plain(text) in plain(asked)


def copied_name(name: str, asked: str) -> str | None:
    """The words in a row of what was asked that a name is most like, as many or one more.

    One more because a blank may have been lost. None where none are `COPIED` like it.
    """
    words, length = NAME.findall(asked), len(name.split())
    runs = [
        " ".join(words[start : start + count])
        for count in (max(1, length), length + 1)
        for start in range(len(words) - count + 1)
    ]
    found = process.extractOne(name, runs, scorer=fuzz.ratio, processor=str.casefold, score_cutoff=COPIED)
    return None if found is None else found[0]


def _known_of_any(text: str, known: Mapping[Column, KnownValues]) -> bool:
    """Whether a text is a known value of some column, capitals aside."""
    return any(values.in_other_case(text) is not None for values in known.values())
