"""SQL as people read it: formatted, and with what another query has not marked."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from markupsafe import Markup, escape

from medsql.sql.parsing import parse_as_written

_PIECES = re.compile(r"""\s+|"(?:""|[^"])*"|'(?:''|[^'])*'|\w+|[^\w\s]""")
"""Blanks, quoted texts, words and single signs: together they are the whole text."""

MOST_PIECES = 2_000
"""Of two queries together that are compared, since comparing takes time quadratic in them."""


def formatted(sql: str) -> str:
    """A query on several lines, indented; what does not parse stays as it is."""
    query = parse_as_written(sql)
    try:
        return sql.strip() if query is None else str(query.sql(dialect="sqlite", pretty=True))
    except RecursionError:  # thousands of nested parentheses
        return sql.strip()


def marked(sql: str, other: str) -> Markup:
    """The formatted query as HTML, with `<mark>` around what the `other` has not, white space aside."""
    pieces = _PIECES.findall(formatted(sql))
    ours = [place for place, piece in enumerate(pieces) if not piece.isspace()]
    theirs = [piece for piece in _PIECES.findall(formatted(other)) if not piece.isspace()]
    if len(ours) + len(theirs) > MOST_PIECES:
        return escape("".join(pieces))
    matcher = SequenceMatcher(None, [_key(pieces[place]) for place in ours], [*map(_key, theirs)], False)
    same = {ours[block.a + i] for block in matcher.get_matching_blocks() for i in range(block.size)}
    return Markup("").join(
        escape(piece) if piece.isspace() or place in same else Markup("<mark>{}</mark>").format(piece)
        for place, piece in enumerate(pieces)
    )


def _key(piece: str) -> str:
    """What two pieces are compared by: case counts in quoted text alone."""
    return piece if piece[0] in "\"'" else piece.upper()
