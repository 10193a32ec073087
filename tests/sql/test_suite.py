"""The databases made for a query hold what tells it from its neighbours, and keep MIMIC-III's rules."""

import subprocess
import sys
from contextlib import closing

import pytest

from medsql.sql.suite import DATABASES, suite

GOLD = (
    'SELECT COUNT ( DISTINCT DEMOGRAPHIC."SUBJECT_ID" ) FROM DEMOGRAPHIC INNER JOIN DIAGNOSES on '
    'DEMOGRAPHIC.HADM_ID = DIAGNOSES.HADM_ID WHERE DEMOGRAPHIC."AGE" < "45" AND '
    'DIAGNOSES."SHORT_TITLE" = "Aortic valve disorder"'
)


def ask(sql, *questions):
    """What each question finds in each database made for `sql`."""
    found = []
    for database in suite(sql):
        with closing(database):
            results = [database.run(question) for question in questions]
            assert all(result.ok for result in results), results
            found.append([result.rows for result in results])
    return found


def test_somebody_satisfies_the_query_in_all_databases_but_the_last():
    counts = [rows[0][0] for (rows,) in ask(GOLD, GOLD)]
    assert len(counts) == DATABASES and all(count >= 2 for count in counts[:-1])


def test_somebody_just_fails_each_condition_and_meets_the_other():
    joined = "FROM DEMOGRAPHIC JOIN DIAGNOSES ON DEMOGRAPHIC.HADM_ID = DIAGNOSES.HADM_ID WHERE "
    older = f"SELECT COUNT(*) {joined} AGE = 45 AND SHORT_TITLE = 'Aortic valve disorder'"
    like = "SHORT_TITLE LIKE 'Aortic valve%' AND SHORT_TITLE <> 'Aortic valve disorder'"
    other = f"SELECT COUNT(*) {joined} AGE < 45 AND {like}"
    counts = [[rows[0][0] for rows in found] for found in ask(GOLD, older, other)]
    assert sum(one > 0 for one, _ in counts) >= 2 and sum(two > 0 for _, two in counts) >= 2


def test_values_stand_under_other_columns_too():
    asked = ("LONG_TITLE", "ICD9_CODE")
    questions = [f"SELECT COUNT(*) FROM DIAGNOSES WHERE {name} = 'Aortic valve disorder'" for name in asked]
    for counts in zip(*ask(GOLD, *questions), strict=True):
        assert any(rows[0][0] for rows in counts)


def test_patients_keep_what_patients_keep_and_rows_belong_to_one_admission():
    several = "SELECT COUNT(*) FROM DEMOGRAPHIC GROUP BY SUBJECT_ID HAVING COUNT(*) > 1"
    changing = (
        "SELECT SUBJECT_ID FROM DEMOGRAPHIC GROUP BY SUBJECT_ID HAVING COUNT(DISTINCT NAME) > 1 OR "
        "COUNT(DISTINCT DOB) > 1 OR COUNT(DISTINCT GENDER) > 1 OR COUNT(DISTINCT EXPIRE_FLAG) > 1"
    )
    lost = (
        "SELECT LAB.HADM_ID FROM LAB LEFT JOIN DEMOGRAPHIC ON LAB.HADM_ID = DEMOGRAPHIC.HADM_ID "
        "AND LAB.SUBJECT_ID = DEMOGRAPHIC.SUBJECT_ID WHERE DEMOGRAPHIC.HADM_ID IS NULL"
    )
    twice = "SELECT HADM_ID FROM DEMOGRAPHIC GROUP BY HADM_ID HAVING COUNT(*) > 1"
    years = "SELECT DOB FROM DEMOGRAPHIC WHERE DOB_YEAR <> CAST(SUBSTR(DOB, 1, 4) AS INTEGER)"
    flags = "SELECT EXPIRE_FLAG FROM DEMOGRAPHIC WHERE EXPIRE_FLAG NOT IN (0, 1)"
    for found in ask(GOLD, several, changing, lost, twice, years, flags)[:-1]:
        assert found[0] and not any(found[1:])


def test_a_date_that_is_asked_for_takes_its_year_along():
    gold = 'SELECT AGE FROM DEMOGRAPHIC WHERE DEMOGRAPHIC."ADMITTIME" = "2119-05-06 10:00:00"'
    years = [rows for (rows,) in ask(gold, gold.replace("AGE", "ADMITYEAR"))]
    assert any(years) and {row[0] for rows in years for row in rows} == {2119}


def test_an_id_that_is_asked_for_is_one_patients():
    gold = 'SELECT DEMOGRAPHIC."AGE" FROM DEMOGRAPHIC WHERE DEMOGRAPHIC."SUBJECT_ID" = "2560"'
    names = [rows for (rows,) in ask(gold, "SELECT DISTINCT NAME FROM DEMOGRAPHIC WHERE SUBJECT_ID = '2560'")]
    assert all(len(rows) == 1 for rows in names)


@pytest.mark.parametrize(
    "condition",
    [
        '"DRUG" LIKE "%cillin%"',
        '"DRUG" IN ( "Aspirin", "Heparin" )',
        "\"DRUG\" BETWEEN 'A' AND 'C'",
        '"DRUG" IS NULL',
        'NOT "DRUG" = "Aspirin"',
    ],
)
def test_any_condition_on_one_column_is_satisfied_somewhere(condition):
    gold = f"SELECT COUNT(*) FROM PRESCRIPTIONS WHERE {condition}".replace('"DRUG"', 'PRESCRIPTIONS."DRUG"')
    assert sum(rows[0][0] > 0 for (rows,) in ask(gold, gold)) >= 3


def test_the_same_query_gets_the_same_databases_and_no_query_none():
    assert ask(GOLD, "SELECT * FROM LAB") == ask(GOLD, "SELECT * FROM LAB")
    assert list(suite("SELECT FROM WHERE")) == [] and list(suite("")) == []


def test_nothing_that_makes_a_prediction_can_see_the_databases():
    code = """
import pkgutil, sys
import medsql.data, medsql.model
for package in (medsql.data, medsql.model):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name.split(".")[-1] not in ("module", "training", "checkpoints"):  # validation scores
            __import__(module.name)
print(*sorted(name for name in sys.modules if name in ("medsql.sql.suite", "medsql.metrics.execution")))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


def test_rows_of_other_tables_may_be_entered_twice():
    question = "SELECT (SELECT COUNT(*) FROM LAB) - (SELECT COUNT(*) FROM (SELECT DISTINCT * FROM LAB))"
    assert any(rows[0][0] > 0 for (rows,) in ask(GOLD, question))
