"""Execution guidance: which of a model's beams is taken, by what running them says.

After Wang et al., "Robust Text-to-SQL Generation with Execution-Guided Decoding" (2018), on whole queries.
There is no database of patients unless a user has one: without it, guidance means that a query parses and
runs on MIMICSQL's schema, never that it finds anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import NamedTuple

from sqlglot import exp

from medsql.sql.database import Limits, Sandbox
from medsql.sql.parsing import counts, parse_query

LIMITS = Limits(seconds=60.0, steps=100_000_000)
"""What a beam may use on a user's own database: ten seconds or so, since each row of predictions has several.
One that needs more gives way to the next that finds something, and its verdict says so."""

EMPTY = "empty"
"""The verdict on a beam that runs on the user's own database and finds nothing."""

REPEATS = "repeats itself"
"""The verdict on a beam that runs but has a condition or an output twice, as no query of MIMICSQL has."""

IDLE = "idle table"
"""The verdict on a beam that runs but joins a table and asks nothing of it, as no query of MIMICSQL does."""

UNGROUNDED = "ungrounded"
"""The verdict on a beam that runs, with a value that is neither known nor asked for."""

RANK = {None: 0, UNGROUNDED: 1, REPEATS: 2, IDLE: 2}
"""How far a beam that runs is from what is wanted, by what is wrong with it."""


class Choice(NamedTuple):
    """The beam that was taken, counted from 0, whether it runs, and how those that were looked at ended.

    Verdicts are those of `medsql.sql.database.Result` on the schema, and where a beam is `ok` there, those on
    the user's database, if there is one, `EMPTY` where it finds nothing; and where it is `ok` there, too,
    `REPEATS`, `IDLE` or `UNGROUNDED`, if it is that.
    """

    beam: int
    runs: bool
    verdicts: tuple[str, ...]


class Chooser:
    """Takes a beam that runs, with a `database` one that finds something there, if any does.

    Of these the first with nothing wrong, else the first that is only not grounded, else the first that
    repeats itself or joins a table for nothing.

    `database` is a user's own SQLite file in MIMICSQL's tables, never one made for scoring. Any thread may
    ask: what it runs on is opened anew each time, for SQLite's connections belong to a thread.
    Raises `UserError` where there is no such database.
    """

    def __init__(self, database: str | Path | None = None) -> None:
        self._path = database
        with self._open_database():  # a mistake is answered at once
            pass

    def __call__(self, beams: Sequence[str], is_grounded: Callable[[str], bool] | None = None) -> Choice:
        """The choice among one row's beams, best first, at least one; where none runs, the first is taken."""
        verdicts: list[str] = []
        running: list[tuple[int, int, int]] = []  # how far each is from what is wanted, and which it is
        with closing(Sandbox.empty()) as schema, self._open_database() as database:
            for beam, sql in enumerate(beams):
                verdict = schema.run(sql).verdict
                if verdict == "ok":
                    ended = _on_database(sql, database)
                    wrong = flaw(sql) or (UNGROUNDED if is_grounded and not is_grounded(sql) else None)
                    running.append(({"ok": 0, EMPTY: 1}.get(ended, 2), RANK[wrong], beam))
                    verdict = wrong if wrong and ended == "ok" else ended
                verdicts.append(verdict)
                if verdict == "ok":
                    break
        return Choice(min(running)[-1] if running else 0, bool(running), tuple(verdicts))

    def _open_database(self) -> AbstractContextManager[Sandbox | None]:
        return nullcontext() if self._path is None else closing(Sandbox(self._path, limits=LIMITS))


def flaw(sql: str) -> str | None:
    """`REPEATS`, or `IDLE`, which no query of MIMICSQL has; None for neither, and for what is no SELECT."""
    query = parse_query(sql)
    if not isinstance(query, exp.Select):
        return None
    if _repeats_itself(query):
        return REPEATS
    return IDLE if _has_idle_table(query) else None


def _repeats_itself(query: exp.Select) -> bool:
    """Whether it has one condition twice, joined by AND, or one output."""
    where = query.args.get("where")
    conditions = list(where.this.flatten()) if where and isinstance(where.this, exp.And) else []
    return any(len({*map(exp.Expression.sql, each)}) < len(each) for each in (conditions, query.expressions))


def _has_idle_table(query: exp.Select) -> bool:
    """Whether it joins a table that it names nowhere but in equations of two columns, and shows no star."""
    joins = query.args.get("joins") or []
    equations = (equation for join in joins for equation in join.find_all(exp.EQ))
    joining = {
        id(column)
        for each in equations
        if isinstance(each.left, exp.Column) and isinstance(each.right, exp.Column)
        for column in (each.left, each.right)
    }
    named = {column.table.upper() for column in query.find_all(exp.Column) if id(column) not in joining}
    joined = {join.this.alias_or_name.upper() for join in joins if isinstance(join.this, exp.Table)}
    return not (joined <= named or "" in named or query.is_star)


def _on_database(sql: str, database: Sandbox | None) -> str:
    if database is None:
        return "ok"
    result = database.run(sql)
    if result.verdict == "too many rows":  # for the sandbox to hand out, but rows they are
        return "ok"
    query = parse_query(sql)
    found = not result.ok or result.finds_something(query is not None and counts(query))
    return result.verdict if found else EMPTY
