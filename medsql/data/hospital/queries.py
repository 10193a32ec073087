"""Draws SQL over a cohort, in MIMICSQL's exact dialect and with its shares of everything.

A query is made around one admission that satisfies it, so its result is rarely empty. Which tables,
columns and aggregates are asked for, and how often, is in `vocabulary/shares.tsv`: counts over 800
of MIMICSQL's development queries.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from medsql.data.hospital import vocabulary
from medsql.data.hospital.cohort import Choice, Tables, Value
from medsql.sql.schema import TABLES

Record = dict[str, Value]
T = TypeVar("T")

# A number is compared, never equalled, but for the length of stay of those whose age is asked for.
COUNT_OPERATORS = {"AGE": "<", "DAYS_STAY": ">", "DOB_YEAR": "<", "DOD_YEAR": "<=", "ADMITYEAR": "<"}
AGGREGATE_OPERATORS = {"AGE": ">=", "DAYS_STAY": "=", "DOB_YEAR": ">", "DOD_YEAR": "<", "ADMITYEAR": ">="}

FREE_SHARE = 0.15
"""How often a second condition is drawn without regard to the first, whatever the result then is."""


@dataclass(frozen=True)
class Condition:
    """`column` is `TABLE.COLUMN`; `value` is the literal as it stands in the SQL."""

    column: str
    operator: str
    value: str


@dataclass(frozen=True)
class Query:
    """`aggregate` is COUNT, AVG, MIN, MAX or, for a plain lookup, nothing."""

    aggregate: str
    columns: tuple[str, ...]
    conditions: tuple[Condition, ...]

    @property
    def sql(self) -> str:
        """The query as MIMICSQL writes it, spacing and quoting included."""
        mentioned = (*self.columns, *(condition.column for condition in self.conditions))
        tables = sorted({table_of(column) for column in mentioned}, key=list(TABLES).index)
        first, *joined = tables
        joins = "".join(f" INNER JOIN {table} on {first}.HADM_ID = {table}.HADM_ID" for table in joined)
        where = " AND ".join(f'{_quoted(c.column)} {c.operator} "{c.value}"' for c in self.conditions)
        columns = ",".join(map(_quoted, self.columns))
        if self.aggregate == "COUNT":
            columns = f"COUNT ( DISTINCT {columns} )"
        elif self.aggregate:
            columns = f"{self.aggregate} ( {columns} )"
        return f"SELECT {columns} FROM {first}{joins} WHERE {where}"


def table_of(column: str) -> str:
    """`LAB` of `LAB.FLUID`."""
    return column.partition(".")[0]


def name_of(column: str) -> str:
    """`FLUID` of `LAB.FLUID`."""
    return column.partition(".")[2]


def _quoted(column: str) -> str:
    return f'{table_of(column)}."{name_of(column)}"'


def _schema_position(column: str) -> tuple[int, int]:
    table, name = table_of(column), name_of(column)
    return list(TABLES).index(table), list(TABLES[table]).index(name)


def _condition_position(column: str) -> tuple[int, bool, int]:
    """MIMICSQL's order of conditions: by table, then text before numbers, then by column."""
    table, place = _schema_position(column)
    return table, name_of(column) in COUNT_OPERATORS, place


class QuerySource:
    """Draws queries that the admissions in `tables` can answer."""

    def __init__(self, tables: Tables) -> None:
        self._records: dict[str, list[Record]] = {
            table: [dict(zip(TABLES[table], row, strict=True)) for row in rows]
            for table, rows in tables.items()
        }
        self._by_stay: dict[str, dict[Value, list[Record]]] = {}
        for table, records in self._records.items():
            grouped = self._by_stay[table] = defaultdict(list)
            for record in records:
                grouped[record["HADM_ID"]].append(record)
        self._holders: dict[str, dict[Value, list[Value]]] = {}
        self._sorted: dict[str, list] = {}

    def draw(self, rng: random.Random) -> Query | None:
        """One query, or nothing where no admission was found that has all it needs."""
        kind, *rest = _SHARES["shape"].one(rng).split()
        # Tried again with the same columns, or else those that are often NULL would be asked for too rarely.
        if kind == "LOOKUP":
            key, columns = _lookup_columns(rng, int(rest[0]), rest[1:])
            return _first(lambda: self._lookup(rng, key, columns))
        if kind == "COUNT":
            asked, aggregate, operators = "SUBJECT_ID", "COUNT", COUNT_OPERATORS
            columns = _count_columns(rng, rest)
        else:
            asked, aggregate, operators = kind, _SHARES["aggregate"].one(rng), AGGREGATE_OPERATORS
            columns = _different(rng, [kind] * len(rest))
        conditions = _first(lambda: self._conditions(rng, columns, operators))
        return None if conditions is None else Query(aggregate, (f"DEMOGRAPHIC.{asked}",), conditions)

    def _conditions(
        self, rng: random.Random, columns: list[str], operators: dict[str, str]
    ) -> tuple[Condition, ...] | None:
        """Conditions on `columns` that one admission satisfies, but for the free ones."""
        lead = rng.choice([c for c in columns if name_of(c) not in operators] or columns)
        holders = self._holders_of(lead)
        if not holders:
            return None
        value = rng.choice(list(holders))
        stay = rng.choice(holders[value])
        conditions = []
        rows: dict[str, Record] = {}
        for column in columns:
            table, name, operator = table_of(column), name_of(column), operators.get(name_of(column), "=")
            if table not in rows:
                matching = [
                    r
                    for r in self._by_stay[table][stay]
                    if table_of(lead) != table or r[name_of(lead)] == value
                ]
                if not matching:
                    return None
                rows[table] = rng.choice(matching)
            free = column != lead and rng.random() < FREE_SHARE
            literal = (
                self._any(rng, column)
                if free
                else self._satisfied_by(rng, column, operator, rows[table][name])
            )
            if literal is None:
                return None
            conditions.append(Condition(column, operator, str(literal)))
        return tuple(sorted(conditions, key=lambda condition: _condition_position(condition.column)))

    def _any(self, rng: random.Random, column: str) -> Value:
        holders = self._holders_of(column)
        return rng.choice(list(holders)) if holders else None

    def _satisfied_by(self, rng: random.Random, column: str, operator: str, value: Value) -> Value:
        """A value the column really has that `value` compares with as the operator says, if there is one."""
        if value is None or operator == "=":
            return value
        if column not in self._sorted:
            self._sorted[column] = sorted(self._holders_of(column))
        values = self._sorted[column]
        found = {
            "<": lambda: values[bisect_right(values, value) :],
            "<=": lambda: values[bisect_left(values, value) :],
            ">": lambda: values[: bisect_left(values, value)],
            ">=": lambda: values[: bisect_right(values, value)],
        }[operator]()
        return rng.choice(found) if found else None

    def _lookup(self, rng: random.Random, key: str, columns: list[str]) -> Query | None:
        """The columns of one patient, or of one entry, that the key names."""
        tables = {table_of(key), *map(table_of, columns)}
        # Not every stay has, say, procedures: begin where there may be nothing.
        records = self._records[max(tables, key=list(TABLES).index)]
        if not records:
            return None
        stay = rng.choice(records)["HADM_ID"]
        rows = {table: rng.choice(self._by_stay[table][stay]) for table in sorted(tables)}
        if any(rows[table_of(column)][name_of(column)] is None for column in columns):
            return None
        return Query("", tuple(columns), (Condition(key, "=", str(rows[table_of(key)][name_of(key)])),))

    def _holders_of(self, column: str) -> dict[Value, list[Value]]:
        """The admissions (HADM_ID) behind every value of a column."""
        if column not in self._holders:
            holders: dict[Value, list[Value]] = defaultdict(list)
            for record in self._records[table_of(column)]:
                if record[name_of(column)] is not None:
                    holders[record[name_of(column)]].append(record["HADM_ID"])
            self._holders[column] = holders
        return self._holders[column]


def _first(attempt: Callable[[], T | None], attempts: int = 20) -> T | None:
    """The first result that is one."""
    return next((found for _ in range(attempts) if (found := attempt()) is not None), None)


def _lookup_columns(rng: random.Random, count: int, rest: list[str]) -> tuple[str, list[str]]:
    """The key and the columns looked up; `rest` is the tables, or a table and the key's column."""
    tables = [entry for entry in rest if entry in TABLES]
    if tables != rest:
        key = ".".join(rest)
    elif tables[0] == "DEMOGRAPHIC":
        key = _SHARES["lookup key"].one(rng)
    else:
        key = f"{tables[0]}.SUBJECT_ID"
    contexts = tables * count if len(tables) == 1 else tables[-count:]
    columns = _different(rng, [f"lookup {table}" for table in contexts], taken=key)
    return key, sorted(columns, key=_schema_position)


def _count_columns(rng: random.Random, tables: list[str]) -> list[str]:
    if tables == ["LAB", "LAB"]:
        return ["LAB.FLAG", _SHARES["LAB flagged"].one(rng)]
    beside_patient = "DEMOGRAPHIC" in tables or len(tables) == 1
    contexts = []
    for table in tables:
        joined = f"{table} joined"
        apart = set(tables) != {"DEMOGRAPHIC"} if table == "DEMOGRAPHIC" else not beside_patient
        contexts.append(joined if apart and joined in _SHARES else table)
    return _different(rng, contexts)


def _different(rng: random.Random, contexts: list[str], taken: str = "") -> list[str]:
    """One column for each context, no column twice, and never the one that is taken."""
    columns: list[str] = []
    while len(columns) < len(contexts):
        column = _SHARES[contexts[len(columns)]].one(rng)
        if column not in columns and column != taken:
            columns.append(column)
    return columns


def _read_shares() -> dict[str, Choice[str]]:
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for row in vocabulary.read("shares"):
        counts[row["context"]][row["entry"]] = int(row["weight"])
    return {context: Choice.by_share(entries) for context, entries in counts.items()}


_SHARES = _read_shares()
