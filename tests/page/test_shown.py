"""What the page shows of answers, from answers alone: no browser, no Gradio and no model is needed."""

from __future__ import annotations

from typing import Any

import pytest

from medsql.config import SCORES
from medsql.metrics.execution import Execution
from medsql.metrics.scores import row_scores
from medsql.page import shown
from medsql.page.asking import BASELINE, TUNED, Turn
from medsql.runs.pages import Table
from medsql.sql.database import Sandbox

RIGHT = "SELECT LAB.FLUID FROM LAB"
HOSTILE = '<img src=x onerror="alert(1)">'


def answer(
    sql: str = RIGHT, rows: tuple[tuple[Any, ...], ...] = (("Blood",),), **facts: Any
) -> dict[str, Any]:
    """An answer as `Answer.row` gives it."""
    judged = Sandbox.empty().run(sql)
    result = {"verdict": judged.verdict, "reason": judged.reason, "milliseconds": 0.1}
    result |= {"columns": ("FLUID",), "rows": rows, "found": len(rows)}
    row = {"sql": sql, "truncated": False, "input_truncated": False, "milliseconds": 1234.5}
    row |= {"valid": judged.ok, "verdict": judged.verdict, "reason": judged.reason, "result": result}
    return row | facts


def turn(baseline: dict[str, Any], tuned: dict[str, Any] | None = None, **facts: Any) -> Turn:
    answers = {BASELINE: baseline} | ({TUNED: tuned} if tuned else {})
    shared: dict[str, Any] = {"number": 1, "question": "which?", "asked_of": "run, beam", "answers": answers}
    return Turn(**shared | facts)


def test_both_models_stand_beside_each_other_with_time_verdict_and_rows():
    page = shown.answers(turn(answer("SELECT X FROM LAB"), answer()))
    assert page.count("<article>") == 2 and BASELINE in page and TUNED in page
    assert "not valid: unknown column X" in page and "valid: it parses" in page
    assert "1,234 ms" in page or "1,235 ms" in page
    assert "<td>Blood</td>" in page and "1 row (0.1 ms)" in page


def test_differences_are_from_the_other_model_and_from_the_reference_where_there_is_one():
    pair = answer("SELECT LAB.FLAG FROM LAB"), answer()
    assert "other model's query" in shown.answers(turn(*pair)).replace("&#39;", "'")
    gold = Sandbox.empty().run(RIGHT)
    scores = {
        name: row_scores(each["sql"], RIGHT, Execution()) for name, each in zip((BASELINE, TUNED), pair)
    }
    page = shown.answers(turn(*pair, reference=RIGHT, gold=gold, scores=scores))
    assert "what the reference has not" in page
    assert page.count("<mark>") == 2, "the wrong column, and the legend"
    assert all(name.replace("_", " ").replace("f1", "F1") in page for name in SCORES)
    assert ">yes<" in page and ">no<" in page and "100.0 %" in page


def test_a_reference_that_does_not_run_is_said_to_judge_less():
    gold = Sandbox.empty().run("DROP TABLE LAB")
    scores = {BASELINE: row_scores(RIGHT, "DROP TABLE LAB", Execution())}
    page = shown.answers(turn(answer(), reference="DROP TABLE LAB", gold=gold, scores=scores))
    assert "forbidden: DROP" in page and "cannot tell" in page


def test_the_baseline_alone_is_compared_with_nothing():
    page = shown.answers(turn(answer()))
    assert "<mark>" not in page and page.count("<article>") == 1


def test_whatever_anybody_wrote_is_text():
    facts = {"columns": (HOSTILE,), "rows": ((HOSTILE,),), "found": 1}
    hostile = answer(RIGHT, result=answer()["result"] | facts) | {"sql": HOSTILE, "reason": HOSTILE}
    asked = turn(hostile, answer(), question=HOSTILE, asked_of=HOSTILE, notes=(HOSTILE,))
    row = {"index": 0, "question": HOSTILE, "patterns": [HOSTILE], "verdict": HOSTILE}
    table = Table([HOSTILE], [[HOSTILE]], HOSTILE)
    pages = [
        shown.answers(asked),
        shown.history([asked, asked]),
        shown.message(HOSTILE),
        shown.wrong([row | {"prediction": HOSTILE, "sql": HOSTILE}], HOSTILE),
        shown.tables(HOSTILE, [table], [HOSTILE]),
    ]
    assert all("onerror" in page and "<img" not in page for page in pages)


def test_of_many_rows_the_first_are_shown_and_all_are_counted():
    found = answer()["result"] | {"found": 1500, "rows": (("a",), ("b",))}
    assert "1,500 rows, the first 2 shown" in shown.answers(turn(answer(result=found)))


def test_a_long_value_is_cut_and_null_is_no_text():
    assert shown.cell("x" * 1000).endswith("…") and len(shown.cell("x" * 1000)) == shown.LONGEST_CELL + 1
    assert (shown.cell(None), shown.cell(0)) == ("NULL", "0")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (answer("SELECT X FROM LAB"), "decode=constrained"),
        (answer("SELECT FROM"), "more simply"),
        (answer(truncated=True), "one thing at a time"),
        (answer(rows=()), "decode=repaired"),
        (answer(rows=((0,),)), "decode=repaired"),
        (answer(result=answer()["result"] | {"verdict": "timed out"}), "too long"),
    ],
)
def test_what_went_wrong_is_answered_with_what_to_try(given, says):
    assert says in shown.advice(given)


def test_where_nothing_seems_wrong_nothing_is_advised():
    assert shown.advice(answer()) == "" == shown.advice(answer(result=None))


def test_the_history_has_the_newest_first_and_says_what_corrects_what():
    first, second = (
        turn(answer(), question="first?"),
        turn(answer(), number=2, question="second?", corrects=1),
    )
    page = shown.history([first, second])
    assert page.index("second?") < page.index("first?") and "instead of 1:" in page
    assert shown.history([first]).strip() == "", "it stands above in full"
