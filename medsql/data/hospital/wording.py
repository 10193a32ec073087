"""Says a query in English the way MIMICSQL's annotators did: in lower case, tersely, not always neatly.

Sentences come from `vocabulary/frames.tsv`, the wording of a condition from `phrases.tsv`, other
words for coded values from `spoken.tsv`. Where a frame has a slot such as `<who>`, a condition is
put there in that form: `adj` before "patients", `post` behind it, `who` as a predicate, `whose`
with its column named.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable

from medsql.data.hospital import vocabulary
from medsql.data.hospital.cohort import Choice
from medsql.data.hospital.queries import Condition, Query, name_of

_SLOT = re.compile(r"<(adj|post|who|whose)>")

VERBATIM_SHARE = 0.45
"""How often a coded value with other words for it (MARRIED, SNF) is nevertheless said as it is stored."""

SAID_BY_LONG_TITLE = 0.1
"""How often a title's abbreviation is asked for by the title in full."""


class Wording:
    """Turns queries into questions; the titles let a short title be said by its long one."""

    def __init__(self) -> None:
        self._frames = _frames()
        self._phrases: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for row in vocabulary.read("phrases"):
            self._phrases[row["column"], row["condition"], row["form"]].append(row["phrase"])
        self._spoken: dict[tuple[str, str], list[str]] = defaultdict(list)
        for row in vocabulary.read("spoken"):
            self._spoken[row["column"], row["value"]].append(row["spoken"])
        titles = [row for name in ("diagnoses", "procedures") for row in vocabulary.read(name)]
        self._long_titles = {row["short_title"]: row["long_title"] for row in titles}
        # "had colonoscopy" would leave open which of two equal titles is meant: these name their column.
        self._same_titles = {short for short, long in self._long_titles.items() if short == long}

    def question(self, rng: random.Random, query: Query) -> str:
        """One of the many ways to ask for `query`."""
        if not query.aggregate:
            text = self._lookup(rng, query)
        elif query.aggregate == "COUNT":
            text = self._fill(rng, f"count{len(query.conditions)}", query.conditions)
            text = text.replace("<request>", self._one(rng, "request"))
            text = text.replace("<how>", self._one(rng, "how"))
        else:
            text = self._fill(rng, f"aggregate{len(query.conditions)}", query.conditions)
            opening = self._one(rng, name_of(query.columns[0]))
            text = text.replace("<of>", opening).replace("<measure>", self._one(rng, "measure"))
            text = text.replace("<aggregate>", self._one(rng, query.aggregate))
        return _as_typed(rng, text)

    def _lookup(self, rng: random.Random, query: Query) -> str:
        (key,) = query.conditions
        columns = [self._one(rng, f"column {column}") for column in query.columns]
        rng.shuffle(columns)
        special = f"lookup {query.columns[0]}"
        kind = special if len(columns) == 1 and special in self._frames and rng.random() < 0.3 else "lookup"
        text = self._one(rng, kind).replace("<columns>", " and ".join(columns))
        # Patients are called the same in every table that has their SUBJECT_ID.
        known = key.column if key.column in self._frames else f"DEMOGRAPHIC.{name_of(key.column)}"
        value = key.value if rng.random() < 0.1 else self._say(rng, key)
        return text.replace("<key>", self._one(rng, known).replace("{v}", value))

    def _one(self, rng: random.Random, kind: str) -> str:
        return self._frames[kind].one(rng)

    def _fill(self, rng: random.Random, kind: str, conditions: tuple[Condition, ...]) -> str:
        """A frame whose slots the conditions can fill, in either order, filled."""
        while True:
            parts = _SLOT.split(self._one(rng, kind))
            ordered = rng.sample(conditions, len(conditions))
            ways = [self._ways(*pair) for pair in zip(ordered, parts[1::2], strict=True)]
            if all(ways):
                break
        parts[1::2] = [
            self._put(rng, rng.choice(way), condition) for way, condition in zip(ways, ordered, strict=True)
        ]
        return "".join(parts)

    def _ways(self, condition: Condition, form: str) -> list[str]:
        """The phrases for exactly this value where there are some, or else for any value."""
        special = self._phrases.get((condition.column, condition.operator + condition.value, form))
        ways = special or self._phrases.get((condition.column, condition.operator, form), [])
        if name_of(condition.column).endswith("_TITLE") and condition.value in self._same_titles:
            return [way for way in ways if " title" in way]
        return ways

    def _put(self, rng: random.Random, phrase: str, condition: Condition) -> str:
        phrase = _mistyped(rng, phrase) if rng.random() < 0.01 else phrase
        raw = condition.value.removesuffix(".0").lower()
        return phrase.replace("{raw}", raw).replace("{v}", self._say(rng, condition))

    def _say(self, rng: random.Random, condition: Condition) -> str:
        """The value in the words of somebody who types it from memory or from the screen."""
        value, name = condition.value, name_of(condition.column)
        spoken = self._spoken.get((condition.column, value))
        if spoken and (name == "GENDER" or rng.random() >= VERBATIM_SHARE):
            return rng.choice(spoken)
        if name == "SHORT_TITLE" and rng.random() < SAID_BY_LONG_TITLE:
            return self._long_titles[value].lower()
        share, ways = _RETOLD.get(name, (0.0, []))
        if retold := [told for way in ways if (told := way(value)) != value]:
            value = rng.choice(retold) if rng.random() < share else value
        if ways and len(value) > 12 and rng.random() < 0.02:
            value = _mistyped(rng, value)
        return value.removesuffix(".0").lower()


def _frames() -> dict[str, Choice[str]]:
    weights: dict[str, dict[str, float]] = defaultdict(dict)
    for row in vocabulary.read("frames"):
        weights[row["kind"]][row["frame"]] = float(row["weight"])
    return {kind: Choice(list(frames), list(frames.values())) for kind, frames in weights.items()}


def _unspecified_first(title: str) -> str:
    """`Anemia, unspecified` is said as `unspecified anemia`."""
    if title.startswith("Unspecified") or not title.endswith(", unspecified"):
        return title
    return f"unspecified {title.removesuffix(', unspecified')}"


def _plain_brackets(text: str) -> str:
    return text.replace("[", "(").replace("]", ")")


def _no_brackets(text: str) -> str:
    return re.sub(r"\s*[\[(][^\])]*[\])]\s*", " ", text).strip()


def _no_commas(text: str) -> str:
    return text.replace(",", "")


def _name_last(label: str) -> str:
    """`Creatinine, Urine` is said as `urine creatinine`."""
    name, comma, kind = label.partition(", ")
    return f"{kind} {name}" if comma else label


def _separated_by(separator: str) -> Callable[[str], str]:
    """An admission diagnosis without the clerk's `\\`, `;` and `/SDA` (same-day admission)."""
    return lambda text: re.sub(r"\s*[\\;]\s*", separator, text).replace(" /SDA", "/SDA")


def _without_sda(text: str) -> str:
    return re.sub(r"\s*/SDA$", "", text)


def _words_in_full(text: str) -> str:
    """`Heart valve replac NEC` in words, as far as the abbreviations are known."""
    return " ".join(_ABBREVIATIONS.get(word, word) for word in text.split(" "))


def _some_words_in_full(text: str) -> str:
    """The same, but the last abbreviation, often NEC or NOS, stays."""
    words = text.split(" ")
    known = [at for at, word in enumerate(words) if word in _ABBREVIATIONS]
    return " ".join(_ABBREVIATIONS[word] if at in known[:-1] else word for at, word in enumerate(words))


_ABBREVIATIONS = {row["short"]: row["full"] for row in vocabulary.read("abbreviations")}

# Column → how often a value is retold where one of the ways applies, and the ways.
_RETOLD: dict[str, tuple[float, list[Callable[[str], str]]]] = {
    "LONG_TITLE": (0.5, [_unspecified_first, _plain_brackets, _no_brackets, _no_commas]),
    "SHORT_TITLE": (0.5, [_words_in_full, _some_words_in_full]),
    "LABEL": (0.5, [_name_last, _no_brackets, _no_commas]),
    "DRUG": (0.3, [_no_brackets]),
    "DIAGNOSIS": (
        0.8,
        [*map(_separated_by, ("/", " or ", " ", "; ", " and ")), _without_sda, _words_in_full],
    ),
}


def _mistyped(rng: random.Random, text: str) -> str:
    """One longer word loses a letter, or swaps two that stand side by side."""
    words = [word.span() for word in re.finditer(r"[A-Za-z]{6,}", text)]
    if not words:
        return text
    start, end = rng.choice(words)
    at = rng.randrange(start + 1, end - 1)
    swapped = text[at + 1] + text[at] if rng.random() < 0.5 else text[at + 1]
    return text[:at] + swapped + text[at + 2 :]


def _as_typed(rng: random.Random, text: str) -> str:
    """Capitals and final punctuation as in MIMICSQL: a quarter begins upper case, a few have no full stop."""
    text = " ".join(text.split()).replace(" 1 days", " 1 day")
    text = re.sub(r"\ban (?=[^aeiou])", "a ", text)
    # Where a phrase meets a value ("had joint fluid" + "fluid lab test"), nobody says a word twice.
    text = re.sub(r"\b([a-z]{2,}) \1\b", r"\1", text)
    if rng.random() < 0.05:
        text = text.rstrip("?")
    elif not text.endswith("?"):
        text += "?" if text.startswith(("what", "which", "how")) else "."
    return text[0].upper() + text[1:] if rng.random() < 0.25 else text
