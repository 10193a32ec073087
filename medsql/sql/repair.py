"""Mends what a model got nearly right: names of columns, and literals that no column is known to hold.

Only the characters of a mended name or literal change; the rest stays byte for byte what was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

from sqlglot import exp

from medsql.sql.closest import Abbreviations, KnownValues, Match, plain, titled, words_of
from medsql.sql.grounding import copied_name, is_asked
from medsql.sql.known_values import Values
from medsql.sql.parsing import Node, parse_as_written
from medsql.sql.parts import Column
from medsql.sql.scope import Scope

_PEOPLE = Column("DEMOGRAPHIC", "NAME")  # a name that is nearly another patient's is not that patient's


class Repair(NamedTuple):
    """One thing that was mended.

    `kind` is `report's column`, `misspelt column`, or `literal's` and then `case`, `wording`, `spelling` or
    `style`, or where it was read again in the question `copying` or `completion`. `column` is TABLE.COLUMN:
    the real column, and for a literal the one that it is compared with.
    """

    kind: str
    column: str
    written: str
    repaired: str


class Repairer:
    """Repairs queries over MIMICSQL's tables.

    `values` are those known of each column, `abbreviations` are written out before two are compared, and
    `threshold` says how similar their words have to be (`medsql.sql.closest`).

    >>> repairer = Repairer({Column("LAB", "FLUID"): ["Blood"]}, {}, 85)
    >>> repairer.repair('SELECT * FROM LAB WHERE FLUID = "blood"')[0]
    'SELECT * FROM LAB WHERE FLUID = "Blood"'
    """

    def __init__(self, values: Values, abbreviations: Abbreviations, threshold: float) -> None:
        # Right in one column, it is no misspelling in another: injections, and the infections of diagnoses.
        words = words_of(chain.from_iterable(values.values()), abbreviations)
        self.known: Mapping[Column, KnownValues] = {
            column: KnownValues(texts, abbreviations, words) for column, texts in values.items()
        }
        self._threshold = threshold

    def repair(self, sql: str) -> tuple[str, tuple[Repair, ...]]:
        """The query mended, and what was, in its order there; one that does not parse comes back as it is.

        A column is mended where its table has none of that name: the report's name for a column becomes the
        real one, and another name the one that it is a misspelling of. A literal is mended where a column of
        words is equal or unequal to it (IN, too) and is not known to hold it, but one value close enough; or
        where all its known values are written in one style, such as capitals, and the literal in another.
        Numbers, dates, codes and all other literals stay. Raises nothing, whatever `sql` is.
        """
        return _edited(sql, self._edits)

    def read_again(self, sql: str, asked: str) -> tuple[str, tuple[Repair, ...]]:
        """The query with values read again in what was asked, and which were.

        A patient's name that was not asked for becomes the words that it is most like there
        (`medsql.sql.grounding.copied_name`), or stays. Another text becomes a known value that was asked for
        and holds it and more, unless what is more in that is another value of the query. Numbers and
        dates stay. Raises nothing, whatever `sql` is.
        """
        return _edited(sql, partial(self._readings, asked=asked))

    def _edits(self, query: exp.Query) -> Iterator[tuple[Node, Repair]]:
        """Each name or literal that is to be replaced, with its repair."""
        scope = Scope(query)
        for column in scope.columns:
            if mended := scope.mended(column):
                kind, real = mended
                yield column.this, Repair(kind, ".".join(real), column.name, real.name)
        for compared, literal in scope.literals(query):
            yield from self._literal(compared, literal)

    def _literal(self, column: Column, literal: Node) -> Iterator[tuple[Node, Repair]]:
        match = self._match(column, literal.name)
        if match is not None:
            kind = f"literal's {match.difference}"
            yield literal, Repair(kind, ".".join(column), literal.name, match.value)

    def _match(self, column: Column, text: str) -> Match | None:
        """The value that a text is another writing of, or the text in its column's style."""
        known = self.known.get(column)
        if known is None or text in known:
            return None
        people = column == _PEOPLE
        match = known.in_other_case(text) if people else known.closest(text, self._threshold)
        return match or known.in_style(text)

    def _readings(self, query: exp.Query, asked: str) -> Iterator[tuple[Node, Repair]]:
        scope = Scope(query)
        for column, literal in scope.literals(query):
            text = literal.name
            if not any(map(str.isalpha, text)):  # numbers and dates stay
                continue
            others = [v.name for v in scope.values if literal is not v and literal is not v.this]
            if column == _PEOPLE and not is_asked(text, asked):
                kind, value = "copying", self._copied(text, asked)
            else:
                kind, value = "completion", self._completed(column, text, asked, others)
            if value is not None:
                yield literal, Repair(f"literal's {kind}", ".".join(column), text, value)

    def _copied(self, text: str, asked: str) -> str | None:
        """The patient's name that was asked for, as the column writes it."""
        name = copied_name(text, asked)
        if name is None:
            return None
        match = self._match(_PEOPLE, titled(name))
        return match.value if match else titled(name)

    def _completed(self, column: Column, text: str, asked: str, others: Sequence[str]) -> str | None:
        """The longer value that was asked for."""
        if column not in self.known:
            return None
        value = self.known[column].said_in_full(text, asked)
        if value is None:
            return None
        more = {*plain(value).split()} - {*plain(text).split()}
        return None if any(more <= {*plain(other).split()} for other in others) else value


def _edited(
    sql: str, edits_of: Callable[[exp.Query], Iterable[tuple[Node, Repair]]]
) -> tuple[str, tuple[Repair, ...]]:
    """The query with its edits, and their repairs in the order they stand there."""
    query = parse_as_written(sql)
    if query is None:
        return sql, ()
    try:
        edits = sorted(edits_of(query), key=lambda edit: edit[0].meta["start"])
    except RecursionError:
        return sql, ()
    for node, repair in reversed(edits):
        start, end = node.meta["start"], node.meta["end"] + 1
        sql = sql[:start] + _quoted_like(sql[start:end], repair.repaired) + sql[end:]
    return sql, tuple(repair for _, repair in edits)


def _quoted_like(written: str, text: str) -> str:
    """`text` in the quotes of what it replaces, if any."""
    quote, end = written[0], written[-1]
    if quote not in "\"'`[":
        return text
    return f"{quote}{text if quote == '[' else text.replace(quote, quote * 2)}{end}"
