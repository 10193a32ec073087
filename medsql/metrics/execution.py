"""Whether a predicted query gives what the gold query gives, on a suite of databases or a real one."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path

from medsql.metrics.logical import logical_form
from medsql.sql.database import Limits, Result, Sandbox, Value
from medsql.sql.parsing import counts, parse_query
from medsql.sql.suite import suite


class _OfThread(threading.local):
    """SQLite's connections belong to a thread, and any thread may score."""

    @cached_property
    def schema(self) -> Sandbox:
        """MIMICSQL's tables without a row: what names only them and their columns runs there."""
        return Sandbox.empty()


_here = _OfThread()


def verdict(sql: str) -> str:
    """How a query ends on MIMICSQL's schema: `ok`, `unknown column X`, … (`medsql.sql.database.Result`)."""
    return _here.schema.run(sql).verdict


class Execution:
    """Compares what predicted and gold queries give.

    Without `database` each gold query gets a suite of its own (`medsql.sql.suite`). `database` is a SQLite
    file in MIMICSQL's five tables instead, on which a query may take `seconds`.
    Raises `UserError` where there is no such database.

    >>> Execution()("SELECT AGE FROM DEMOGRAPHIC", "SELECT DEMOGRAPHIC.AGE FROM DEMOGRAPHIC")
    True
    """

    def __init__(self, database: str | Path | None = None, seconds: float = 60.0) -> None:
        self.database = database
        limits = Limits(seconds=seconds, steps=10**12)  # a real table has millions of rows
        self._file = None if database is None else Sandbox(database, limits=limits)
        self.of_gold: Counter[str] = Counter()
        """How many gold queries did not run, by verdict, and how many found nothing (`empty`)."""

    def __call__(self, prediction: str, gold: str) -> bool | None:
        """Whether both run and give the same result on every database.

        None where the gold query cannot tell: it does not run, or finds nothing on any database, where
        any query that finds nothing would agree with it. Both are counted.
        """
        query = Gold(gold)
        agreed, found = True, False
        for database in self._databases(gold):
            wanted = database.run(gold)
            if not wanted.ok:
                self.of_gold[wanted.verdict] += 1
                return None
            found = found or query.finds_something(wanted)
            agreed = agreed and query.same_result(database.run(prediction), wanted)
            if found and (not agreed or logical_form(prediction, gold)):
                break  # nothing that follows can change the answer
        if not found:
            self.of_gold["empty"] += 1
        return agreed if found else None

    def _databases(self, gold: str) -> Iterator[Sandbox]:
        if self._file is not None:
            yield self._file
        elif not _here.schema.run(gold).ok:
            yield _here.schema  # where its verdict is found
        else:
            for database in suite(gold):
                with closing(database):
                    yield database


class Gold:
    """What of a gold query decides how results are compared with its own."""

    def __init__(self, sql: str) -> None:
        query = parse_query(sql)
        self._ordered = query is not None and query.args.get("order") is not None
        self._counts = query is not None and counts(query)

    def same_result(self, result: Result, wanted: Result) -> bool:
        """Whether both ran and gave the same rows, each as often, and in order where the query orders.

        Columns count by their place, not by their names, and a row of NULL is not no row. Numbers are
        alike to nine digits, since a sum of floats depends on the order of rows.
        """
        if not (result.ok and wanted.ok) or len(result.columns) != len(wanted.columns):
            return False
        ours, theirs = ([tuple(map(_rounded, row)) for row in each.rows] for each in (result, wanted))
        return ours == theirs if self._ordered else Counter(ours) == Counter(theirs)

    def finds_something(self, result: Result) -> bool:
        """Whether there is more than no row, NULL and the 0 of a count."""
        return result.finds_something(self._counts)


def _rounded(value: Value) -> Value:
    return float(f"{value:.9g}") if isinstance(value, float) else value
