"""MIMICSQL's way of writing SQL, and its translation into SQL that any SQLite runs.

In MIMICSQL a double-quoted word is a column where it stands behind a dot (`LAB."FLUID"`) and a
*string literal* where it is compared with (`= "Blood"`). SQLite forgives the second reading unless
it was built with DQS=0, and a strict parser does not: both want single quotes.
"""

from __future__ import annotations

import re

# Quoted text is consumed as a whole, so an operator or a quote inside a literal is never mistaken
# for SQL. A regular expression is enough for this, and a hundred times faster than a full parser.
_QUOTED = re.compile(
    r"""
    '(?:''|[^'])*'                                       # a literal in single quotes stays
    | (?P<operator> (?: [<>=!]=? | <> | \bLIKE\b ) \s* )
      "(?P<literal> (?:""|[^"])* )" (?!\s*\.)            # `= "T"."C"` compares with a column
    | "(?:""|[^"])*"                                     # any other is an identifier
    """,
    re.VERBOSE | re.IGNORECASE,
)


def to_sqlite(sql: str) -> str:
    """The same query with every double-quoted literal behind a comparison in single quotes.

    Nothing else is touched, white space included, and a query that has no such literal comes back
    as it is: `= "O'Brien"` becomes `= 'O''Brien'`.
    """
    return _QUOTED.sub(_single_quoted, sql)


def _single_quoted(match: re.Match[str]) -> str:
    if match["literal"] is None:
        return match[0]
    value = match["literal"].replace('""', '"').replace("'", "''")
    return f"{match['operator']}'{value}'"
