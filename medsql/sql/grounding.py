"""Whether the text values of a query are known, or stand in the question, and which words of it they copy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from rapidfuzz import fuzz, process

from medsql.sql.closest import KnownValues
from medsql.sql.parsing import parse_as_written
from medsql.sql.parts import Column
from medsql.sql.scope import Scope

COPIED = 70.0
"""How like a text words are that it was meant to copy (rapidfuzz's `ratio`, 0 to 100)."""

PUNCTUATION = ".,;:?!"
"""What is no part of the words it follows."""


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
        or (is_asked(literal.name, asked) and not known_of_any(literal.name, known))
        for column, literal in literals
    )


def known_of_any(text: str, known: Mapping[Column, KnownValues]) -> bool:
    """Whether a text is a known value of some column, capitals aside."""
    return any(values.in_other_case(text) is not None for values in known.values())


def is_asked(text: str, asked: str) -> bool:
    """Whether a text stands in what was asked, as whole words, capitals and punctuation aside."""
    return _words(text) in _words(asked)


def said_in_full(text: str, asked: str, known: Iterable[str]) -> str | None:
    """The longest of `known` values that was asked for and holds the words of a text, and more.

    Of `Potassium` it is `Potassium, Urine` where that was asked for. None where there is none.
    """
    longer = [
        value
        for value in known
        if is_asked(text, value) and is_asked(value, asked) and not is_asked(value, text)
    ]
    return max(longer, key=len, default=None)


def copied_words(text: str, asked: str) -> str | None:
    """The words in a row of what was asked that a text is most like; None where none are `COPIED` like it."""
    words = asked.split()
    longest = len(text.split()) + 1  # a blank may have been lost
    runs = [
        " ".join(words[start:end]).strip(PUNCTUATION)
        for start in range(len(words))
        for end in range(start + 1, min(start + longest, len(words)) + 1)
    ]
    found = process.extractOne(text, runs, scorer=fuzz.ratio, processor=str.casefold, score_cutoff=COPIED)
    return None if found is None else found[0]


@lru_cache(maxsize=2**14)  # known values come again and again
def _words(text: str) -> str:
    """With a blank around each, so that what holds the others holds them whole."""
    words = re.findall(r"[^\W_]+", text.casefold()) or ["\0"]  # no words are in no text
    return f" {' '.join(words)} "
