"""Further versions of training rows, with other values in question and SQL together.

Where the same few values come again and again, a model can recall them; where they change at random, only
copying them from the question is right. A value is replaced where the question holds it word for word, case
aside, and nowhere else twice. What takes its place is another value of its column, from the training rows or
the synthetic hospital's tables, or an invented one.
"""

from __future__ import annotations

import random
import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache
from itertools import combinations
from typing import Any, NamedTuple

from sqlglot import tokenize
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType

from medsql.data.corpus.values import invented_word
from medsql.data.hospital.cohort import generate_tables
from medsql.data.pairs import Pair
from medsql.sql.parts import Column
from medsql.sql.schema import TABLES

INVENTED = 0.5
"""How often a value is invented; the others are known ones of the column."""

INVENTED_WORDS = 0.4
"""How many words of an invented title are no words at all; the others are those of the column's titles."""

CODED = frozenset(
    {
        *("GENDER", "MARITAL_STATUS", "LANGUAGE", "RELIGION", "ETHNICITY", "INSURANCE", "EXPIRE_FLAG"),
        *("ADMISSION_TYPE", "ADMISSION_LOCATION", "DISCHARGE_LOCATION", "DRUG_TYPE", "ROUTE"),
        *("FLAG", "FLUID", "CATEGORY"),
    }
)
"""MIMICSQL's columns of few, fixed values: others of these take a value's place, never an invented one."""

ADMISSIONS = 300
"""Of the hospital whose tables list values: enough for nearly all of its diagnoses, procedures and drugs."""

TRIES = 10
"""Draws of other values for a row before it is left without."""

DAYS = 3650
"""How far an invented date may lie from the one it replaces, either way."""

_COMPARISONS = {TokenType.EQ, TokenType.NEQ, TokenType.LT, TokenType.LTE, TokenType.GT, TokenType.GTE}
_LITERALS = {TokenType.IDENTIFIER, TokenType.STRING, TokenType.NUMBER}
_WHOLE = re.compile(r"\d{1,9}(\.0)?", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?", re.ASCII)


class _Literal(NamedTuple):
    """A value that a column is compared with, and where it starts and ends in the SQL, quotes included."""

    column: Column
    value: str
    start: int
    end: int


class _Place(NamedTuple):
    """A literal that can be replaced, and where it starts and ends in the question."""

    literal: _Literal
    start: int
    end: int


def augmented(pairs: Sequence[Pair], versions: float, seed: int) -> tuple[list[Pair], dict[str, Any]]:
    """`versions` further versions of each pair, and a record of them; with 0.5, of every second pair.

    A function of its arguments alone, the same on every machine. No version is one of `pairs`, or another
    version. The record has the number of `rows`, and under `missed` those that could not be made, by reason:
    `not_sql` (no tokens of SQL), `no_value` (no comparison with one), `not_in_question` (no value there word
    for word), `more_than_once` (in the question twice, or within another value), `one_character` (a coded
    value as short as that may be any other word), `elsewhere_in_sql` (in a pattern, a list or a limit, which
    would say something else then), `no_other_value` (none was found that is another row).
    """
    literals = [_literals(pair.sql) for pair in pairs]
    values = _Values(literal for found in literals for literal in found or [])
    rows: list[Pair] = []
    missed: Counter[str] = Counter()
    taken = set(pairs)
    for number, (pair, found) in enumerate(zip(pairs, literals, strict=True)):
        wanted = int((number + 1) * versions) - int(number * versions)
        places, reason = _places(pair, found) if wanted else ([], "")
        rng = random.Random(f"{seed} {number}")
        for _ in range(wanted):
            other = _version(pair, places, found or [], values, rng, taken) if places else None
            if other is None:
                missed["no_other_value" if places else reason] += 1
            else:
                taken.add(other)
                rows.append(other)
    return rows, {"versions": versions, "rows": len(rows), "missed": dict(missed)}


# ---- where values stand -------------------------------------------------------------------------


def _literals(sql: str) -> list[_Literal] | None:
    """The literals that columns are compared with, in order; `None` where there is no telling.

    Tokens are enough for that: they say where a literal stands, and a tree takes seven times as long.
    """
    try:
        tokens = tokenize(sql, read="sqlite")
    except SqlglotError:
        return None
    found = []
    for name, operator, literal in zip(tokens, tokens[1:], tokens[2:], strict=False):
        named = name.token_type is TokenType.IDENTIFIER or name.text.isidentifier()
        joined = sql[literal.end + 1 :].lstrip().startswith(".")  # `= "PROCEDURES"."HADM_ID"`
        compared = operator.token_type in _COMPARISONS and literal.token_type in _LITERALS
        if compared and named and not joined and literal.text.strip():
            column = Column(_table_before(sql, name.start), name.text.upper())
            found.append(_Literal(column, literal.text, literal.start, literal.end + 1))
    return found


def _table_before(sql: str, start: int) -> str:
    """The table in `TABLE."COLUMN"`, where the column starts at `start`."""
    table = re.search(r'(\w+)"?\s*\.\s*$', sql[:start])
    return table[1].upper() if table else ""


def _places(pair: Pair, literals: list[_Literal] | None) -> tuple[list[_Place], str]:
    """What can be replaced; where that is nothing, why, in one of the words of `augmented`."""
    if not literals:
        return [], "not_sql" if literals is None else "no_value"
    reasons, places = [], []
    for literal in literals:
        found = _said(pair.question, literal)
        coded = literal.column.name in CODED and len(literal.value) < 2
        if coded or len(found) != 1:
            reasons.append("one_character" if coded else "more_than_once" if found else "not_in_question")
        elif any(_stands_elsewhere(pair.sql, form, literals) for form in _forms(literal)):
            reasons.append("elsewhere_in_sql")
        else:
            places.append(_Place(literal, *found[0]))
    clear = [place for place in places if not any(_overlap(place, other) for other in places)]
    if len(clear) < len(places):
        reasons.append("more_than_once")
    # The reason that comes nearest to a replacement.
    order = ("not_in_question", "one_character", "more_than_once", "elsewhere_in_sql")
    return clear, "" if clear else max(reasons, key=order.index)


def _stands_elsewhere(sql: str, value: str, literals: list[_Literal]) -> bool:
    """Whether the SQL has a value in another place than in what its columns are compared with."""
    return any(
        not any(literal.start <= start < literal.end for literal in literals)
        for start, _ in _spans(sql, value)
    )


def _overlap(one: _Place, other: _Place) -> bool:
    return one is not other and one.start < other.end and other.start < one.end


def _said(question: str, literal: _Literal) -> list[tuple[int, int]]:
    """Where the question says a value."""
    return next(filter(None, (_spans(question, form) for form in _forms(literal))), [])


def _forms(literal: _Literal) -> tuple[str, str]:
    """A value as it is and as it is said: years of death, real numbers, without their `.0`."""
    return literal.value, _said_form(literal.column, literal.value)


def _said_form(column: Column, value: str) -> str:
    return value.removesuffix(".0") if column.type == "REAL" else value


def _spans(question: str, value: str) -> list[tuple[int, int]]:
    """Where a value stands in a question, case aside: whole words, and no part of `1.5`, `x-ray` or `n/a`."""
    mark = r"[-./,:'’]"
    pattern = rf"(?<!\w)(?<!\w{mark}){re.escape(value)}(?!\w)(?!{mark}\w)"
    return [match.span() for match in re.finditer(pattern, question, re.IGNORECASE)]


# ---- other values -------------------------------------------------------------------------------


def _version(
    pair: Pair,
    places: list[_Place],
    literals: list[_Literal],
    values: _Values,
    rng: random.Random,
    taken: set[Pair],
) -> Pair | None:
    """The pair with another value in each of `places`, or `None` where no draw gives a new, clear row."""
    replaced = {place.literal for place in places}
    kept = [literal.value.casefold() for literal in literals if literal not in replaced]
    for _ in range(TRIES):
        others = [values.other(rng, place.literal) for place in places]
        said = [_in_question(pair.question, *each) for each in zip(places, others, strict=True)]
        question = _spliced(pair.question, [(p.start, p.end, s) for p, s in zip(places, said, strict=True)])
        stored = [_quoted(pair.sql, p.literal, other) for p, other in zip(places, others, strict=True)]
        sql = _spliced(
            pair.sql, [(p.literal.start, p.literal.end, s) for p, s in zip(places, stored, strict=True)]
        )
        version = Pair(question, sql)
        changed = all(o.casefold() != p.literal.value.casefold() for p, o in zip(places, others, strict=True))
        distinct = len({*kept, *(other.casefold() for other in others)}) == len({*kept}) + len(others)
        clear = all(len(_spans(question, each)) == 1 for each in said) and not any(
            one in other for one, other in _both_ways(map(str.casefold, said))
        )
        if changed and distinct and clear and version not in taken:
            return version
    return None


def _both_ways(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    for one, other in combinations(texts, 2):
        yield one, other
        yield other, one


def _spliced(text: str, parts: list[tuple[int, int, str]]) -> str:
    """`text` with each stretch from `start` to `end` replaced."""
    for start, end, part in sorted(parts, reverse=True):
        text = text[:start] + part + text[end:]
    return text


def _quoted(sql: str, literal: _Literal, value: str) -> str:
    """A value in the quotes that the literal has there, or in none."""
    quote = sql[literal.start]
    return f"{quote}{value.replace(quote, 2 * quote)}{quote}" if quote in "\"'" else value


def _in_question(question: str, place: _Place, other: str) -> str:
    """The other value in the case of the one that it takes the place of; of a number, in the question's."""
    said = question[place.start : place.end]
    other = _said_form(place.literal.column, other)
    if said.upper() == said.lower():
        return other.lower() if question.islower() else other
    return other if said == place.literal.value and not said.islower() else _in_case_of(said, other)


def _in_case_of(model: str, text: str) -> str:
    """`text` in lower case, capitals or Title Case where `model` is, else as it is."""
    cases: tuple[tuple[Callable[[str], bool], Callable[[str], str]], ...] = (
        (str.islower, str.lower),
        (str.isupper, str.upper),
        (str.istitle, string.capwords),
    )
    return next((change(text) for is_case, change in cases if is_case(model)), text)


class _Values:
    """What columns hold: the values of `literals`, those of the hospital's tables, and invented ones."""

    def __init__(self, literals: Iterable[_Literal]) -> None:
        known: dict[Column, set[str]] = defaultdict(set)
        for literal in literals:
            known[literal.column].add(literal.value)
        listed = _listed()
        self._known = {column: sorted(found | listed.get(column, set())) for column, found in known.items()}
        self._range = {column: _range(found) for column, found in self._known.items()}

    def other(self, rng: random.Random, literal: _Literal) -> str:
        """A value for the literal's column, by chance the same one again."""
        known = self._known[literal.column]
        if literal.column.name in CODED or rng.random() >= INVENTED:
            return rng.choice(known)
        return self._invented(rng, literal.column, literal.value, known)

    def _invented(self, rng: random.Random, column: Column, value: str, known: list[str]) -> str:
        if column.type in ("", "INTEGER", "REAL") and _WHOLE.fullmatch(value):
            return str(rng.randint(*self._range[column])) + (".0" if value.endswith(".0") else "")
        if _TIME.fullmatch(value):
            return _other_time(rng, value)
        if " " not in value and any(character.isdigit() for character in value):
            return _other_code(rng, value)
        count = len(value.split() if column.name == "NAME" else rng.choice(known).split())
        share = 1.0 if column.name == "NAME" else INVENTED_WORDS
        words = [
            invented_word(rng) if rng.random() < share else _lower(rng.choice(rng.choice(known).split()))
            for _ in range(count)
        ]
        text = " ".join(words).strip(" ,;")
        return _in_case_of(value, text[:1].upper() + text[1:])


def _lower(word: str) -> str:
    """A word as it stands within a title: abbreviations keep their capitals."""
    return word if word.isupper() else word.lower()


def _range(values: Iterable[str]) -> tuple[int, int]:
    numbers = [int(float(value)) for value in values if _WHOLE.fullmatch(value)]
    return (min(numbers), max(numbers)) if numbers else (0, 0)


def _other_time(rng: random.Random, value: str) -> str:
    """Another day, and where there is a time of day that is not midnight, another one."""
    form = "%Y-%m-%d %H:%M:%S" if " " in value else "%Y-%m-%d"
    try:
        moment = datetime.strptime(value, form) + timedelta(days=rng.randint(-DAYS, DAYS))
    except (ValueError, OverflowError):  # the 31st of February, or the year 0
        return value
    if moment.strftime("%H:%M:%S") != "00:00:00":
        moment = moment.replace(hour=rng.randrange(24), minute=rng.randrange(60))
    return f"{moment.year:04d}" + moment.strftime(form.removeprefix("%Y"))


def _other_code(rng: random.Random, value: str) -> str:
    """Other digits and letters in the same places; a first digit other than 0 stays so."""

    def other(character: str, first: bool) -> str:
        if character in string.digits:
            return rng.choice(string.digits[first and character != "0" :])
        alphabets = (string.ascii_uppercase, string.ascii_lowercase)
        return rng.choice(next((letters for letters in alphabets if character in letters), character))

    return "".join(other(character, at == 0) for at, character in enumerate(value))


@cache
def _listed() -> dict[Column, set[str]]:
    """The values in a synthetic hospital's tables, as a query would write them."""
    listed: dict[Column, set[str]] = defaultdict(set)
    for table, rows in generate_tables(ADMISSIONS, seed=0).items():
        for name, column in zip(TABLES[table], zip(*rows, strict=True), strict=True):
            listed[Column(table, name)].update(str(value) for value in column if value is not None)
    return dict(listed)
