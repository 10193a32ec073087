"""Mends what a model got nearly right: names of columns, and literals that no column is known to hold.

Only the characters of a mended name or literal change; the rest stays byte for byte what was written.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from rapidfuzz import fuzz, process
from sqlglot import exp

from medsql.sql.closest import Abbreviations, KnownValues, words_of
from medsql.sql.known_values import WORDS, Values
from medsql.sql.parsing import COMPARISONS, Node, compared_with, is_quoted_word, parse_as_written
from medsql.sql.parts import Column
from medsql.sql.schema import REPORT_NAMES, TABLES

COLUMN_THRESHOLD = 85.0
"""From which similarity on (rapidfuzz's `ratio`, 0 to 100) an unknown column is a known one misspelt.

ADMIT_YEAR is ADMITYEAR with 95. Two columns of one table are hardly ever so alike; what is as near to two
stays as it is.
"""

_PEOPLE = Column("DEMOGRAPHIC", "NAME")  # a name that is nearly another patient's is not that patient's


class Repair(NamedTuple):
    """One thing that was mended.

    `kind` is `report's column`, `misspelt column`, `literal's case`, `literal's wording`, `literal's
    spelling` or `literal's style`. `column` is TABLE.COLUMN: the real column, and for a literal the one
    that it is compared with.
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
        self._values = {column: KnownValues(texts, abbreviations, words) for column, texts in values.items()}
        self._threshold = threshold

    def repair(self, sql: str) -> tuple[str, tuple[Repair, ...]]:
        """The query mended, and what was, in its order there; one that does not parse comes back as it is.

        A column is mended where its table has none of that name: the report's name for a column becomes the
        real one, and another name the one that it is a misspelling of. A literal is mended where a column of
        words is equal or unequal to it (IN, too) and is not known to hold it, but one value close enough; or
        where all its known values are written in one style, such as capitals, and the literal in another.
        Numbers, dates, codes and all other literals stay. Raises nothing, whatever `sql` is.
        """
        query = parse_as_written(sql)
        if query is None:
            return sql, ()
        try:
            edits = sorted(self._edits(query), key=lambda edit: edit[0].meta["start"])
        except RecursionError:
            return sql, ()
        for node, repair in reversed(edits):
            start, end = node.meta["start"], node.meta["end"] + 1
            sql = sql[:start] + _quoted_like(sql[start:end], repair.repaired) + sql[end:]
        return sql, tuple(repair for _, repair in edits)

    def is_grounded(self, sql: str, asked: str) -> bool:
        """Whether each literal of a column of words is a known value of it, or stands in what was asked.

        Whole words of it, capitals and punctuation aside. What does not parse is not grounded.
        """
        query = parse_as_written(sql)
        if query is None:
            return False
        try:
            literals = list(_Scope(query).literals(query))
        except RecursionError:
            return False
        in_question = _words(asked)
        return all(
            literal.name in self._values.get(column, ()) or _words(literal.name) in in_question
            for column, literal in literals
        )

    def _edits(self, query: exp.Query) -> Iterator[tuple[Node, Repair]]:
        """Each name or literal that is to be replaced, with its repair."""
        scope = _Scope(query)
        for column in scope.columns:
            if mended := scope.mended(column):
                kind, real = mended
                yield column.this, Repair(kind, ".".join(real), column.name, real.name)
        for compared, literal in scope.literals(query):
            yield from self._literal(compared, literal)

    def _literal(self, column: Column, literal: Node) -> Iterator[tuple[Node, Repair]]:
        known = self._values.get(column)
        if known is None or literal.name in known:
            return
        people = column == _PEOPLE
        match = known.in_other_case(literal.name) if people else known.closest(literal.name, self._threshold)
        match = match or known.in_style(literal.name)
        if match is not None:
            kind = f"literal's {match.difference}"
            yield literal, Repair(kind, ".".join(column), literal.name, match.value)


class _Scope:
    """What the names in a query stand for; where that is open, nothing."""

    def __init__(self, query: exp.Query) -> None:
        meanings: dict[str, set[str]] = defaultdict(set)
        for table in query.find_all(exp.Table):
            meanings[table.alias_or_name.upper()].add(table.name.upper())
        for made in query.find_all(exp.CTE, exp.Subquery):
            meanings[made.alias.upper()].add("")
        self._tables = {name: next(iter(tables)) for name, tables in meanings.items() if len(tables) == 1}
        self._names = meanings.keys()
        # Else a name without a table may belong to any of several SELECTs, or to a table that nobody knows.
        self._is_plain = len(list(query.find_all(exp.Select))) == 1 and (
            set(self._tables.values()) <= TABLES.keys() and len(self._tables) == len(meanings)
        )
        self._outputs = {output.alias.upper() for output in query.find_all(exp.Alias)}
        words = {
            id(operand)
            for comparison in query.find_all(*COMPARISONS, exp.Between, exp.In)
            for operand in compared_with(comparison)
            if is_quoted_word(operand)
        }
        self.columns = [
            column
            for column in query.find_all(exp.Column)
            if id(column) not in words and isinstance(column.this, exp.Identifier)
        ]

    def real(self, node: Node) -> Column | None:
        """The column of MIMICSQL's tables that is meant."""
        if not isinstance(node, exp.Column):
            return None
        if mended := self.mended(node):
            return mended[1]
        owners = [table for table in self._owners(node) if node.name.upper() in TABLES[table]]
        return Column(owners[0], node.name.upper()) if len(owners) == 1 else None

    def literals(self, query: exp.Query) -> Iterator[tuple[Column, Node]]:
        """What columns of words are equal or unequal to, each with its column."""
        for comparison in query.find_all(exp.EQ, exp.NEQ, exp.In):
            compared = self.real(comparison.this.unnest())
            if compared is None or compared not in WORDS:
                continue
            for operand in compared_with(comparison):
                if is_quoted_word(operand):
                    yield compared, operand.this
                elif isinstance(operand, exp.Literal) and operand.is_string:
                    yield compared, operand

    def mended(self, node: exp.Column) -> tuple[str, Column] | None:
        """For a column that does not exist, the one that is meant, and what kind of repair that is."""
        name, owners = node.name.upper(), self._owners(node)
        if any(name in TABLES[table] for table in owners) or (not node.table and name in self._outputs):
            return None
        by_report = {(table, REPORT_NAMES[table][name]) for table in owners if name in REPORT_NAMES[table]}
        meant = by_report or _nearest(name, owners)
        if len(meant) != 1:
            return None
        return ("report's column" if by_report else "misspelt column"), Column(*next(iter(meant)))

    def _owners(self, node: exp.Column) -> list[str]:
        """The tables of MIMICSQL that a column may belong to."""
        if not node.table:
            return list(self._tables.values()) if self._is_plain else []
        name = node.table.upper()
        table = self._tables.get(name, "" if name in self._names else name)
        return [table] if table in TABLES else []


def _nearest(name: str, tables: list[str]) -> set[tuple[str, str]]:
    """The columns, with their tables, whose real name or report's name a name is nearest to."""
    spellings = {
        (table, real, spelling): spelling
        for table in tables
        for spelling, real in ({column: column for column in TABLES[table]} | REPORT_NAMES[table]).items()
    }
    near = process.extract(name, spellings, scorer=fuzz.ratio, score_cutoff=COLUMN_THRESHOLD, limit=None)
    return {key[:2] for _, score, key in near if score == near[0][1]}


def _words(text: str) -> str:
    """With a blank around each, so that what holds the others holds them whole."""
    words = re.findall(r"[^\W_]+", text.casefold()) or ["\0"]  # no words are in no text
    return f" {' '.join(words)} "


def _quoted_like(written: str, text: str) -> str:
    """`text` in the quotes of what it replaces, if any."""
    quote, end = written[0], written[-1]
    if quote not in "\"'`[":
        return text
    return f"{quote}{text if quote == '[' else text.replace(quote, quote * 2)}{end}"
