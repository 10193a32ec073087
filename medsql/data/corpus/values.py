"""Values that nobody has seen before, each as a database stores it and as a question says it."""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

ORDERED = frozenset({"number", "amount", "year", "time"})
"""Kinds that are compared with more than equality."""


@dataclass(frozen=True)
class Value:
    """`stored` stands in the SQL and `said` in the question."""

    stored: str
    said: str


@cache
def words(name: str) -> list[str]:
    """One of the project's lists: `words`, English ones and some medical, `modifiers` of a column, or SQL's
    `keywords`."""
    return _vocabulary(f"{name}.txt").split()


@cache
def _syllables() -> dict[str, list[str]]:
    """What syllables are made of; a spelling that stands twice is likelier."""
    rows = csv.DictReader(_vocabulary("syllables.tsv").splitlines(), delimiter="\t")
    return {row["part"]: row["spellings"].split() for row in rows}


def _vocabulary(file: str) -> str:
    return files("medsql.data.corpus").joinpath("vocabulary", file).read_text("utf-8")


def invented_word(rng: random.Random) -> str:
    """A pronounceable word that means nothing."""
    parts = _syllables()

    def syllable() -> str:
        coda = rng.choice(parts["coda"]) if rng.random() < 0.6 else ""
        return rng.choice(parts["onset"]) + rng.choice(parts["vowel"]) + coda

    word = "".join(syllable() for _ in range(rng.choice((1, 1, 2, 2, 2, 3))))
    return word + rng.choice(parts["ending"]) if rng.random() < 0.4 else word


def any_word(rng: random.Random) -> str:
    """An invented word, or one of the list."""
    return invented_word(rng) if rng.random() < 0.5 else rng.choice(words("words"))


def abbreviated(rng: random.Random, word: str) -> str:
    """The word's beginning, or the word without its inner vowels; short ones, and half of all, stay."""
    way = rng.random()
    if way < 0.5 or len(word) < 5:
        return word
    if way < 0.8:
        return word[: rng.randint(3, 4)]
    return word[0] + "".join(letter for letter in word[1:] if letter not in "aeiou")


def make_value(rng: random.Random, kind: str) -> Value:
    """A value of one of `KINDS`. Raises `KeyError` on any other kind."""
    stored = _MAKERS[kind](rng)
    said = stored.removesuffix(".0") if kind == "year" else stored  # a year is never said as a real number
    if kind in ("phrase", "title", "label") and rng.random() < 0.04:
        said = said.translate(_NO_PUNCTUATION)
    return Value(stored, said.lower())


_NO_PUNCTUATION = str.maketrans(dict.fromkeys(",()[]"))


def _some_words(rng: random.Random, longest: int) -> list[str]:
    """One to `longest` words, fewer being likelier; in one text of five, words are abbreviated."""
    count = min(rng.randint(1, longest), rng.randint(1, longest))
    some = [any_word(rng) for _ in range(count)]
    return [abbreviated(rng, word) for word in some] if rng.random() < 0.2 else some


def _punctuated(rng: random.Random, parts: list[str]) -> str:
    """Words joined by spaces, here and there by a comma, hyphen, slash or bracket, or with a number."""
    text = parts[0]
    for part in parts[1:]:
        mark = rng.random()
        if mark < 0.78:
            text += f" {part}"
        elif mark < 0.86:
            text += f", {part}"
        elif mark < 0.90:
            text += f"-{part}"
        elif mark < 0.94:
            text += f"{rng.choice('/;')}{part}"
        elif mark < 0.97:
            text += f" ({part})"
        else:
            text += f" {rng.randint(1, 99)} {part}"
    return text


def _phrase(rng: random.Random) -> str:
    text = _punctuated(rng, _some_words(rng, 9))
    return text[0].upper() + text[1:]


def _label(rng: random.Random) -> str:
    return _punctuated(rng, _some_words(rng, 5)).upper()


def _title(rng: random.Random) -> str:
    return _punctuated(rng, [word.capitalize() for word in _some_words(rng, 4)])


def _person(rng: random.Random) -> str:
    return f"{invented_word(rng).capitalize()} {invented_word(rng).capitalize()}"


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def _code(rng: random.Random) -> str:
    letters = "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.randint(1, 4)))
    digits = _digits(rng, rng.randint(2, 6))
    form = rng.random()
    if form < 0.45:
        return digits
    if form < 0.75:
        return letters + digits
    if form < 0.9:
        return letters + digits + rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return f"{letters}{rng.choice('-./')}{digits}"


def _number(rng: random.Random) -> str:
    return str(rng.randrange(10 ** rng.choice((1, 2, 2, 2, 3, 4))))


def _amount(rng: random.Random) -> str:
    whole = f"{_number(rng)}.{rng.randrange(10)}" if rng.random() < 0.7 else _number(rng)
    # As doses and ranges are typed: with a unit, without, or the low end of a range.
    unit = rng.choice(("", "", "", "mm", " kg", "%", " units", "-40", " dl"))
    return whole + unit


def _year(rng: random.Random) -> str:
    # Shifted years, and the real numbers that some databases keep them as.
    return str(rng.randint(1750, 2250)) + (".0" if rng.random() < 0.05 else "")


def _time(rng: random.Random) -> str:
    day = f"{rng.randint(1950, 2220)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    return f"{day} {rng.randrange(24):02}:{rng.randrange(60):02}:{rng.choice((0, rng.randrange(60))):02}"


_MAKERS = {
    "person": _person,
    "phrase": _phrase,
    "title": _title,
    "label": _label,
    "word": any_word,
    "code": _code,
    "number": _number,
    "amount": _amount,
    "year": _year,
    "time": _time,
}

KINDS = tuple(_MAKERS)
"""What a column holds; a vocabulary's attributes name one of these."""

HEADS = {
    "person": ("name", "holder", "agent"),
    "phrase": ("description", "remark", "text"),
    "title": ("heading", "section", "department"),
    "label": ("class", "category", "state"),
    "word": ("type", "manner", "mode"),
    "code": ("code", "reference", "mark"),
    "number": ("count", "quantity", "number"),
    "amount": ("size", "dose", "measure"),
    "year": ("year",),
    "time": ("time", "moment"),
}
"""What a column of each kind may be called with, in any domain."""
