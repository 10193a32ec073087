"""What the model is shown, to the letter."""

import hashlib
from pathlib import Path

import pytest

from medsql.config import PROMPTS, SettingsError
from medsql.data.prompts import prompt_template, render

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "prompt_report.txt"
REPORT_SHA256 = "89daec0e047e6ae01b8ca6fb0b22936e17d6d5f8564908b95cdc40e81069730d"


def test_the_report_prompt_is_the_published_one():
    assert hashlib.sha256(prompt_template("report").encode()).hexdigest() == REPORT_SHA256


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"the published prompt is not at {PUBLISHED}")
def test_the_report_prompt_is_the_file_it_was_copied_from():
    assert prompt_template("report") == PUBLISHED.read_text("utf-8").removesuffix("\n")


def test_the_schema_prompt_says_the_same_with_the_columns_that_the_sql_uses():
    report, schema = prompt_template("report").splitlines(), prompt_template("schema").splitlines()
    assert schema[0] == report[0]
    assert len(schema) == len(report)
    assert schema[2] == (
        "Table DIAGNOSES has columns such as SUBJECT_ID, HADM_ID, ICD9_CODE, SHORT_TITLE, LONG_TITLE."
    )
    assert schema[-1].startswith("Table LAB has columns such as SUBJECT_ID, HADM_ID, ITEMID, CHARTTIME, ")
    assert schema[-1].endswith(", LABEL, FLUID, CATEGORY. | question: {question}")
    # The same number of columns in each table, under other names.
    assert [line.count(",") for line in schema] == [line.count(",") for line in report]
    for descriptive, real in (
        ("DATE_OF_BIRTH", "DOB"),
        ("DRUG_NAME", "DRUG"),
        ("ADMISSION_YEAR", "ADMITYEAR"),
    ):
        assert descriptive not in "\n".join(schema)
        assert real in "\n".join(schema)


def test_the_question_prompt_has_no_schema():
    assert render(prompt_template("question"), "how many patients?") == "translate to SQL: how many patients?"


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("question", ["what is {this}?", "{question}", "{0} {} }{", r"a \1 backslash"])
def test_questions_arrive_unchanged_whatever_they_hold(name, question):
    prompt = render(prompt_template(name), question)
    assert prompt.startswith("" if name == "none" else "translate to SQL: ")
    assert prompt.endswith(question)
    assert len(prompt) == len(prompt_template(name)) - len("{question}") + len(question)


def test_an_unknown_prompt_names_the_known_ones():
    with pytest.raises(SettingsError, match=r"data\.prompt=shema: choose one of report, schema, question"):
        prompt_template("shema")


def test_without_a_prompt_the_question_stands_alone():
    assert render(prompt_template("none"), "translate to SQL: who?") == "translate to SQL: who?"
