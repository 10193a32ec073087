"""Questions as they are typed into the page: samples of each kind, and what is to be said of one."""

from __future__ import annotations

import csv
import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import NamedTuple

from medsql.errors import UserError
from medsql.sql.dialect import LONGEST_SQL
from medsql.sql.parsing import parse_query

LONGEST = 1_000
"""Characters of a question; the longest of MIMICSQL's 1,000 development questions has 231."""

_ENGLISH = """
a among an and are average by did does find for from get give had has have how in is list many maximum me
mean minimum much number of old on or over patients show tell than that the their there to under was were
what when where which who whose with
"""
_OTHER_LANGUAGES = """
al aller alle avec aus beaucoup bei combien con cuales cuantas cuantos cual dans das de del der des die
dos el em en es est et haben hat hombres hommes ist jahre la las le les los mehr mit mujeres oder para
pazienti patienten pacientes par pas plus por pour quale quali quanti que qui quel quelle quels sind son
sont sur um un una und une uns viele von wie wieviel zum
"""
"""Words that are frequent in Spanish, French, German, Italian or Portuguese, without their accents."""

_STATEMENT = re.compile(
    r"\s*(DROP|ALTER|CREATE|TRUNCATE)\s+(TABLE|VIEW|INDEX)\b|\s*(DELETE\s+FROM|INSERT\s+INTO|ATTACH|PRAGMA)\b"
    r"|\s*UPDATE\s+\w+\s+SET\b|.*;\s*(DROP|DELETE|INSERT|UPDATE|ALTER|ATTACH|PRAGMA)\b",
    re.IGNORECASE | re.DOTALL,
)


class Sample(NamedTuple):
    """A question to begin with, what kind it is, and its SQL where it has one right answer.

    The published report's five (section 8.1) have none there. The others are validation rows of the bundled
    data, so no run was trained on them.
    """

    kind: str
    question: str
    sql: str


@cache
def samples() -> tuple[Sample, ...]:
    """All samples, the report's first."""
    with Path(__file__).with_name("samples.tsv").open(encoding="utf-8", newline="") as file:
        return tuple(Sample(**row) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def checked(text: str | None) -> str:
    """A question on one line. Raises `UserError`, for people to read, where there is none to answer."""
    question = _text(text or "", "question")
    if not question:
        raise UserError("There is no question yet: type one, or take a sample.")
    if len(question) > LONGEST:
        raise UserError(
            f"That is {len(question):,} characters long, and a question may have {LONGEST:,}: shorten it."
        )
    return question


def checked_reference(text: str | None) -> str:
    """The reference SQL, empty where there is none. Raises `UserError` where it cannot be one."""
    sql = _text(text or "", "reference")
    if len(sql.encode()) > LONGEST_SQL:
        raise UserError(
            f"The reference is longer than the {LONGEST_SQL:,} bytes that are looked at: shorten it."
        )
    return sql


def _text(text: str, what: str) -> str:
    """`text` in Unicode NFC, with single blanks for all white space."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"The {what} holds half a character, which is no text: type it again.") from None
    line = " ".join(unicodedata.normalize("NFC", text).split())
    if any(unicodedata.category(sign) == "Cc" for sign in line):
        raise UserError(f"The {what} holds control characters, which are no text: type it again.")
    return line


def doubts(question: str) -> list[str]:
    """What makes an answer doubtful before there is one, each a sentence."""
    found = []
    if _looks_foreign(question):
        found.append(
            "This does not look like English, the only language the models have seen: expect no sense."
        )
    if _STATEMENT.match(question) or parse_query(question) is not None:
        found.append(
            "This looks like SQL. It is taken as a question and never run; only what the models write is, "
            "in a sandbox that reads and cannot write."
        )
    if not any(sign.isalpha() for sign in question):
        found.append("There is no word in this question: expect no sense.")
    return found


def _looks_foreign(question: str) -> bool:
    """Whether most letters are not Latin, or words of other languages outnumber English ones."""
    letters = [sign for sign in question if sign.isalpha()]
    latin = sum("LATIN" in unicodedata.name(sign, "") for sign in letters)
    if 2 * latin < len(letters):
        return True
    plain = "".join(
        sign for sign in unicodedata.normalize("NFD", question) if not unicodedata.combining(sign)
    )
    words = re.findall(r"[a-z]+", plain.lower())
    english, other = (sum(word in text.split() for word in words) for text in (_ENGLISH, _OTHER_LANGUAGES))
    return other > english
