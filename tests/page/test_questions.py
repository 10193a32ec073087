"""What is typed into the page is answered, doubted or refused in words that people understand."""

from __future__ import annotations

from contextlib import closing

import pytest

from medsql.data.hospital.cohort import generate_tables, in_memory
from medsql.data.splits import load_splits
from medsql.errors import UserError
from medsql.page.questions import LONGEST, checked, checked_reference, doubts, samples
from medsql.sql.database import Sandbox

REPORTS = [
    "Count patients with diabetes",
    "Show female patients over 65",
    "List heart disease medications",
    "Emergency room admissions",
    "Average patient age",
]


def test_the_samples_begin_with_the_reports_five_and_show_each_kind_once():
    assert [sample.question for sample in samples()[:5]] == REPORTS
    kinds = [sample.kind for sample in samples()]
    assert len(set(kinds)) == len(kinds) == 15


def test_every_other_sample_has_sql_that_finds_something_in_the_bundled_hospital(settings):
    data = settings("demo").data
    with closing(Sandbox(in_memory(generate_tables(data.admissions, data.seed)))) as hospital:
        for sample in samples()[5:]:
            result = hospital.run(sample.sql)
            assert result.ok and result.finds_something(counts=True), sample


def test_no_sample_is_among_the_rows_that_a_run_on_the_bundled_data_learns_from(settings):
    trained = {pair.question for pair in load_splits(settings("train").data).train}
    assert trained and trained.isdisjoint(sample.question for sample in samples())


def test_a_question_is_put_on_one_line():
    assert checked("  how many\n\n patients\tare ther\u0065\u0301? ") == "how many patients are theré?"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no question yet"),
        (" \n\t ", "no question yet"),
        ("how many? " * LONGEST, "9,999 characters long"),
        ("how many\0?", "control characters"),
        ("\ud800 patients", "half a character"),
    ],
)
def test_what_is_no_question_is_refused_in_one_line(text, says):
    with pytest.raises(UserError, match=says) as error:
        checked(text)
    assert "\n" not in str(error.value)


def test_a_reference_may_be_empty_but_not_endless():
    assert checked_reference(None) == "" == checked_reference(" \n")
    with pytest.raises(UserError, match="longer than the 10,000 bytes"):
        checked_reference("SELECT " + "é" * 5000)


@pytest.mark.parametrize(
    "question",
    [
        "¿Cuántos pacientes hay con diabetes?",
        "combien de patients ont plus de 65 ans?",
        "Wie viele Patienten sind älter als 65?",
        "quanti pazienti sono più vecchi di 65 anni?",
        "сколько пациентов старше 65 лет?",
        "有多少女性患者?",
    ],
)
def test_another_language_is_doubted(question):
    assert "English" in doubts(question)[0]


@pytest.mark.parametrize("question", ["DROP TABLE LAB", "x'; DELETE FROM LAB", "select AGE from DEMOGRAPHIC"])
def test_sql_in_place_of_a_question_is_doubted(question):
    assert "looks like SQL" in " ".join(doubts(question))


def test_what_holds_no_word_is_doubted():
    assert "no word" in doubts("12345 ???")[0]


def test_english_is_not_doubted(settings):
    asked = [pair.question for pair in load_splits(settings("train").data).validation]
    asked += [sample.question for sample in samples()]
    assert [question for question in asked if doubts(question)] == []
