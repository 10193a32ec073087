"""Double-quoted literals become single-quoted ones; nothing else changes."""

import sqlite3
import time

import pytest

from medsql.sql.dialect import to_sqlite


@pytest.mark.parametrize(
    ("mimicsql", "sqlite"),
    [
        ('SELECT LAB."FLUID" FROM LAB', 'SELECT LAB."FLUID" FROM LAB'),
        ('LAB."FLUID" = "Urine"', "LAB.\"FLUID\" = 'Urine'"),
        (
            'DEMOGRAPHIC."AGE" <= "7" AND LAB."FLAG" != "delta"',
            "DEMOGRAPHIC.\"AGE\" <= '7' AND LAB.\"FLAG\" != 'delta'",
        ),
        ('T."A"="x"', "T.\"A\"='x'"),
        ('T."A" LIKE "x%"', "T.\"A\" LIKE 'x%'"),
        ("T.\"A\" = 'single already'", "T.\"A\" = 'single already'"),
        ('T."A" = "Crohn\'s disease"', "T.\"A\" = 'Crohn''s disease'"),
        ('T."A" = "14"" needle"', 'T."A" = \'14" needle\''),
        ('T."A" = "pH < "', "T.\"A\" = 'pH < '"),
        ('T."A" = "weight = ""low"" \\ or (so)"', 'T."A" = \'weight = "low" \\ or (so)\''),
        ('T."A" = \'he said = "no"\'', 'T."A" = \'he said = "no"\''),
        ('T."A" = "U"."B"', 'T."A" = "U"."B"'),
        ('T."A" = "x" AND "B" = "y"', "T.\"A\" = 'x' AND \"B\" = 'y'"),
        ('T."A" IN ( "x" , "it\'s" ) AND "B" = 1', "T.\"A\" IN ( 'x' , 'it''s' ) AND \"B\" = 1"),
        ('T."A" NOT IN ("U"."B", "x")', 'T."A" NOT IN ("U"."B", "x")'),
        ('T."A" BETWEEN "1" AND "2" AND "B" = 3', "T.\"A\" BETWEEN '1' AND '2' AND \"B\" = 3"),
        ('MIN ( "A" )', 'MIN ( "A" )'),
        ('T."A" = "never closed', 'T."A" = "never closed'),
        ("", ""),
    ],
)
def test_only_literals_behind_a_comparison_change(mimicsql: str, sqlite: str) -> None:
    assert to_sqlite(mimicsql) == sqlite


def test_a_literal_that_is_also_a_column_is_compared_as_text() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute('CREATE TABLE PRESCRIPTIONS ("DRUG" TEXT, "ROUTE" TEXT)')
    connection.execute("INSERT INTO PRESCRIPTIONS VALUES ('Baclofen', 'ROUTE')")
    found = connection.execute(
        to_sqlite('SELECT PRESCRIPTIONS."DRUG" FROM PRESCRIPTIONS WHERE PRESCRIPTIONS."ROUTE" = "ROUTE"')
    )
    assert found.fetchall() == [("Baclofen",)]


def test_ten_thousand_queries_take_less_than_two_seconds() -> None:
    sql = 'SELECT AVG ( LAB."ITEMID" ) FROM LAB WHERE LAB."FLUID" = "Urine" AND LAB."ITEMID" >= "51000"'
    start = time.perf_counter()
    for _ in range(10_000):
        to_sqlite(sql)
    assert time.perf_counter() - start < 2
