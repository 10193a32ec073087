"""Further versions of a row have other values, in question and SQL alike, and nothing else changes."""

import re

import pytest

from medsql.data.augment import augmented
from medsql.data.hospital import synthetic_splits, vocabulary
from medsql.data.pairs import Pair
from medsql.sql.parts import take_apart

DRUG = 'SELECT A FROM PRESCRIPTIONS WHERE PRESCRIPTIONS."DRUG" = "Drug {}"'
OTHER_DRUGS = [Pair("who took it?", DRUG.format(i)) for i in range(9)]
TITLE = 'DIAGNOSES."SHORT_TITLE" = "Crnry athrscl natve vssl"'


def query(*conditions):
    return f'SELECT DEMOGRAPHIC."NAME" FROM DEMOGRAPHIC WHERE {" AND ".join(conditions)}'


def versions(question, *conditions, count=20):
    """Versions of one row, that of others left out."""
    rows, _ = augmented([Pair(question, query(*conditions))], count, seed=1)
    return rows


def values(pair):
    return [literal for condition in take_apart(pair.sql).conditions for literal in condition.literals]


def missed(question, *conditions):
    rows, record = augmented([Pair(question, query(*conditions))], 1, seed=1)
    assert rows == [] and record["rows"] == 0
    ((reason, count),) = record["missed"].items()
    assert count == 1
    return reason


# What changes


def test_a_version_has_another_value_in_question_and_sql_and_all_else_stays():
    rows = versions(
        "How many took Aspirin before 2150?",
        'PRESCRIPTIONS."DRUG" = "Aspirin"',
        'DEMOGRAPHIC."ADMITYEAR" < "2150"',
    )
    assert len(rows) == 20
    for row in rows:
        drug, year = values(row)
        assert drug != "Aspirin" and year != "2150"
        assert row.question == f"How many took {drug} before {year}?"
        assert row.sql == query(f'PRESCRIPTIONS."DRUG" = "{drug}"', f'DEMOGRAPHIC."ADMITYEAR" < "{year}"')


def test_every_version_is_a_new_row_whose_query_differs_in_values_alone():
    pairs = synthetic_splits(100, 300, 42)["train"]
    rows, record = augmented(pairs, 1, seed=1)
    assert len(rows) > 0.9 * len(pairs)
    assert record["rows"] == len(rows) and len(rows) + sum(record["missed"].values()) == len(pairs)
    by_shape = {re.sub(r'"[^"]*"(?!\.)', "?", pair.sql) for pair in pairs}
    for row in rows:
        assert re.sub(r'"[^"]*"(?!\.)', "?", row.sql) in by_shape
        assert take_apart(row.sql) is not None
    assert not set(rows) & set(pairs) and len(set(rows)) == len(rows)


def test_values_are_known_ones_of_the_column_and_invented_ones():
    pairs = [Pair("how many took aspirin?", query('PRESCRIPTIONS."DRUG" = "Aspirin"')), *OTHER_DRUGS]
    rows, _ = augmented(pairs, 60, seed=1)
    drugs = {value for row in rows if "aspirin" not in row.question for value in values(row)}
    trained, listed = {f"Drug {i}" for i in range(9)}, {row["drug"] for row in vocabulary.read("drugs")}
    assert drugs & trained and drugs & listed and drugs - trained - listed


@pytest.mark.parametrize(
    ("question", "condition", "form"),
    [
        ("admitted before 2150?", 'DEMOGRAPHIC."ADMITYEAR" < "2150"', r"2[01]\d\d|22\d\d"),
        ("died by 2150?", 'DEMOGRAPHIC."DOD_YEAR" <= "2150.0"', r"2[012]\d\d\.0"),
        ("with code 0389?", 'DIAGNOSES."ICD9_CODE" = "0389"', r"[VE\d]\d{2,4}"),
        ("given acet325?", 'PRESCRIPTIONS."FORMULARY_DRUG_CD" = "ACET325"', r"[-\w./%]+"),
        ("at 2150-02-03 04:05:00?", 'LAB."CHARTTIME" = "2150-02-03 04:05:00"', r"2\d{3}(-\d\d){2} [\d:]{8}"),
        ("is Ann Lee ill?", 'DEMOGRAPHIC."NAME" = "Ann Lee"', r"[A-Z]\S+ [A-Z]\S+"),
        ("was it elective?", 'DEMOGRAPHIC."ADMISSION_TYPE" = "ELECTIVE"', "EMERGENCY|URGENT|NEWBORN"),
    ],
)  # fmt: skip
def test_another_value_has_the_form_of_its_column(question, condition, form):
    found = {value for row in versions(question, condition, count=30) for value in values(row)}
    assert found and all(re.fullmatch(form, value) for value in found), found


def test_a_coded_column_gets_none_but_its_values():
    rows = versions("was it elective?", 'DEMOGRAPHIC."ADMISSION_TYPE" = "ELECTIVE"', count=30)
    assert len(rows) == 3


def test_a_year_stored_as_a_real_number_is_said_without_its_decimal():
    for row in versions("died by 2150?", 'DEMOGRAPHIC."DOD_YEAR" <= "2150.0"'):
        assert row.question == f"died by {values(row)[0].removesuffix('.0')}?"


@pytest.mark.parametrize(
    ("question", "change"),
    [
        ("who has crnry athrscl natve vssl?", str.lower),
        ("WHO HAS CRNRY ATHRSCL NATVE VSSL?", str.upper),
        ("Who has Crnry athrscl natve vssl?", str),
    ],
)
def test_the_question_keeps_its_casing_and_the_sql_its_own(question, change):
    rows = versions(question, TITLE)
    assert rows
    for row in rows:
        (title,) = values(row)
        assert title[0].isupper() or title[0].isdigit()
        assert change(title) in row.question


def test_quotes_of_other_dialects_stay_and_quotes_within_are_doubled():
    others = [Pair("?", 'SELECT A FROM B WHERE WARD = "5\'s ""best"""')] * 2
    rows, _ = augmented([Pair("beds of é ward x?", "SELECT 'é' FROM B WHERE WARD = 'X'"), *others], 8, seed=1)
    found = {row.sql for row in rows if row.question.startswith("beds")}
    assert "SELECT 'é' FROM B WHERE WARD = '5''s \"best\"'" in found
    assert all(re.fullmatch(r"SELECT 'é' FROM B WHERE WARD = '(''|[^'])*'", sql) for sql in found)


# What is left alone, and why


@pytest.mark.parametrize(
    ("question", "condition", "reason"),
    [
        ("who took acetylsalicylic acid?", 'PRESCRIPTIONS."DRUG" = "Aspirin"', "not_in_question"),
        ("who took aspirins?", 'PRESCRIPTIONS."DRUG" = "Aspirin"', "not_in_question"),
        ("who took co-aspirin?", 'PRESCRIPTIONS."DRUG" = "Aspirin"', "not_in_question"),
        ("who was 5.5 years old?", 'DEMOGRAPHIC."AGE" = "5"', "not_in_question"),
        ("who took aspirin, just aspirin?", 'PRESCRIPTIONS."DRUG" = "Aspirin"', "more_than_once"),
        ("who is m?", 'DEMOGRAPHIC."GENDER" = "M"', "one_character"),
        ("who took aspirin?", 'DRUG = "aspirin" OR DRUG LIKE "%aspirin%"', "elsewhere_in_sql"),
        ("who took aspirin?", 'DRUG = "aspirin" AND DRUG IN ("Aspirin", "x")', "elsewhere_in_sql"),
        ("who died in 2101?", 'DEMOGRAPHIC."DOD_YEAR" = "2101.0" AND A IN (2101, 2)', "elsewhere_in_sql"),
        ("whose doctor is whose?", 'DEMOGRAPHIC."HADM_ID" = "PROCEDURES"."HADM_ID"', "no_value"),
    ],
)
def test_a_value_that_cannot_be_replaced_for_sure_is_left_and_counted(question, condition, reason):
    assert missed(question, condition) == reason


def test_a_blank_value_is_none():
    rows, record = augmented([Pair("no notes ?", 'SELECT A FROM B WHERE NOTE = ""')] * 2, 20, seed=1)
    assert rows == [] and set(record["missed"]) == {"no_value"}


def test_what_is_no_sql_is_counted():
    assert augmented([Pair("aspirin?", 'DRUG = "aspirin')], 1, seed=1)[1]["missed"] == {"not_sql": 1}


def test_a_value_within_another_one_is_left_alone():
    conditions = (
        'DIAGNOSES."SHORT_TITLE" = "Heart failure"',
        'DEMOGRAPHIC."DIAGNOSIS" = "CONGESTIVE HEART FAILURE"',
    )
    assert missed("who has congestive heart failure?", *conditions) == "more_than_once"


def test_a_value_of_two_conditions_is_left_alone_and_others_stay_apart():
    days = 'DEMOGRAPHIC."DAYS_STAY" > "40"'
    assert missed("older than 40?", 'DEMOGRAPHIC."AGE" > "40"', days) == "more_than_once"
    for row in versions("older than 30, longer than 40?", 'DEMOGRAPHIC."AGE" > "30"', days, count=50):
        age, stay = values(row)
        assert age != stay and row.question == f"older than {age}, longer than {stay}?"


def test_a_column_with_no_other_value_is_counted():
    assert missed("was it red?", 'WARD."FLAG" = "red"') == "no_other_value"


# How many, and whence


def test_a_rate_below_one_is_of_that_share_of_the_rows():
    pairs = synthetic_splits(100, 100, 42)["train"]
    for rate, wanted in ((0, 0), (0.25, 20), (0.5, 40), (2.5, 200)):
        rows, record = augmented(pairs, rate, seed=1)
        assert len(rows) + sum(record["missed"].values()) == wanted


def test_rows_and_seed_decide_the_versions():
    pairs = synthetic_splits(100, 50, 42)["train"]
    assert augmented(pairs, 2, seed=1) == augmented(pairs, 2, seed=1)
    assert augmented(pairs, 2, seed=1)[0] != augmented(pairs, 2, seed=2)[0]
