"""Queries that are written to do harm, by the way they try, each with the verdict it has to end with.

`python tests/sql/hostile_queries.py` tries them on the synthetic hospital: the table of docs/results.md.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing

from medsql.data.hospital.cohort import generate_tables, in_memory
from medsql.sql.database import Sandbox
from medsql.sql.schema import TABLES

LONG = "'" + "a" * 9_000 + "'"
COUNT = "SELECT COUNT(*) FROM "
EVERYTHING = ", ".join(TABLES)
DOUBLING = ", ".join(
    f"c{i} AS (SELECT * FROM c{i - 1} UNION ALL SELECT * FROM c{i - 1})" for i in range(1, 40)
)

THREE = "LAB a, LAB b, LAB c"
MEMORY = "too much memory"

HOSTILE: dict[str, dict[str, str]] = {
    "other statements than SELECT": {
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
    },
    "writes that do not begin with their own word": {
        "WITH x AS (SELECT 1) INSERT INTO LAB SELECT * FROM LAB": "forbidden: INSERT",
        "WITH x AS (SELECT 1) REPLACE INTO LAB SELECT * FROM LAB": "forbidden: INSERT",
        "WITH x AS (SELECT 1) UPDATE LAB SET FLUID = 'Blood'": "forbidden: UPDATE",
        "WITH x AS (SELECT 1) DELETE FROM LAB": "forbidden: DELETE",
    },
    "reading anything but the tables": {
        "SELECT sql FROM sqlite_master": "forbidden: READ sqlite_master",
        COUNT + "sqlite_master": "forbidden: READ sqlite_master",
        "SELECT * FROM sqlite_temp_master": "forbidden: READ sqlite_temp_master",
        "WITH LAB AS (SELECT * FROM sqlite_master) SELECT * FROM LAB": "forbidden: READ sqlite_master",
        "SELECT 1 FROM LAB WHERE EXISTS (SELECT 1 FROM main.sqlite_master)": "forbidden: READ sqlite_master",
        "SELECT rowid FROM LAB": "forbidden: READ LAB.ROWID",
        "SELECT * FROM pragma_database_list": "forbidden: VIRTUAL TABLE",
        COUNT + "pragma_table_info('LAB')": "forbidden: VIRTUAL TABLE",
        "SELECT value FROM json_each('[1, 2]')": "forbidden: VIRTUAL TABLE",
    },
    "files, code and allocations by function": {
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
    },
    "never ending": {
        "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT x FROM t": "too many rows",
        "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT MAX(x) FROM t": "timed out",
        "WITH RECURSIVE t(x) AS (SELECT 1 UNION SELECT -x FROM t) SELECT 1 FROM t, t a WHERE 0": "ok",
        COUNT + EVERYTHING: "timed out",
        f"SELECT * FROM {EVERYTHING} ORDER BY LABEL, DRUG": "timed out",
        f"SELECT MAX(DRUG) FROM {EVERYTHING} GROUP BY LABEL, DOB": "timed out",
        COUNT + ", ".join(f"LAB l{i}" for i in range(64)): "timed out",
        COUNT
        + "LAB a, LAB b, LAB c WHERE a.LABEL || b.LABEL || c.LABEL LIKE '"
        + "%_" * 90
        + "!'": "timed out",
        "SELECT (SELECT COUNT(*) FROM LAB b, LAB c WHERE c.LABEL > a.LABEL) FROM LAB a": "timed out",
    },
    "too many rows, too much memory, too large a value": {
        "SELECT 1 FROM LAB a, LAB b": "too many rows",
        f"SELECT {LONG} FROM LAB a, LAB b": "too many rows",
        f"SELECT {LONG} || a.LABEL FROM LAB a, LAB b, LAB c ORDER BY 1": MEMORY,
        f"{COUNT}(SELECT DISTINCT {LONG} || a.CHARTTIME || b.CHARTTIME FROM LAB a, LAB b)": MEMORY,
        f"WITH RECURSIVE t(i, x) AS (SELECT 1, {LONG} UNION SELECT i + 1, x FROM t) {COUNT} t": MEMORY,
        f"WITH c0 AS (SELECT 1 UNION ALL SELECT 2), {DOUBLING} {COUNT} c39": MEMORY,
        "WITH RECURSIVE t(x) AS (SELECT 'aa' UNION ALL SELECT x || x FROM t) SELECT x FROM t": "too large",
        "SELECT GROUP_CONCAT(a.LABEL || b.LABEL) FROM LAB a, LAB b": "too large",
        f"SELECT strftime('{'%J' * 4_000}', CHARTTIME) FROM LAB": "too large",
        f"SELECT {LONG} || {LONG[:900]}'": "ok",
    },
    "too large a query": {
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
    },
    "no SQL": {
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
    },
    "wrong names, whatever they are quoted with": {
        'SELECT "NO_SUCH" FROM LAB': "unknown column NO_SUCH",
        'SELECT LAB."NO_SUCH" FROM LAB': "unknown column LAB.NO_SUCH",
        'SELECT 1 FROM LAB WHERE "NO_SUCH" = "Blood"': "unknown column NO_SUCH",
        'SELECT COUNT(DISTINCT "NO_SUCH") FROM LAB': "unknown column NO_SUCH",
        'SELECT 1 FROM LAB GROUP BY "NO_SUCH"': "unknown column NO_SUCH",
        'SELECT 1 FROM LAB ORDER BY "NO_SUCH"': "unknown column NO_SUCH",
        'SELECT 1 FROM LAB WHERE FLUID IN ("Blood", NO_SUCH)': "unknown column NO_SUCH",
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
    },
    "other faults": {
        "SELECT * FROM LAB WHERE FLUID = ?": "invalid",
        "SELECT :x": "invalid",
        "SELECT 1 FROM LAB WHERE COUNT(*) > 1": "invalid",
        "SELECT 1 UNION SELECT 1, 2": "invalid",
        "SELECT SUM(9223372036854775807) FROM LAB": "invalid",
        "SELECT ABS(-9223372036854775807 - 1)": "invalid",
        "SELECT CAST(x'ff' AS TEXT)": "invalid",
        "SELECT * FROM LAB LIMIT 'all'": "invalid",
    },
}


def main() -> None:
    """Print a line for each group: how many queries, their verdicts, and the longest seconds."""
    print("| what is tried | queries | verdicts | longest, s |\n|---|--:|---|--:|")
    with closing(Sandbox(in_memory(generate_tables(30, seed=7)))) as sandbox:
        for group, queries in HOSTILE.items():
            results = [sandbox.run(sql) for sql in queries]
            verdicts = Counter(_kind(result.verdict) for result in results)
            said = ", ".join(f"{verdict} {count}" for verdict, count in verdicts.most_common())
            longest = max(result.seconds for result in results)
            print(f"| {group} | {len(queries)} | {said} | {longest:.2f} |")


def _kind(verdict: str) -> str:
    """`unknown column X` → `unknown column`."""
    words = verdict.split()
    return " ".join(words[:2]) if words[0] in ("unknown", "ambiguous") else verdict.split(":")[0]


if __name__ == "__main__":
    main()
