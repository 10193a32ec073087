"""The values that are known of columns: from queries, from a file, and from a database of the user's own.

Never from a database that was made of gold queries to score on (`medsql.sql.suite`).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from medsql.errors import UserError
from medsql.sql.database import Limits, Sandbox
from medsql.sql.parts import Column, take_apart
from medsql.sql.schema import TABLES, Schema

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

LITERAL = re.compile(r'[^"\x00-\x1f\ud800-\udfff]+')
"""What can stand between double quotes; halves of characters cannot be written."""

_EQUAL = ("eq", "neq", "in")
_LIMITS = Limits(seconds=600, steps=10**12)  # once, over tables of millions of rows


def values_in_queries(queries: Iterable[str], columns: Collection[Column]) -> tuple[Values, int]:
    """What `columns` hold by the conditions of queries, in order, and how many queries do not parse.

    A condition says so with `=`, `<>` or IN; patterns say nothing, nor does what stands in a subquery.
    """
    found: dict[Column, dict[str, None]] = defaultdict(dict)
    unread = 0
    for sql in queries:
        parts = take_apart(sql)
        unread += parts is None
        for compared, operator, literals in parts.conditions if parts else ():
            if operator.removeprefix("not ") in _EQUAL and len(compared) == 1 and compared[0] in columns:
                found[compared[0]] |= dict.fromkeys(literals)
    return {column: list(values) for column, values in found.items()}, unread


def text_columns(schema: Schema) -> set[Column]:
    """Columns of text, by SQLite's rule, https://sqlite.org/datatype3.html#determination_of_column_affinity."""
    return {
        Column(table, name)
        for table, columns in schema.tables.items()
        for name, kind in columns.items()
        if "INT" not in kind and any(word in kind for word in ("CHAR", "CLOB", "TEXT"))
    }


def read_values(path: Path, schema: Schema) -> Values:
    """The values in a JSON file, `{"LAB.FLUID": ["Blood", "Urine"], …}`; names of columns in any case.

    Raises `UserError` where the file is not like this, or a column is none of the schema's.
    """
    try:
        listed = json.loads(path.read_text("utf-8"), object_pairs_hook=_object)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: no JSON that can be read: {error}") from error
    if not isinstance(listed, dict):
        raise UserError(f'{path}: an object is expected, like {{"LAB.FLUID": ["Blood", "Urine"]}}')
    columns = {
        f"{table}.{name}".upper(): Column(table, name)
        for table, names in schema.tables.items()
        for name in names
    }
    found: dict[Column, list[str]] = {}
    for column, values in listed.items():
        if column.upper() not in columns:
            raise UserError(f"{path}: the schema has no column {column}")
        if not isinstance(values, list) or not values:
            raise UserError(f"{path}: {column}: a list of values is expected")
        for value in values:
            if not isinstance(value, str) or not LITERAL.fullmatch(value):
                raise UserError(f"{path}: {column}: {value!r} cannot stand between double quotes")
        found.setdefault(columns[column.upper()], []).extend(values)
    return {column: list(dict.fromkeys(values)) for column, values in found.items()}


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; of a name that comes twice, it would quietly keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a column stands there twice")
    return found


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
