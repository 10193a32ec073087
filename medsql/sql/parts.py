"""A query taken apart into what it returns, the tables it reads, how it joins them, and its conditions.

Only the outermost SELECT is taken apart: a subquery is one operand, and nothing inside it is a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlglot import exp

from medsql.sql.logical_form import form_of, is_inner
from medsql.sql.parsing import COMPARISONS, Node, parse_query
from medsql.sql.schema import TABLES


class Column(NamedTuple):
    """A column by upper-case names; `table` is empty where the query leaves it open, `*` is a name too."""

    table: str
    name: str

    @property
    def type(self) -> str:
        """The type in MIMICSQL's tables, empty for any other column."""
        return TABLES.get(self.table, {}).get(self.name, "")


class Output(NamedTuple):
    """One expression behind SELECT: the names of its functions (DISTINCT is one) and its columns."""

    functions: tuple[str, ...]
    columns: tuple[Column, ...]


class Condition(NamedTuple):
    """One comparison: `AGE < "50"` is ((DEMOGRAPHIC, AGE),), `lt` and ("50",); NOT is part of the operator.

    The literals of IN are sorted, and those of LIKE are without a `%` at either end.
    """

    columns: tuple[Column, ...]
    operator: str
    literals: tuple[str, ...]


@dataclass(frozen=True)
class Parts:
    """The parts of a query; `tables` and `joins` are sorted, except under an outer join.

    `joins` are the forms of the comparisons that join tables, wherever they stand, or of whole joins where
    one is an outer join. `connectives` are `and` and `or`, as far as they connect conditions.
    """

    distinct: bool = False
    outputs: tuple[Output, ...] = ()
    tables: tuple[str, ...] = ()
    joins: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    connectives: frozenset[str] = frozenset()
    columns: frozenset[Column] = frozenset()
    """Every column of the query, subqueries included."""
    sources: frozenset[str] = frozenset()
    """Every table of the query, subqueries included."""
    names: frozenset[str] = frozenset()
    """What the query itself gives a name to: outputs, tables and common table expressions."""


def take_apart(sql: str) -> Parts | None:
    """The parts of a query in MIMICSQL's dialect; `None` where it does not parse.

    A UNION has columns, sources and names only.
    """
    query = parse_query(sql)
    try:
        return None if query is None else _parts(query)
    except RecursionError:
        return None


def _parts(query: exp.Query) -> Parts:
    named = query.find_all(exp.Alias, exp.Table, exp.CTE, exp.Subquery)
    whole = Parts(
        columns=frozenset(map(_column, query.find_all(exp.Column))),
        sources=frozenset(table.name.upper() for table in query.find_all(exp.Table)),
        names=frozenset(node.alias.upper() for node in named),
    )
    return _with_clauses(whole, query) if isinstance(query, exp.Select) else whole


def _with_clauses(whole: Parts, select: exp.Select) -> Parts:
    joins = select.args.get("joins") or []
    inner = all(map(is_inner, joins))
    sources = [value for value in select.args.values() if isinstance(value, exp.From)]
    tables = [_table(source.this) for source in (*sources, *joins)]
    where = [clause.this for clause in select.args.values() if isinstance(clause, exp.Where)]
    # An inner join's ON says no more than WHERE does; an outer join is what it is only as a whole.
    on = [join.args["on"] for join in joins if join.args.get("on")] if inner else []
    compared = [comparison for clause in on + where for comparison in _comparisons(clause)]
    joining = [form_of(node) for node, _ in compared if _joins_tables(node)]
    filters = [(node, negated) for node, negated in compared if not _joins_tables(node)]
    return replace(
        whole,
        distinct=bool(select.args.get("distinct")),
        outputs=tuple(map(_output, select.expressions)),
        tables=tuple(sorted(tables) if inner else tables),
        joins=(*([] if inner else map(form_of, joins)), *sorted(joining)),
        conditions=tuple(condition for comparison in filters for condition in _conditions(*comparison)),
        connectives=frozenset(connective for clause in where for connective in _connectives(clause)),
    )


def _column(column: exp.Column) -> Column:
    return Column(column.table.upper(), column.name.upper())


def _table(source: Node) -> str:
    return source.name.upper() if isinstance(source, exp.Table) else form_of(source)


def _output(expression: Node) -> Output:
    nodes = list(_outside_subqueries(expression))
    functions = [node for node in nodes if isinstance(node, exp.Func | exp.Distinct)]
    columns = [
        Column("", "*") if isinstance(node, exp.Star) else _column(node)
        for node in nodes
        if isinstance(node, exp.Column | exp.Star) and not isinstance(node.parent, exp.Column)
    ]
    return Output(tuple(_function(node) for node in functions), tuple(columns))


def _function(node: Node) -> str:
    return node.name.lower() if isinstance(node, exp.Anonymous) else node.key


def _outside_subqueries(node: Node) -> Iterator[Node]:
    """The node and all below it, down to a subquery, of which only the outermost node is given."""
    return node.walk(bfs=False, prune=lambda below: isinstance(below, exp.Query))


# ---- conditions ---------------------------------------------------------------------------------

_MIRRORED = {"lt": "gt", "lte": "gte", "gt": "lt", "gte": "lte"}
_CONNECTORS = (exp.And, exp.Or)


def _comparisons(clause: Node) -> Iterator[tuple[Node, bool]]:
    """What AND, OR and NOT connect, in order, each with whether an odd number of NOTs stands before it."""
    waiting = [(clause, False)]
    while waiting:
        node, negated = waiting.pop()
        node = node.unnest()
        if isinstance(node, exp.Not):
            waiting.append((node.this, not negated))
        elif isinstance(node, _CONNECTORS):
            waiting += [(node.expression, negated), (node.this, negated)]
        else:
            yield node, negated


def _connectives(clause: Node) -> Iterator[str]:
    return (node.key for node in _outside_subqueries(clause) if isinstance(node, _CONNECTORS))


def _joins_tables(node: Node) -> bool:
    """Whether this compares columns of two tables."""
    if not isinstance(node, COMPARISONS):
        return False
    sides = [node.this.unnest(), node.expression.unnest()]
    one, other = (side.table.upper() if isinstance(side, exp.Column) else None for side in sides)
    return None not in (one, other) and one != other


def _conditions(node: Node, negated: bool) -> Iterator[Condition]:
    """The condition that a comparison is; BETWEEN is two, `gte` and `lte`."""
    if isinstance(node, exp.Between):
        columns = _columns(node.this)
        for operator, bound in (("gte", "low"), ("lte", "high")):
            yield Condition(columns, _operator(operator, negated), _literals(node.args[bound]))
        return
    operator, literals = node.key, _literals(node)
    if isinstance(node.this, exp.Literal):
        operator = _MIRRORED.get(operator, operator)
    if isinstance(node, exp.In):
        literals = tuple(sorted(literals))
    elif isinstance(node, exp.Like):
        literals = tuple(literal.strip("%") for literal in literals)
    yield Condition(_columns(node), _operator(operator, negated), literals)


def _operator(name: str, negated: bool) -> str:
    return f"not {name}" if negated else name


def _columns(node: Node) -> tuple[Column, ...]:
    return tuple(_column(below) for below in _outside_subqueries(node) if isinstance(below, exp.Column))


def _literals(node: Node) -> tuple[str, ...]:
    literals = [below for below in _outside_subqueries(node) if isinstance(below, exp.Literal)]
    return tuple(
        f"-{literal.this}" if isinstance(literal.parent, exp.Neg) else literal.this for literal in literals
    )
