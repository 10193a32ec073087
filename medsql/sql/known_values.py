"""The values that are known of columns: from queries, and from a database of the user's own.

Never from a database that was made of gold queries to score on (`medsql.sql.suite`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from medsql.sql.database import Limits, Sandbox
from medsql.sql.parts import Column, take_apart
from medsql.sql.schema import TABLES

Values = Mapping[Column, Sequence[str]]

OTHERS = frozenset(
    "SUBJECT_ID HADM_ID ICUSTAY_ID ICD9_CODE FORMULARY_DRUG_CD ITEMID "  # noqa: SIM905
    "DOB DOD ADMITTIME DISCHTIME CHARTTIME DRUG_DOSE VALUE_UNIT".split()
)
"""Text columns whose values are no words but ids, codes, dates and amounts."""

WORDS = frozenset(
    Column(table, name)
    for table, columns in TABLES.items()
    for name, kind in columns.items()
    if kind == "TEXT" and name not in OTHERS
)
"""The columns whose values are words, which alone can be taken for others."""

_EQUAL = ("eq", "neq", "in")
_LIMITS = Limits(seconds=600, steps=10**12)  # once, over tables of millions of rows


def values_in_queries(queries: Iterable[str]) -> tuple[Values, int]:
    """What columns of words hold by the conditions of queries, in order, and how many queries do not parse.

    A condition says so with `=`, `<>` or IN; patterns say nothing, nor does what stands in a subquery.
    """
    found: dict[Column, dict[str, None]] = defaultdict(dict)
    unread = 0
    for sql in queries:
        parts = take_apart(sql)
        unread += parts is None
        for columns, operator, literals in parts.conditions if parts else ():
            if operator.removeprefix("not ") in _EQUAL and len(columns) == 1 and columns[0] in WORDS:
                found[columns[0]] |= dict.fromkeys(literals)
    return {column: list(values) for column, values in found.items()}, unread


def values_in_database(path: str | Path) -> tuple[Values, dict[str, str]]:
    """The distinct values of every column of words in a SQLite file in MIMICSQL's tables.

    Also returns why a column's values could not be had, by TABLE.COLUMN: it is not there, or there are more
    of them than the sandbox hands out. Raises `UserError` where there is no such database.
    """
    found: dict[Column, Sequence[str]] = {}
    lacking: dict[str, str] = {}
    with closing(Sandbox(path, limits=_LIMITS)) as database:
        for column in sorted(WORDS):
            result = database.run(f'SELECT DISTINCT {column.table}."{column.name}" FROM {column.table}')
            if not result.ok:
                lacking[".".join(column)] = result.verdict
            found[column] = [value for (value,) in result.rows if isinstance(value, str)]
    return found, lacking


def merged(sources: Iterable[Values]) -> Values:
    """The values of all sources; those of the first ones first."""
    found: dict[Column, dict[str, None]] = defaultdict(dict)
    for values in sources:
        for column, texts in values.items():
            found[column] |= dict.fromkeys(texts)
    return {column: list(values) for column, values in found.items()}
