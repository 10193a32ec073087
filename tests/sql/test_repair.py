"""Repair mends names and literals that are nearly right, and touches nothing else."""

import random

import pytest
from hostile_queries import HOSTILE

from medsql.data.hospital import synthetic_splits
from medsql.data.hospital.cohort import listed_values
from medsql.data.prompts import prompt_template
from medsql.metrics.execution import verdict
from medsql.sql.parts import Column
from medsql.sql.repair import Repair, Repairer
from medsql.sql.schema import REPORT_NAMES, TABLES

VALUES = {
    Column("DEMOGRAPHIC", "LANGUAGE"): ["ENGL", "SPAN"],
    Column("DEMOGRAPHIC", "NAME"): ["Amelia O'Brien"],
    Column("DEMOGRAPHIC", "DIAGNOSIS"): ["SEPSIS", 'THE "BIG" ONE'],
    Column("PRESCRIPTIONS", "DRUG"): ["Acetaminophen IV", "Aspirin"],
    Column("DIAGNOSES", "ICD9_CODE"): ["4019"],
    Column("LAB", "FLUID"): ["Blood", "Pleural"],
    Column("LAB", "LABEL"): ["Glucose", "Hemoglobin"],
    Column("LAB", "VALUE_UNIT"): ["5 mg"],
    Column("LAB", "CHARTTIME"): ["2101-10-20 16:40:00"],
    Column("DEMOGRAPHIC", "DOB"): ["2094-03-05 00:00:00"],
}
LABELS = ["Glucose", "Pleural", "Glucose, Pleural", "Creatinine 24 hr", "Vent <96 hrs", "Vent 96+ hrs"]
READ = VALUES | {Column("LAB", "LABEL"): LABELS}
JOINED = "FROM DEMOGRAPHIC INNER JOIN LAB on DEMOGRAPHIC.HADM_ID = LAB.HADM_ID WHERE"


def repaired(sql):
    return Repairer(VALUES, {}, 85).repair(sql)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        # the report's names, however they are written
        (
            'SELECT PRESCRIPTIONS."DRUG_NAME" FROM PRESCRIPTIONS',
            'SELECT PRESCRIPTIONS."DRUG" FROM PRESCRIPTIONS',
        ),
        ("SELECT drug_name  FROM PRESCRIPTIONS", "SELECT DRUG  FROM PRESCRIPTIONS"),
        ("SELECT p.DRUG_CODE FROM PRESCRIPTIONS p", "SELECT p.FORMULARY_DRUG_CD FROM PRESCRIPTIONS p"),
        ("SELECT `LAB_TEST_NAME` FROM LAB", "SELECT `LABEL` FROM LAB"),
        ("SELECT [LAB_TEST_NAME] FROM LAB", "SELECT [LABEL] FROM LAB"),
        (
            f'SELECT MAX ( DEMOGRAPHIC."YEAR_OF_BIRTH" ) {JOINED} LAB."LAB_TEST_FLUID" = "Blood"',
            f'SELECT MAX ( DEMOGRAPHIC."DOB_YEAR" ) {JOINED} LAB."FLUID" = "Blood"',
        ),
        (f"SELECT DEATH_STATUS {JOINED} 1 = 1", f"SELECT EXPIRE_FLAG {JOINED} 1 = 1"),
        # misspelt ones
        (
            'SELECT NAME FROM DEMOGRAPHIC WHERE DEMOGRAPHIC."ADMIT_YEAR" < "2100"',
            'SELECT NAME FROM DEMOGRAPHIC WHERE DEMOGRAPHIC."ADMITYEAR" < "2100"',
        ),
        ("SELECT LAB.DRUG_NAMEE, FLUIDS FROM LAB", "SELECT LAB.DRUG_NAMEE, FLUID FROM LAB"),
        ("SELECT LAB.LAB_TEST_NAMES FROM LAB", "SELECT LAB.LABEL FROM LAB"),
    ],
)
def test_a_column_by_another_name_becomes_the_real_one(written, meant):
    assert repaired(written)[0] == meant


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT LAB.DOC_YEAR FROM LAB",
        "SELECT DEMOGRAPHIC.DOX_YEAR FROM DEMOGRAPHIC",  # as near to DOB_YEAR as to DOD_YEAR
        "SELECT LAB.DRUG FROM LAB",  # a column of another table is no misspelling
        "SELECT WARD.FLUIDS FROM WARD",
        "SELECT FLUIDS FROM LAB, WARD",  # WARD's, for all that is known
        "WITH LAB AS (SELECT 1 AS FLUIDS) SELECT LAB.FLUIDS FROM LAB",
        "SELECT LAB.FLUIDS FROM (SELECT 1 AS FLUIDS) AS LAB",
        "SELECT COUNT(*) AS FLUIDS FROM LAB ORDER BY FLUIDS",
        "SELECT LAB.* FROM LAB",
        "SELECT ICD9_CODES FROM DIAGNOSES, PROCEDURES",
        'SELECT FLUID FROM LAB WHERE LABEL = "DRUG_NAME"',
    ],
)
def test_a_column_whose_meaning_is_open_stays(sql):
    assert repaired(sql) == (sql, ())


@pytest.mark.parametrize(
    ("column", "written", "meant"),
    [
        ('LAB."FLUID" =', '"blood"', '"Blood"'),
        ('LAB."FLUID" =', "'bloood'", "'Blood'"),
        ("LAB.FLUID !=", '"BLOOD"', '"Blood"'),
        ("FLUID =", '"pleural"', '"Pleural"'),
        ("LAB_TEST_FLUID =", '"blood"', '"Blood"'),
        ("(LAB.FLUID) =", '("blood")', '("Blood")'),
        ("LAB.FLUID IN", "(\"blood\", 'Pleural', 'plural')", "(\"Blood\", 'Pleural', 'Pleural')"),
        ("LANGUAGE =", '"Spanish"', '"SPAN"'),
        ("NAME =", '"amelia o\'brien"', '"Amelia O\'Brien"'),
        ("NAME =", "'amelia o''brien'", "'Amelia O''Brien'"),
        ("DIAGNOSIS =", "'the \"big\" one'", "'THE \"BIG\" ONE'"),
        ("DIAGNOSIS =", '"the ""big"" one"', '"THE ""BIG"" ONE"'),
    ],
)
def test_a_literal_in_another_writing_becomes_the_known_value(column, written, meant):
    sql = f"SELECT  AGE {JOINED} {column} {{}} AND DEMOGRAPHIC.AGE<5"
    real = sql.replace("LAB_TEST_FLUID", "FLUID")
    assert repaired(sql.format(written))[0] == real.format(meant)


NAMES = ["Amelia O'Brien", *(f"Person {letter}" for letter in "ABCDEFGHI")]


@pytest.mark.parametrize(
    ("known", "written", "meant"),
    [
        (NAMES, " eliza BATEman", "Eliza Bateman"),
        (list(map(str.upper, NAMES)), "Eliza bateman", "ELIZA BATEMAN"),
        (NAMES, "Eliza Bateman", "Eliza Bateman"),
        (NAMES, "ronald McDonald", "Ronald McDonald"),
        ([*NAMES, "jim"], "Eliza  Bateman", "Eliza  Bateman"),
        (NAMES[1:], "eliza bateman", "eliza bateman"),  # nine are too few to show a style
        ([*NAMES, "jim"], "eliza bateman", "eliza bateman"),  # and these share none
    ],
)
def test_a_value_that_is_not_known_is_written_in_the_style_of_all_that_are(known, written, meant):
    condition = 'SELECT AGE FROM DEMOGRAPHIC WHERE DEMOGRAPHIC."NAME" = "{}"'
    repairer = Repairer({Column("DEMOGRAPHIC", "NAME"): known}, {}, 85)
    assert repairer.repair(condition.format(written))[0] == condition.format(meant)


@pytest.mark.parametrize(
    "condition",
    [
        'LAB."FLUID" = "Blood"',
        'LAB."FLUID" = "Urine"',
        'LAB."FLUID" LIKE "blood"',
        'LAB."FLUID" > "blood"',
        'LAB."FLUID" = LAB."LABEL"',
        'LAB."CATEGORY" = "blood"',  # nothing is known of it
        'LAB."VALUE_UNIT" = "5 MG"',  # an amount
        'LAB."CHARTTIME" = "2101-10-20 16:40:00 "',  # nearly a known one, but a date
        'DEMOGRAPHIC."DOB" = "2094-03-06 00:00:00"',
        'DEMOGRAPHIC."NAME" = "Amelia O\'Brian"',  # another patient
        'DEMOGRAPHIC."AGE" = "5O"',
        'DEMOGRAPHIC."LANGUAGE" = 5',
        'DIAGNOSES."ICD9_CODE" = "4018"',
        'WARD."FLUID" = "blood"',
    ],
)
def test_any_other_literal_stays(condition):
    sql = f"SELECT AGE {JOINED} {condition}"
    assert repaired(sql) == (sql, ())


def test_each_repair_says_what_was_written_and_what_it_became():
    sql = 'SELECT PRESCRIPTIONS.DRUG_NAME FROM PRESCRIPTIONS WHERE DRUGG = "aspirin" OR DRUG = "Asprin"'
    assert repaired(sql)[1] == (
        Repair("report's column", "PRESCRIPTIONS.DRUG", "DRUG_NAME", "DRUG"),
        Repair("misspelt column", "PRESCRIPTIONS.DRUG", "DRUGG", "DRUG"),
        Repair("literal's case", "PRESCRIPTIONS.DRUG", "aspirin", "Aspirin"),
        Repair("literal's spelling", "PRESCRIPTIONS.DRUG", "Asprin", "Aspirin"),
    )


def test_every_name_in_the_reports_prompt_is_repaired_to_the_column_in_its_place():
    for line in prompt_template("report").splitlines()[1:]:
        table, names = line.split(" | ")[0].removeprefix("Table ").rstrip(".").split(" has columns such as ")
        listed = [REPORT_NAMES[table].get(name, name) for name in names.split(", ")]
        assert listed == list(TABLES[table])
        query = f"SELECT {names} FROM {table}"
        assert verdict(query) != "ok" and verdict(repaired(query)[0]) == "ok"


def test_queries_over_known_values_stay_as_they_are():
    repairer = Repairer({Column(*name): values for name, values in listed_values().items()}, {}, 85)
    queries = [pair.sql for pair in synthetic_splits(20, 100, seed=3)["train"]]
    assert [repairer.repair(sql) for sql in queries] == [(sql, ()) for sql in queries]


def test_nothing_is_raised_whatever_a_model_wrote_and_what_does_not_parse_stays():
    for sql in (sql for group in HOSTILE.values() for sql in group if len(sql) < 1_000):
        repaired(sql)
        Repairer(READ, {}, 85).read_again(sql, "who has blood?")
    rng = random.Random(5)
    sql = f'SELECT "é😀", DRUG_NAME {JOINED} LAB."FLUID" = "blood" AND LAB.LABEL IN ("glucose", \'x\')'
    for _ in range(300):
        letters = list(sql)
        for _ in range(rng.randrange(1, 5)):
            letters[rng.randrange(len(letters))] = rng.choice("\"'(),. =<A😀[]`%;-\0")
        broken = "".join(letters)
        if verdict(broken) == "syntax error":
            assert repaired(broken) == (broken, ())
        else:
            repaired(broken)
    assert repaired("SELECT " + "(" * 3_000)[1] == ()


def test_a_word_that_some_column_is_known_to_hold_is_no_misspelling_of_another():
    diagnoses, procedures = Column("DIAGNOSES", "SHORT_TITLE"), Column("PROCEDURES", "SHORT_TITLE")
    sql = 'SELECT HADM_ID FROM DIAGNOSES WHERE DIAGNOSES."SHORT_TITLE" = "Urin tract injection NOS"'
    infection = {diagnoses: ["Urin tract infection NOS"]}
    assert "infection" in Repairer(infection, {}, 85).repair(sql)[0]
    assert Repairer(infection | {procedures: ["Injection of steroid"]}, {}, 85).repair(sql) == (sql, ())


@pytest.mark.parametrize(
    ("written", "asked", "value"),
    [
        ('DEMOGRAPHIC."NAME" = "Scoan Brock"', "the birth date of brian brock.", "Brian Brock"),
        ('DEMOGRAPHIC."NAME" = "Brian Brock"', "the birth date of brian brock.", None),
        ('DEMOGRAPHIC."NAME" = "Scoan Brock"', "how many patients?", None),
        ('DEMOGRAPHIC."NAME" = ""', "how many patients are there ?", None),
        ('DEMOGRAPHIC."NAME" = "23642"', "the age of patient 23624", None),
        ('DEMOGRAPHIC."NAME" = "2101-05-03"', "who was born 2101-05-04", None),
        ('LAB."FLUID" = "Bloot"', "who has blood?", None),  # what is no name may be in other words
        ('LAB."LABEL" = "Glucose"', "an abnormal glucose, pleural?", "Glucose, Pleural"),
        ('LAB."LABEL" = "Glucose"', "an abnormal pleural glucose?", None),
        ('LAB."LABEL" = "Glucose, Pleural"', "an abnormal glucose, pleural?", None),
        ('LAB."FLUID" = "Glucose"', "an abnormal glucose, pleural?", None),  # of another column
        ('LAB."LABEL" = "Glucose" AND LAB."FLUID" = "Pleural"', "glucose, pleural?", None),  # said already
        ('LAB."LABEL" IN ("Glucose", "Glucose, Pleural")', "glucose or glucose, pleural?", None),
        ('LAB."LABEL" = "Creatinine"', "an abnormal creatinine 24 hr?", "Creatinine 24 hr"),
        ('LAB."LABEL" = "Creatinine" AND LAB.SUBJECT_ID < "24 hr"', "creatinine 24 hr?", None),
        ('LAB."LABEL" = "24"', "an abnormal creatinine 24 hr?", None),
        ('LAB."LABEL" = "Vent"', "who had vent 96+ hrs?", "Vent 96+ hrs"),
        ('LAB."FLUID" = ', "who has blood?", None),
    ],
)
def test_values_are_read_again_in_the_question(written, asked, value):
    sql = f"SELECT AGE {JOINED} {written}"
    again, repairs = Repairer(READ, {}, 85).read_again(sql, asked)
    if value is None:
        assert (again, repairs) == (sql, ())
    else:
        column, _, literal = written.partition(" = ")
        assert again == sql.replace(literal, f'"{value}"')
        kind = "completion" if "LABEL" in column else "copying"
        assert repairs == (Repair(f"literal's {kind}", column.replace('"', ""), literal.strip('"'), value),)


def test_a_name_read_in_the_question_is_written_as_its_column_writes_names():
    capitals = {Column("DEMOGRAPHIC", "NAME"): ["AMELIA HILL", "BRIAN BROCK"]}
    sql = f"SELECT AGE {JOINED} DEMOGRAPHIC.NAME = "
    again, _ = Repairer(capitals, {}, 85).read_again(f'{sql}"Amelie Hill"', "how old is amelia hill?")
    assert again == f'{sql}"AMELIA HILL"'


@pytest.mark.parametrize("written", ["`blood`", "[blood]"])
def test_what_is_quoted_as_a_name_is_no_literal(written):
    sql = f"SELECT AGE {JOINED} LAB.FLUID = {written}"
    assert repaired(sql) == (sql, ())
