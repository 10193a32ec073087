"""The language a constrained model may write: MIMICSQL's dialect over the tables and columns of a schema.

A query is `SELECT items FROM table joins WHERE conditions`. Its columns stand before the tables that they
need, so what may follow depends on the tables named so far, and of those there are few. The grammar is
therefore regular: a graph of places in a query, between which terminals lie. Its rules, for an engine that
makes token masks of them, and the graph itself are two views of the same edges.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

from medsql.sql.schema import Schema

MOST_ITEMS, MOST_TABLES, MOST_CONDITIONS = 3, 3, 4
"""What a query may have; in MIMICSQL's development split it has at most 2, 3 and 2."""

LONGEST_LITERAL = 200
"""Characters between a literal's quotes; the development split's longest has 151."""

CHARACTER = "[ !#-~]"
"""What a literal is made of where no values are listed: printable ASCII but the quote, as in MIMICSQL."""

NO_FORCING = '%llguidance {"no_forcing": true}'
"""Where only one text can follow, every token that begins it may pass, not just the tokenizer's choice."""

OPERATORS = ("=", "<", ">", "<=", ">=")
AGGREGATES = ("COUNT", "MIN", "MAX", "AVG", "SUM")

Node = tuple[Any, ...]
"""A place in a query: its kind, and what has been written that decides what may follow."""


Tables = frozenset[str]


class Edge(NamedTuple):
    """One of `texts`, then `after`; without texts the rest of a literal, with the quote that ends it."""

    texts: tuple[str, ...] | None
    after: Node


class Grammar:
    """All queries over a schema.

    A column may be selected or compared only where its table is in FROM or JOIN, no table is there twice, and
    each is joined to one before it by a key they share. `values` maps `TABLE.COLUMN` to the only literals it
    may be compared with; other columns take any literal. Every terminal is written as `spell` has it, for
    models that cannot write some characters.
    """

    def __init__(
        self,
        schema: Schema,
        values: Mapping[str, Sequence[str]] | None = None,
        spell: Callable[[str], str] = str,
    ) -> None:
        self.schema = schema
        self.start: Node = ("start",)
        self._spell = spell
        self._values = {
            column: self._texts(*(f'{value}"' for value in listed))
            for column, listed in (values or {}).items()
        }
        self._edges: dict[Node, list[Edge]] = {}

    @cached_property
    def nodes(self) -> list[Node]:
        """Every node that can be reached, the start first."""
        found = {self.start: None}
        for node in (queue := [self.start]):
            new = [edge.after for edge in self.edges(node) if edge.after not in found]
            found.update(dict.fromkeys(new))
            queue += dict.fromkeys(new)
        return list(found)

    def edges(self, node: Node) -> list[Edge]:
        """What may be written next."""
        if node not in self._edges:
            kind, *state = node
            self._edges[node] = list(getattr(self, f"_{kind}")(*state))
        return self._edges[node]

    def is_end(self, node: Node) -> bool:
        """Whether a query may end here."""
        kind, *state = node
        return kind == "compared" or (kind == "joined" and not state[1])  # then no table is missing

    def rules(self) -> str:
        """The grammar in Lark's notation: a rule for each node, a terminal for each set of texts."""
        names = {node: "start" if node == self.start else f"n{i}" for i, node in enumerate(self.nodes)}
        terminals: dict[tuple[str, ...] | None, str] = {}
        lines = []
        for node, name in names.items():
            ways = []
            for texts, after in self.edges(node):
                terminal = terminals.setdefault(texts, f"T{len(terminals)}")
                ways.append(f"{terminal} {names[after]}" if self.edges(after) else terminal)
            if ways:
                optional = "?" if self.is_end(node) else ""
                lines.append(f"{name}: ({' | '.join(ways)}){optional}")
        lines += [f"{name}: {_pattern(texts)}" for texts, name in terminals.items()]
        return "\n".join([NO_FORCING, *lines])

    # ---- from one place in a query to the next ----------------------------------------------

    def _start(self) -> Iterator[Edge]:
        # A vocabulary with blanks at the front of its pieces writes one there, and takes it off again.
        yield Edge(self._texts("SELECT ", " SELECT "), ("select", frozenset(), 0))

    def _select(self, tables: Tables, items: int) -> Iterator[Edge]:
        """`tables` are those whose columns are selected so far; FROM and JOIN will have to name them."""
        yield from self._columns(tables, lambda needed: ("selected", needed, items + 1))
        yield Edge(self._texts(*(f"{name} ( " for name in AGGREGATES)), ("aggregate", tables, items))

    def _aggregate(self, tables: Tables, items: int) -> Iterator[Edge]:
        yield Edge(self._texts("DISTINCT "), ("distinct", tables, items))
        yield from self._distinct(tables, items)

    def _distinct(self, tables: Tables, items: int) -> Iterator[Edge]:
        yield from self._columns(tables, lambda needed: ("aggregated", needed, items))

    def _aggregated(self, tables: Tables, items: int) -> Iterator[Edge]:
        yield Edge(self._texts(" )"), ("selected", tables, items + 1))

    def _selected(self, tables: Tables, items: int) -> Iterator[Edge]:
        if items < MOST_ITEMS:
            yield Edge(self._texts(","), ("select", tables, items))
        yield Edge(self._texts(" FROM "), ("from", tables))

    def _columns(self, tables: Tables, after: Callable[[Tables], Node]) -> Iterator[Edge]:
        """Columns of the tables that are selected from, or that still can be."""
        for table in self.schema.tables:
            needed = tables | {table}
            if self._can_be_joined(needed):
                yield Edge(self._texts(*self._of(table)), after(needed))

    def _from(self, needed: Tables) -> Iterator[Edge]:
        for table in self.schema.tables:
            if self._can_be_joined(needed | {table}):
                yield Edge(self._texts(table), ("joined", frozenset({table}), needed - {table}))

    def _joined(self, tables: Tables, missing: Tables) -> Iterator[Edge]:
        """`missing` tables are needed, and `tables` there."""
        for table in self.schema.tables:
            reach = tables | missing | {table}
            if table not in tables and self._keys(tables, table) and self._can_be_joined(reach):
                yield Edge(self._texts(f" INNER JOIN {table} on "), ("on", tables, missing, table))
        if not missing:
            yield Edge(self._texts(" WHERE "), ("where", tables, 0))

    def _on(self, tables: Tables, missing: Tables, table: str) -> Iterator[Edge]:
        keys = self._keys(tables, table)
        ways = [f"{one} = {other}" for one, other in keys] + [f"{other} = {one}" for one, other in keys]
        yield Edge(self._texts(*ways), ("joined", tables | {table}, missing - {table}))

    def _where(self, tables: Tables, conditions: int) -> Iterator[Edge]:
        columns = [column for table in self.schema.tables if table in tables for column in self._of(table)]
        for column in columns:
            if _plain(column) in self._values:
                yield Edge(self._texts(column), ("compare", tables, conditions, _plain(column)))
        free = [column for column in columns if _plain(column) not in self._values]
        if free:
            yield Edge(self._texts(*free), ("compare", tables, conditions, None))

    def _compare(self, tables: Tables, conditions: int, column: str | None) -> Iterator[Edge]:
        yield Edge(
            self._texts(*(f' {operator} "' for operator in OPERATORS)), ("value", tables, conditions, column)
        )

    def _value(self, tables: Tables, conditions: int, column: str | None) -> Iterator[Edge]:
        texts = None if column is None else self._values[column]
        yield Edge(texts, ("compared", tables, conditions + 1))

    def _compared(self, tables: Tables, conditions: int) -> Iterator[Edge]:
        if conditions < MOST_CONDITIONS:
            yield Edge(self._texts(" AND "), ("where", tables, conditions))

    def _texts(self, *texts: str) -> tuple[str, ...]:
        return tuple(sorted({self._spell(text) for text in texts}))

    def _of(self, table: str) -> list[str]:
        return [f'{table}."{column}"' for column in self.schema.tables[table]]

    def _keys(self, tables: Tables, table: str) -> list[tuple[str, str]]:
        """Pairs of `TABLE.COLUMN` that `table` may be joined by to one of `tables`."""
        return [
            (".".join(one), ".".join(other))
            for key in self.schema.keys
            for one, other in product(key, key)
            if one[0] in tables and other[0] == table
        ]

    def _can_be_joined(self, tables: Tables) -> bool:
        """Whether some query may name all of `tables`."""
        return any(tables <= other for other in self._joinable)

    @cached_property
    def _joinable(self) -> set[Tables]:
        """Sets of tables that a query may have, each joined to one before it."""
        sets = newest = {frozenset({table}) for table in self.schema.tables}
        for _ in range(MOST_TABLES - 1):
            newest = {
                tables | {table}
                for tables, table in product(newest, self.schema.tables)
                if table not in tables and self._keys(tables, table)
            }
            sets = sets | newest
        return sets


def _plain(column: str) -> str:
    return column.replace('"', "")


def _pattern(texts: tuple[str, ...] | None) -> str:
    """A terminal in Lark's notation."""
    if texts is None:
        return f'/{CHARACTER}{{0,{LONGEST_LITERAL}}}"/'
    return " | ".join(json.dumps(text) for text in texts)
