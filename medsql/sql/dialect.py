"""MIMICSQL's way of writing SQL, and its translation into SQL that any SQLite runs.

In MIMICSQL a double-quoted word is a column where it stands behind a dot (`LAB."FLUID"`) and a
*string literal* where it is compared with (`= "Blood"`). SQLite forgives the second reading unless
it was built with DQS=0, and a strict parser does not: both want single quotes.
"""

from __future__ import annotations

import re

# Quoted text is consumed as a whole, so an operator or a quote inside a literal is never mistaken
# for SQL. A regular expression is enough for this, and a hundred times faster than a full parser.
_WORD = r'"(?:""|[^"])*+"(?!\s*\.)'  # `= "T"."C"` compares with a column
_ITEM = rf"""(?: {_WORD} | '(?:''|[^'])*+' | [-+.\w]+ )"""
_QUOTED = re.compile(
    rf"""
    '(?:''|[^'])*'                                       # a literal in single quotes stays
    | (?: [<>=!]=? | <> | \bLIKE\b ) \s* (?P<compared> (?:\(\s*)*+ {_WORD} )
    | \bIN \s* \( \s* (?P<listed> {_ITEM} (?: \s*,\s* {_ITEM} )* ) \s* \)
    | \bBETWEEN \s* (?P<bounds> {_ITEM} \s* \bAND\b \s* {_ITEM} )
    | "(?:""|[^"])*"                                     # any other is an identifier
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LITERAL = re.compile(r"""'(?:''|[^'])*+'|"((?:""|[^"])*+)\"""")

LONGEST_SQL = 10_000
"""Bytes of a query that is looked at; MIMICSQL's longest has some 500."""


def to_sqlite(sql: str) -> str:
    """The same query with every double-quoted literal on the right of a comparison in single quotes.

    That is what stands behind an operator or LIKE, in an IN list or as a bound of BETWEEN. Nothing else is
    touched, white space included, and a query that has no such literal comes back as it is:
    `= "O'Brien"` becomes `= 'O''Brien'`.
    """
    return _QUOTED.sub(_with_literals, sql)


def _with_literals(match: re.Match[str]) -> str:
    return _LITERAL.sub(_single_quoted, match[0]) if match.lastgroup else match[0]


def _single_quoted(match: re.Match[str]) -> str:
    if match[1] is None:  # in single quotes already
        return match[0]
    value = match[1].replace('""', '"').replace("'", "''")
    return f"'{value}'"
