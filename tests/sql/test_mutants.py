"""Mutants differ from their query in one place, and are queries."""

from collections import Counter

from medsql.sql.database import Sandbox
from medsql.sql.logical_form import normal_form
from medsql.sql.mutants import mutants

GOLD = (
    'SELECT COUNT ( DISTINCT DEMOGRAPHIC."SUBJECT_ID" ) FROM DEMOGRAPHIC INNER JOIN LAB on '
    'DEMOGRAPHIC.HADM_ID = LAB.HADM_ID WHERE DEMOGRAPHIC."AGE" < "45" AND LAB."FLUID" = "Pleural fluid"'
)


def test_every_kind_of_mutant_is_a_query_of_another_form():
    made = mutants(GOLD)
    schema = Sandbox.empty()
    assert {mutant.kind for mutant in made} == {
        "operator",
        "column",
        "value",
        "condition",
        "aggregate",
        "join",
    }
    assert all(schema.run(mutant.sql).ok for mutant in made)
    forms = Counter(normal_form(mutant.sql) for mutant in made)
    assert normal_form(GOLD) not in forms and max(forms.values()) == 1


def test_mutants_are_the_mistakes_that_a_model_makes():
    forms = {normal_form(mutant.sql) for mutant in mutants(GOLD)}
    mistakes = [
        GOLD.replace('< "45"', '<= "45"'),
        GOLD.replace('< "45"', '< "46"'),
        GOLD.replace('"45"', '"450"'),
        GOLD.replace("Pleural fluid", "pLEURAL FLUID"),
        GOLD.replace('DEMOGRAPHIC."AGE" < "45" AND ', ""),
        GOLD.replace(' AND LAB."FLUID" = "Pleural fluid"', ""),
        GOLD.replace("DISTINCT ", ""),
        GOLD.replace("COUNT", "MAX"),
    ]
    assert all(normal_form(sql) in forms for sql in mistakes)


def test_operators_that_two_values_cannot_tell_apart_make_no_mutant():
    made = mutants('SELECT COUNT(*) FROM DEMOGRAPHIC WHERE DEMOGRAPHIC."EXPIRE_FLAG" = "1"')
    operators = [mutant.sql.split("EXPIRE_FLAG")[1] for mutant in made if mutant.kind == "operator"]
    assert sorted(operators) == ["\" < '1'", "\" <= '1'", "\" <> '1'", "\" > '1'"]


def test_the_same_query_has_the_same_mutants_and_no_query_none():
    assert mutants(GOLD) == mutants(GOLD)
    assert mutants("SELECT FROM") == []
