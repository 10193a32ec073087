"""Queries that say the same have one normal form, and a change of meaning leaves it."""

import random
import re
import time

import pytest

from medsql.data.hospital import synthetic_splits
from medsql.sql.logical_form import normal_form
from medsql.sql.schema import TABLES

LAB = 'SELECT LAB."FLUID" FROM LAB WHERE '
JOINED = (
    'SELECT COUNT ( DISTINCT DEMOGRAPHIC."SUBJECT_ID" ) FROM DEMOGRAPHIC '
    "INNER JOIN LAB on DEMOGRAPHIC.HADM_ID = LAB.HADM_ID "
    "INNER JOIN DIAGNOSES on DEMOGRAPHIC.HADM_ID = DIAGNOSES.HADM_ID "
    'WHERE LAB."FLUID" = "Blood" AND DIAGNOSES."ICD9_CODE" = "0389"'
)
LEFT = "SELECT LAB.FLUID FROM LAB LEFT JOIN DEMOGRAPHIC ON LAB.HADM_ID = DEMOGRAPHIC.HADM_ID"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # case, quotes and space
        (LAB + 'LAB."FLAG" = "delta"', 'select lab."fluid" from lab where lab."flag" = "delta"'),
        (LAB + 'LAB."FLAG" = "delta"', 'SELECT LAB.FLUID FROM "LAB" WHERE "LAB".FLAG="delta"'),
        (LAB + 'LAB."FLAG" = "delta"', LAB + "LAB.\"FLAG\" = 'delta'"),
        (LAB + 'LAB."FLAG" = "delta"', f'  {LAB}\n\tLAB . "FLAG"  =  "delta" ;  '),
        (LAB + 'LAB."FLAG" = "delta"', LAB + 'LAB."FLAG" == "delta"'),
        ("SELECT MAX ( LAB.ITEMID ) FROM LAB", "SELECT max(LAB.ITEMID) FROM LAB"),
        (LAB + "LAB.FLAG IS NOT NULL", LAB + "lab.flag is not null"),
        # numbers, quoted or not
        (LAB + 'LAB."ITEMID" = "5"', LAB + 'LAB."ITEMID" = 5'),
        (LAB + 'LAB."ITEMID" > "-5"', LAB + 'LAB."ITEMID" > -5'),
        (LAB + 'LAB.ITEMID IN ("1", 2)', LAB + "LAB.ITEMID IN (1, '2')"),
        (LAB + 'LAB.ITEMID BETWEEN "1" AND "2"', LAB + "LAB.ITEMID BETWEEN 1 AND 2"),
        # operators
        (LAB + 'LAB."FLAG" != "delta"', LAB + 'LAB."FLAG" <> "delta"'),
        (LAB + 'LAB."FLAG" = "delta"', LAB + "'delta' = LAB.\"FLAG\""),
        (LAB + 'LAB."FLAG" != "delta"', LAB + "'delta' <> LAB.\"FLAG\""),
        # conditions
        (LAB + "LAB.ITEMID > 1 AND LAB.ITEMID < 3", LAB + "LAB.ITEMID < 3 AND LAB.ITEMID > 1"),
        (LAB + "LAB.ITEMID > 1 OR LAB.ITEMID < 3", LAB + "LAB.ITEMID < 3 OR LAB.ITEMID > 1"),
        (LAB + "LAB.A = 1 AND (LAB.B = 2 AND LAB.C = 3)", LAB + "(LAB.C = 3 AND LAB.A = 1) AND LAB.B = 2"),
        (LAB + "LAB.A = 1 AND (LAB.B = 2 OR LAB.C = 3)", LAB + "(LAB.C = 3 OR LAB.B = 2) AND LAB.A = 1"),
        (LAB + "LAB.A = 1 AND LAB.B = 2 OR LAB.C = 3", LAB + "LAB.C = 3 OR (LAB.B = 2 AND LAB.A = 1)"),
        (LAB + 'LAB.FLUID IN ("Blood", "Urine")', LAB + 'LAB.FLUID in ("Urine","Blood")'),
        # parentheses
        (LAB + 'LAB."FLAG" = "delta"', LAB + '((LAB."FLAG") = ("delta"))'),
        ("SELECT COUNT(DISTINCT LAB.FLUID) FROM LAB", "SELECT (COUNT(DISTINCT (LAB.FLUID))) FROM LAB"),
        (LAB + "LAB.ITEMID > (SELECT 1)", LAB + "LAB.ITEMID > ((SELECT 1))"),
        # joins
        (JOINED, JOINED.replace("INNER JOIN", "JOIN")),
        (JOINED, JOINED.replace("DEMOGRAPHIC.HADM_ID = LAB.HADM_ID", "LAB.HADM_ID = DEMOGRAPHIC.HADM_ID")),
        (
            JOINED,
            'SELECT COUNT ( DISTINCT DEMOGRAPHIC."SUBJECT_ID" ) FROM DIAGNOSES '
            "JOIN DEMOGRAPHIC on DIAGNOSES.HADM_ID = DEMOGRAPHIC.HADM_ID "
            "JOIN LAB on DEMOGRAPHIC.HADM_ID = LAB.HADM_ID "
            'WHERE DIAGNOSES."ICD9_CODE" = "0389" AND LAB."FLUID" = "Blood"',
        ),
        (LEFT, LEFT.replace("LEFT JOIN", "LEFT OUTER JOIN")),
        # names that can be resolved
        (LAB + 'LAB."FLAG" = "delta"', 'SELECT l."FLUID" FROM LAB AS l WHERE L."FLAG" = "delta"'),
        (LAB + 'LAB."FLAG" = "delta"', 'SELECT "FLUID" FROM LAB WHERE FLAG = "delta"'),
        (JOINED, JOINED.replace('LAB."FLUID"', "FLUID")),
        (JOINED, JOINED.replace("DEMOGRAPHIC.", "d.").replace("FROM DEMOGRAPHIC", "FROM DEMOGRAPHIC d")),
        # order and limit
        (LAB + "1 ORDER BY LAB.FLAG LIMIT 3", LAB + "1 order by (lab.flag) asc limit 3"),
        ("SELECT FLUID FROM LAB GROUP BY FLUID", "SELECT LAB.FLUID FROM LAB GROUP BY LAB.FLUID"),
        # comments
        (LAB + 'LAB."FLAG" = "delta"', LAB + 'LAB."FLAG" = /* a fall */ "delta" -- or rise'),
    ],
)
def test_another_spelling_has_the_same_form(one: str, other: str) -> None:
    assert normal_form(one) is not None
    assert normal_form(one) == normal_form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # literals
        (LAB + 'LAB."FLUID" = "Blood"', LAB + 'LAB."FLUID" = "blood"'),
        (LAB + 'LAB."FLUID" = "Blood"', LAB + 'LAB."FLUID" = "Blood "'),
        (LAB + 'LAB."FLUID" = "Joint Fluid"', LAB + 'LAB."FLUID" = "Joint  Fluid"'),
        (LAB + 'LAB."FLUID" = "5"', LAB + 'LAB."FLUID" = "5.0"'),
        (LAB + 'LAB."ITEMID" = "389"', LAB + 'LAB."ITEMID" = "0389"'),
        (LAB + 'LAB."ITEMID" = "5"', LAB + 'LAB."ITEMID" = "-5"'),
        (LAB + 'LAB.FLUID IN ("A", "B")', LAB + 'LAB.FLUID IN ("A", "C")'),
        (LAB + 'LAB.FLUID IN ("A", "B")', LAB + 'LAB.FLUID IN ("A")'),
        (LAB + "LAB.FLUID = \"a', 'b\"", LAB + 'LAB.FLUID = "a\'", \'b"'),
        # a literal is no column, even of the same name
        (LAB + 'LAB."FLUID" = "FLAG"', LAB + 'LAB."FLUID" = LAB."FLAG"'),
        (LAB + 'LAB."FLUID" = "FLAG"', LAB + 'LAB."FLUID" = FLAG'),
        # columns
        (LAB + "1", "SELECT LAB.FLAG FROM LAB WHERE 1"),
        ("SELECT LAB.A, LAB.B FROM LAB", "SELECT LAB.B, LAB.A FROM LAB"),
        (JOINED, JOINED.replace('"SUBJECT_ID"', '"HADM_ID"')),
        (JOINED, JOINED.replace('COUNT ( DISTINCT DEMOGRAPHIC."', 'COUNT ( DISTINCT LAB."')),
        # operators
        (LAB + "LAB.A < 1", LAB + "LAB.A <= 1"),
        (LAB + "LAB.A < LAB.B", LAB + "LAB.B < LAB.A"),
        (LAB + "LAB.A - LAB.B = 1", LAB + "LAB.B - LAB.A = 1"),
        (LAB + 'LAB."FLAG" = "x"', LAB + 'LAB."FLAG" LIKE "x"'),
        (LAB + 'LAB."FLAG" = "x"', LAB + 'NOT LAB."FLAG" = "x"'),
        (LAB + "LAB.A IN (1, 2)", LAB + "LAB.A NOT IN (1, 2)"),
        (LAB + "LAB.A IN (1, 2)", LAB + "LAB.A BETWEEN 1 AND 2"),
        (LAB + "LAB.A BETWEEN 1 AND 2", LAB + "LAB.A BETWEEN 2 AND 1"),
        # what binds
        (LAB + "LAB.A = 1 AND LAB.B = 2", LAB + "LAB.A = 1 OR LAB.B = 2"),
        (LAB + "(LAB.A = 1 OR LAB.B = 2) AND LAB.C = 3", LAB + "LAB.A = 1 OR LAB.B = 2 AND LAB.C = 3"),
        (LAB + "NOT (LAB.A = 1 AND LAB.B = 2)", LAB + "NOT LAB.A = 1 AND LAB.B = 2"),
        (LAB + "(LAB.A + 1) * 2 = 3", LAB + "LAB.A + 1 * 2 = 3"),
        (LAB + "LAB.A = 1 AND LAB.B = 2", LAB + "LAB.A = 1"),
        # aggregates, DISTINCT, order, limit
        ("SELECT MAX(LAB.A) FROM LAB", "SELECT MIN(LAB.A) FROM LAB"),
        ("SELECT MAX(LAB.A) FROM LAB", "SELECT LAB.A FROM LAB"),
        ("SELECT COUNT(*) FROM LAB", "SELECT COUNT(LAB.A) FROM LAB"),
        (JOINED, JOINED.replace("DISTINCT ", "")),
        ("SELECT DISTINCT LAB.A FROM LAB", "SELECT LAB.A FROM LAB"),
        (LAB + "1 ORDER BY LAB.A", LAB + "1"),
        (LAB + "1 ORDER BY LAB.A", LAB + "1 ORDER BY LAB.A DESC"),
        (LAB + "1 ORDER BY LAB.A, LAB.B", LAB + "1 ORDER BY LAB.B, LAB.A"),
        (LAB + "1 LIMIT 1", LAB + "1 LIMIT 2"),
        # tables and joins
        (JOINED, JOINED.replace("INNER JOIN LAB", "LEFT JOIN LAB")),
        (JOINED, JOINED.replace("DEMOGRAPHIC.HADM_ID = LAB.HADM_ID", "DEMOGRAPHIC.HADM_ID = LAB.SUBJECT_ID")),
        (JOINED, JOINED.replace("INNER JOIN DIAGNOSES on DEMOGRAPHIC.HADM_ID = DIAGNOSES.HADM_ID ", "")),
        (LEFT, LEFT.replace("FROM LAB LEFT JOIN DEMOGRAPHIC", "FROM DEMOGRAPHIC LEFT JOIN LAB")),
        ("SELECT * FROM LAB JOIN DIAGNOSES", "SELECT * FROM DIAGNOSES JOIN LAB"),
        # names that cannot be resolved
        (
            "SELECT ICD9_CODE FROM DIAGNOSES JOIN PROCEDURES",
            "SELECT DIAGNOSES.ICD9_CODE FROM DIAGNOSES JOIN PROCEDURES",
        ),
        ("SELECT LAB.FLUID FROM LAB", "SELECT LAB.FLUID FROM LAB AS l"),
        (
            "SELECT a.FLUID FROM LAB a JOIN LAB b ON a.HADM_ID = b.SUBJECT_ID",
            "SELECT b.FLUID FROM LAB a JOIN LAB b ON a.HADM_ID = b.SUBJECT_ID",
        ),
        ("SELECT LAB.A AS FLAG FROM LAB ORDER BY FLAG", "SELECT LAB.A AS FLAG FROM LAB ORDER BY LAB.FLAG"),
        (LAB + 'LAB."FLAG" = "x"', LAB + 'LAB."FLAG" = `x`'),
        (LAB + 'LAB."FLAG" = "x"', LAB + 'LAB."FLAG" = [x]'),
        # a name in quotes is no call
        ('SELECT LAB."COUNT(*)" FROM LAB', "SELECT COUNT(*) FROM LAB"),
    ],
)
def test_another_query_has_another_form(one: str, other: str) -> None:
    assert normal_form(one) is not None
    assert normal_form(one) != normal_form(other)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        ";",
        "SELECT",
        "hello",
        "not sql at all",
        "SELECT FROM LAB",
        "SELECT LAB.A, FROM LAB",
        "SELECT LAB.A FROM LAB, WHERE LAB.A = 1",
        "SELECT LAB.A FROM LAB JOIN DIAGNOSES ON",
        "SELECT LAB.A FROM LAB WHERE",
        "SELECT LAB.A FROM LAB WHERE LAB.A = ",
        "SELECT LAB.A FROM LAB WHERE (LAB.A = 1",
        'SELECT LAB.A FROM LAB WHERE LAB.A = "never closed',
        "SELECT COUNT ( DISTINCT LAB.A FROM LAB",
        "SELECT LAB.A FROM LAB GROUP BY",
        "SELECT LAB.A FROM LAB; SELECT LAB.B FROM LAB",
        "SELECT LAB.A FROM LAB WHERE LAB.A ILIKE 'x'",
        "DROP TABLE LAB",
        "PRAGMA hard_heap_limit = 1",
        "EXPLAIN SELECT 1",
        "/* /* */ PRAGMA hard_heap_limit = 1; */ SELECT 1",
        "WITH x AS (SELECT 1) DELETE FROM LAB",
        "SELECT '\0'",
        "SELECT '\ud800'",
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
        "SELECT 1 WHERE " + "NOT " * 5000 + "1",
    ],
)
def test_what_is_not_one_select_that_parses_has_no_form(sql: str) -> None:
    assert normal_form(sql) is None


def test_a_statement_that_is_no_query_is_not_even_parsed(caplog: pytest.LogCaptureFixture) -> None:
    assert normal_form("EXPLAIN QUERY PLAN SELECT 1") is None
    assert caplog.text == ""  # sqlglot logs what it has no grammar for


@pytest.mark.timeout(20)  # two to the hundredth steps otherwise
def test_a_join_that_a_model_repeats_without_end_has_no_form_and_takes_no_time() -> None:
    for join in ("INNER JOIN", "STRAIGHT_JOIN"):
        assert normal_form("SELECT * FROM LAB" + f" {join} LAB" * 50) is None
    joins = " INNER JOIN LAB on DEMOGRAPHIC.HADM_ID = LAB.HADM_ID" * 4
    assert normal_form(f"SELECT * FROM DEMOGRAPHIC{joins}") is not None
    assert normal_form(f'{LAB}LAB.FLUID = "{"join " * 100}"') is not None, "that is a value"


def test_long_chains_of_conditions_have_a_form() -> None:
    conditions = [f"LAB.A = {number}" for number in range(600)]
    one, other = (f"{LAB}{' OR '.join(order)}" for order in (conditions, conditions[::-1]))
    assert normal_form(one) is not None
    assert normal_form(one) == normal_form(other)


GOLD = sorted({pair.sql for split in synthetic_splits(20, 200, 1).values() for pair in split})
CONDITION = re.compile(r'(\w+)\."(\w+)" (=|<=|>=|<|>) "([^"]*)"')


def rewritten(sql: str, draw: random.Random) -> str:
    """The query with its tables, conditions and sides of equalities in another order."""
    select, tables, where = re.fullmatch(r"(SELECT .*?) FROM (.*?) WHERE (.*)", sql).groups()  # type: ignore
    first, *joined = tables.split(" INNER JOIN ")
    joins = [join.split(" on ") for join in joined]
    joins = [(table, " = ".join(draw.sample(on.split(" = "), 2))) for table, on in joins]
    if len(joins) == 1 and draw.random() < 0.5:  # each joins the first, so only a single one can come first
        joins, first = [(first, joins[0][1])], joins[0][0]
    draw.shuffle(joins)
    conditions = [match[0] for match in CONDITION.finditer(where)]
    assert " AND ".join(conditions) == where
    draw.shuffle(conditions)
    joined_text = "".join(f" join {table} ON ({on})" for table, on in joins)
    return f"{select} FROM {first}{joined_text} WHERE ({') and ('.join(conditions)})"


def test_gold_queries_keep_their_form_in_any_order() -> None:
    draw = random.Random(0)
    changed = 0
    for sql in GOLD:
        other = rewritten(sql, draw)
        assert normal_form(sql) is not None
        assert normal_form(other) == normal_form(sql), other
        changed += other.replace("(", "").replace(")", "") != sql.replace("(", "").replace(")", "")
    assert changed > len(GOLD) / 2


def test_no_two_gold_queries_share_a_form() -> None:
    assert len(GOLD) > 150
    assert len({normal_form(sql) for sql in GOLD}) == len(GOLD)


def mutants(sql: str) -> dict[str, str]:
    """The query with one thing changed, by the name of what was."""
    changed: dict[str, str] = {}
    for number, match in enumerate(CONDITION.finditer(sql)):
        table, column, operator, literal = match.groups()
        others = [name for name in TABLES[table] if name != column]
        changed |= {
            f"literal {number}": f'{table}."{column}" {operator} "{literal}0"',
            f"case {number}": f'{table}."{column}" {operator} "{literal.swapcase()}"',
            f"column {number}": f'{table}."{others[number]}" {operator} "{literal}"',
            f"operator {number}": f'{table}."{column}" {">" if operator == "=" else "="} "{literal}"',
            f"negation {number}": f'NOT {table}."{column}" {operator} "{literal}"',
        }
        if literal.swapcase() == literal:
            del changed[f"case {number}"]
        for name in [name for name in changed if name.endswith(f" {number}")]:
            changed[name] = sql[: match.start()] + changed[name] + sql[match.end() :]
    if " AND " in sql:
        changed["connective"] = sql.replace(" AND ", " OR ", 1)
    if "DISTINCT " in sql:
        changed["distinct"] = sql.replace("DISTINCT ", "")
    for one, other in (("COUNT (", "MAX ("), ("MAX (", "MIN ("), ("MIN (", "AVG ("), ("AVG (", "SUM (")):
        if one in sql:
            changed["aggregate"] = sql.replace(one, other)
    changed["table"] = re.sub(r"FROM (\w+)", lambda m: f"FROM {'LAB' if m[1] != 'LAB' else 'DIAGNOSES'}", sql)
    return changed


def test_any_one_change_of_a_gold_query_breaks_its_form() -> None:
    kinds = set()
    for sql in GOLD:
        form = normal_form(sql)
        for what, mutant in mutants(sql).items():
            assert mutant != sql
            assert normal_form(mutant) != form, (what, mutant)
            kinds.add(what.split()[0])
    assert kinds == {"literal", "case", "column", "operator", "negation", "connective", "distinct",
                     "aggregate", "table"}  # fmt: skip


def test_a_thousand_pairs_take_seconds() -> None:
    queries = [f"{sql} AND LAB.ITEMID = {number}" for number in range(5) for sql in GOLD]
    start = time.process_time()
    for sql in queries:
        normal_form(sql)
        normal_form(sql + " ")
    assert time.process_time() - start < 10  # about one on a free core


def test_a_query_that_takes_all_memory_to_compile_is_still_read():
    doubling = [f"c{i + 1} AS (SELECT * FROM c{i} UNION ALL SELECT * FROM c{i})" for i in range(40)]
    sql = f"WITH c0 AS (SELECT 1), {', '.join(doubling)} SELECT COUNT(*) FROM c40"
    assert normal_form(sql) is not None
