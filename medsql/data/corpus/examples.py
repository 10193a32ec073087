"""A pair of the corpus: a prompt about an invented database, and the SQL that answers it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from medsql.data.corpus.corruption import corrupt
from medsql.data.corpus.databases import Column, Database, Domain, Table, make_database
from medsql.data.corpus.values import ORDERED, Value, make_value
from medsql.data.pairs import Pair

SHARE_CORRUPTED = 0.1
"""Pairs that are a text with holes, as T5 is pretrained on, instead of a question."""

SHARE_WITH_SCHEMA = 0.1
"""Pairs whose prompt describes the database."""

DIALECTS = {"SQL": 0.7, "SQLite": 0.2, "ANSI SQL": 0.1}
"""Styles of SQL, by the name that a prompt asks for them with. The first quotes as MIMICSQL does."""


@dataclass(frozen=True)
class Condition:
    """`table.column operator value`."""

    table: Table
    column: Column
    operator: str
    value: Value


@dataclass(frozen=True)
class Query:
    """What is asked of a database; `aggregate` is one of COUNT, AVG, MIN, MAX, SUM, or empty.

    A question names `conditions` in their order, SQL names those of the main table first.
    """

    database: Database
    aggregate: str
    columns: tuple[tuple[Table, Column], ...]
    conditions: tuple[Condition, ...]

    @property
    def ordered_conditions(self) -> list[Condition]:
        """The conditions, sorted by their tables."""
        return sorted(self.conditions, key=lambda condition: self.tables.index(condition.table))

    @property
    def tables(self) -> list[Table]:
        """The main table, and those of the columns and conditions in the order they are named."""
        used = [self.database.tables[0]]
        used += [table for table, _ in self.columns] + [condition.table for condition in self.conditions]
        return list(dict.fromkeys(used))


def make_pair(rng: random.Random, domains: Sequence[Domain]) -> Pair:
    """A whole prompt, its task in words, and its target; the database is of one of the domains."""
    with_schema = rng.random() < SHARE_WITH_SCHEMA
    query = make_query(rng, make_database(rng, rng.choice(domains), spelled_out=not with_schema))
    (dialect,) = rng.choices(list(DIALECTS), list(DIALECTS.values()))
    question, sql = say(rng, query), write_sql(query, dialect)
    if rng.random() < SHARE_CORRUPTED:
        return Pair(*corrupt(rng, question if rng.random() < 0.5 else sql))
    if with_schema:
        return Pair(f"translate to {dialect}: {_schema(rng, query.database)} | question: {question}", sql)
    return Pair(f"translate to {dialect}: {question}", sql)


# ---- what is asked ------------------------------------------------------------------------------


def make_query(rng: random.Random, database: Database) -> Query:
    """One to three conditions on different columns, and what is wanted of the rows that meet them."""
    main = database.tables[0]
    conditions = []
    for _ in range(rng.choice((1, 1, 2, 2, 2, 3) if rng.random() < 0.5 else (1, 2))):
        table = rng.choice((main, rng.choice(database.tables)))
        conditions.append(_condition(rng, table))
    # One condition a column: two on the same one would mostly contradict each other.
    distinct = {(condition.table, condition.column): condition for condition in conditions}
    kind = rng.random()
    if kind < 0.6:
        return Query(database, "COUNT", (), tuple(distinct.values()))
    numbers = [column for column in main.columns if column.kind in ("number", "year")]
    if kind < 0.75 and numbers:
        aggregate = rng.choice(("AVG", "AVG", "MIN", "MAX", "SUM"))
        return Query(database, aggregate, ((main, rng.choice(numbers)),), tuple(distinct.values()))
    table = rng.choice((main, rng.choice(database.tables)))
    columns = rng.sample(table.columns, rng.choice((1, 1, 2)))
    return Query(database, "", tuple((table, column) for column in columns), tuple(distinct.values()))


def _condition(rng: random.Random, table: Table) -> Condition:
    column = rng.choice(table.columns)
    ordered = column.kind in ORDERED and rng.random() < 0.6
    operator = rng.choice((">", "<", ">=", "<=")) if ordered else "="
    return Condition(table, column, operator, make_value(rng, column.kind))


# ---- how it is said -----------------------------------------------------------------------------

_COUNT = (
    "how many {who} {conditions}",
    "how many {who} are there {conditions}",
    "what is the number of {who} {conditions}",
    "count the number of {who} {conditions}",
    "find the number of {who} {conditions}",
    "give me the number of {who} {conditions}",
    "provide the total number of {who} {conditions}",
    "get the count of {who} {conditions}",
    "calculate how many {who} there are {conditions}",
)
_AGGREGATE = (
    "what is the {aggregate} {columns} of {who} {conditions}",
    "find the {aggregate} {columns} of {who} {conditions}",
    "calculate {aggregate} {columns} for {who} {conditions}",
    "give the {aggregate} {columns} among {who} {conditions}",
    "tell me {aggregate} {columns} of the {who} {conditions}",
)
_LOOKUP = (
    "what is the {columns} of {who} {conditions}",
    "what are {columns} for the {who} {conditions}",
    "find {columns} of the {who} {conditions}",
    "give me the {columns} of {who} {conditions}",
    "list {columns} of {who} {conditions}",
    "specify the {columns} for {who} {conditions}",
    "show the {columns} for {who} {conditions}",
)
_SAID = {
    "AVG": ("average", "mean"),
    "MIN": ("minimum", "lowest", "smallest", "least"),
    "MAX": ("maximum", "highest", "largest", "top"),
    "SUM": ("total", "summed up", "sum of"),
}
_EQUAL = (
    "whose {column} is {value}",
    "with {column} {value}",
    "with {value} as {column}",
    "having {column} {value}",
    "having {column} as {value}",
    "that have {column} {value}",
    "where {column} equals {value}",
    "under {column} {value}",
    "with {value} {column}",
    "who had {value} {column}",
    "of {column} {value}",
)
_COMPARED = (
    "whose {column} is {operator} {value}",
    "with {column} {operator} {value}",
    "with a {column} {operator} {value}",
    "having {column} {operator} {value}",
    "that have {operator} {value} {column}",
    "where {column} {operator} {value}",
)
_OPERATORS = {
    ">": ("above", "more than", "greater than", "over", "higher than", "larger than", ">"),
    "<": ("below", "less than", "under", "lower than", "fewer than", "smaller than", "<"),
    ">=": ("at least", "no less than", "greater than or equal to", "from", "not below"),
    "<=": ("at most", "no more than", "less than or equal to", "up to", "not above"),
}
_TIMES = {
    ">": ("after", "later than", "past"),
    "<": ("before", "earlier than", "prior to"),
    ">=": ("in or after", "since", "on or after"),
    "<=": ("in or before", "until", "on or before"),
}


def say(rng: random.Random, query: Query) -> str:
    """One of the many ways to ask for `query`."""
    main = query.database.tables[0]
    frames = _COUNT if query.aggregate == "COUNT" else _AGGREGATE if query.aggregate else _LOOKUP
    columns = " and ".join(_named(main, table, column) for table, column in query.columns)
    conditions = [_said(rng, main, condition) for condition in query.conditions]
    text = rng.choice(frames).format(
        who=main.plural,
        columns=columns,
        aggregate=rng.choice(_SAID.get(query.aggregate, ("",))),
        conditions=rng.choice((" and ", " and ", " ", ", ", " as well as ")).join(conditions),
    )
    text += rng.choice(("?", "?", ".", ""))
    return text[0].upper() + text[1:] if rng.random() < 0.25 else text


def _named(main: Table, table: Table, column: Column) -> str:
    """A column of another table than the main one is named with its table."""
    return column.words if table is main else f"{table.noun} {column.words}"


def _said(rng: random.Random, main: Table, condition: Condition) -> str:
    name = _named(main, condition.table, condition.column)
    if condition.operator == "=":
        return rng.choice(_EQUAL).format(column=name, value=condition.value.said)
    about_time = condition.column.kind in ("year", "time")
    ways = (_TIMES if about_time and rng.random() < 0.7 else _OPERATORS)[condition.operator]
    return rng.choice(_COMPARED).format(column=name, operator=rng.choice(ways), value=condition.value.said)


def _schema(rng: random.Random, database: Database) -> str:
    """The database as a prompt describes it, tables and columns in any order."""
    listed = []
    for table in rng.sample(database.tables, len(database.tables)):
        names = [database.link, *(column.name for column in table.columns)]
        if table is database.tables[0] and database.identity not in names:
            names.append(database.identity)
        rng.shuffle(names)
        listed.append(f"{table.name}({', '.join(names)})")
    return " ".join(listed)


# ---- how it is written --------------------------------------------------------------------------


def write_sql(query: Query, dialect: str) -> str:
    """The query in one of `DIALECTS`."""
    return {"SQL": _quoted, "SQLite": _aliased, "ANSI SQL": _ansi}[dialect](query)


def _quoted(query: Query) -> str:
    """MIMICSQL's style: `TABLE."COLUMN"`, every literal in double quotes, blanks inside brackets."""
    database = query.database
    main, *joined = query.tables
    columns = ",".join(f'{table.name}."{column.name}"' for table, column in query.columns)
    if query.aggregate == "COUNT":
        selected = f'COUNT ( DISTINCT {main.name}."{database.identity}" )'
    else:
        selected = f"{query.aggregate} ( {columns} )" if query.aggregate else columns
    key = database.link
    joins = "".join(f" INNER JOIN {table.name} on {main.name}.{key} = {table.name}.{key}" for table in joined)
    where = " AND ".join(
        f'{condition.table.name}."{condition.column.name}" {condition.operator} "{condition.value.stored}"'
        for condition in query.ordered_conditions
    )
    return f"SELECT {selected} FROM {main.name}{joins} WHERE {where}"


def _aliased(query: Query) -> str:
    """Lower case, aliases, single quotes."""
    database = query.database
    aliases = {table: f"t{number}" for number, table in enumerate(query.tables, 1)}
    main, *joined = query.tables
    columns = ", ".join(f"{aliases[table]}.{column.name.lower()}" for table, column in query.columns)
    if query.aggregate == "COUNT":
        selected = f"count(distinct t1.{database.identity.lower()})"
    else:
        selected = f"{query.aggregate.lower()}({columns})" if query.aggregate else columns
    key = database.link.lower()
    joins = "".join(
        f" join {table.name.lower()} as {aliases[table]} on t1.{key} = {aliases[table]}.{key}"
        for table in joined
    )
    where = " and ".join(
        f"{aliases[condition.table]}.{condition.column.name.lower()} "
        f"{condition.operator} {_literal(condition)}"
        for condition in query.ordered_conditions
    )
    return f"select {selected} from {main.name.lower()} as t1{joins} where {where}"


def _ansi(query: Query) -> str:
    """Columns bare where only one table has them, `USING`, literals in single quotes."""
    database = query.database
    main, *joined = query.tables
    owners = Counter(column.name for table in query.tables for column in table.columns)

    def name(table: Table, column: Column) -> str:
        return column.name if owners[column.name] == 1 else f"{table.name}.{column.name}"

    columns = ", ".join(name(table, column) for table, column in query.columns)
    if query.aggregate == "COUNT":
        selected = f"COUNT(DISTINCT {database.identity})"
    else:
        selected = f"{query.aggregate}({columns})" if query.aggregate else columns
    joins = "".join(f" JOIN {table.name} USING ({database.link})" for table in joined)
    where = " AND ".join(
        f"{name(condition.table, condition.column)} {condition.operator} {_literal(condition)}"
        for condition in query.ordered_conditions
    )
    return f"SELECT {selected} FROM {main.name}{joins} WHERE {where}"


def _literal(condition: Condition) -> str:
    numeric = condition.column.kind in ("number", "year")
    return condition.value.stored if numeric else f"'{condition.value.stored}'"
