"""Of the beams, the first that runs is taken; on a user's own database, the first that finds something."""

import sqlite3

import pytest

from medsql.errors import UserError
from medsql.sql.choice import Chooser, flaw

NO_COLUMN = "SELECT LAB.WARD FROM LAB"
NO_SQL = "SELECT SELECT"
NOTHING = 'SELECT LAB.FLUID FROM LAB WHERE LAB."FLUID" = "Ink"'
NONE_COUNTED = 'SELECT COUNT ( * ) FROM LAB WHERE LAB."FLUID" = "Ink"'
BLOOD = 'SELECT LAB.FLUID FROM LAB WHERE LAB."FLUID" = "Blood"'
TWICE = f'{BLOOD} AND LAB."FLUID" = "Blood"'
OUTPUT_TWICE = "SELECT LAB.FLUID, LAB.FLUID FROM LAB"
JOINED = "FROM DEMOGRAPHIC INNER JOIN LAB on DEMOGRAPHIC.HADM_ID = LAB.HADM_ID"
IDLE = f"SELECT DEMOGRAPHIC.AGE {JOINED}"
COUNTED = 'SELECT COUNT ( * ) FROM LAB WHERE LAB."FLUID" = "Blood"'


@pytest.fixture
def own(tmp_path):
    with sqlite3.connect(tmp_path / "own.db") as connection:
        connection.execute("CREATE TABLE LAB (FLUID TEXT)")
        connection.execute("INSERT INTO LAB VALUES ('Blood')")
    return tmp_path / "own.db"


@pytest.mark.parametrize(
    ("beams", "taken", "runs", "verdicts"),
    [
        ([BLOOD, NO_SQL], 0, True, ("ok",)),
        ([NO_COLUMN, NO_SQL, NOTHING, BLOOD], 2, True, ("unknown column LAB.WARD", "syntax error", "ok")),
        ([TWICE, NO_SQL, BLOOD], 2, True, ("repeats itself", "syntax error", "ok")),
        ([NO_SQL, OUTPUT_TWICE, TWICE], 1, True, ("syntax error", "repeats itself", "repeats itself")),
        ([IDLE, TWICE, BLOOD], 2, True, ("idle table", "repeats itself", "ok")),
        ([NO_COLUMN, NO_SQL], 0, False, ("unknown column LAB.WARD", "syntax error")),
        ([""], 0, False, ("syntax error",)),
    ],
)
def test_the_first_beam_that_runs_is_taken_whatever_it_finds(beams, taken, runs, verdicts):
    assert Chooser()(beams) == (taken, runs, verdicts)


def test_of_beams_that_run_the_next_best_is_an_ungrounded_one_and_with_a_database_one_that_finds_nothing(own):
    grounded = {NOTHING: True, NONE_COUNTED: True}.get
    assert Chooser()([TWICE, BLOOD], grounded) == (1, True, ("repeats itself", "ungrounded"))
    assert Chooser()([IDLE, BLOOD], grounded) == (1, True, ("idle table", "ungrounded"))
    choice = Chooser(own)([NOTHING, TWICE, BLOOD, NONE_COUNTED], grounded)
    assert choice == (2, True, ("empty", "repeats itself", "ungrounded", "empty"))
    elsewhere = "SELECT LAB.LABEL FROM LAB"  # a column that this database lacks
    assert Chooser(own)([elsewhere, NOTHING]) == (1, True, ("unknown column LAB.LABEL", "empty"))
    assert Chooser(own)([NOTHING, TWICE]) == (1, True, ("empty", "repeats itself"))
    assert Chooser(own)([f'{NOTHING} AND LAB."FLUID" = "Ink"', NOTHING]) == (1, True, ("empty", "empty"))


@pytest.mark.parametrize("sql", [BLOOD, f'{BLOOD} AND LAB."FLUID" = "Ink"', f"{TWICE} OR 1 = 1", "SELECT 1"])
def test_what_is_said_once_does_not_repeat_itself(sql):
    assert flaw(sql) is None


@pytest.mark.parametrize(
    ("sql", "idle"),
    [
        (IDLE, True),
        (f'SELECT COUNT ( * ) {JOINED} WHERE DEMOGRAPHIC."AGE" < "50"', True),
        (f"SELECT LAB.FLUID {JOINED}", False),
        (f'SELECT COUNT ( * ) {JOINED} WHERE LAB."FLUID" = "Blood"', False),
        (f"SELECT FLUID {JOINED}", False),  # of which table, the name does not say
        ("SELECT d.AGE FROM DEMOGRAPHIC d INNER JOIN LAB l on d.HADM_ID = l.HADM_ID", True),
        ("SELECT DEMOGRAPHIC.AGE FROM DEMOGRAPHIC", False),
        (f"SELECT * {JOINED}", False),  # which shows the columns of both
        (f'{IDLE} AND LAB."FLUID" = "Blood"', False),  # a condition of the join's
        (IDLE.replace("LAB on", '(SELECT HADM_ID FROM LAB WHERE FLUID = "Blood") AS LAB on'), False),
        (NO_SQL, False),
    ],
)
def test_a_table_is_idle_where_nothing_but_the_join_names_it(sql, idle):
    assert flaw(sql) == ("idle table" if idle else None)


@pytest.mark.parametrize(
    ("beams", "taken", "verdicts"),
    [
        ([NO_COLUMN, NOTHING, NONE_COUNTED, COUNTED, BLOOD], 3, ("empty", "empty", "ok")),
        ([NOTHING, BLOOD], 1, ("empty", "ok")),
        ([NO_SQL, NOTHING, NONE_COUNTED], 1, ("syntax error", "empty", "empty")),  # none finds anything
        (["SELECT LAB.LABEL FROM LAB", BLOOD], 1, ("unknown column LAB.LABEL", "ok")),  # not in this database
        (["SELECT LAB.LABEL FROM LAB"], 0, ("unknown column LAB.LABEL",)),
    ],
)
def test_on_a_database_the_first_that_finds_something_is_taken_and_else_the_first_that_runs(
    own, beams, taken, verdicts
):
    choice = Chooser(own)(beams)
    assert (choice.beam, choice.runs) == (taken, True)
    assert choice.verdicts[-len(verdicts) :] == verdicts


def test_more_rows_than_are_handed_out_are_something(tmp_path):
    with sqlite3.connect(tmp_path / "large.db") as connection:
        connection.execute("CREATE TABLE LAB (FLUID TEXT)")
        connection.executemany("INSERT INTO LAB VALUES (?)", [("Blood",)] * 100_001)
    assert Chooser(tmp_path / "large.db")(["SELECT LAB.FLUID FROM LAB", BLOOD]).beam == 0


def test_beams_cannot_harm_the_database(own):
    content = own.read_bytes()
    choice = Chooser(own)(["DELETE FROM LAB", "DROP TABLE LAB", BLOOD])
    assert choice.verdicts == ("forbidden: DELETE", "forbidden: DROP", "ok")
    assert own.read_bytes() == content


def test_a_database_that_is_none_is_the_users_error(tmp_path):
    (tmp_path / "none.db").write_text("none")
    for name in ("none.db", "nowhere.db"):
        with pytest.raises(UserError, match=name):
            Chooser(tmp_path / name)
