"""Whatever a model writes ends soon, with the right verdict, and leaves database and process as they were."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from medsql.data.hospital import synthetic_splits
from medsql.data.hospital.cohort import Tables, generate_tables, in_memory, write_cohort
from medsql.errors import UserError
from medsql.sql.database import HEAP_BYTES, Limits, Sandbox
from medsql.sql.schema import TABLES

LONG = "'" + "a" * 9_000 + "'"
COUNT = "SELECT COUNT(*) FROM "
EVERYTHING = ", ".join(TABLES)
DOUBLING = ", ".join(
    f"c{i} AS (SELECT * FROM c{i - 1} UNION ALL SELECT * FROM c{i - 1})" for i in range(1, 40)
)

# One group per way of doing harm; each query with the verdict it has to end with.
HOSTILE = {
    # other statements than SELECT
    "ATTACH DATABASE '/tmp/stolen.db' AS stolen": "forbidden: ATTACH",
    "DETACH DATABASE main": "forbidden: DETACH",
    "PRAGMA query_only = OFF": "forbidden: PRAGMA",
    "pragma writable_schema=1": "forbidden: PRAGMA",
    "DROP TABLE LAB": "forbidden: DROP",
    "/* SELECT */ DROP TABLE LAB": "forbidden: DROP",
    "-- SELECT\nDELETE FROM LAB": "forbidden: DELETE",
    ";;INSERT INTO LAB SELECT * FROM LAB": "forbidden: INSERT",
    "REPLACE INTO LAB SELECT * FROM LAB": "forbidden: REPLACE",
    'UPDATE LAB SET "FLUID" = "Blood"': "forbidden: UPDATE",
    "CREATE TEMP TABLE t AS SELECT * FROM LAB": "forbidden: CREATE",
    "CREATE VIRTUAL TABLE t USING fts5(x)": "forbidden: CREATE",
    "ALTER TABLE LAB RENAME TO BAL": "forbidden: ALTER",
    "VACUUM INTO '/tmp/copy.db'": "forbidden: VACUUM",
    "REINDEX": "forbidden: REINDEX",
    "ANALYZE": "forbidden: ANALYZE",
    "BEGIN EXCLUSIVE": "forbidden: BEGIN",
    "SAVEPOINT s": "forbidden: SAVEPOINT",
    "EXPLAIN SELECT * FROM LAB": "forbidden: EXPLAIN",
    "EXPLAIN QUERY PLAN SELECT * FROM LAB": "forbidden: EXPLAIN",
    "SELECT 1; DROP TABLE LAB": "forbidden: several statements",
    "SELECT 1; SELECT 2": "forbidden: several statements",
    "SELECT 1 /* ; */ ; /* ' */ DELETE FROM LAB": "forbidden: several statements",
    # writes that do not begin with their own word
    "WITH x AS (SELECT 1) INSERT INTO LAB SELECT * FROM LAB": "forbidden: INSERT",
    "WITH x AS (SELECT 1) REPLACE INTO LAB SELECT * FROM LAB": "forbidden: INSERT",
    "WITH x AS (SELECT 1) UPDATE LAB SET FLUID = 'Blood'": "forbidden: UPDATE",
    "WITH x AS (SELECT 1) DELETE FROM LAB": "forbidden: DELETE",
    # reading anything but the tables
    "SELECT sql FROM sqlite_master": "forbidden: READ sqlite_master",
    COUNT + "sqlite_master": "forbidden: READ sqlite_master",
    "SELECT * FROM sqlite_temp_master": "forbidden: READ sqlite_temp_master",
    "WITH LAB AS (SELECT * FROM sqlite_master) SELECT * FROM LAB": "forbidden: READ sqlite_master",
    "SELECT 1 FROM LAB WHERE EXISTS (SELECT 1 FROM main.sqlite_master)": "forbidden: READ sqlite_master",
    "SELECT rowid FROM LAB": "forbidden: READ LAB.ROWID",
    "SELECT * FROM pragma_database_list": "forbidden: VIRTUAL TABLE",
    COUNT + "pragma_table_info('LAB')": "forbidden: VIRTUAL TABLE",
    "SELECT value FROM json_each('[1, 2]')": "forbidden: VIRTUAL TABLE",
    # files, code and allocations by function
    "SELECT load_extension('/tmp/evil.so')": "forbidden: FUNCTION load_extension",
    "SELECT readfile('/etc/passwd')": "forbidden: FUNCTION readfile",
    "SELECT writefile('/tmp/x', FLUID) FROM LAB": "forbidden: FUNCTION writefile",
    "SELECT edit('x', 'vi')": "forbidden: FUNCTION edit",
    "SELECT randomblob(1000000000)": "forbidden: FUNCTION randomblob",
    "SELECT length(zeroblob(1000000000))": "forbidden: FUNCTION zeroblob",
    "SELECT printf('%1000000000d', 1)": "forbidden: FUNCTION printf",
    "SELECT hex(hex(hex(FLUID))) FROM LAB": "forbidden: FUNCTION hex",
    "SELECT replace(replace(FLUID, '', 'aa'), 'a', 'aaaaaaaa') FROM LAB": "forbidden: FUNCTION replace",
    "SELECT instr(a, b) FROM (SELECT 'aaaa' a, 'aab' b)": "forbidden: FUNCTION instr",
    "SELECT 'a' REGEXP '(a+)+$'": "forbidden: FUNCTION REGEXP",
    "SELECT 1 FROM LAB WHERE LABEL MATCH 'x'": "forbidden: FUNCTION match",
    f"SELECT 1 FROM LAB WHERE LABEL GLOB '{'*a' * 4_000}'": "forbidden: FUNCTION glob",
    "SELECT sqlite_compileoption_get(1)": "forbidden: FUNCTION sqlite_compileoption_get",
    # never ending
    "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT x FROM t": "too many rows",
    "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT MAX(x) FROM t": "timed out",
    "WITH RECURSIVE t(x) AS (SELECT 1 UNION SELECT -x FROM t) SELECT 1 FROM t, t a WHERE 0": "ok",
    COUNT + EVERYTHING: "timed out",
    f"SELECT * FROM {EVERYTHING} ORDER BY LABEL, DRUG": "timed out",
    f"SELECT MAX(DRUG) FROM {EVERYTHING} GROUP BY LABEL, DOB": "timed out",
    COUNT + ", ".join(f"LAB l{i}" for i in range(64)): "timed out",
    COUNT + "LAB a, LAB b, LAB c WHERE a.LABEL || b.LABEL || c.LABEL LIKE '" + "%_" * 90 + "!'": "timed out",
    "SELECT (SELECT COUNT(*) FROM LAB b, LAB c WHERE c.LABEL > a.LABEL) FROM LAB a": "timed out",
    # too many rows, too much memory, too large a value
    "SELECT 1 FROM LAB a, LAB b": "too many rows",
    f"SELECT {LONG} FROM LAB a, LAB b": "too large",
    f"SELECT {LONG} || a.LABEL FROM LAB a, LAB b, LAB c ORDER BY 1": "too much memory",
    f"{COUNT}(SELECT DISTINCT {LONG} || a.CHARTTIME || b.CHARTTIME FROM LAB a, LAB b)": "too much memory",
    f"WITH RECURSIVE t(i, x) AS (SELECT 1, {LONG} UNION SELECT i + 1, x FROM t) {COUNT} t": "too much memory",
    f"WITH c0 AS (SELECT 1 UNION ALL SELECT 2), {DOUBLING} {COUNT} c39": "too much memory",
    "WITH RECURSIVE t(x) AS (SELECT 'aa' UNION ALL SELECT x || x FROM t) SELECT x FROM t": "too large",
    "SELECT GROUP_CONCAT(a.LABEL || b.LABEL) FROM LAB a, LAB b": "too large",
    f"SELECT strftime('{'%J' * 4_000}', CHARTTIME) FROM LAB": "too large",
    f"SELECT {LONG} || {LONG[:900]}'": "ok",
    # too large a query
    "SELECT '" + "a" * 10_000_000 + "'": "too large",
    f"SELECT 1 FROM LAB WHERE LABEL LIKE '{'%a' * 200}b'": "too large",
    "SELECT " + "(" * 4_000 + "1" + ")" * 4_000: "too large",
    "SELECT * FROM " + "(SELECT * FROM " * 500 + "LAB" + ")" * 500: "too large",
    "SELECT " + "CASE WHEN 1 THEN " * 300 + "1" + " END" * 300: "too large",
    "SELECT " + "||".join(["'a'"] * 500): "too large",
    "SELECT 1" + " UNION SELECT 1" * 30: "too large",
    "SELECT " + ", ".join(["*"] * 20) + " FROM DEMOGRAPHIC": "too large",
    "SELECT MAX(1, 2, 3, 4, 5, 6, 7, 8, 9)": "too large",
    COUNT + ", ".join(f"LAB l{i}" for i in range(65)): "too large",
    # no SQL
    "": "syntax error",
    " \n;; ; ": "syntax error",
    "-- nothing": "syntax error",
    "/* never closed": "syntax error",
    "How many patients died?": "syntax error",
    "SELECT": "syntax error",
    'SELECT LAB."FLUID" FROM LAB WHERE': "syntax error",
    'SELECT LAB."FLUID FROM LAB': "syntax error",
    "SELECT 'never closed FROM LAB": "syntax error",
    "SELECT [never closed FROM LAB": "syntax error",
    f"SELECT 1 SELECT{'x' * 5_000} SELECT": "syntax error",
    "SELECT 1\0; DROP TABLE LAB": "syntax error",
    "SELECT '\udcff'": "syntax error",
    "<pad> <extra_id_0> ▁SELECT": "syntax error",
    # wrong names, whatever they are quoted with
    'SELECT "NO_SUCH" FROM LAB': "unknown column NO_SUCH",
    'SELECT LAB."NO_SUCH" FROM LAB': "unknown column LAB.NO_SUCH",
    'SELECT 1 FROM LAB WHERE "NO_SUCH" = "Blood"': "unknown column NO_SUCH",
    'SELECT COUNT(DISTINCT "NO_SUCH") FROM LAB': "unknown column NO_SUCH",
    'SELECT 1 FROM LAB GROUP BY "NO_SUCH"': "unknown column NO_SUCH",
    'SELECT 1 FROM LAB ORDER BY "NO_SUCH"': "unknown column NO_SUCH",
    'SELECT 1 FROM LAB WHERE FLUID IN ("Blood", NO_SUCH)': "unknown column Blood",
    'SELECT "it`s" FROM LAB': "unknown column it`s",
    'SELECT "" FROM LAB': 'unknown column ""',
    'SELECT /* " */ "NO_SUCH" FROM LAB -- "': "unknown column NO_SUCH",
    "SELECT [NO_SUCH] FROM LAB": "unknown column NO_SUCH",
    "SELECT NO_SUCH FROM LAB": "unknown column NO_SUCH",
    'SELECT DIAGNOSES."FLUID" FROM DIAGNOSES': "unknown column DIAGNOSES.FLUID",
    'SELECT LAB."FLUID" FROM DIAGNOSES': "unknown column LAB.FLUID",
    "SELECT * FROM PATIENTS": "unknown table PATIENTS",
    'SELECT * FROM "NO SUCH"': "unknown table NO SUCH",
    "SELECT * FROM elsewhere.LAB": "unknown table elsewhere.LAB",
    "SELECT HADM_ID FROM LAB, DIAGNOSES": "ambiguous column HADM_ID",
    f"SELECT {'X' * 5_000} FROM LAB": "unknown column " + "X" * 60,
    # other faults
    "SELECT * FROM LAB WHERE FLUID = ?": "invalid",
    "SELECT :x": "invalid",
    "SELECT 1 FROM LAB WHERE COUNT(*) > 1": "invalid",
    "SELECT 1 UNION SELECT 1, 2": "invalid",
    "SELECT SUM(9223372036854775807) FROM LAB": "invalid",
    "SELECT ABS(-9223372036854775807 - 1)": "invalid",
    "SELECT CAST(x'ff' AS TEXT)": "invalid",
    "SELECT * FROM LAB LIMIT 'all'": "invalid",
}

# Enough for every honest query below, and soon used up.
TIGHT = Limits(steps=3_000_000, rows=20_000, result_bytes=4 * 2**20)

FROM_ANOTHER_PROCESS = """
import json, sys
from pathlib import Path
from medsql.sql.database import Sandbox

sandbox = Sandbox(sys.argv[1])
verdicts = [sandbox.run(sql).verdict for sql in json.load(sys.stdin)]
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps([verdicts, int(status["VmHWM"].split()[0]) * 1024]))
"""


def short(sql: str) -> str:
    return ascii(sql[:50])


@pytest.fixture(scope="module")
def tables() -> Tables:
    return generate_tables(admissions=20, seed=1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort") / "it's 100 % #1?.db", admissions=20, seed=1)


@pytest.fixture(scope="module")
def sandbox(cohort: Path) -> Iterator[Sandbox]:
    with closing(Sandbox(cohort, limits=TIGHT)) as sandbox:
        yield sandbox


@pytest.mark.parametrize(("sql", "verdict"), HOSTILE.items(), ids=map(short, HOSTILE))
def test_a_hostile_query_ends_soon_and_with_its_verdict(sandbox: Sandbox, sql: str, verdict: str) -> None:
    start = time.perf_counter()
    result = sandbox.run(sql)
    # A machine so busy that filling the memory takes longer than the query may run says so instead.
    late = verdict == "too much memory" and result.verdict == "timed out"
    assert result.verdict == verdict or late, result.reason
    assert time.perf_counter() - start < 30  # a second is usual at the very most
    assert result.ok or result.rows == result.columns == ()
    assert len(result.verdict) < 100 and len(result.reason) <= 200
    assert sandbox.run(COUNT + "DEMOGRAPHIC").rows == ((20,),), "the sandbox works on"


def test_hostile_queries_are_many_and_few_of_them_pass() -> None:
    assert len(HOSTILE) >= 60
    assert sum(verdict == "ok" for verdict in HOSTILE.values()) <= 2


def test_a_process_survives_all_of_them_within_its_memory_and_the_file_stays_as_it_is(cohort: Path) -> None:
    before, listing = cohort.read_bytes(), sorted(cohort.parent.iterdir())
    ran = subprocess.run(
        [sys.executable, "-c", FROM_ANOTHER_PROCESS, str(cohort)],
        input=json.dumps(list(HOSTILE)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    verdicts, peak = json.loads(ran.stdout)
    assert [(s, v) for s, v in zip(HOSTILE, verdicts) if v != HOSTILE[s]] == []
    assert peak < HEAP_BYTES + 256 * 2**20
    assert cohort.read_bytes() == before
    assert sorted(cohort.parent.iterdir()) == listing, "no journal, no copy"


def test_every_gold_query_is_ok_on_its_cohort_and_on_the_schema_alone(sandbox: Sandbox) -> None:
    gold = [pair.sql for pairs in synthetic_splits(20, 100, 1).values() for pair in pairs]
    with closing(Sandbox.empty()) as empty:
        for database in (sandbox, empty):
            assert {sql: verdict for sql in gold if (verdict := database.run(sql).verdict) != "ok"} == {}
    assert len(gold) == 100
    assert sum(sandbox.run(sql).rows != () for sql in gold) > 50


def test_rows_are_those_of_the_cohort(sandbox: Sandbox, tables: Tables) -> None:
    name, gender, age = (list(TABLES["DEMOGRAPHIC"]).index(column) for column in ("NAME", "GENDER", "AGE"))
    women = [row for row in tables["DEMOGRAPHIC"] if row[gender] == "F"]
    result = sandbox.run(
        'SELECT DEMOGRAPHIC."NAME", AGE FROM DEMOGRAPHIC WHERE DEMOGRAPHIC."GENDER" = "F"'
        " ORDER BY HADM_ID DESC"
    )
    hadm_id = list(TABLES["DEMOGRAPHIC"]).index("HADM_ID")
    women.sort(key=lambda row: str(row[hadm_id]), reverse=True)
    assert women
    assert result.rows == tuple((row[name], row[age]) for row in women)
    assert result.columns == ("NAME", "AGE")
    assert result.ok and result.reason == "" and 0 < result.seconds < 4


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ('SELECT COUNT ( DISTINCT DEMOGRAPHIC."SUBJECT_ID" ) > 0 FROM DEMOGRAPHIC', ((1,),)),
        ("WITH f AS (SELECT FLUID FROM LAB) SELECT COUNT(*) > 100 FROM f;", ((1,),)),
        (
            "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t LIMIT 4) SELECT SUM(x) FROM t",
            ((10,),),
        ),
        ('SELECT 1 AS "n b" -- it\'s "n b"\n ORDER BY "n b"', ((1,),)),
        ("SELECT UPPER('a') || '--' || '/*', \"AGE\" >= 0 FROM DEMOGRAPHIC LIMIT 1", (("A--/*", 1),)),
        ('SELECT COUNT(*) FROM LAB WHERE LAB."FLUID" = "NO_SUCH"', ((0,),)),
        ("SELECT NULL, 1.5, x'00ff', 'β'", ((None, 1.5, b"\x00\xff", "β"),)),
        ("VALUES (1), (2)", ((1,), (2,))),
    ],
)
def test_an_honest_query_is_answered(
    sandbox: Sandbox, sql: str, rows: tuple[tuple[object, ...], ...]
) -> None:
    result = sandbox.run(sql)
    assert (result.verdict, result.rows) == ("ok", rows)


def test_each_limit_is_the_callers() -> None:
    def verdict(limits: Limits, sql: str) -> tuple[str, str]:
        with closing(Sandbox.empty(limits=limits)) as sandbox:
            result = sandbox.run(sql)
            assert result.seconds < 2
            return result.verdict, result.reason

    def first(count: int) -> str:
        return (
            f"WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t LIMIT {count}) SELECT x FROM t"
        )

    endless = f"SELECT MAX(x) FROM ({first(10**9)})"
    assert verdict(Limits(seconds=0.1, steps=10**12), endless) == ("timed out", "more than 0.1 s")
    assert verdict(Limits(steps=1_000), endless) == ("timed out", "more than 1,000 steps")
    assert verdict(Limits(rows=3), first(3))[0] == "ok"
    assert verdict(Limits(rows=3), first(4)) == ("too many rows", "more than 3 rows")
    assert verdict(Limits(result_bytes=10), "SELECT '12345', '12345'")[0] == "ok"
    assert verdict(Limits(result_bytes=10), "SELECT '12345', '123456'")[0] == "too large"


def test_time_is_kept_during_compilation_too(cohort: Path) -> None:
    with closing(Sandbox(cohort, limits=Limits(seconds=0))) as sandbox:
        assert sandbox.run("SELECT 1").verdict == "timed out"


def test_another_schema_is_another_mapping() -> None:
    ships = {"ship": {"name": "TEXT", "home port": "TEXT"}}
    with closing(Sandbox.empty(ships)) as sandbox:
        assert sandbox.run('SELECT SHIP."home port" FROM ship WHERE ship.name = "Erebus"').ok
        assert sandbox.run("SELECT FLUID FROM LAB").verdict == "unknown table LAB"


def test_what_the_schema_does_not_name_is_not_read_from_a_fuller_database() -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(
        "CREATE TABLE ship (name, cargo); CREATE TABLE crew (name);CREATE VIEW peek AS SELECT cargo FROM ship"
    )
    with closing(Sandbox(connection, {"ship": ["name"], "peek": ["cargo"]})) as sandbox:
        assert sandbox.run("SELECT name FROM ship").ok
        assert sandbox.run("SELECT cargo FROM ship").verdict == "forbidden: READ ship.cargo"
        assert sandbox.run("SELECT * FROM ship").verdict == "forbidden: READ ship.cargo"
        assert sandbox.run("SELECT COUNT(*) FROM crew").verdict == "forbidden: READ crew"
        assert sandbox.run("SELECT cargo FROM peek").verdict == "forbidden: READ ship.cargo"


def test_more_functions_may_be_allowed(cohort: Path) -> None:
    with closing(Sandbox(cohort, functions={"HEX", "count"})) as sandbox:
        assert sandbox.run("SELECT hex('a'), COUNT(*) FROM DEMOGRAPHIC").rows == (("61", 20),)
        assert sandbox.run("SELECT MAX(AGE) FROM DEMOGRAPHIC").verdict == "forbidden: FUNCTION max"


def test_a_database_in_memory_keeps_its_rows_whatever_is_run(tables: Tables) -> None:
    connection = in_memory(tables)
    connection.row_factory = sqlite3.Row
    connection.execute("DELETE FROM DEMOGRAPHIC WHERE HADM_ID = (SELECT MIN(HADM_ID) FROM DEMOGRAPHIC)")
    assert connection.in_transaction, "the caller has not committed"
    with closing(Sandbox(connection, limits=TIGHT)) as sandbox:
        for sql in HOSTILE:
            sandbox.run(sql)
        counted = [sandbox.run(COUNT + table).rows for table in TABLES]
        expected = {table: len(rows) - (table == "DEMOGRAPHIC") for table, rows in tables.items()}
        assert counted == [((expected[table],),) for table in TABLES]


def test_a_file_opened_by_the_caller_for_writing_cannot_be_written(cohort: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(cohort.read_bytes())
    with closing(Sandbox(sqlite3.connect(copy), limits=TIGHT)) as sandbox:
        for sql in HOSTILE:
            sandbox.run(sql)
    assert copy.read_bytes() == cohort.read_bytes()


def test_without_the_authorizer_nothing_can_be_written_either(cohort: Path, tables: Tables) -> None:
    for database in (cohort, in_memory(tables)):
        with closing(Sandbox(database)) as sandbox:
            sandbox._connection.set_authorizer(None)
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                sandbox._connection.execute("DELETE FROM LAB")
            if database is cohort:
                sandbox._connection.execute("PRAGMA query_only = OFF")
                with pytest.raises(sqlite3.OperationalError, match="readonly"):
                    sandbox._connection.execute("DELETE FROM LAB")
            with pytest.raises(sqlite3.OperationalError, match="too many attached"):
                sandbox._connection.execute("ATTACH ':memory:' AS other")


def test_a_verdict_is_the_same_each_time(sandbox: Sandbox) -> None:
    for sql in ("SELECT 1 FROM LAB a, LAB b", COUNT + EVERYTHING, 'SELECT "NO_SUCH" FROM LAB'):
        assert len({(sandbox.run(sql).verdict, sandbox.run(sql).reason) for _ in range(2)}) == 1


def test_a_file_that_is_no_database_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.db: no such file"):
        Sandbox(tmp_path / "missing.db")
    assert not (tmp_path / "missing.db").exists()
    (tmp_path / "text.db").write_text("SUBJECT_ID,HADM_ID\n" * 100)
    with pytest.raises(UserError, match=r"text\.db: .*not a database"):
        Sandbox(tmp_path / "text.db")


def test_a_closed_sandbox_is_the_programs_error_and_no_verdict() -> None:
    sandbox = Sandbox.empty()
    sandbox.close()
    with pytest.raises(sqlite3.ProgrammingError):
        sandbox.run("SELECT 1")


def test_ctrl_c_ends_the_program_and_is_no_verdict(cohort: Path) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, press)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with (
            closing(Sandbox(cohort, limits=Limits(steps=10**12))) as sandbox,
            pytest.raises(KeyboardInterrupt),
        ):
            sandbox.run(COUNT + EVERYTHING)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_thousand_queries_take_a_second_or_two() -> None:
    sql = 'SELECT AVG ( LAB."ITEMID" ) FROM LAB WHERE LAB."FLUID" = "Urine" AND LAB."ITEMID" >= "{}"'
    with closing(Sandbox.empty()) as sandbox:
        start = time.perf_counter()
        assert all(sandbox.run(sql.format(number)).ok for number in range(1_000))
        assert time.perf_counter() - start < 2
