"""Execution: the same result on every database, however the query is written."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from medsql.data.hospital import synthetic_splits
from medsql.errors import UserError
from medsql.metrics.execution import Execution
from medsql.metrics.logical import logical_form
from medsql.metrics.sharpness import sharpness

GOLD = (
    'SELECT COUNT ( DISTINCT DEMOGRAPHIC."SUBJECT_ID" ) FROM DEMOGRAPHIC INNER JOIN LAB on '
    'DEMOGRAPHIC.HADM_ID = LAB.HADM_ID WHERE DEMOGRAPHIC."AGE" < "45" AND LAB."FLUID" = "Pleural"'
)
COUNT_LAB = "SELECT COUNT(*) FROM LAB"
OLDEST = 'SELECT MAX ( DEMOGRAPHIC."AGE" ) FROM DEMOGRAPHIC WHERE DEMOGRAPHIC."GENDER" = "F"'


@pytest.mark.parametrize(
    ("gold", "prediction"),
    [
        (GOLD, GOLD.replace("INNER JOIN", "JOIN").lower().replace("pleural", "Pleural")),
        (GOLD, GOLD.replace('< "45"', '<= "44"')),
        (GOLD, GOLD.replace("DEMOGRAPHIC INNER JOIN LAB", "LAB INNER JOIN DEMOGRAPHIC")),
        (GOLD, GOLD.replace('DEMOGRAPHIC."SUBJECT_ID"', "LAB.SUBJECT_ID")),
        (GOLD, GOLD.replace('= "Pleural"', 'BETWEEN "Pleural" AND "Pleural"')),
        (GOLD, GOLD.replace('LAB."FLUID" = "Pleural"', 'LAB."FLUID" IN ( "Pleural" )')),
        (OLDEST, "SELECT (SELECT AGE FROM DEMOGRAPHIC WHERE GENDER = 'F' ORDER BY AGE DESC LIMIT 1)"),
        (OLDEST, OLDEST.replace('= "F"', '<> "M"')),
    ],
)
def test_another_way_to_ask_the_same_is_right(gold, prediction):
    assert Execution()(prediction, gold) is True


@pytest.mark.parametrize(
    "prediction",
    [
        GOLD.replace('< "45"', '< "46"'),
        GOLD.replace('< "45"', '<= "45"'),
        GOLD.replace("DISTINCT ", ""),
        GOLD.replace("Pleural", "pleural"),
        GOLD.replace("FLUID", "LABEL"),
        GOLD.replace('DEMOGRAPHIC."SUBJECT_ID"', "DEMOGRAPHIC.HADM_ID"),
        GOLD.replace('DEMOGRAPHIC."AGE" < "45" AND ', ""),
        GOLD + ' AND LAB."FLAG" = "abnormal"',
        GOLD.replace("AND", "OR"),
        'SELECT COUNT(*) FROM LAB WHERE LAB."FLUID" = "nothing holds this"',
        "SELECT 3",
        GOLD[:-20],
        GOLD.replace("AGE", "AGES"),
        "DROP TABLE LAB",
        "",
    ],
)
def test_a_query_that_asks_for_something_else_is_wrong(prediction):
    assert Execution()(prediction, GOLD) is False


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        # patients and admissions: one may meet each condition in another admission, or on another row
        (GOLD.replace("HADM_ID", "SUBJECT_ID"), GOLD),
        (
            f"{COUNT_LAB} a JOIN LAB b ON a.HADM_ID = b.HADM_ID WHERE a.FLUID = 'Blood' AND b.FLAG = 'x'",
            f'{COUNT_LAB} WHERE LAB."FLUID" = "Blood" AND LAB."FLAG" = "x"',
        ),
        # rows that come twice, and an order that is asked for
        (
            'SELECT DISTINCT FLAG FROM LAB WHERE FLUID = "Blood"',
            'SELECT LAB."FLAG" FROM LAB WHERE LAB."FLUID" = "Blood"',
        ),
        ("SELECT HADM_ID FROM LAB", "SELECT LAB.HADM_ID FROM LAB ORDER BY LAB.HADM_ID"),
        # part of a number, and conditions that nearly all meet
        (
            "SELECT COUNT(*) FROM DIAGNOSES WHERE ICD9_CODE LIKE '%17%'",
            'SELECT COUNT(*) FROM DIAGNOSES WHERE DIAGNOSES."ICD9_CODE" = "17"',
        ),
        (OLDEST + ' AND DEMOGRAPHIC."ETHNICITY" <> "WHITE"', OLDEST),
        (GOLD + ' AND DEMOGRAPHIC."INSURANCE" IS NOT NULL', GOLD),
        # least and greatest values
        (OLDEST.replace(' WHERE DEMOGRAPHIC."GENDER" = "F"', ""), OLDEST),
        (OLDEST.replace(' = "F"', ' >= "F"'), OLDEST),
        # another number of columns
        (OLDEST.replace("SELECT", "SELECT 1,"), OLDEST),
    ],
)
def test_what_differs_in_some_database_only_is_wrong(prediction, gold):
    assert Execution()(gold, gold) is True
    assert Execution()(prediction, gold) is False


@pytest.mark.parametrize(
    "value", ["Nan Miller", "Inf Smith", "INF", "1E30", "1e400", "9" * 20, "9" * 900, "-0", "", "٣"]
)
@pytest.mark.parametrize("column", ["NAME", "AGE", "DOD_YEAR", "ADMITTIME", "SUBJECT_ID", "EXPIRE_FLAG"])
def test_any_literal_can_be_asked_for(column, value):
    gold = f'SELECT COUNT ( * ) FROM DEMOGRAPHIC WHERE DEMOGRAPHIC."{column}" = "{value}"'
    assert Execution()(gold, gold) in (True, None)
    assert Execution()(gold.replace("COUNT", "MAX"), gold) in (False, None)


@pytest.mark.parametrize("connector", ["AND", "OR"])
def test_a_query_of_many_conditions_takes_no_minutes(connector):
    many = f" {connector} ".join(f'DEMOGRAPHIC."AGE" <> "{i}"' for i in range(95))
    started = time.perf_counter()
    Execution()(
        f"SELECT COUNT(*) FROM DEMOGRAPHIC WHERE {many}", f"SELECT COUNT(*) FROM DEMOGRAPHIC WHERE {many}"
    )
    sharpness([f"SELECT COUNT(*) FROM DEMOGRAPHIC WHERE {many}"], most=1)
    assert time.perf_counter() - started < 20


@pytest.mark.parametrize("column", ["EXPIRE_FLAG", "AGE", "DAYS_STAY"])
def test_a_row_of_zero_is_something(column):
    gold = f'SELECT DEMOGRAPHIC."{column}" FROM DEMOGRAPHIC WHERE DEMOGRAPHIC."{column}" = "0"'
    assert Execution()(gold, gold) is True


@pytest.mark.parametrize(
    "condition",
    [
        'AGE < ("50")',
        '(AGE) < (("50"))',
        'GENDER = ("F")',
        'AGE IN ("1", 2)',
        "AGE IN (1, '2', \"3\")",
        'AGE BETWEEN "1" AND 20',
    ],
)
def test_what_has_the_form_of_gold_gives_what_gold_gives(condition):
    """The sandbox and the normal form agree on what is a literal."""
    prediction = f"SELECT COUNT(*) FROM DEMOGRAPHIC WHERE {condition}"
    gold = prediction.replace('"', "'").replace("(AGE)", "AGE")
    assert logical_form(prediction, gold) and Execution()(prediction, gold) is True


@pytest.mark.parametrize("bare", ["0389", "1e3", "38.90"])
def test_a_bare_number_that_sqlite_writes_otherwise_is_another_literal(bare):
    gold = f'SELECT COUNT(*) FROM DIAGNOSES WHERE DIAGNOSES."ICD9_CODE" = "{bare}"'
    prediction = gold.replace(f'"{bare}"', bare)
    assert not logical_form(prediction, gold) and Execution()(prediction, gold) is False


def test_sums_of_the_same_numbers_in_another_order_are_the_same():
    gold = 'SELECT SUM ( DEMOGRAPHIC."AGE" / 7.0 ) FROM DEMOGRAPHIC WHERE DEMOGRAPHIC."GENDER" = "F"'
    prediction = (
        "SELECT SUM(a) FROM (SELECT AGE / 7.0 AS a FROM DEMOGRAPHIC WHERE GENDER = 'F' ORDER BY AGE DESC)"
    )
    assert Execution()(prediction, gold) is True


def test_two_queries_that_find_nothing_do_not_agree_by_that():
    """No fluid is of both names: gold finds nothing anywhere, so it cannot judge."""
    execution = Execution()
    nothing = 'SELECT LABEL FROM LAB WHERE LAB."FLUID" = "Pleural" AND LAB."FLUID" = "Ascites" AND 1 = 0'
    assert execution("SELECT FLAG FROM LAB WHERE 1 = 0", nothing) is None
    assert execution.of_gold == {"empty": 1}


def test_order_counts_where_gold_orders():
    unordered = 'SELECT DEMOGRAPHIC."HADM_ID" FROM DEMOGRAPHIC'
    ordered = f'{unordered} ORDER BY DEMOGRAPHIC."HADM_ID"'
    assert Execution()(f"{ordered} DESC", unordered) is True
    assert Execution()(f"{ordered} DESC", ordered) is False
    assert Execution()(ordered, ordered) is True


def test_a_gold_query_that_does_not_run_judges_nothing_and_is_counted():
    execution = Execution()
    assert execution("SELECT B FROM W", "SELECT B FROM W") is None
    assert execution(GOLD, "SELECT ADMIT_YEAR FROM DEMOGRAPHIC") is None
    assert execution.of_gold == {"unknown table W": 1, "unknown column ADMIT_YEAR": 1}


def test_a_file_takes_the_place_of_the_suite(tmp_path):
    path = tmp_path / "mimic.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE LAB (HADM_ID TEXT, FLUID TEXT, LABEL TEXT)")
        connection.execute("INSERT INTO LAB VALUES ('1', 'Blood', 'Sodium')")
    execution = Execution(path)
    gold = 'SELECT COUNT(*) FROM LAB WHERE LAB."FLUID" = "Blood"'
    assert execution('SELECT COUNT(*) FROM LAB WHERE LAB."LABEL" = "Sodium"', gold) is True, "the same here"
    assert Execution()('SELECT COUNT(*) FROM LAB WHERE LAB."LABEL" = "Sodium"', gold) is False
    assert execution("SELECT COUNT(*) FROM LAB WHERE FLUID = 'x'", gold.replace("Blood", "y")) is None
    assert execution.of_gold == {"empty": 1}
    assert execution("DELETE FROM LAB", gold) is False
    assert execution("SELECT AGE FROM DEMOGRAPHIC", "SELECT AGE FROM DEMOGRAPHIC") is None
    with pytest.raises(UserError, match="no such file"):
        Execution(tmp_path / "missing.db")


def test_nineteen_of_twenty_mutants_are_told_apart():
    """The bar that the score is held to; docs/results.md has the figure for real questions."""
    golds = [pair.sql for pair in synthetic_splits(admissions=30, pairs=100, seed=1)["train"]]
    sharp = sharpness(golds, most=60)
    assert sharp["queries"] == 60 and sharp["mutants"] > 1000
    assert sharp["told_apart"]["low"] > 0.95
    kinds = sharp["kinds"]
    # Patients keep some columns over all admissions, so that joining by patient may mean the same.
    assert kinds.pop("join")["told_apart"] > 0.6
    assert all(kind["told_apart"] > 0.96 for kind in kinds.values())
    assert kinds["condition"]["told_apart"] > 0.97 and kinds["aggregate"]["told_apart"] == 1


def test_mutants_of_the_same_gold_queries_are_judged_once_a_process(monkeypatch):
    once = sharpness([GOLD, "SELECT DOB FROM DEMOGRAPHIC WHERE AGE > 71"], most=60)
    monkeypatch.setattr("medsql.metrics.sharpness.suite", None)  # no database is made any more
    assert sharpness(["SELECT DOB FROM DEMOGRAPHIC WHERE AGE > 71", GOLD], most=60) == once is not None


@pytest.mark.parametrize("gold", ["no query", "SELECT B FROM W", "SELECT AGE FROM DEMOGRAPHIC WHERE 1 = 0"])
def test_gold_queries_that_cannot_judge_have_no_part_in_sharpness(gold):
    assert sharpness([gold], most=60) is None
    assert sharpness([GOLD], most=0) is None


def test_any_thread_may_score():
    gold = "SELECT AGE FROM DEMOGRAPHIC WHERE GENDER = 'F'"
    assert Execution()(gold, gold)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(lambda: Execution()(gold, gold)).result()
