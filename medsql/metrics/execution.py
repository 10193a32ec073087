"""Whether a predicted query gives what the gold query gives, on a suite of databases or a real one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from medsql.sql.database import Limits, Result, Sandbox, Value
from medsql.sql.logical_form import normal_form
from medsql.sql.parsing import parse_query
from medsql.sql.suite import suite


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
        self._schema = Sandbox.empty()
        self.of_gold: Counter[str] = Counter()
        """How many gold queries did not run, by verdict, and how many found nothing (`empty`)."""

    def __call__(self, prediction: str, gold: str) -> bool | None:
        """Whether both run and give the same result on every database.

        None where the gold query cannot tell: it does not run, or finds nothing on any database of its
        suite. On a file, where one database is all there is, nothing equals nothing; it is counted.
        """
        agreed, found = True, False
        for database in self._databases(gold):
            wanted = database.run(gold)
            if not wanted.ok:
                self.of_gold[wanted.verdict] += 1
                return None
            found = found or not _says_nothing(wanted)
            agreed = agreed and same_result(database.run(prediction), wanted, _is_ordered(gold))
            if found and (not agreed or _same_form(prediction, gold)):
                break  # nothing that follows can change the answer
        if not found:
            self.of_gold["empty"] += 1
        return agreed if found or self._file else None

    def _databases(self, gold: str) -> Iterator[Sandbox]:
        if self._file is not None:
            yield self._file
        elif not self._schema.run(gold).ok:
            yield self._schema  # where its verdict is found
        else:
            for database in suite(gold):
                with closing(database):
                    yield database


def same_result(one: Result, other: Result, in_order: bool) -> bool:
    """Whether both ran and gave the same rows, each as often, and in the same order where that counts.

    Columns count by their place, not by their names. Numbers are alike to nine digits, since a sum of
    floats depends on the order of rows.
    """
    if not (one.ok and other.ok) or len(one.columns) != len(other.columns):
        return False
    first, second = ([tuple(map(_rounded, row)) for row in result.rows] for result in (one, other))
    return first == second if in_order else Counter(first) == Counter(second)


def _is_ordered(sql: str) -> bool:
    query = parse_query(sql)
    return query is not None and query.args.get("order") is not None


def _same_form(one: str, other: str) -> bool:
    form = normal_form(one)
    return form is not None and form == normal_form(other)


def _says_nothing(result: Result) -> bool:
    """Whether there is no row, or only NULL and the 0 of a count."""
    return all(value in (None, 0) for row in result.rows for value in row)


def _rounded(value: Value) -> Value:
    return float(f"{value:.9g}") if isinstance(value, float) else value
