"""One normal form for the many ways to write a query, so that two queries can be compared as queries.

What does not count: case and quotes of names, spacing outside literals, redundant parentheses, the
order of conditions, of inner joins and of IN lists, which side of an equality stands left, aliases
of tables, and a table's name before a column that only it has. All else does: literals to the
letter, columns and their order, operators, aggregates, DISTINCT, ORDER BY, LIMIT.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import lru_cache
from typing import Any

from sqlglot import exp, parse
from sqlglot.errors import SqlglotError

from medsql.sql.dialect import to_sqlite
from medsql.sql.schema import TABLES

Node = Any
"""A node of sqlglot's tree: its classes share a base since version 30, `Expr`, and another before."""

_QUERY = re.compile(r"\s*(SELECT|WITH)\b", re.IGNORECASE)
_NO_SQL = re.compile(r"syntax error|incomplete input|unrecognized token|null character")
_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Like)


@lru_cache(maxsize=16_384)  # a query is scored several times, and 16 MB hold so many
def normal_form(sql: str) -> str | None:
    """The normal form of a query in MIMICSQL's dialect; `None` where `sql` is not one SELECT that parses.

    A quoted number and a bare one are alike, since a comparison with a column converts either to the
    column's type: `"5"` is 5, but neither 5.0 nor 05. The order of joined tables counts for
    `SELECT *`, whose columns follow it. What SQLite would reject as syntax does not parse.
    """
    try:
        query = _parsed(to_sqlite(sql))
        return None if query is None else _form(_resolved(query))
    except (SqlglotError, RecursionError):  # the second for thousands of nested parentheses
        return None


# ---- from text to a tree ------------------------------------------------------------------------


def _parsed(sql: str) -> exp.Query | None:
    if not _QUERY.match(sql):
        return None
    statements = [statement for statement in parse(sql, read="sqlite") if statement is not None]
    if len(statements) != 1 or not isinstance(statements[0], exp.Query) or not _is_sqlite(sql):
        return None
    return statements[0]


def _is_sqlite(sql: str) -> bool:
    """Whether SQLite's grammar has such a query: sqlglot's lets a comma stand before FROM, and more.

    EXPLAIN compiles the query and runs nothing, here on a database without tables.
    """
    with closing(sqlite3.connect(":memory:")) as empty:
        try:
            empty.execute(f"EXPLAIN {sql}")
        except sqlite3.Error as error:  # as a rule "no such table"
            return _NO_SQL.search(str(error)) is None
        except ValueError:  # no UTF-8, as a lone surrogate is none
            return False
    return True


def _resolved(query: exp.Query) -> exp.Query:
    """The tree with its double-quoted literals as literals, and its columns behind their tables' names."""
    for node in query.find_all(*_COMPARISONS, exp.Between, exp.In):
        for operand in _compared_with(node):
            if isinstance(operand, exp.Column) and not operand.table and operand.this.args.get("quoted"):
                operand.replace(exp.Literal.string(operand.name))
    selects = list(query.find_all(exp.Select))
    if len(selects) == 1:  # else a name may belong to any of several
        _qualify(selects[0])
    return query


def _compared_with(node: Node) -> list[Node]:
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


# ---- from a tree to its form --------------------------------------------------------------------


def _form(node: Node) -> str:
    """The form of a node; parentheses leave no trace, as the tree itself says what binds."""
    return _FORMS.get(type(node), _plain)(node)


def _plain(node: Node, **instead: Any) -> str:
    """Kind and arguments, the latter in order; `instead` replaces some."""
    arguments = sorted((node.args | instead).items())
    return f"{node.key}({', '.join(f'{name}={_value(value)}' for name, value in arguments if value)})"


def _value(value: Any) -> str:
    if isinstance(value, exp.Expression):
        return _form(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return str(value).upper()


def _sorted(forms: Iterable[str]) -> str:
    return f"{{{', '.join(sorted(forms))}}}"


def _literal(literal: exp.Literal) -> str:
    return f"literal({literal.this!r})"


def _negative(node: exp.Neg) -> str:
    number = node.this
    is_number = isinstance(number, exp.Literal) and not number.is_string
    return f"literal({'-' + number.this!r})" if is_number else _plain(node)


def _identifier(identifier: exp.Identifier) -> str:
    return f"identifier({identifier.name.upper()!r})"


def _connected(node: Node) -> str:
    return f"{node.key}{_sorted(_operands([node], type(node)))}"


def _operands(nodes: list[Node], connector: type[Node]) -> list[str]:
    """The forms of what a chain of ANDs, or of ORs, connects, however it is nested."""
    waiting, forms = list(nodes), []
    while waiting:
        operand = waiting.pop().unnest()
        if type(operand) is connector:
            waiting += [operand.args["this"], operand.args["expression"]]
        else:
            forms.append(_form(operand))
    return forms


def _symmetric(node: Node) -> str:
    return f"{node.key}{_sorted([_form(node.this), _form(node.expression)])}"


def _in(node: exp.In) -> str:
    members = _sorted(map(_form, node.expressions))
    return f"{_plain(node, expressions=None)} of {members}"


def _subquery(node: exp.Subquery) -> str:
    return _form(node.this) if node.is_wrapper else _plain(node)


def _join(join: exp.Join) -> str:
    """`LEFT OUTER JOIN` is `LEFT JOIN`, and `INNER JOIN` is `JOIN`."""
    return _plain(join, kind=None if join.kind in ("INNER", "OUTER") else join.kind)


def _select(select: exp.Select) -> str:
    joins = select.args.get("joins") or []
    if not joins or not all(map(_is_inner, joins)):
        return _plain(select)
    sources = {name: value for name, value in select.args.items() if isinstance(value, exp.From)}
    tables = [_form(node.this) for node in (*sources.values(), *joins)]
    if any(isinstance(output, exp.Star) for output in select.expressions):
        joined = f"[{', '.join(tables)}]"
    else:
        joined = _sorted(tables)
    conditions = _operands([join.args["on"] for join in joins if join.args.get("on")], exp.And)
    rest = _plain(select, **dict.fromkeys([*sources, "joins"]))
    return f"{rest} from {joined} on {_sorted(conditions)}"


def _is_inner(join: exp.Join) -> bool:
    asymmetric = join.side or join.method or join.args.get("using")
    return not asymmetric and join.kind in ("", "INNER", "CROSS")


_FORMS: dict[type[Node], Callable[[Node], str]] = {
    exp.Paren: lambda paren: _form(paren.this),
    exp.Subquery: _subquery,
    exp.Literal: _literal,
    exp.Neg: _negative,
    exp.Identifier: _identifier,
    exp.And: _connected,
    exp.Or: _connected,
    exp.EQ: _symmetric,
    exp.NEQ: _symmetric,
    exp.In: _in,
    exp.Join: _join,
    exp.Select: _select,
}
