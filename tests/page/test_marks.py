"""Two queries beside each other: formatted, and marked where they differ and nowhere else."""

from __future__ import annotations

import re

import pytest

from medsql.page.marks import formatted, marked

GOLD = 'SELECT COUNT ( DISTINCT LAB."HADM_ID" ) FROM LAB WHERE LAB."FLUID" = "Blood" AND LAB."LABEL" = "pH"'


def marks(sql: str, other: str) -> list[str]:
    return re.findall(r"<mark>(.*?)</mark>", marked(sql, other), re.DOTALL)


def test_a_query_is_put_on_several_lines_and_keeps_its_literals_and_names():
    lines = formatted(GOLD).splitlines()
    assert len(lines) > 3 and 'COUNT(DISTINCT LAB."HADM_ID")' in formatted(GOLD)
    assert all(text in formatted(GOLD) for text in ('"Blood"', '"pH"', 'LAB."FLUID"'))


@pytest.mark.parametrize("broken", ["SELECT COUNT ( FROM", "", "no SQL at all", "SELECT " + "(" * 5000])
def test_what_does_not_parse_stays_as_it_is(broken):
    assert formatted(broken) == broken
    assert marks(broken, broken) == []


def test_names_keep_their_quotes():
    assert formatted("SELECT `a b` AS 'total count' FROM LAB").split() == (
        ["SELECT", '"a', 'b"', "AS", '"total', 'count"', "FROM", "LAB"]
    )


def test_equal_queries_have_no_marks_however_they_are_written():
    assert marks(GOLD, GOLD.replace(" ( ", "(").replace(" )", ")").replace("SELECT", "select")) == []


def test_a_literal_that_differs_is_marked_as_a_whole_and_its_case_counts():
    assert marks(GOLD.replace("Blood", "blood of one"), GOLD) == ["&#34;blood of one&#34;"]
    assert marks(GOLD, GOLD.replace("pH", "PH")) == ["&#34;pH&#34;"]


def test_a_condition_that_the_other_lacks_is_marked_on_one_side():
    shorter = GOLD.partition(" AND ")[0]
    assert (
        "".join(marks(GOLD, shorter)) == "ANDLAB.&#34;LABEL&#34;=&#34;pH&#34;" and marks(shorter, GOLD) == []
    )


def test_whatever_is_written_is_text():
    hostile = "<script>alert(1)</script> ${1} {{ 2 }}"
    assert "<script" not in marked(hostile, "") and "<script" not in marked(hostile, hostile)


def test_a_very_long_query_is_shown_without_marks():
    assert marks("a b " * 2000, "c") == []
