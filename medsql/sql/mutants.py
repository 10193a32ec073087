"""Queries that differ from a query in one place, as the mistakes of a model do.

They measure how sharp a comparison of queries is: a comparison that cannot tell a mutant from its
original would not see that mistake either. Mutation analysis of SQL: J. Tuya, M. J. Suárez-Cabal and
C. de la Riva, "Mutating database queries", Information and Software Technology 2007.
"""

from __future__ import annotations

import operator
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from sqlglot import exp

from medsql.sql.logical_form import normal_form
from medsql.sql.parsing import Node, parse_query
from medsql.sql.schema import TABLES
from medsql.sql.suite import DOMAINS

OPERATORS: dict[type[Node], Callable[[str, str], bool]] = {
    exp.EQ: operator.eq,
    exp.NEQ: operator.ne,
    exp.LT: operator.lt,
    exp.LTE: operator.le,
    exp.GT: operator.gt,
    exp.GTE: operator.ge,
}
AGGREGATES = (exp.Count, exp.Avg, exp.Min, exp.Max, exp.Sum)
COLUMNS_TRIED = 3
"""Other columns of its table that each column gives way to, drawn at random."""

MOST_MUTANTS = 100
"""Of a query that has more, so many are drawn at random; MIMICSQL's have some thirty."""


@dataclass(frozen=True)
class Mutant:
    """`kind` is the place that differs: operator, column, value, condition, aggregate or join."""

    kind: str
    sql: str


def mutants(sql: str) -> list[Mutant]:
    """The mutants of a query, the same ones each time, none of its own normal form.

    No mutants where `sql` is no query that parses. Left out are operators that no value of EXPIRE_FLAG or
    GENDER tells from the original.
    """
    query = parse_query(sql)
    if query is None:
        return []
    rng = random.Random(sql)
    sites = [site for kind, mutate in _MUTATIONS.items() for site in _sites(query, kind, mutate, rng)]
    found = [
        Mutant(kind, _replaced(query, place, node))
        for kind, place, node in rng.sample(sites, min(MOST_MUTANTS, len(sites)))
    ]
    original = normal_form(sql)
    distinct = {normal_form(mutant.sql): mutant for mutant in reversed(found)}
    return [mutant for form, mutant in reversed(distinct.items()) if form not in (original, None)]


Mutation = Callable[[Node, random.Random], Iterator[Node]]
"""What a node may be replaced by; nothing where it is of no concern."""

Site = tuple[str, int, Node]
"""The kind of a mutation, the place of a node in the walk over its query, and what takes its place."""


def _sites(query: exp.Query, kind: str, mutate: Mutation, rng: random.Random) -> Iterator[Site]:
    for place, node in enumerate(query.walk()):
        for replacement in mutate(node, rng):
            yield kind, place, replacement


def _replaced(query: exp.Query, place: int, replacement: Node) -> str:
    changed = query.copy()
    next(islice(changed.walk(), place, None)).replace(replacement)
    return changed.sql("sqlite")


def _operator(node: Node, rng: random.Random) -> Iterator[Node]:
    if type(node) in OPERATORS and node.find_ancestor(exp.Where):
        for other in OPERATORS:
            if other is not type(node) and not _alike(node, other):
                yield other(this=node.this.copy(), expression=node.expression.copy())


def _alike(comparison: Node, other: type[Node]) -> bool:
    """Whether another operator lets the same values through: of 0 and 1, `>= 1` is `= 1`."""
    column, literal = comparison.this, comparison.expression
    domain = DOMAINS.get(column.name.upper(), ()) if isinstance(column, exp.Column) else ()
    one, two = OPERATORS[type(comparison)], OPERATORS[other]
    verdicts = [one(str(value), literal.name) == two(str(value), literal.name) for value in domain]
    return bool(verdicts) and all(verdicts)


def _column(node: Node, rng: random.Random) -> Iterator[Node]:
    table = TABLES.get(node.table.upper(), {}) if isinstance(node, exp.Column) else {}
    if node.find_ancestor(exp.Join):
        return  # `_join` takes care of keys
    others = [name for name in table if name != node.name.upper()]
    for name in rng.sample(others, min(COLUMNS_TRIED, len(others))):
        yield exp.column(name, table=node.table, quoted=True)


def _value(node: Node, rng: random.Random) -> Iterator[Node]:
    if isinstance(node, exp.Literal):
        for value in _other_values(node.this, rng):
            yield exp.Literal.string(value)


def _other_values(value: str, rng: random.Random) -> Iterator[str]:
    """A number a little off or with a digit too many; a text in another case or short of a letter or word."""
    if re.fullmatch(r"\d{1,15}(\.0)?", value, re.ASCII):
        width = len(value) if value.startswith("0") else 0
        for step in (1, -1, rng.choice((-4, -3, 3, 4)), rng.choice((-17, 17))):
            yield f"{int(float(value)) + step:0{width}d}"
        if int(float(value)):
            yield f"{value.removesuffix('.0')}0"
        return
    place = rng.randrange(len(value) or 1)
    yield value[:place] + value[place + 1 :]
    yield value.swapcase()
    words = value.split()
    if len(words) > 1:
        dropped = rng.randrange(len(words))
        yield " ".join(words[:dropped] + words[dropped + 1 :])


def _condition(node: Node, rng: random.Random) -> Iterator[Node]:
    """A condition dropped: its neighbour stands for both."""
    if isinstance(node, exp.And) and node.find_ancestor(exp.Where):
        yield node.this.copy()
        yield node.expression.copy()


def _aggregate(node: Node, rng: random.Random) -> Iterator[Node]:
    if type(node) not in AGGREGATES:
        return
    for other in AGGREGATES:
        if other is not type(node):
            yield other(this=node.this.copy())
    if isinstance(node.this, exp.Distinct):
        yield type(node)(this=node.this.expressions[0].copy())


def _join(node: Node, rng: random.Random) -> Iterator[Node]:
    """Tables joined by patient where the query joins them by admission."""
    if isinstance(node, exp.Join) and node.args.get("on") is not None:
        changed = node.copy()
        keys = list(changed.args["on"].find_all(exp.Column))
        if all(key.name.upper() == "HADM_ID" for key in keys):
            for key in keys:
                key.set("this", exp.to_identifier("SUBJECT_ID"))
            yield changed


_MUTATIONS: dict[str, Mutation] = {
    "operator": _operator,
    "column": _column,
    "value": _value,
    "condition": _condition,
    "aggregate": _aggregate,
    "join": _join,
}
