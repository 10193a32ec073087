"""Answers questions with SQL: `python -m medsql.predict "how many patients are older than 65?"`."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from medsql.config import PredictSettings, SettingsError
from medsql.data.pairs import checked_question, trimmed
from medsql.door import door
from medsql.errors import UserError
from medsql.wording import counted

if TYPE_CHECKING:
    from medsql.text_to_sql import Answer

log = logging.getLogger(__name__)

STDIN = "-"
"""The argument that stands for the lines of standard input."""

SHOWN = 3
"""Lines that are no text, said one by one; the others are only counted."""

OVERRIDE = re.compile(r"(\+\+?|~)?[a-z][\w./@]*=|~[a-z][\w./@]*$", re.ASCII)
"""How a setting begins: a key, and no blank before its `=`."""


def main() -> None:
    """Write each question's SQL to standard output, one a line, and everything else to standard error."""
    if {"-m", "--multirun"} & set(sys.argv):
        sys.exit("medsql: -m runs a sweep, and predicting has none: leave it out")
    questions, sys.argv[1:] = told_apart(sys.argv[1:])
    door("predict")(partial(predict, questions))()


def told_apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Questions, and settings for Hydra, which never sees a question and so cannot trip over its signs.

    A setting is what `OVERRIDE` says; `question=TEXT` is a question whatever it looks like. Where there are
    options of Hydra's, as `--cfg job`, nothing else is a question.
    """
    options = any(argument.startswith("-") and argument != STDIN for argument in arguments)
    questions, settings = [], []
    for argument in arguments:
        if argument.startswith("question="):
            questions.append(argument.removeprefix("question="))
        elif options or OVERRIDE.match(argument):
            settings.append(argument)
        else:
            questions.append(argument)
    return questions, settings


def predict(arguments: list[str], settings: PredictSettings, folder: Path) -> None:
    """Questions → SQL, written as batches are ready. Raises `UserError` for lines left unanswered."""
    asked = Asked(arguments, settings.file)
    questions = iter(asked)
    first = next(questions, None)  # a mistake in what is asked is found before a model is loaded
    if first is None:
        raise UserError(f"there is no question: {asked.passed_over() or 'nothing was read'}")
    from medsql.text_to_sql import TextToSql

    if asked.at_a_terminal:
        settings = replace(settings, decode=replace(settings.decode, batch_size=1))
    model = TextToSql(settings)
    answered, said = 0, Counter[str]()
    try:
        for answer in model.answers(chain([first], questions)):
            write_line(as_json(answer, settings.rows) if settings.output == "json" else one_line(answer.sql))
            answered += 1
            said.update(remarks(answer))
    except BrokenPipeError:  # as `head` leaves when it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own last flush
        log.info("nobody reads on: stopped after %s", counted(answered, "question"))
    for remark, count in said.items():
        log.warning("%d of %d %s", count, answered, remark)
    if asked.unreadable:
        raise UserError(f"{asked.passed_over()}; the others are answered")


def write_line(line: str) -> None:
    """One line of standard output, in UTF-8 whatever the locale is, and at once."""
    sys.stdout.buffer.write(line.encode() + b"\n")
    sys.stdout.buffer.flush()


def as_json(answer: Answer, rows: int | None) -> str:
    """An answer as one line, with the first `rows` of its result."""
    return json.dumps(answer.row(rows), ensure_ascii=False)


def one_line(sql: str) -> str:
    """`sql` without line ends, of which a blank takes the place."""
    return " ".join(sql.splitlines())


def remarks(answer: Answer) -> Iterator[str]:
    """What is to be said of an answer, as counts of it end the command."""
    if answer.input_truncated:
        yield "questions were cut at data.max_input_tokens"
    if answer.prediction.truncated:
        yield "queries were cut at their most tokens, which decode.max_new_tokens sets"
    if not answer.valid:
        yield "queries do not run on the schema; output=json says why"
    elif answer.result is not None and not answer.result.ok:
        yield "queries do not run on the database; output=json says why"


class Asked:
    """The questions: those typed, then those of `file`, and where neither is given those of standard input.

    Lines that are empty or no UTF-8 are passed over; both are counted and logged.
    Raises `UserError` at once for a typed question that is empty or no text, and where nothing is asked.
    """

    def __init__(self, arguments: Sequence[str], file: str | None) -> None:
        self.empty = self.unreadable = 0
        self._file = file
        # One that was closed is like one where nobody types.
        self._terminal = sys.stdin is None or sys.stdin.isatty()
        if not arguments and file is None:
            if self._terminal:
                raise SettingsError(
                    'there is no question: python -m medsql.predict "how many patients are older than 65?", '
                    "file=FILE with one a line, or - for standard input"
                )
            arguments = [STDIN]
        self._typed = [
            text if text == STDIN else checked_question(text, number)
            for number, text in enumerate(arguments, start=1)
        ]

    @property
    def at_a_terminal(self) -> bool:
        """Whether somebody types there and waits for each answer."""
        return STDIN in self._typed and self._terminal

    def __iter__(self) -> Iterator[str]:
        for text in self._typed:
            if text == STDIN and sys.stdin is not None:
                log.info("reading questions from standard input, one a line")
                yield from self._lines(sys.stdin.buffer, "standard input")
            elif text != STDIN:
                yield text
        if self._file is not None:
            with Path(self._file).open("rb") as lines:
                yield from self._lines(lines, self._file)

    def _lines(self, lines: BinaryIO, name: str) -> Iterator[str]:
        empty = 0
        for number, line in enumerate(lines, start=1):
            try:
                question = trimmed(line.decode("utf-8-sig"))
            except UnicodeDecodeError:
                self.unreadable += 1
                if self.unreadable <= SHOWN:
                    log.warning("%s:%d: no UTF-8 text, passed over", name, number)
                continue
            empty += not question
            if question:
                yield question
        self.empty += empty
        if empty:
            log.warning("%s: %s passed over", name, counted(empty, "empty line"))

    def passed_over(self) -> str:
        """How many lines were, in words."""
        counts = {"empty": self.empty, "no UTF-8 text": self.unreadable}
        return ", ".join(f"lines that are {what}: {count}" for what, count in counts.items() if count)


if __name__ == "__main__":
    main()
