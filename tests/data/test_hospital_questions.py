"""Synthetic pairs are in MIMICSQL's dialect, answerable, different from each other and reproducible."""

import random
import re
import sqlite3
import time
from collections import Counter

import pytest

from medsql.config import SettingsError
from medsql.data.hospital import synthetic_splits
from medsql.data.hospital.cohort import Tables, generate_tables, in_memory
from medsql.data.hospital.queries import Condition, Query
from medsql.data.hospital.questions import generate_pairs
from medsql.data.hospital.wording import Wording
from medsql.data.pairs import Pair
from medsql.sql.dialect import to_sqlite
from medsql.sql.schema import TABLES

COLUMN = r'[A-Z]+\."[A-Z0-9_]+"'
SELECTED = rf"COUNT \( DISTINCT {COLUMN} \)|(AVG|MIN|MAX) \( {COLUMN} \)|{COLUMN}(,{COLUMN})?"
JOINED = r"( INNER JOIN [A-Z]+ on [A-Z]+\.HADM_ID = [A-Z]+\.HADM_ID)*"
CONDITION = rf'{COLUMN} (=|<|>|<=|>=) "[^"]+"'
DIALECT = re.compile(rf"SELECT ({SELECTED}) FROM [A-Z]+{JOINED} WHERE {CONDITION}( AND {CONDITION})?")


@pytest.fixture(scope="module")
def tables() -> Tables:
    return generate_tables(100, seed=42)


@pytest.fixture(scope="module")
def pairs(tables: Tables) -> list[Pair]:
    return generate_pairs(tables, 1500, seed=42)


def run(connection: sqlite3.Connection, sql: str) -> list[tuple]:
    return connection.execute(to_sqlite(sql)).fetchall()


def test_every_query_is_in_mimicsqls_dialect(pairs: list[Pair]) -> None:
    assert not [pair.sql for pair in pairs if not DIALECT.fullmatch(pair.sql)]


def test_every_query_names_real_columns_of_tables_it_selects_from(pairs: list[Pair]) -> None:
    for pair in pairs:
        tables = set(re.findall(r"(?:FROM|JOIN) ([A-Z]+)", pair.sql))
        for table, column in re.findall(r'([A-Z]+)\."([A-Z0-9_]+)"', pair.sql):
            assert table in tables, pair.sql
            assert column in TABLES[table], pair.sql


def test_every_query_runs_and_at_least_four_in_five_find_something(tables: Tables, pairs: list[Pair]) -> None:
    connection = in_memory(tables)
    found = [
        any(value not in (None, 0) for row in run(connection, pair.sql) for value in row) for pair in pairs
    ]
    assert 0.8 * len(pairs) <= sum(found) < len(pairs)


def test_no_question_and_no_query_occurs_twice(pairs: list[Pair]) -> None:
    assert len({pair.question for pair in pairs}) == len({pair.sql for pair in pairs}) == len(pairs) == 1500


def test_questions_are_clean_text(pairs: list[Pair]) -> None:
    for pair in pairs:
        assert pair.question == " ".join(pair.question.split()), pair.question
        assert not re.search(r"[{}<]\w+[}>]|\{v\}|\{raw\}|\b([a-z]{2,}) \1\b", pair.question), pair.question
        assert pair.question.isascii()


def test_most_questions_hold_their_values_and_some_paraphrase(pairs: list[Pair]) -> None:
    def verbatim(pair: Pair) -> bool:
        values = re.findall(r'[<>=] "([^"]+)"', pair.sql)
        return all(value.removesuffix(".0").lower() in pair.question.lower() for value in values)

    assert 0.65 < sum(map(verbatim, pairs)) / len(pairs) < 0.9


def test_shares_are_near_mimicsqls(pairs: list[Pair]) -> None:
    def near(counted: Counter, key: object, share: float, within: float = 0.05) -> bool:
        return abs(counted[key] / counted.total() - share) < within

    joins = Counter(pair.sql.count(" INNER JOIN ") for pair in pairs)
    assert near(joins, 0, 0.32) and near(joins, 1, 0.57) and near(joins, 2, 0.11)
    conditions = Counter(pair.sql.count('" AND ') + 1 for pair in pairs)
    assert near(conditions, 1, 0.20) and near(conditions, 2, 0.80)
    aggregates = Counter(pair.sql.split()[1] if " ( " in pair.sql else "none" for pair in pairs)
    assert near(aggregates, "COUNT", 0.79)
    assert set(aggregates) == {"COUNT", "AVG", "MIN", "MAX", "none"}
    operators = Counter(match for pair in pairs for match in re.findall(r'" (<=|>=|<|>|=) "', pair.sql))
    assert (
        near(operators, "=", 0.81)
        and near(operators, "<", 0.12)
        and set(operators) == {"=", "<", ">", "<=", ">="}
    )


def test_the_wording_varies_for_one_query() -> None:
    query = Query(
        "COUNT",
        ("DEMOGRAPHIC.SUBJECT_ID",),
        (Condition("DEMOGRAPHIC.AGE", "<", "62"), Condition("LAB.FLUID", "=", "Pleural")),
    )
    wording, rng = Wording(), random.Random(0)
    said = {wording.question(rng, query) for _ in range(200)}
    assert len(said) > 150
    assert all("62" in question and "pleural" in question.lower() for question in said)
    assert {question[0].isupper() for question in said} == {True, False}


def test_coded_values_are_said_as_stored_and_in_words() -> None:
    query = Query(
        "COUNT", ("DEMOGRAPHIC.SUBJECT_ID",), (Condition("DEMOGRAPHIC.DISCHARGE_LOCATION", "=", "SNF"),)
    )
    wording, rng = Wording(), random.Random(0)
    said = [wording.question(rng, query) for _ in range(50)]
    assert any(re.search(r"\bsnf\b", question) for question in said)
    assert any("skilled nursing facility" in question for question in said)


def test_equal_short_and_long_titles_are_told_apart() -> None:
    wording, rng = Wording(), random.Random(0)
    for column in ("SHORT_TITLE", "LONG_TITLE"):
        query = Query(
            "COUNT", ("DEMOGRAPHIC.SUBJECT_ID",), (Condition(f"DIAGNOSES.{column}", "=", "Sarcoidosis"),)
        )
        said = [wording.question(rng, query).lower() for _ in range(50)]
        assert all("title" in question for question in said)
        if column == "SHORT_TITLE":
            assert all("short title" in question for question in said)


def test_conditions_stand_in_mimicsqls_order() -> None:
    query = Query(
        "AVG",
        ("DEMOGRAPHIC.AGE",),
        (Condition("DEMOGRAPHIC.GENDER", "=", "F"), Condition("DEMOGRAPHIC.ADMITYEAR", ">=", "2130")),
    )
    assert query.sql == (
        'SELECT AVG ( DEMOGRAPHIC."AGE" ) FROM DEMOGRAPHIC '
        'WHERE DEMOGRAPHIC."GENDER" = "F" AND DEMOGRAPHIC."ADMITYEAR" >= "2130"'
    )


def test_text_is_asked_for_before_numbers_and_patients_before_tests(pairs: list[Pair]) -> None:
    seen = {
        tuple(re.findall(r'([A-Z]+\."[A-Z0-9_]+") (?:=|<|>)', pair.sql.split(" WHERE ")[1])) for pair in pairs
    }
    assert not [columns for columns in seen if columns[::-1] in seen and len(columns) == 2]
    assert not [
        columns
        for columns in seen
        if columns[0] == 'DEMOGRAPHIC."AGE"' and columns[-1].endswith('DIAGNOSIS"')
    ]


def test_splits_are_disjoint_in_sql_and_eighty_ten_ten() -> None:
    splits = synthetic_splits(admissions=50, pairs=500, seed=1)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 400, "validation": 50, "test": 50}
    assert len({pair.sql for rows in splits.values() for pair in rows}) == 500


def test_splits_are_alike() -> None:
    splits = synthetic_splits(admissions=50, pairs=3000, seed=1)
    shares = [sum("COUNT" in pair.sql for pair in rows) / len(rows) for rows in splits.values()]
    assert max(shares) - min(shares) < 0.1


def test_splits_follow_from_their_arguments() -> None:
    first = synthetic_splits(admissions=20, pairs=100, seed=1)
    random.seed(99)  # the global generator has no say
    assert synthetic_splits(admissions=20, pairs=100, seed=1) == first
    assert synthetic_splits(admissions=20, pairs=100, seed=2) != first


@pytest.mark.parametrize("seed", range(5))
def test_the_smallest_hospital_still_gives_questions(seed: int) -> None:
    splits = synthetic_splits(admissions=10, pairs=10, seed=seed)
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [8, 1, 1]


def test_too_many_pairs_for_the_cohort_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medsql.data.hospital.questions.PATIENCE", 20)
    with pytest.raises(
        SettingsError, match=r"data\.pairs=100000: 1 admissions give only about \d+ .*data\.admissions"
    ) as info:
        generate_pairs(generate_tables(1, seed=0), 100_000, seed=0)
    assert "\n" not in str(info.value)


def test_a_question_already_asked_is_not_asked_for_another_query(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wording, "question", lambda self, rng, query: "how many patients are there?")
    with pytest.raises(SettingsError, match="only about 1 different"):
        generate_pairs(generate_tables(10, seed=0), 2, seed=0)


def test_ten_thousand_pairs_take_less_than_ten_seconds() -> None:
    start = time.process_time()
    splits = synthetic_splits(admissions=100, pairs=10_000, seed=42)
    assert time.process_time() - start < 10
    assert len({pair.question for rows in splits.values() for pair in rows}) == 10_000
