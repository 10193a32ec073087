"""One normal form for the many ways to write a query, so that two queries can be compared as queries.

What does not count: case and quotes of names, spacing outside literals, redundant parentheses, the
order of conditions, of inner joins and of IN lists, which side of an equality stands left, aliases
of tables, and a table's name before a column that only it has. All else does: literals to the
letter, columns and their order, operators, aggregates, DISTINCT, ORDER BY, LIMIT.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from sqlglot import exp

from medsql.sql.parsing import Node, parse_query


@lru_cache(maxsize=16_384)  # a query is scored several times, and 16 MB hold so many
def normal_form(sql: str) -> str | None:
    """The normal form of a query in MIMICSQL's dialect; `None` where `sql` is not one SELECT that parses.

    A quoted number and a bare one are alike, since a comparison with a column converts either to the
    column's type: `"5"` is 5, but not "5.0" or "05", other texts. The order of joined tables counts for
    `SELECT *`, whose columns follow it. What SQLite would reject as syntax does not parse.
    """
    query = parse_query(sql)
    try:
        return None if query is None else form_of(query)
    except RecursionError:
        return None


def form_of(node: Node) -> str:
    """The normal form of a part of a query; parentheses leave no trace, as the tree says what binds."""
    return _FORMS.get(type(node), _plain)(node)


def _plain(node: Node, **instead: Any) -> str:
    """Kind and arguments, the latter in order; `instead` replaces some."""
    arguments = sorted((node.args | instead).items())
    return f"{node.key}({', '.join(f'{name}={_value(value)}' for name, value in arguments if value)})"


def _value(value: Any) -> str:
    if isinstance(value, exp.Expression):
        return form_of(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return str(value).upper()


def _sorted(forms: Iterable[str]) -> str:
    return f"{{{', '.join(sorted(forms))}}}"


def _literal(literal: exp.Literal) -> str:
    return f"literal({literal.this!r})" if literal.is_string else _number(literal.this)


def _number(text: str) -> str:
    """A bare number is alike to the same in quotes, unless SQLite writes it otherwise: 0389 is 389."""
    number = float(text) if re.search("[.eE]", text) else int(text)
    return f"literal({text!r})" if str(number) == text else f"number({number!r})"


def _negative(node: exp.Neg) -> str:
    number = node.this
    is_number = isinstance(number, exp.Literal) and not number.is_string
    return _number(f"-{number.this}") if is_number else _plain(node)


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
            forms.append(form_of(operand))
    return forms


def _symmetric(node: Node) -> str:
    return f"{node.key}{_sorted([form_of(node.this), form_of(node.expression)])}"


def _in(node: exp.In) -> str:
    members = _sorted(map(form_of, node.expressions))
    return f"{_plain(node, expressions=None)} of {members}"


def _subquery(node: exp.Subquery) -> str:
    return form_of(node.this) if node.is_wrapper else _plain(node)


def _join(join: exp.Join) -> str:
    """`LEFT OUTER JOIN` is `LEFT JOIN`, and `INNER JOIN` is `JOIN`."""
    return _plain(join, kind=None if join.kind in ("INNER", "OUTER") else join.kind)


def _select(select: exp.Select) -> str:
    joins = select.args.get("joins") or []
    if not joins or not all(map(is_inner, joins)):
        return _plain(select)
    sources = {name: value for name, value in select.args.items() if isinstance(value, exp.From)}
    tables = [form_of(node.this) for node in (*sources.values(), *joins)]
    if any(isinstance(output, exp.Star) for output in select.expressions):
        joined = f"[{', '.join(tables)}]"
    else:
        joined = _sorted(tables)
    conditions = _operands([join.args["on"] for join in joins if join.args.get("on")], exp.And)
    rest = _plain(select, **dict.fromkeys([*sources, "joins"]))
    return f"{rest} from {joined} on {_sorted(conditions)}"


def is_inner(join: exp.Join) -> bool:
    """Whether a join's tables may change places: it is neither an outer join nor has it USING or NATURAL."""
    asymmetric = join.side or join.method or join.args.get("using")
    return not asymmetric and join.kind in ("", "INNER", "CROSS")


_FORMS: dict[type[Node], Callable[[Node], str]] = {
    exp.Paren: lambda paren: form_of(paren.this),
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
