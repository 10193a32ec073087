"""What the page shows, as HTML: answers, their history, wrong predictions and tables.

Whatever a person, a model or a database wrote is text there: the templates escape it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from medsql.config import SCORES
from medsql.metrics.scores import Score
from medsql.page.asking import Turn
from medsql.page.marks import formatted, marked
from medsql.runs.labels import score_label
from medsql.runs.pages import Table

LONGEST_CELL = 200
"""Characters of a value that a table has room for."""

NO_RUN_YET = (
    "There is no finished run yet, so only the model as it is answers. `make train` makes one, `make sweep` "
    "three; load this page again when it has finished."
)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"cell": cell, "formatted": formatted, "score": score, "score_label": score_label}
    environment.globals |= {"judged": judged, "advice": advice, "compared": compared, "SCORES": SCORES}
    return environment.get_template("page.html.jinja")


def _render(macro: str, *arguments: Any) -> str:
    return str(getattr(_template().module, macro)(*arguments))


def answers(turn: Turn) -> str:
    """The newest question: each model's query beside the other's, what it finds and how it scores."""
    return _render("answers", turn)


def history(turns: Sequence[Turn]) -> str:
    """All questions of one visitor, the newest first."""
    return _render("history", list(reversed(turns)))


def message(text: str) -> str:
    """Something to tell a person, such as why there is no answer."""
    return _render("message", text)


def tables(title: str, found: Iterable[Table], notes: Iterable[str]) -> str:
    """Tables below one another, and what is to be known before they are read."""
    return _render("tables", title, list(found), list(notes))


def wrong(rows: Sequence[Mapping[str, Any]], counted: str) -> str:
    """Predictions beside their references, differences marked; `counted` says which these are of how many."""
    return _render("wrong", rows, counted)


def judged(answer: Mapping[str, Any]) -> str:
    """Whether the query can run at all, in words."""
    if answer["valid"]:
        return "valid: it parses and runs on the schema"
    names_it = answer["verdict"].startswith(("unknown", "ambiguous"))  # SQLite only says it again
    reason = f" ({answer['reason']})" if answer["reason"] and not names_it else ""
    return f"not valid: {answer['verdict']}{reason}"


def advice(answer: Mapping[str, Any]) -> str:
    """What somebody might do about an answer; nothing where nothing seems wrong with it."""
    verdict, result = answer["verdict"], answer["result"]
    if answer["truncated"]:
        return "The model was still writing when it reached its bound: ask for one thing at a time."
    if verdict.startswith(("unknown", "ambiguous")):
        return "Say it in the schema's words, or choose decode=constrained, which writes only what there is."
    if not answer["valid"]:
        return "Put it more simply, or choose decode=guided or constrained, which look for SQL that runs."
    if result and result["verdict"] == "timed out":
        return "It takes too long here: ask for less."
    if result and result["verdict"] == "ok" and _finds_nothing(result):
        return (
            "It runs and finds nothing: a value may be written otherwise in the database. Give it in full, "
            "or choose decode=repaired."
        )
    return ""


def _finds_nothing(result: Mapping[str, Any]) -> bool:
    return all(value in (None, 0) for row in result["rows"] for value in row)


def compared(turn: Turn) -> list[tuple[str, dict[str, Any], Markup]]:
    """Each model's name, its answer, and its query with what differs marked.

    It is compared with the reference, or where there is none with the other model's query.
    """
    found = []
    for name, answer in turn.answers.items():
        other = turn.reference or next(
            (turn.answers[n]["sql"] for n in turn.answers if n != name), answer["sql"]
        )
        found.append((name, answer, marked(answer["sql"], other)))
    return found


def cell(value: Any) -> str:
    """A value of a result, in the room that there is."""
    text = "NULL" if value is None else str(value)
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"


def score(value: Score) -> str:
    """A row's score: yes or no, percent, or that the reference cannot tell."""
    if value is None:
        return "cannot tell"
    return ("yes" if value else "no") if isinstance(value, bool) else f"{100 * value:.1f} %"
