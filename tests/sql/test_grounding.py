"""Which queries have no text value but known ones and such as stand in the question, and what was copied."""

import pytest

from medsql.sql.closest import KnownValues
from medsql.sql.grounding import copied_name, is_grounded
from medsql.sql.parts import Column

VALUES = {
    Column("LAB", "FLUID"): KnownValues(["Blood", "Pleural"], {}),
    Column("LAB", "LABEL"): KnownValues(["Glucose", "Hemoglobin", "Sample"], {}),
}
JOINED = "FROM DEMOGRAPHIC INNER JOIN LAB on DEMOGRAPHIC.HADM_ID = LAB.HADM_ID WHERE"


@pytest.mark.parametrize(
    ("condition", "grounded"),
    [
        ('LAB."FLUID" = "Blood"', True),  # known
        ('LAB."FLUID" = "blood"', False),  # only once it is repaired
        ('LAB."FLUID" = "Pleural, LEFT-side"', True),  # asked for
        ('LAB."FLUID" = "Blood" AND LAB."LABEL" = "Blood"', False),  # of another column
        ('LAB."CATEGORY" = "Chemistry"', False),  # nothing is known of the column
        ('LAB."CATEGORY" = "Side"', True),
        ('LAB."CATEGORY" = "SAMPLE"', False),  # asked for, but known of another column
        ('LAB."LABEL" = "Sample"', True),
        ('LAB."FLUID" IN ("Blood", "Ink")', False),
        ('LAB."FLUID" = "Ple"', False),  # whole words only
        ('LAB."FLUID" = "-"', False),
        ('DEMOGRAPHIC."AGE" < "50" AND LAB."FLUID" LIKE "Ink"', True),  # no literals of words
        ('LAB."FLUID" = ', False),
    ],
)
def test_a_query_is_grounded_where_its_values_are_known_or_asked_for(condition, grounded):
    asked = "how many have a pleural left side sample?"
    assert is_grounded(f"SELECT AGE {JOINED} {condition}", asked, VALUES) == grounded


@pytest.mark.parametrize(
    ("name", "asked", "copied"),
    [
        ("Scoan Brock", "birth date of patient brian brock.", "brian brock"),
        ("brianBrock", "birth date of patient brian brock.", "brian brock"),  # a blank was lost
        ("Brain Brock", "what is brian brock's age?", "brian brock"),
        ("Brain Brock", 'the age of ("brian brock"), please', "brian brock"),
        ("Amelia OBrien", "is amelia o'brien married?", "amelia o'brien"),
        ("Ann-Mary Jon", "is ann-marie jones married?", "ann-marie jones"),
        ("Brian Brock", "how many patients are there?", None),
        ("Brian", "", None),
        ("", "how many - or none ?", None),
    ],
)
def test_a_name_was_copied_from_the_words_that_it_is_most_like(name, asked, copied):
    assert copied_name(name, asked) == copied
