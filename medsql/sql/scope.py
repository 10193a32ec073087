"""What the names in a query over MIMICSQL's tables stand for, also other names and misspelt ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from rapidfuzz import fuzz, process
from sqlglot import exp

from medsql.sql.known_values import WORDS
from medsql.sql.parsing import COMPARISONS, Node, compared_with, is_quoted_word
from medsql.sql.parts import Column
from medsql.sql.schema import REPORT_NAMES, TABLES

COLUMN_THRESHOLD = 85.0
"""From which similarity on (rapidfuzz's `ratio`, 0 to 100) an unknown column is a known one misspelt.

ADMIT_YEAR is ADMITYEAR with 95. Two columns of one table are hardly ever so alike; what is as near to two
stays as it is.
"""


class Scope:
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
        self.values = [  # literals, of whatever kind
            operand
            for comparison in query.find_all(*COMPARISONS, exp.Between, exp.In)
            for operand in compared_with(comparison)
            if is_quoted_word(operand) or isinstance(operand, exp.Literal)
        ]
        words = {id(value) for value in self.values}
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
