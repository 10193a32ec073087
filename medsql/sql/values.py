"""The literals that each column may be compared with: listed in a file, or those that queries hold."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from medsql.errors import UserError
from medsql.sql.parts import take_apart
from medsql.sql.schema import Schema

Values = dict[str, list[str]]
"""By `TABLE.COLUMN`."""

_LITERAL = re.compile(r'[^"\x00-\x1f]+')


def read_values(path: Path, schema: Schema) -> Values:
    """The values in a JSON file, `{"LAB.FLUID": ["Blood", "Urine"], …}`.

    Raises `UserError` where the file is not like this, or a column is none of the schema's.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no JSON that can be read: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f'{path}: an object is expected, like {{"LAB.FLUID": ["Blood", "Urine"]}}')
    columns = {f"{table}.{column}" for table, names in schema.tables.items() for column in names}
    for column, listed in values.items():
        if column not in columns:
            raise UserError(f"{path}: the schema has no column {column}")
        if not isinstance(listed, list) or not listed:
            raise UserError(f"{path}: {column}: a list of values is expected")
        for value in listed:
            if not isinstance(value, str) or not _LITERAL.fullmatch(value):
                raise UserError(f"{path}: {column}: {value!r} cannot stand between double quotes")
    return values


def values_in(queries: Iterable[str], schema: Schema) -> Values:
    """The literals that text columns are compared with in `queries`; columns without one are not in it."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for sql in queries:
        parts = take_apart(sql)
        for condition in parts.conditions if parts else ():
            for column in condition.columns:
                if _is_text(schema.tables.get(column.table, {}).get(column.name, "")):
                    literals = filter(_LITERAL.fullmatch, condition.literals)
                    found[f"{column.table}.{column.name}"].update(dict.fromkeys(literals))
    return {column: list(values) for column, values in found.items() if values}


def _is_text(kind: str) -> bool:
    """SQLite's rule, https://sqlite.org/datatype3.html#determination_of_column_affinity."""
    return "INT" not in kind and any(word in kind for word in ("CHAR", "CLOB", "TEXT"))
