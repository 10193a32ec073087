"""Values are known from queries and from a user's database, of columns whose values are words."""

import sqlite3

import pytest

from medsql.errors import UserError
from medsql.sql.known_values import (
    WORDS,
    merged,
    read_values,
    text_columns,
    values_in_database,
    values_in_queries,
)
from medsql.sql.parts import Column
from medsql.sql.schema import MIMICSQL

FLUID, LABEL = Column("LAB", "FLUID"), Column("LAB", "LABEL")


def test_queries_tell_what_columns_of_words_are_compared_with():
    where = 'SELECT LAB."FLUID" FROM LAB WHERE LAB."{}'
    values, unread = values_in_queries(
        [
            where.format('FLUID" = "Blood" AND LAB."ITEMID" = "50809" AND LAB."CHARTTIME" = "2100-01-01"'),
            where.format('FLUID" IN (\'Urine\', "Blood") AND NOT LAB.LABEL <> "Glucose"'),
            where.format('FLUID" LIKE "%ucus" AND LAB."LABEL" > "A"'),
            "SELECT LAB.FLUID FROM WARD WHERE WARD.FLUID = 'Ink'",
            "no query",
        ],
        WORDS,
    )
    assert (values, unread) == ({FLUID: ["Blood", "Urine"], LABEL: ["Glucose"]}, 1)


def test_values_are_read_from_a_file_and_checked(tmp_path):
    path = tmp_path / "values.json"
    path.write_text('{"LAB.FLUID": ["Blood"]}')
    assert read_values(path, MIMICSQL) == {FLUID: ["Blood"]}
    path.write_text('{"lab.fluid": ["Blood"], "Lab.Fluid": ["Urine", "Blood"]}')
    assert read_values(path, MIMICSQL) == {FLUID: ["Blood", "Urine"]}
    unusable = ("{", "[]", '{"LAB.FLUIDS": ["x"]}', '{"LAB.FLUID": []}', '{"LAB.FLUID": ["a\\"b"]}')
    twice, half = '{"LAB.FLUID": ["a"], "LAB.FLUID": ["b"]}', '{"LAB.FLUID": ["\\ud800"]}'
    for text in (*unusable, twice, half, "[" * 100_000):
        path.write_text(text)
        with pytest.raises(UserError, match=r"values\.json"):
            read_values(path, MIMICSQL)


def test_text_columns_are_those_that_sqlite_takes_for_text():
    columns = text_columns(MIMICSQL)
    assert {FLUID, LABEL, Column("DEMOGRAPHIC", "DOB")} <= columns
    assert not {Column("DEMOGRAPHIC", "AGE"), Column("DEMOGRAPHIC", "DOD_YEAR")} & columns


def test_a_database_tells_the_distinct_values_and_what_it_lacks(tmp_path):
    with sqlite3.connect(tmp_path / "own.db") as connection:
        connection.execute("CREATE TABLE LAB (FLUID TEXT, LABEL TEXT, ITEMID TEXT)")
        connection.executemany(
            "INSERT INTO LAB VALUES (?, ?, ?)",
            [("Blood", None, "1"), ("Urine", None, "2"), ("Blood", 5, "3")],
        )
    values, lacking = values_in_database(tmp_path / "own.db")
    assert set(values[FLUID]) == {"Blood", "Urine"} and values[LABEL] == ["5"]
    assert not {column for column, texts in values.items() if texts} - {FLUID, LABEL}
    assert lacking["LAB.FLAG"] == "unknown column LAB.FLAG"
    assert lacking["DIAGNOSES.LONG_TITLE"] == "unknown table DIAGNOSES"
    assert len(lacking) == len(WORDS) - 2
    with pytest.raises(UserError, match=r"nowhere\.db"):
        values_in_database(tmp_path / "nowhere.db")


def test_sources_add_up_and_the_first_comes_first():
    found = merged([{FLUID: ["Urine", "Blood"]}, {LABEL: ["Glucose"], FLUID: ["Blood", "Pus"]}])
    assert found == {FLUID: ["Urine", "Blood", "Pus"], LABEL: ["Glucose"]}
