"""A sandbox for SQL that a model wrote: every query gets a verdict, and none harms the database or process.

Three independent guards, after https://sqlite.org/security.html: the database is opened read-only and
immutable; an authorizer lets nothing through but SELECT over known columns with a few functions; and
limits end whatever would run on, in the parser, in the virtual machine or in memory.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from medsql.errors import UserError
from medsql.sql.dialect import LONGEST_SQL, to_sqlite
from medsql.sql.schema import TABLES

Value = str | int | float | bytes | None
Row = tuple[Value, ...]

FUNCTIONS = frozenset(
    "count sum total avg min max group_concat abs round coalesce ifnull nullif iif "  # noqa: SIM905
    "lower upper length substr substring like date time datetime julianday strftime".split()
)
"""What a query may call. Missing are `instr`, `replace`, `trim` and `glob`, because one call, which nothing
can interrupt, takes time quadratic in its arguments, and `random`, because a verdict has to be repeatable."""


@dataclass(frozen=True)
class Limits:
    """What one query may use.

    `steps` are instructions of SQLite's virtual machine, a million or so in 0.1 s. They come first and
    `seconds` of wall-clock time only behind them, so that no verdict depends on how busy the machine is.
    `result_bytes` counts text and blobs as they are and any other value as 8 bytes.
    """

    seconds: float = 5.0
    steps: int = 10_000_000
    rows: int = 100_000
    result_bytes: int = 16 * 2**20


LIMITS = Limits()


@dataclass(frozen=True)
class Result:
    """How a query ended. Anything but `ok` comes without columns and rows.

    The verdict is one of `ok`, `syntax error`, `unknown table X`, `unknown column X`, `ambiguous column X`,
    `invalid` (other faults of meaning, or of arithmetic), `forbidden: X` (the action), `timed out`,
    `too many rows` (or bytes of them), `too large` (the query or one of its values) and `too much memory`.
    `reason` says more in SQLite's words, where there is more to say.
    """

    verdict: str
    columns: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    reason: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the query ran to its end."""
        return self.verdict == "ok"

    def finds_something(self, counts: bool) -> bool:
        """Whether there is more than no row, NULL and, from a query that `counts`, 0."""
        nothing: tuple[Value, ...] = (None, 0) if counts else (None,)
        return any(value not in nothing for row in self.rows for value in row)


class _Stopped(Exception):
    """Raised with verdict and reason as its two arguments; never leaves this module."""


HEAP_BYTES = 256 * 2**20
"""What SQLite may allocate for all connections and databases in memory of this process together.

SQLite takes such a limit for the whole process only, and for good. Sums, sorts and a study's storage need
far less than this.
"""

_VALUE_BYTES = 16_384
_STEPS_BETWEEN_CHECKS = 200

# A value is short so that one instruction, which nothing can interrupt, is too: LIKE compares in time
# proportional to value times pattern.
_SQLITE_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: _VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 2 * LONGEST_SQL,  # quoting by other means may lengthen a query
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 200,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 8,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 0,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}

# Memory, because temporary files have no limit; no code that a hostile database file brings along.
_PRAGMAS = (
    "query_only = ON",
    "trusted_schema = OFF",
    "temp_store = MEMORY",
    "cache_size = -2000",
    "mmap_size = 0",
    f"hard_heap_limit = {HEAP_BYTES}",  # lowers a limit that is already set, and never raises it
)

# The authorizer refuses these too, but EXPLAIN; here they get the name that stands in the query.
_STATEMENT = re.compile(
    "ALTER|ANALYZE|ATTACH|BEGIN|COMMIT|CREATE|DELETE|DETACH|DROP|END|EXPLAIN|INSERT|PRAGMA|REINDEX|RELEASE|"
    "REPLACE|ROLLBACK|SAVEPOINT|UPDATE|VACUUM"
)
_WRITES = {
    sqlite3.SQLITE_INSERT: "INSERT",
    sqlite3.SQLITE_UPDATE: "UPDATE",
    sqlite3.SQLITE_DELETE: "DELETE",
}

_INTERNAL = ("sqlite_", "pragma_", "json_")
"""How the names of tables begin that SQLite makes up on demand."""

# Possessive, as SQLite reads: a doubled quote never ends a literal.
_TOKEN = re.compile(
    r"""
    (?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z) )
    | "(?P<identifier> (?:""|[^"])*+ )"
    | '(?:''|[^'])*+'? | `(?:``|[^`])*+`? | \[[^\]]*\]? | "(?:""|[^"])*+
    """,
    re.VERBOSE | re.DOTALL,
)

_VERDICTS = (
    (r"no such column: ?(.*)", "unknown column {}"),
    (r"no such table: (.*)", "unknown table {}"),
    (r"no such function: (.*)", "forbidden: FUNCTION {}"),
    (r"ambiguous column name: (.*)", "ambiguous column {}"),
    (r".*syntax error|incomplete input|unrecognized token.*", "syntax error"),
    (r".*SQL variables|variable number.*", "invalid"),  # there is nothing to bind to `?`
    (r".*(?:too (?:big|large|many|complex)|stack overflow|at most \d+ tables).*", "too large"),
    (r".*one statement at a time.*", "forbidden: several statements"),
)
"""From the beginning of SQLite's messages, which has been the same since 2004, to verdicts."""


class Sandbox:
    """A SQLite database in which any text may be run as SQL.

    `database` is a file, or a connection that the caller has filled and from now on leaves to the sandbox.
    A file may not change meanwhile. `tables` maps each table that may be read to its columns.
    Raises `UserError` where there is no such file, it is no SQLite database, or a journal beside it is not
    yet worked into it.
    """

    def __init__(
        self,
        database: str | Path | sqlite3.Connection,
        tables: Mapping[str, Collection[str]] = TABLES,
        limits: Limits = LIMITS,
        functions: Collection[str] = FUNCTIONS,
    ) -> None:
        self.limits = limits
        self._columns = {table.lower(): {name.lower() for name in names} for table, names in tables.items()}
        self._functions = {function.lower() for function in functions}
        self._stopped: tuple[str, str] | None = None
        self._start, self._steps = time.perf_counter(), 0
        self._connection = database if isinstance(database, sqlite3.Connection) else _open(Path(database))
        self._existing = _table_names(self._connection)
        _confine(self._connection)
        self._connection.set_authorizer(self._authorize)
        self._connection.set_progress_handler(self._progress, _STEPS_BETWEEN_CHECKS)

    @classmethod
    def empty(cls, tables: Mapping[str, Mapping[str, str]] = TABLES, limits: Limits = LIMITS) -> Sandbox:
        """A database that is nothing but a schema: what is `ok` in it is valid, and costs next to nothing."""
        return cls.holding({}, limits, tables)

    @classmethod
    def holding(
        cls,
        rows: Mapping[str, Sequence[Row]],
        limits: Limits = LIMITS,
        tables: Mapping[str, Mapping[str, str]] = TABLES,
    ) -> Sandbox:
        """A database in memory: `tables` with their columns' types, and their `rows`, columns in order."""
        connection = sqlite3.connect(":memory:")
        for table, columns in tables.items():
            declared = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
            connection.execute(f'CREATE TABLE "{table}" ({declared})')
            marks = ", ".join("?" * len(columns))
            connection.executemany(f'INSERT INTO "{table}" VALUES ({marks})', rows.get(table, ()))
        return cls(connection, tables, limits)

    def close(self) -> None:
        """Close the connection, a handed-over one too."""
        self._connection.close()

    def run(self, sql: str) -> Result:
        """Run one query in MIMICSQL's or SQLite's way of quoting; whatever it is, there is a result."""
        self._start, self._steps, self._stopped = time.perf_counter(), 0, None
        try:
            with closing(self._connection.cursor()) as cursor:
                cursor.row_factory = None
                columns, rows = self._fetch(cursor.execute(_prepared(sql)))
            verdict, reason = self._stopped or ("ok", "")
        except _Stopped as stopped:
            verdict, reason = stopped.args
        except MemoryError:
            verdict, reason = "too much memory", f"SQLite needs more than {HEAP_BYTES:,} bytes"
        except (sqlite3.Error, sqlite3.Warning) as error:
            verdict, reason = self._stopped or _verdict(error)
        seconds = time.perf_counter() - self._start
        if verdict == "ok":
            return Result(verdict, columns, rows, reason, seconds)
        return Result(verdict, reason=reason, seconds=seconds)

    def _fetch(self, cursor: sqlite3.Cursor) -> tuple[tuple[str, ...], tuple[Row, ...]]:
        if cursor.description is None:
            raise _Stopped("syntax error", "no statement")
        rows: list[Row] = []
        size = 0
        for row in cursor:
            rows.append(row)
            size += sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
            if len(rows) > self.limits.rows:
                raise _Stopped("too many rows", f"more than {self.limits.rows:,} rows")
            if size > self.limits.result_bytes:
                raise _Stopped("too many rows", f"more than {self.limits.result_bytes:,} bytes")
        return tuple(column[0] for column in cursor.description), tuple(rows)

    def _progress(self) -> bool:
        """Whether to interrupt; called every so many steps."""
        self._steps += _STEPS_BETWEEN_CHECKS
        if self._steps > self.limits.steps:
            self._stopped = "timed out", f"more than {self.limits.steps:,} steps"
        return self._stopped is not None or self._late()

    def _late(self) -> bool:
        late = time.perf_counter() - self._start > self.limits.seconds
        if late:
            self._stopped = "timed out", f"more than {self.limits.seconds:g} s"
        return late

    def _authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        """SQLite's question while it compiles a query, https://sqlite.org/c3ref/c_alter_table.html."""
        if self._late():  # before SQLite 3.41 nothing else is asked during compilation
            return sqlite3.SQLITE_DENY
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ:
            allowed, name = self._may_read(first or "", second or "")
        elif action == sqlite3.SQLITE_FUNCTION:
            allowed, name = (second or "").lower() in self._functions, f"FUNCTION {second}"
        elif action == sqlite3.SQLITE_UPDATE and (first or "").startswith("sqlite_"):
            allowed, name = False, "VIRTUAL TABLE"  # a table-valued function enters itself
        else:
            allowed, name = False, _WRITES.get(action, f"ACTION {action}")
        if not allowed and self._stopped is None:
            self._stopped = f"forbidden: {name}", ""
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    def _may_read(self, table: str, column: str) -> tuple[bool, str]:
        """Whether, and what to call it. A table of which no column is read, as in COUNT(*), has column ''."""
        columns = self._columns.get(table.lower())
        if columns is not None:
            return column == "" or column.lower() in columns, f"READ {table}.{column}"
        # A name that no table has is a common table expression's, and what that reads is asked by itself.
        made_up = table.lower().startswith(_INTERNAL) or table.lower() in self._existing
        return column == "" and not made_up, f"READ {table}"


_JOURNALS = {
    "-wal": "run PRAGMA wal_checkpoint(TRUNCATE) there",
    "-journal": "open it once with sqlite3, which takes back what was interrupted",
}
"""Files beside a database, and how to be rid of them; those begun afresh are empty or begin with a zero."""


def _open(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise UserError(f"{path}: no such file; a SQLite database is expected here")
    real = path.resolve()
    try:
        for ending, cure in _JOURNALS.items():  # an immutable file is read without
            journal = real.with_name(f"{real.name}{ending}")
            if journal.is_file() and _first_byte(journal).strip(b"\0"):
                raise UserError(f"{path} may not be what {journal} would make of it: {cure}")
        connection = sqlite3.connect(f"{real.as_uri()}?mode=ro&immutable=1", uri=True)
        connection.execute("SELECT 1 FROM sqlite_master").close()
    except (OSError, sqlite3.Error) as error:
        raise UserError(f"{path}: no SQLite database that can be read: {error}") from error
    return connection


def _first_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1)


def _table_names(connection: sqlite3.Connection) -> set[str]:
    """All tables, views and modules (a module can be a table of the same name), in lower case."""
    cursor = connection.cursor()
    cursor.row_factory = None
    names = cursor.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
    return {row[0].lower() for row in names + cursor.execute("PRAGMA module_list").fetchall()}


def _confine(connection: sqlite3.Connection) -> None:
    connection.commit()  # what the caller has inserted; inside a transaction two pragmas have no effect
    connection.text_factory = str
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()
    for limit, value in _SQLITE_LIMITS.items():
        connection.setlimit(limit, value)


def _prepared(sql: str) -> str:
    """The query as SQLite reads it the same however it was built.

    SQLite takes an unknown name in double quotes for a string, unless it was built with DQS=0; one in
    backquotes never. Raises `_Stopped` for what is not worth asking SQLite.
    """
    try:
        size = len(sql.encode())
    except UnicodeEncodeError:
        raise _Stopped("syntax error", "a lone surrogate") from None
    if "\0" in sql:
        raise _Stopped("syntax error", "a null character")
    if size > LONGEST_SQL:
        raise _Stopped("too large", f"{size:,} bytes of SQL, more than {LONGEST_SQL:,}")
    sql = without_comments(sql).strip(" \t\r\n\f;")
    if _STATEMENT.fullmatch(word := re.split(r"\W", sql, maxsplit=1)[0].upper()):
        raise _Stopped(f"forbidden: {word}", "only SELECT is let through")
    return _TOKEN.sub(_backquoted, to_sqlite(sql))


def without_comments(sql: str) -> str:
    """The query with a blank in the place of each comment."""
    return _TOKEN.sub(lambda match: " " if match["comment"] else match[0], sql)


def _backquoted(match: re.Match[str]) -> str:
    name = match["identifier"]
    if name is None:
        return match[0]
    return "`" + name.replace('""', '"').replace("`", "``") + "`"


def _verdict(error: Exception) -> tuple[str, str]:
    """Verdict and reason; a fault of the calling program, such as a closed database, is raised again."""
    message = " ".join(str(error).split())
    if message == "interrupted":  # by nothing here: Ctrl-C came during a callback, which swallows exceptions
        raise KeyboardInterrupt from error
    for pattern, verdict in _VERDICTS:
        if found := re.fullmatch(pattern, message):
            return verdict.format(*(name[:60] or '""' for name in found.groups())), message[:200]
    if isinstance(error, sqlite3.ProgrammingError):
        raise error
    return "invalid", message[:200]
