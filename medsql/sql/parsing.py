"""From the text of a query to its tree, in which literals are literals and columns have their tables."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from sqlglot import Dialect, TokenType, exp
from sqlglot.errors import SqlglotError

from medsql.sql.database import HEAP_BYTES, without_comments
from medsql.sql.dialect import LONGEST_SQL, to_sqlite
from medsql.sql.schema import TABLES

logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # of a query that a model wrote it may say anything

Node = Any
"""A node of sqlglot's tree: its classes share a base since version 30, `Expr`, and another before."""

MOST_JOINS = 10
"""Twice what five tables can need. Each further join without its ON doubles the time of sqlglot's parser,
and a model that repeats itself writes dozens."""

_SQLITE = Dialect.get_or_raise("sqlite")
_QUERY = re.compile(r"\s*(SELECT|WITH)\b", re.IGNORECASE)
_NO_SQL = re.compile(r"syntax error|incomplete input|unrecognized token|null character")
_CUT_SHORT = re.compile(r"incomplete input|unrecognized token: \"['\"`\[]")
COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Like)


def parse_query(sql: str) -> exp.Query | None:
    """The tree of a query in MIMICSQL's dialect; `None` where `sql` is not one SELECT that parses.

    Double-quoted literals are literals there, and every column stands behind its table's name, where
    there is one SELECT that joins no table with itself. What SQLite would reject as syntax does not parse,
    nor does what is longer than `LONGEST_SQL` or has more than `MOST_JOINS` joins.
    """
    try:
        query = _parsed(to_sqlite(without_comments(sql)))
        return None if query is None else _resolved(query)
    except (SqlglotError, RecursionError):  # the second for thousands of nested parentheses
        return None


def parse_as_written(sql: str) -> exp.Query | None:
    """The tree of a query as it stands, with the place of every name and literal in its `meta`.

    `start` and `end` are the first and last character, quotes included. Nothing is resolved: a
    double-quoted literal is a column there (`is_quoted_word`). `quote` is the first character of a name.
    `None` where `parse_query` has none, too.
    """
    try:
        query = _parsed(sql)
        for name in query.find_all(exp.Identifier) if query else ():
            if "start" in name.meta:
                name.meta["quote"] = sql[name.meta["start"]]
        return query
    except (SqlglotError, RecursionError):
        return None


def counts(query: exp.Query) -> bool:
    """Whether a query counts or adds up, so that 0 means that it has found nothing."""
    return query.find(exp.Count, exp.Sum) is not None


def is_cut_short(sql: str) -> bool:
    """Whether a query ends too early: SQLite waits for more of it, or for the end of something quoted."""
    return _QUERY.match(sql) is not None and _CUT_SHORT.match(_complaint(to_sqlite(sql))) is not None


def _parsed(sql: str) -> exp.Query | None:
    if len(sql) > LONGEST_SQL or not _QUERY.match(sql):
        return None
    tokens = _SQLITE.tokenize(sql)
    joins = sum(token.token_type == TokenType.JOIN for token in tokens)
    if joins > MOST_JOINS or not _is_sqlite(sql):  # which knows no joins of other names
        return None
    statements = [statement for statement in _SQLITE.parser().parse(tokens, sql) if statement is not None]
    return statements[0] if len(statements) == 1 and isinstance(statements[0], exp.Query) else None


def _is_sqlite(sql: str) -> bool:
    """Whether SQLite's grammar has such a query: sqlglot's lets a comma stand before FROM, and more."""
    return _NO_SQL.search(_complaint(sql)) is None


def _complaint(sql: str) -> str:
    """What SQLite says to a query, as a rule "no such table"; EXPLAIN compiles it and runs nothing."""
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.execute(f"PRAGMA hard_heap_limit = {HEAP_BYTES}").close()
        try:
            empty.execute(f"EXPLAIN {sql}")
        except sqlite3.Error as error:
            return str(error)
        except MemoryError:  # it parses: a few common table expressions can stand for 2^40 SELECTs
            return "out of memory"
        except ValueError:  # no UTF-8, as a lone surrogate is none
            return "unrecognized token"
    return ""


def _resolved(query: exp.Query) -> exp.Query:
    """The tree with its columns behind their tables' names."""
    selects = list(query.find_all(exp.Select))
    if len(selects) == 1:  # else a name may belong to any of several
        _qualify(selects[0])
    return query


def is_quoted_word(operand: Node) -> bool:
    """Whether this is a name in double quotes without a table: right of a comparison, a literal.

    In a tree of `parse_as_written`.
    """
    return isinstance(operand, exp.Column) and not operand.table and operand.this.meta.get("quote") == '"'


def compared_with(node: Node) -> list[Node]:
    """What stands right of a comparison, out of its parentheses."""
    if isinstance(node, exp.In):
        right = node.expressions
    elif isinstance(node, exp.Between):
        right = [node.args["low"], node.args["high"]]
    else:
        right = [node.args["expression"]]
    return [operand.unnest() for operand in right]


def _qualify(select: exp.Select) -> None:
    """Put every column behind the name of its table, and drop the tables' aliases.

    Nothing is done where a table is joined with itself, or where a column belongs to no table there.
    """
    tables, columns = list(select.find_all(exp.Table)), list(select.find_all(exp.Column))
    names = {table.alias_or_name.upper(): table.name.upper() for table in tables}
    if len(set(names.values())) < len(tables) or not {c.table.upper() for c in columns} <= {"", *names}:
        return
    outputs = {output.alias.upper() for output in select.expressions}  # ORDER BY may name one
    for column in columns:
        owners = [names[column.table.upper()]] if column.table else _owners(column, names.values())
        if len(owners) == 1 and (column.table or column.name.upper() not in outputs):
            column.set("table", exp.to_identifier(owners[0]))
    for table in tables:
        table.set("alias", None)


def _owners(column: exp.Column, tables: Iterable[str]) -> list[str]:
    return [table for table in tables if column.name.upper() in TABLES.get(table, {})]
