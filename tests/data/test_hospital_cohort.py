"""A synthetic cohort is consistent, reproducible and quick to make."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from medsql.data.hospital import vocabulary
from medsql.data.hospital.cohort import generate_tables, in_memory, listed_values, write_cohort
from medsql.sql.known_values import WORDS
from medsql.sql.parts import Column
from medsql.sql.schema import TABLES


@pytest.fixture(scope="module")
def database() -> sqlite3.Connection:
    connection = in_memory(generate_tables(400, seed=3))
    connection.row_factory = sqlite3.Row
    return connection


def count(connection: sqlite3.Connection, sql: str) -> int:
    return connection.execute(sql).fetchone()[0]


def test_has_mimicsqls_tables_columns_and_types(database: sqlite3.Connection) -> None:
    for table, columns in TABLES.items():
        declared = {row["name"]: row["type"] for row in database.execute(f"PRAGMA table_info({table})")}
        assert declared == columns
    stored = {
        column: count(
            database,
            f"SELECT group_concat(DISTINCT typeof({column})) FROM DEMOGRAPHIC WHERE {column} NOT NULL",
        )
        for column in ("AGE", "DOD_YEAR", "SUBJECT_ID", "DOB")
    }
    assert stored == {"AGE": "integer", "DOD_YEAR": "real", "SUBJECT_ID": "text", "DOB": "text"}


def test_every_row_belongs_to_an_admission_of_its_patient(database: sqlite3.Connection) -> None:
    assert count(database, "SELECT count(DISTINCT HADM_ID) FROM DEMOGRAPHIC") == 400
    for table in list(TABLES)[1:]:
        assert count(database, f"SELECT count(*) FROM {table}") > 400
        assert not count(
            database,
            f"SELECT count(*) FROM {table} x WHERE NOT EXISTS (SELECT 1 FROM DEMOGRAPHIC d "
            "WHERE d.HADM_ID = x.HADM_ID AND d.SUBJECT_ID = x.SUBJECT_ID)",
        )


@pytest.mark.parametrize("column", ["NAME", "GENDER", "DOB", "DOD", "EXPIRE_FLAG", "ETHNICITY", "LANGUAGE"])
def test_a_patient_stays_the_same_person(database: sqlite3.Connection, column: str) -> None:
    several = "SELECT SUBJECT_ID FROM DEMOGRAPHIC GROUP BY SUBJECT_ID HAVING count(*) > 1"
    assert database.execute(several).fetchall()
    changing = f"count(DISTINCT ifnull({column}, '')) > 1"
    assert not database.execute(
        f"SELECT SUBJECT_ID FROM DEMOGRAPHIC GROUP BY SUBJECT_ID HAVING {changing}"
    ).fetchall()


@pytest.mark.parametrize(
    "contradiction",
    [
        "ADMITTIME >= DISCHTIME",
        "DOB > ADMITTIME",
        "date(DOD) < date(DISCHTIME)",
        "EXPIRE_FLAG != (DOD IS NOT NULL)",
        "(DOD IS NULL) != (DOD_YEAR IS NULL)",
        "DOD_YEAR != CAST(substr(DOD, 1, 4) AS INTEGER)",
        "DOB_YEAR != CAST(substr(DOB, 1, 4) AS INTEGER)",
        "ADMITYEAR != CAST(substr(ADMITTIME, 1, 4) AS INTEGER)",
        "DAYS_STAY != CAST(julianday(DISCHTIME) - julianday(ADMITTIME) AS INTEGER)",
        "ADMITYEAR NOT BETWEEN 2100 AND 2210",
        "AGE NOT BETWEEN 0 AND 89",
        "DOB_YEAR >= 2000 AND abs(ADMITYEAR - DOB_YEAR - AGE) > 1",
        "DOB_YEAR < 2000 AND AGE != 89",
        "DOB_YEAR BETWEEN 1911 AND 2009",
        "DISCHARGE_LOCATION = 'DEAD/EXPIRED' AND (EXPIRE_FLAG = 0 OR date(DOD) != date(DISCHTIME))",
        "ADMISSION_TYPE = 'NEWBORN' AND (AGE != 0 OR MARITAL_STATUS IS NOT NULL)",
        "AGE = 0 AND ADMISSION_TYPE != 'NEWBORN'",
        "DIAGNOSIS != upper(DIAGNOSIS)",
    ],
)
def test_no_admission_contradicts_itself(database: sqlite3.Connection, contradiction: str) -> None:
    assert not [dict(row) for row in database.execute(f"SELECT * FROM DEMOGRAPHIC WHERE {contradiction}")]


def test_stays_do_not_overlap(database: sqlite3.Connection) -> None:
    assert not count(
        database,
        "SELECT count(*) FROM DEMOGRAPHIC a JOIN DEMOGRAPHIC b USING (SUBJECT_ID) "
        "WHERE a.HADM_ID != b.HADM_ID AND a.ADMITTIME <= b.ADMITTIME AND a.DISCHTIME >= b.ADMITTIME",
    )


def test_nobody_is_discharged_dead_and_comes_back(database: sqlite3.Connection) -> None:
    assert not count(
        database,
        "SELECT count(*) FROM DEMOGRAPHIC a JOIN DEMOGRAPHIC b USING (SUBJECT_ID) "
        "WHERE a.DISCHARGE_LOCATION = 'DEAD/EXPIRED' AND b.ADMITTIME > a.ADMITTIME",
    )


def test_blood_is_taken_during_the_stay(database: sqlite3.Connection) -> None:
    assert not count(
        database,
        "SELECT count(*) FROM LAB JOIN DEMOGRAPHIC USING (HADM_ID) "
        "WHERE CHARTTIME < substr(ADMITTIME, 1, 16) OR CHARTTIME > DISCHTIME",
    )


def test_the_very_old_are_born_in_the_nineteenth_century(database: sqlite3.Connection) -> None:
    born = [row[0] for row in database.execute("SELECT DOB_YEAR FROM DEMOGRAPHIC WHERE DOB_YEAR < 1950")]
    assert born
    assert all(1800 <= year <= 1910 for year in born)


def test_codes_and_titles_agree_with_the_lists(database: sqlite3.Connection) -> None:
    for table, name in (("DIAGNOSES", "diagnoses"), ("PROCEDURES", "procedures")):
        listed = {(row["code"], row["short_title"], row["long_title"]) for row in vocabulary.read(name)}
        found = {
            tuple(row) for row in database.execute(f"SELECT ICD9_CODE, SHORT_TITLE, LONG_TITLE FROM {table}")
        }
        assert found <= listed


def test_men_bear_no_children(database: sqlite3.Connection) -> None:
    for gender, other in (("M", "female"), ("F", "male")):
        foreign = {row["long_title"] for row in vocabulary.read("diagnoses") if row["patients"] == other}
        found = database.execute(
            "SELECT DISTINCT LONG_TITLE FROM DIAGNOSES JOIN DEMOGRAPHIC USING (HADM_ID) WHERE GENDER = ?",
            (gender,),
        )
        assert foreign
        assert not foreign & {row[0] for row in found}


@pytest.mark.parametrize(
    ("name", "key", "at_least"),
    [
        ("diagnoses", "code", 300),
        ("diagnoses", "short_title", 300),
        ("procedures", "code", 180),
        ("procedures", "short_title", 180),
        ("drugs", "code", 200),
        ("lab_items", "item_id", 150),
        ("lab_items", "label", 150),
        ("admission_diagnoses", "diagnosis", 150),
        ("names", "name", 400),
    ],
)
def test_the_lists_are_long_and_without_repetition(name: str, key: str, at_least: int) -> None:
    entries = [row[key] for row in vocabulary.read(name)]
    assert len(entries) >= at_least
    assert len(set(entries)) == len(entries)
    assert all(entry == entry.strip() and entry for row in vocabulary.read(name) for entry in row.values())


def test_short_titles_fit_icd9s_twenty_four_characters() -> None:
    titles = [row["short_title"] for name in ("diagnoses", "procedures") for row in vocabulary.read(name)]
    assert not [title for title in titles if len(title) > 24]


def test_the_seed_decides_everything() -> None:
    assert generate_tables(30, seed=1) == generate_tables(30, seed=1)
    assert generate_tables(30, seed=1) != generate_tables(30, seed=2)


@pytest.mark.parametrize("admissions", [1, 2, 17])
def test_makes_exactly_as_many_admissions_as_asked(admissions: int) -> None:
    assert len(generate_tables(admissions, seed=0)["DEMOGRAPHIC"]) == admissions


def test_written_and_in_memory_cohorts_are_equal(tmp_path: Path) -> None:
    path = write_cohort(tmp_path / "new" / "cohort.sqlite", admissions=20, seed=5)
    write_cohort(path, admissions=20, seed=5)
    assert [file.name for file in path.parent.iterdir()] == ["cohort.sqlite"]
    with closing(sqlite3.connect(path)) as written, closing(in_memory(generate_tables(20, seed=5))) as memory:
        for table in TABLES:
            assert (
                written.execute(f"SELECT * FROM {table}").fetchall()
                == memory.execute(f"SELECT * FROM {table}").fetchall()
            )


def test_a_hundred_admissions_take_less_than_a_second(tmp_path: Path) -> None:
    start = time.process_time()
    write_cohort(tmp_path / "cohort.sqlite", admissions=100, seed=0)
    assert time.process_time() - start < 1


def test_what_the_lists_give_a_column_is_all_that_it_holds(database: sqlite3.Connection) -> None:
    listed = listed_values()
    for (table, column), values in listed.items():
        held = database.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL")
        assert {row[0] for row in held} <= set(values), (table, column)
    assert WORDS - {Column(*name) for name in listed} == {Column("DEMOGRAPHIC", "NAME")}
