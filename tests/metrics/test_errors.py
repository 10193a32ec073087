"""Every wrong prediction gets the patterns that a reader of SQL would name."""

import json
import random
import time
from itertools import pairwise
from pathlib import Path

import pytest

from medsql.data.hospital import synthetic_splits
from medsql.metrics.errors import PATTERNS, REPORT_CLASSES, REPORT_SHARES, error_patterns, summarize
from medsql.metrics.intervals import share
from medsql.metrics.logical import logical_form

GOLD = (
    'SELECT COUNT ( DISTINCT DEMOGRAPHIC."SUBJECT_ID" ) FROM DEMOGRAPHIC '
    "INNER JOIN LAB on DEMOGRAPHIC.HADM_ID = LAB.HADM_ID "
    'WHERE DEMOGRAPHIC."AGE" < "61" AND LAB."FLUID" = "Ascites"'
)
ONE = 'SELECT LAB."LABEL" FROM LAB WHERE '


def labelled() -> list[tuple[str, str, list[str]]]:
    """Gold query, query and labels (none for a right one) of each row of the hand-labelled file."""
    text = Path(__file__).with_name("wrong_queries.tsv").read_text(encoding="utf-8")
    rows, gold = [], ""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        labels, sql = line.split("\t")
        if labels == "gold":
            gold = sql
        else:
            rows.append((gold, sql, [] if labels == "right" else labels.split("; ")))
    return rows


ROWS = labelled()


@pytest.mark.parametrize(("gold", "sql", "labels"), ROWS)
def test_patterns_are_those_of_the_labelled_set(gold: str, sql: str, labels: list[str]) -> None:
    assert set(error_patterns(sql, gold)) == set(labels), sql


def test_the_labelled_set_covers_every_pattern_and_combinations() -> None:
    labels = [labels for _, _, labels in ROWS if labels]
    assert len(labels) >= 90
    assert all(sum(name in row for row in labels) >= 4 for name in PATTERNS)
    assert {name for row in labels for name in row} == set(PATTERNS)
    assert {1, 2, 3} <= {len(row) for row in labels}
    assert all(error_patterns(gold, gold) == [] for gold, _, _ in ROWS)


def test_patterns_come_in_the_order_of_reports_and_once_each() -> None:
    for gold, sql, _ in ROWS:
        found = error_patterns(sql, gold)
        assert found == [name for name in PATTERNS if name in found]


def test_a_prediction_is_wrong_where_its_logical_form_is_another() -> None:
    for gold, sql, _ in ROWS:
        assert (error_patterns(sql, gold) == []) is logical_form(sql, gold)


# ---- truncation and gold that does not parse ----------------------------------------------------


@pytest.mark.parametrize(
    "prediction",
    [
        GOLD[: GOLD.index("WHERE") + 5],
        GOLD[: GOLD.index("LAB.HADM_ID") + 4],
        GOLD[:-1],
        GOLD[: GOLD.index("FLUID") + 2],
        GOLD.replace("WHERE ", "WHERE ( "),
        "SELECT",
        "SELECT '",
        "SELECT `LA",
    ],
)
def test_what_ends_inside_the_grammar_or_a_quote_is_truncated(prediction: str) -> None:
    assert error_patterns(prediction, GOLD) == ["unparsable", "truncated"]


@pytest.mark.parametrize(
    "prediction", ["", " ", "patients under 61 with", GOLD.replace(" )", ""), "DROP TABLE LAB", "SELECT 1;;x"]
)
def test_what_does_not_parse_for_another_reason_is_only_unparsable(prediction: str) -> None:
    assert error_patterns(prediction, GOLD) == ["unparsable"]
    assert error_patterns(prediction, GOLD, truncated=True) == ["unparsable", "truncated"]


def test_a_query_that_generation_cut_short_may_still_parse() -> None:
    prediction = GOLD.split(" AND ")[0]
    assert error_patterns(prediction, GOLD) == ["missing condition"]
    assert error_patterns(prediction, GOLD, truncated=True) == ["missing condition", "truncated"]
    assert error_patterns(GOLD, GOLD, truncated=True) == []


def test_beside_a_gold_query_that_does_not_parse_all_is_other() -> None:
    assert error_patterns(GOLD, "SELECT COUNT (") == ["other"]
    assert error_patterns("SELECT COUNT (", "SELECT COUNT (") == ["unparsable", "truncated"]


# ---- rules that the labelled set leaves open ----------------------------------------------------


def test_columns_are_unknown_only_where_the_schema_is_known() -> None:
    gold = "SELECT t.age FROM t WHERE t.sex = 'f'"
    assert error_patterns("SELECT t.years FROM t WHERE t.sex = 'f'", gold) == ["wrong column"]
    # The report's own reference holds a column that exists nowhere.
    report = GOLD.replace('"AGE"', '"ADMIT_YEAR"')
    assert error_patterns(report.replace("Ascites", "ascites"), report) == ["string literal: case"]
    # What the query names itself is no column of a table.
    assert error_patterns(f'{ONE}LAB."FLAG" = "x" ORDER BY n', f'{ONE}LAB."FLAG" = "x"') == ["unknown column"]
    named = 'SELECT LAB."LABEL" AS n FROM LAB WHERE LAB."FLAG" = "x"'
    assert error_patterns(f"{named} ORDER BY n", named) == ["other"]


@pytest.mark.parametrize(
    ("one", "other", "patterns"),
    [
        # lists and ranges
        ('LAB."FLAG" IN ("a", "b")', 'LAB."FLAG" IN ("b", "delta")', ["string literal: other"]),
        ('LAB."FLAG" IN ("abnormal", "b")', 'LAB."FLAG" IN ("b", "abnormaly")', ["string literal: near"]),
        ('LAB."FLAG" IN ("a", "b")', 'LAB."FLAG" IN ("a")', ["string literal: other"]),
        ('LAB."FLAG" IN ("a", "b")', 'LAB."FLAG" NOT IN ("a", "b")', ["operator"]),
        ('LAB."ITEMID" BETWEEN 1 AND 5', 'LAB."ITEMID" BETWEEN 1 AND 6', ["number or date literal"]),
        ('LAB."ITEMID" BETWEEN 1 AND 5', 'LAB."ITEMID" > 1 AND LAB."ITEMID" < 5', ["operator"]),
        # a letter inside a word says nothing, one at its start may
        ('LAB."FLAG" = "m"', 'LAB."FLAG" = "female"', ["string literal: other"]),
        ('LAB."FLAG" = "f"', 'LAB."FLAG" = "female"', ["string literal: near"]),
        ('LAB."FLAG" = ""', 'LAB."FLAG" = "female"', ["string literal: other"]),
        # negative numbers
        ('LAB."VALUE_UNIT" > "5"', 'LAB."VALUE_UNIT" > -5', ["number or date literal"]),
        # what OR and NOT connect
        ('LAB."FLAG" = "a" OR LAB."FLUID" = "b"', 'LAB."FLAG" = "a" AND LAB."FLUID" = "b"', ["operator"]),
        ('LAB."FLAG" = "a" OR LAB."FLUID" = "b"', 'LAB."FLAG" = "a"', ["missing condition"]),
        ('NOT ( LAB."FLAG" = "a" )', 'LAB."FLAG" = "a"', ["operator"]),
        ('LAB."FLAG" IS NULL', 'LAB."FLAG" IS NOT NULL', ["operator"]),
        # subqueries are one operand
        (
            'LAB."ITEMID" > ( SELECT MAX ( LAB."ITEMID" ) FROM LAB )',
            'LAB."ITEMID" > ( SELECT MIN ( LAB."ITEMID" ) FROM LAB )',
            ["other"],
        ),
        (
            'LAB."ITEMID" IN ( SELECT LAB."ITEMID" FROM LAB WHERE LAB."FLAG" = "a" )',
            'LAB."ITEMID" > "5"',
            ["operator"],
        ),
        # two letters are in many words
        ('LAB."FLAG" = "ab"', 'LAB."FLUID" = "abnormal"', ["missing condition", "extra condition"]),
        ('LAB."FLAG" = "abnormal"', 'LAB."FLUID" = "Abnormals"', ["wrong column", "string literal: near"]),
    ],
)
def test_conditions_of_any_kind_are_compared(one: str, other: str, patterns: list[str]) -> None:
    assert error_patterns(ONE + other, ONE + one) == patterns


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Heparin Sodium", "Docusate Sodium"),
        ("Mitral valve disorder", "Aortic valve stenosis"),
        ("SELF PAY", "SELF REFERRAL"),
    ],
)
def test_values_that_share_words_are_still_other_values(one: str, other: str) -> None:
    found = error_patterns(f'{ONE}LAB."FLAG" = "{other}"', f'{ONE}LAB."FLAG" = "{one}"')
    assert found == ["string literal: other"]


def test_an_order_without_meaning_is_no_error_beside_another_error() -> None:
    prediction = GOLD.replace("FROM DEMOGRAPHIC INNER JOIN LAB", "FROM LAB INNER JOIN DEMOGRAPHIC")
    assert error_patterns(prediction.replace("<", ">"), GOLD) == ["operator"]
    times = ONE + 'LAB."CHARTTIME" IN ("2142-03-09", "2142-03-10") AND LAB."FLAG" = "a"'
    other = ONE + 'LAB."FLAG" != "a" AND LAB."CHARTTIME" IN ("2142-03-10", "2142-03-09")'
    assert error_patterns(other, times) == ["operator"]


def test_where_a_join_is_written_does_not_matter() -> None:
    comma = GOLD.replace(
        "INNER JOIN LAB on DEMOGRAPHIC.HADM_ID = LAB.HADM_ID WHERE", ", LAB WHERE LAB.HADM_ID"
    )
    comma = comma.replace("WHERE LAB.HADM_ID", "WHERE LAB.HADM_ID = DEMOGRAPHIC.HADM_ID AND")
    assert error_patterns(comma, GOLD) == ["other"]
    assert error_patterns(GOLD.replace(" WHERE", " AND"), GOLD) == ["other"]
    assert error_patterns(GOLD.replace("INNER", "CROSS").replace(" on DEMOGRAPHIC.HADM_ID = LAB.HADM_ID", ""),
                          GOLD) == ["wrong table or join"]  # fmt: skip


def test_other_kinds_of_query_do_not_disturb() -> None:
    for prediction in (
        f"{GOLD} UNION {GOLD}",
        f"WITH x AS ( {GOLD} ) SELECT * FROM x",
        f"SELECT * FROM ( {GOLD} )",
        "SELECT 1",
    ):
        found = error_patterns(prediction, GOLD)
        assert found
        assert "unparsable" not in found


# ---- robustness and speed -----------------------------------------------------------------------


def odd_strings() -> list[str]:
    draw = random.Random(0)
    pieces = [*GOLD.split(), *"()'\"`[];,.*%-\0\ud800é<>", "NOT", "OR", "IN (", "BETWEEN", "LIKE", "SELECT",
              "UNION", "(SELECT", "CASE WHEN", "NULL", "EXISTS (", "JOIN", "LEFT JOIN", "USING (HADM_ID)",
              "--", "/*", "WITH x AS ("]  # fmt: skip
    built = [" ".join(draw.choices(pieces, k=draw.randint(0, 25))) for _ in range(1500)]
    edited = []
    for _ in range(1500):
        words = GOLD.split(" ")
        for _ in range(draw.randint(1, 3)):
            words[draw.randrange(len(words))] = draw.choice(pieces)
        edited.append(" ".join(words))
    deep = [GOLD + " AND " + "(" * n + "1" + ")" * n for n in (5, 50, 90, 1000, 5000)]
    deep += ["SELECT 1 WHERE " + "NOT " * n + "1" for n in (50, 90, 1000, 5000)]
    long = [GOLD + ' OR LAB."FLAG" = "x"' * 80, GOLD.replace("Ascites", "Ascites" * 5000), "x" * 100_000]
    return ["", " ", "\0", "\ud800", *deep, *long, *built, *edited]


def test_no_text_makes_it_raise() -> None:
    for sql in odd_strings():
        for prediction, gold in ((sql, GOLD), (GOLD, sql)):
            found = error_patterns(prediction, gold)
            assert set(found) <= set(PATTERNS)
            assert (found == []) is logical_form(prediction, gold)


def test_a_thousand_predictions_take_seconds() -> None:
    golds = sorted({pair.sql for split in synthetic_splits(20, 200, 1).values() for pair in split})
    pairs = [(f"{one} AND LAB.ITEMID = {n}", gold) for n in range(5) for one, gold in pairwise(golds)]
    start = time.process_time()
    for prediction, gold in pairs:
        assert error_patterns(prediction, gold)
    assert (time.process_time() - start) / len(pairs) < 0.02  # some 2 ms on a free core


# ---- summary ------------------------------------------------------------------------------------


def test_shares_are_of_wrong_predictions_and_overlap() -> None:
    summary = summarize(
        [["operator", "time condition"], ["operator"], ["wrong column", "unknown column"], ["other"]]
    )
    low, high = share(2, 4)[1:3]
    assert summary["wrong"] == 4
    assert list(summary["patterns"]) == [
        "unknown column",
        "wrong column",
        "operator",
        "time condition",
        "other",
    ]
    assert summary["patterns"]["operator"] == {"count": 2, "value": 0.5, "low": low, "high": high}
    classes = summary["report_classes"]
    assert {name: row["count"] for name, row in classes.items()} == {
        "column names": 1,  # two of its patterns in one prediction are one error
        "string literals": 0,
        "condition logic": 2,
        "time": 1,
        "schema ambiguity": 0,
    }
    assert classes["time"]["claimed"] == 0.15
    assert json.loads(json.dumps(summary)) == summary


def test_nothing_wrong_has_no_shares() -> None:
    assert summarize([]) == {"wrong": 0, "patterns": {}, "report_classes": {}}


def test_the_reports_classes_are_of_known_patterns_and_add_up() -> None:
    assert REPORT_CLASSES.keys() == REPORT_SHARES.keys()
    assert sum(REPORT_SHARES.values()) == pytest.approx(1)
    members = [name for names in REPORT_CLASSES.values() for name in names]
    assert len(members) == len(set(members))
    assert set(members) <= set(PATTERNS)
