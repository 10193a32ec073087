"""A schema read from a file of CREATE TABLE statements, as `sqlite3 database .schema` prints them."""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path

from sqlglot import exp, parse
from sqlglot.errors import SqlglotError

from medsql.errors import UserError
from medsql.sql.parsing import Node, parse_query
from medsql.sql.schema import MIMICSQL, Schema


def schema_of(file: str | None) -> Schema:
    """The schema in a file, or where none is named MIMICSQL's. Raises what `read_schema` does."""
    return MIMICSQL if file is None else read_schema(Path(file))


def read_schema(path: Path) -> Schema:
    """The tables of a file in SQLite's SQL; what may be joined is what its foreign keys say.

    Columns that refer to the same column may be joined with it and with each other. Raises `UserError` where
    the file cannot be read, holds no table or one that SQLite does not make, or has a foreign key or a name
    that the dialect cannot write. Foreign keys may write names in other capitals, as in SQLite.
    """
    try:
        statements = parse(path.read_text("utf-8"), read="sqlite")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no schema that can be read: {error}") from error
    except (SqlglotError, RecursionError) as error:
        raise UserError(f"{path}: no SQL: {str(error).splitlines()[0]}") from error
    made = [node for node in statements if isinstance(node, exp.Create) and node.kind == "TABLE"]
    # SQLite's own are there for AUTOINCREMENT and ANALYZE.
    creates = [create for create in made if not _table(create).name.startswith("sqlite_")]
    tables = {_name(_table(create), path): _columns(create, path) for create in creates}
    if not tables:
        raise UserError(f"{path}: CREATE TABLE statements are expected here")
    for table, columns in tables.items():
        if not columns:
            raise UserError(f"{path}: {table}: a table with columns is expected")
    _try(creates, path)
    declared = {(t.upper(), name.upper()): (t, name) for t, names in tables.items() for name in names}
    keys: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for create in creates:
        for referring, referred in _references(create, path):
            one, other = (declared.get((t.upper(), name.upper())) for t, name in (referring, referred))
            if one is None or other is None:
                raise UserError(
                    f"{path}: {'.'.join(referring)} refers to {'.'.join(referred)}, which is not there"
                )
            keys[other] |= {one, other}
    return Schema(tables, tuple(tuple(sorted(key)) for key in keys.values()))


def _try(creates: list[exp.Create], path: Path) -> None:
    """Let SQLite find names that come twice, in other capitals too, and what is no column."""
    with closing(sqlite3.connect(":memory:")) as database:
        for create in creates:
            create.set("exists", False)  # IF NOT EXISTS would keep it quiet
            try:
                database.execute(create.sql("sqlite"))
            except sqlite3.Error as error:
                name = _name(_table(create), path)
                raise UserError(f"{path}: {name}: no table that SQLite makes: {error}") from error


def _table(create: exp.Create) -> Node:
    return create.find(exp.Table)


def _columns(create: exp.Create, path: Path) -> dict[str, str]:
    """Names and types; without a type, a column is a bare name."""
    listed = create.this.expressions if isinstance(create.this, exp.Schema) else []
    columns = [node for node in listed if isinstance(node, exp.ColumnDef | exp.Identifier)]
    return {_name(column, path): _type(column) for column in columns}


def _type(column: exp.ColumnDef | exp.Identifier) -> str:
    kind = column.args.get("kind")
    return kind.sql("sqlite").upper() if kind else ""


def _references(create: exp.Create, path: Path) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Pairs of (table, column): which refers, and to which."""
    table = _name(_table(create), path)
    found = []
    for reference in create.find_all(exp.Reference):
        target = reference.this
        referred = [column.name for column in target.expressions] if isinstance(target, exp.Schema) else []
        key = reference.find_ancestor(exp.ForeignKey)
        owner = reference.find_ancestor(exp.ColumnDef)
        referring = [column.name for column in key.expressions] if key else [owner.name] if owner else []
        if len(referred) != 1 or len(referring) != 1:
            raise UserError(f"{path}: {table}: a foreign key has to name one column and the one it refers to")
        found.append(((table, referring[0]), (target.find(exp.Table).name, referred[0])))
    return found


def _name(node: Node, path: Path) -> str:
    name = node.name
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise UserError(f"{path}: {name}: the dialect has names of letters, digits and _ only")
    # The dialect writes names in FROM and ON without quotes.
    if parse_query(f"SELECT {name}.{name} FROM {name} INNER JOIN T on T.C = {name}.{name}") is None:
        raise UserError(f"{path}: {name}: a word of SQL, which needs quotes that the dialect does not write")
    return name
