"""Small databases made for one query, on which queries that are near it give other results.

Two queries that agree on a database may still differ: both may find nothing, or the same by chance.
They are compared on a suite of databases instead, each full of what tells neighbours of the query
apart: admissions that satisfy all its conditions, admissions that fail just one of them by a little
(the neighbouring number, the value cut short, the value under another column), patients with several
admissions, rows that a wrong join would lose. The idea is test-suite accuracy's: R. Zhong, T. Yu and
D. Klein, "Semantic Evaluation for Text-to-SQL with Distilled Test Suites", EMNLP 2020; they distil
databases from random ones, here they are built, since the real one may not be had.

What holds in MIMIC-III holds here: patients keep name, gender, birth and death over all admissions;
rows of other tables belong to one admission and its patient; years are those of their dates; EXPIRE_FLAG
is 0 or 1. Which title belongs to which code does not hold: a query by title and one by code differ here.

The databases are made out of gold queries: whatever produces a prediction may not see them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, count, cycle

from sqlglot import exp

from medsql.sql.database import Limits, Row, Sandbox, Value
from medsql.sql.parsing import COMPARISONS, parse_query
from medsql.sql.schema import TABLES

DATABASES = 8
"""Databases a query gets; `medsql.metrics.sharpness` measures what that many can tell apart."""

LIMITS = Limits(steps=1_000_000)
"""A hundred times what an honest query takes on so few rows."""

PATIENT_COLUMNS = ("NAME", "GENDER", "DOB", "DOB_YEAR", "DOD", "DOD_YEAR", "EXPIRE_FLAG")
YEARS = {"DOB_YEAR": "DOB", "DOD_YEAR": "DOD", "ADMITYEAR": "ADMITTIME"}
"""Years, and the dates they are of."""

_OF_DEATH = ("DOD", "DOD_YEAR", "EXPIRE_FLAG")

DOMAINS: dict[str, tuple[Value, ...]] = {"EXPIRE_FLAG": (0, 1), "GENDER": ("F", "M")}
"""Columns that hold nothing but these values."""

_PREDICATES = (*COMPARISONS, exp.In, exp.Between, exp.Is)
MOST_PREDICATES = 12
"""Predicates that the databases are made for; of a query that has more, the first ones."""

COMMON = {
    "ETHNICITY": "WHITE",
    "LANGUAGE": "ENGL",
    "INSURANCE": "Medicare",
    "RELIGION": "CATHOLIC",
    "MARITAL_STATUS": "MARRIED",
    "ADMISSION_TYPE": "EMERGENCY",
    "DRUG_TYPE": "MAIN",
    "ROUTE": "PO",
    "FLUID": "Blood",
    "CATEGORY": "Chemistry",
    "FLAG": "abnormal",
}
"""The most frequent value of some columns, for conditions that a wrong query adds."""

Column = tuple[str, str]
"""Table and column, as `TABLES` spells them."""


def suite(sql: str) -> Iterator[Sandbox]:
    """The databases for one query, made one at a time; the same query gets the same ones.

    None where `sql` is no query in MIMICSQL's dialect over its tables. The caller closes each.
    """
    query = parse_query(sql)
    if query is not None:
        rng = random.Random(sql)
        cells = _Cells(query, rng)
        for number in range(DATABASES):
            yield Sandbox.holding(_Rows(query, cells, rng, number).tables, LIMITS)


# ---- what a query asks for ----------------------------------------------------------------------


@dataclass(frozen=True)
class Predicate:
    """A condition on one column against constants: `sql` with the column's bare name."""

    column: Column
    sql: str
    literals: tuple[str, ...]


def predicates(query: exp.Query) -> list[Predicate]:
    """The query's conditions on single columns, wherever they stand in it."""
    tables, found = _tables(query), []
    for node in query.find_all(*_PREDICATES):
        columns = list(node.find_all(exp.Column))
        column = _owner(columns[0], tables) if len(columns) == 1 else None
        if column is not None and not node.find(exp.Query, exp.AggFunc):
            bare = node.copy()
            next(bare.find_all(exp.Column)).replace(exp.column(column[1], quoted=True))
            literals = tuple(_text(literal) for literal in node.find_all(exp.Literal))
            found.append(Predicate(column, bare.sql("sqlite"), literals))
    return found[:MOST_PREDICATES]


def _tables(query: exp.Query) -> dict[str, str]:
    """The tables that a query reads by the names it calls them."""
    return {table.alias_or_name.upper(): table.name.upper() for table in query.find_all(exp.Table)}


def _owner(column: exp.Column, tables: dict[str, str]) -> Column | None:
    """The table and column meant; `None` where there is no such one."""
    name = column.name.upper()
    candidates = [tables.get(column.table.upper(), "")] if column.table else list(tables.values())
    owners = [table for table in candidates if name in TABLES.get(table, {})]
    return (owners[0], name) if owners else None


def _text(literal: exp.Literal) -> str:
    negative = isinstance(literal.parent, exp.Neg)
    return f"-{literal.this}" if negative else str(literal.this)


# ---- what cells may hold ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kind:
    """How an admission, or a row of another table, stands to the query.

    It satisfies all predicates, or all but the one numbered `failing`, or is as chance has it.
    `scattered` means an admission that satisfies each predicate, but on different rows.
    """

    failing: int | None = None
    chance: bool = False
    scattered: bool = False


_WHOLE, _CHANCE, _SCATTERED = _Kind(), _Kind(chance=True), _Kind(scattered=True)


class _Cells:
    """What the cells of the databases for one query hold."""

    def __init__(self, query: exp.Query, rng: random.Random) -> None:
        self.predicates = predicates(query)
        self._rng = rng
        mentioned = dict.fromkeys(literal for p in self.predicates for literal in p.literals)
        self._strangers = [near for literal in mentioned for near in _near(literal)[:3]]
        self._pools = {(table, name): self._pool((table, name)) for table in TABLES for name in TABLES[table]}
        self._verdicts = {p.column: self._judge(p.column) for p in self.predicates}
        self._extremes = self._beyond_all_others(query)
        self._turns: dict[tuple[Column, int | None], Iterator[Value]] = {}

    def value(self, column: Column, kind: _Kind) -> Value:
        """A value for a cell of a row of that kind."""
        if column in self._extremes and kind.failing is not None:
            return self._extremes[column]
        return self._rng.choice(self._pools[column]) if kind.chance else self._next(column, kind.failing)

    def is_conditioned(self, column: Column) -> bool:
        """Whether the query has a predicate on the column."""
        return column in self._verdicts

    def _next(self, column: Column, failing: int | None) -> Value:
        """One value after another that meets the predicates, so that each has its turn in some database."""
        if (column, failing) not in self._turns:
            wanted = tuple(i != failing for i, p in enumerate(self.predicates) if p.column == column)
            judged = self._verdicts.get(column, ())
            meeting = [value for value, verdicts in judged if verdicts == wanted]
            turns = list(dict.fromkeys(meeting or self._pools[column]))
            self._rng.shuffle(turns)
            self._turns[column, failing] = cycle(turns)
        return next(self._turns[column, failing])

    def _pool(self, column: Column) -> list[Value]:
        """A column's own literals and their near misses, those of other columns, and plain values."""
        table, name = column
        affinity = TABLES[table][name]
        own = [literal for p in self.predicates if p.column == column for literal in p.literals]
        if name in DOMAINS:
            return [*DOMAINS[name], *(_typed(literal, affinity) for literal in own)]
        texts = [text for literal in own for text in (literal, *_near(literal))] + self._strangers
        values = [_typed(text, affinity) for text in texts]
        if affinity != "TEXT":
            values = [value for value in values if not isinstance(value, str)]
        return [*values, *_plain(name, affinity)]

    def _judge(self, column: Column) -> list[tuple[Value, tuple[bool, ...]]]:
        """Each value of a column's pool with what SQLite says of it: whether it meets each predicate."""
        table, name = column
        pool = self._pools[column]
        asked = ", ".join(predicate.sql for predicate in self.predicates if predicate.column == column)
        rows, columns = {"POOL": [(value,) for value in pool]}, {"POOL": {name: TABLES[table][name]}}
        with closing(Sandbox.holding(rows, LIMITS, columns)) as database:
            found = database.run(f"SELECT {asked} FROM POOL").rows
        # One that cannot be asked alone, for a function that is not allowed, judges nothing.
        return (
            [(value, tuple(map(bool, row))) for value, row in zip(pool, found, strict=True)] if found else []
        )

    def _beyond_all_others(self, query: exp.Query) -> dict[Column, Value]:
        """For a column whose least or greatest value is asked for, one that is still less or greater.

        Rows that only just fail a predicate hold it, so that they change the result where they are let in.
        """
        tables = _tables(query)
        beyond: dict[Column, Value] = {}
        for node in query.find_all(exp.Min, exp.Max):
            column = _owner(node.this, tables) if isinstance(node.this, exp.Column) else None
            if (
                column is not None
                and not self.is_conditioned(column)
                and TABLES[column[0]][column[1]] != "TEXT"
            ):
                values = sorted(v for v in self._pools[column] if isinstance(v, int | float))
                beyond[column] = values[0] - 1 if isinstance(node, exp.Min) else values[-1] + 1
        return beyond


def _near(literal: str) -> list[str]:
    """A literal and its near misses, the nearest first."""
    if re.fullmatch(r"-?\d{1,15}(\.0*)?", literal, re.ASCII):
        number = int(float(literal))
        width = len(literal) if literal.startswith("0") else 0
        near = [f"{number + step:0{width}d}" for step in (0, 1, -1, 2, -2, 5, -5, 10, -10, 30, -30)]
        return [*near, f"{literal}0", f"1{literal}", literal[:-1] or "0"]
    words = literal.split()
    cut = [literal[:-1], " ".join(words[:-1]), " ".join(words[1:])]
    written = [literal.upper(), literal.lower(), f"{literal}s", f"{literal} NOS", f"non {literal}"]
    near = [literal, *cut, *written, _later(literal, 1), _later(literal, -1)]
    return [text for text in dict.fromkeys(near) if text]


def _later(date: str, years: int) -> str:
    """The same text with the first year in it moved."""
    return re.sub(r"\b\d{4}\b", lambda year: str(int(year[0]) + years), date, count=1)


def _typed(literal: str, affinity: str) -> Value:
    """As SQLite would store it; what is no number stays text in a numeric column."""
    if affinity == "TEXT" or not re.fullmatch(r"-?\d{1,15}(\.\d*)?", literal, re.ASCII):
        return literal
    return float(literal) if affinity == "REAL" else int(float(literal))


def _plain(name: str, affinity: str) -> list[Value]:
    """Values that no query has asked for: enough of them to differ, few enough to come again."""
    if name.endswith("YEAR"):
        return [1850, 2000, 2040, 2080, 2100, 2110, 2130, 2150, 2170, 2190, 2205]
    if affinity != "TEXT":
        return [0, 1, 2, 5, 12, 25, 40, 55, 70, 85, 89]
    common = [COMMON[name]] if name in COMMON else []
    return [None, *common, *(f"{name.lower()} {letter}" for letter in "abcdef")]


# ---- the rows of one database -------------------------------------------------------------------


class _Rows:
    """The rows of one database, by table."""

    def __init__(self, query: exp.Query, cells: _Cells, rng: random.Random, number: int) -> None:
        self._asked_for = {table.name.upper() for table in query.find_all(exp.Table)}
        self._cells, self._rng = cells, rng
        self._ids = {key: self._keys(key) for key in ("SUBJECT_ID", "HADM_ID")}
        self.tables: dict[str, list[Row]] = {table: [] for table in TABLES}
        for kinds in self._patients(number):
            self._add_patient(kinds)
        for rows in self.tables.values():
            rng.shuffle(rows)  # or they would be in the order of their ids, asked for or not

    def _patients(self, number: int) -> list[list[_Kind]]:
        """The kinds of each patient's admissions. Who comes first gets the ids that the query mentions.

        In the last database nobody satisfies the query: one that lets somebody in stands out, where
        otherwise its least or greatest value might be the same.
        """
        near = [[_Kind(failing=i)] for i in range(len(self._cells.predicates))] * 2
        # One patient who meets all predicates, but not in one admission.
        spread = [kind for (kind,) in near]
        if number == DATABASES - 1:
            return [*near * 2, spread]
        whole = [[_WHOLE, _WHOLE, _CHANCE], [_WHOLE], [_WHOLE]]
        patients = [*whole, *near, spread, [_SCATTERED], [_CHANCE, _CHANCE], [_CHANCE]]
        first = number % (len(whole) + len(near)) if number % 2 else 0
        return patients[first:] + patients[:first]

    def _keys(self, key: str) -> Iterator[str]:
        """Ids, each once: those that the query asks for, those beside them, then any."""
        asked = [literal for p in self._cells.predicates if p.column[1] == key for literal in p.literals]
        near = [text for literal in asked for text in _near(literal)[1:4]]
        return chain(dict.fromkeys([*asked, *near]), map(str, count(100_000)))

    def _add_patient(self, kinds: Sequence[_Kind]) -> None:
        subject: dict[str, Value] = {"SUBJECT_ID": next(self._ids["SUBJECT_ID"])}
        same: dict[str, Value] = {}  # over all admissions
        for kind in kinds:
            ids: dict[str, Value] = subject | {"HADM_ID": next(self._ids["HADM_ID"])}
            admission = self._with_dates(self._row("DEMOGRAPHIC", kind)) | ids | same
            same = {name: admission[name] for name in PATIENT_COLUMNS}
            self._add("DEMOGRAPHIC", admission)
            for table in list(TABLES)[1:]:
                for kind_of_row in self._kinds_of_rows(table, kind):
                    row = self._row(table, kind_of_row) | ids
                    for _ in range(self._rng.choice((1, 1, 1, 2))):  # a result may be entered twice
                        self._add(table, row)

    def _kinds_of_rows(self, table: str, kind: _Kind) -> list[_Kind]:
        """The kinds of the rows that an admission has in a table."""
        predicates = [i for i, p in enumerate(self._cells.predicates) if p.column[0] == table]
        if kind.scattered and len(predicates) > 1:
            return [_Kind(failing=i) for i in predicates]
        if table in self._asked_for and not kind.chance:
            return [kind] * self._rng.choice((1, 1, 2)) + [_CHANCE] * self._rng.choice((0, 0, 1))
        return [_CHANCE] * self._rng.choice((0, 0, 1, 2))

    def _row(self, table: str, kind: _Kind) -> dict[str, Value]:
        return {name: self._cells.value((table, name), kind) for name in TABLES[table]}

    def _with_dates(self, admission: dict[str, Value]) -> dict[str, Value]:
        """Dates and their years made to agree; the one that the query does not ask for gives way."""
        for year, date in YEARS.items():
            if not self._cells.is_conditioned(("DEMOGRAPHIC", date)):
                admission[date] = f"{int(float(admission[year] or 0)):04d}-08-11 07:00:00"
            elif not self._cells.is_conditioned(("DEMOGRAPHIC", year)):
                found = re.match(r"\d{4}", str(admission[date]))
                admission[year] = int(found[0]) if found else None
        asked = any(self._cells.is_conditioned(("DEMOGRAPHIC", name)) for name in _OF_DEATH)
        if admission["EXPIRE_FLAG"] == 0 and not asked:
            admission |= {"DOD": None, "DOD_YEAR": None}
        return admission

    def _add(self, table: str, row: dict[str, Value]) -> None:
        self.tables[table].append(tuple(row.values()))
