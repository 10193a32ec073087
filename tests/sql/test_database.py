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
from hostile_queries import COUNT, EVERYTHING, HOSTILE

from medsql.data.hospital import synthetic_splits
from medsql.data.hospital.cohort import Tables, generate_tables, in_memory, write_cohort
from medsql.errors import UserError
from medsql.sql.database import HEAP_BYTES, Limits, Sandbox
from medsql.sql.schema import TABLES

QUERIES = {sql: verdict for group in HOSTILE.values() for sql, verdict in group.items()}

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


@pytest.mark.parametrize(("sql", "verdict"), QUERIES.items(), ids=map(short, QUERIES))
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
    assert len(QUERIES) >= 60
    assert sum(verdict == "ok" for verdict in QUERIES.values()) <= 2


def test_a_process_survives_all_of_them_within_its_memory_and_the_file_stays_as_it_is(cohort: Path) -> None:
    before, listing = cohort.read_bytes(), sorted(cohort.parent.iterdir())
    ran = subprocess.run(
        [sys.executable, "-c", FROM_ANOTHER_PROCESS, str(cohort)],
        input=json.dumps(list(QUERIES)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    verdicts, peak = json.loads(ran.stdout)
    assert [(s, v) for s, v in zip(QUERIES, verdicts) if v != QUERIES[s]] == []
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
    assert verdict(Limits(result_bytes=10), "SELECT '12345', '123456'")[0] == "too many rows"


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
        for sql in QUERIES:
            sandbox.run(sql)
        counted = [sandbox.run(COUNT + table).rows for table in TABLES]
        expected = {table: len(rows) - (table == "DEMOGRAPHIC") for table, rows in tables.items()}
        assert counted == [((expected[table],),) for table in TABLES]


def test_a_file_opened_by_the_caller_for_writing_cannot_be_written(cohort: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(cohort.read_bytes())
    with closing(Sandbox(sqlite3.connect(copy), limits=TIGHT)) as sandbox:
        for sql in QUERIES:
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


def test_changes_that_are_not_in_the_file_yet_are_said(tmp_path: Path) -> None:
    path = tmp_path / "busy.db"
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.executescript("CREATE TABLE LAB (FLUID TEXT); INSERT INTO LAB VALUES ('Blood')")
        (tmp_path / "link.db").symlink_to(path)
        for name in (path, tmp_path / "link.db"):
            with pytest.raises(
                UserError, match=r"may not be what .*busy\.db-wal would make of it: run PRAGMA"
            ):
                Sandbox(name)
    journal = tmp_path / "busy.db-journal"
    journal.write_bytes(bytes(512))  # as `journal_mode = PERSIST` leaves it
    with closing(Sandbox(path)) as sandbox:
        assert sandbox.run("SELECT FLUID FROM LAB").rows == (("Blood",),)
    journal.write_bytes(b"\xd9\xd5\x05\xf9")  # as a crash does
    with pytest.raises(UserError, match="open it once with sqlite3"):
        Sandbox(path)


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
