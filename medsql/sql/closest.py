"""The one of a column's known values that a literal is another writing of, by string distance."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Set
from functools import cached_property
from typing import NamedTuple

from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

Abbreviations = Mapping[str, str]
"""An abbreviation in lower case → what it is short for, one word or several."""

Words = tuple[str, ...]

# With their signs, numbers are words: <96 hours are not 96+ hours, nor is 1.25 what 1-25 is, or .5 what 5 is.
_NUMBER = r"[<>≤≥]=?|(?:(?<![^\s(\[])[-+])?(?:(?<!\w)\.)?\d+(?:\.\d+)*[^\W_]*[+%]?"
_WORD = re.compile(rf"{_NUMBER}|\w+(?:'\w+)*")
_PLAIN = re.compile(rf"{_NUMBER}|[^\W_]+")
# Words that have to be the same, for another one makes another value, however alike they look: numbers and
# signs, Roman numerals (types, stages), single letters (vitamins, hepatitis B and C), and what turns the
# sense round.
_EXACT = re.compile(r".*\d.*|[<>≤≥]=?|[ivx]+|\w|with(out)?|not?")


def titled(text: str) -> str:
    """Each word with a capital, `Amelia O'Brien`; one that has capitals within, as McDonald, as it is."""
    return re.sub(r"\S+", lambda word: word[0] if re.search("[a-z][A-Z]", word[0]) else word[0].title(), text)


STYLES = (str.upper, titled)
"""How all values of a column may be written."""

ENOUGH = 10
"""Values that show a column's style."""


class Match(NamedTuple):
    """A value, and what alone is different: its `case`, `style`, `wording` or `spelling`, or cut words."""

    value: str
    difference: str


class KnownValues:
    """The values that are known of one column, indexed when first asked for a close one.

    Of values that differ in their capitals alone, only the first is ever chosen. `words` are right as they
    are, and so never a misspelling of another.
    """

    def __init__(
        self, values: Iterable[str], abbreviations: Abbreviations, words: Set[str] = frozenset()
    ) -> None:
        self._values = dict.fromkeys(values)
        self._abbreviations = abbreviations
        self._words = words

    def __contains__(self, value: object) -> bool:
        return value in self._values

    def said_in_full(self, text: str, asked: str) -> str | None:
        """The longest value that stands in what was asked and holds the words of a text, and more.

        Of `Potassium` it is `Potassium, Urine` where that was asked for. None where there is none.
        """
        said, question = plain(text), plain(asked)
        longer = [
            value for value, words in self._plain.items() if said in words in question and said != words
        ]
        return max(longer, key=len, default=None)

    def in_other_case(self, literal: str) -> Match | None:
        """The value that differs in nothing but capitals and white space."""
        value = self._by_letters.get(_letters(literal))
        return None if value is None else Match(value, "case")

    def in_style(self, literal: str) -> Match | None:
        """A literal that is not known, in the style of all that are; None where they share none."""
        if self._style is None:
            return None
        styled = self._style(" ".join(literal.split()))
        return None if styled == literal else Match(styled, "style")

    def closest(self, literal: str, threshold: float) -> Match | None:
        """The value that a literal which is not known stands for; None where there is none, or are two.

        First of all it is the one that differs in its capitals, then the one of the same words in any order
        (in the same, where they stand between numbers), abbreviations written out and punctuation aside but
        for that of numbers, and then the most similar of those that agree word by word. Words agree where
        they are equal, where one abbreviates the other, and where one is the other with a typo and at least
        `threshold` (0 to 100) like it by rapidfuzz's `ratio`.
        Numbers and other short words that tell values apart must be equal, and in the same order.
        """
        words = _words(literal, self._abbreviations)
        found = self.in_other_case(literal)
        if found or all(map(_EXACT.fullmatch, words)):
            return found
        return self._same_words(words) or self._word_by_word(words, threshold)

    def _same_words(self, words: Words) -> Match | None:
        values = self._by_words.get(_in_any_order(words), [])
        return Match(values[0], "wording") if len(values) == 1 else None

    def _word_by_word(self, words: Words, threshold: float) -> Match | None:
        # Texts are as similar as their least similar words, and abbreviating keeps the initials: so of the
        # values that agree only those are missing here that a text both misspells and abbreviates.
        similar = process.extract(
            " ".join(words), self._texts, scorer=fuzz.ratio, score_cutoff=threshold, limit=None
        )
        candidates = {value for _, _, value in similar} | set(self._by_initials.get(_initials(words), []))
        scores = {value: self._similarities(words, self._written_out[value]) for value in candidates}
        agreeing = {value: sum(each) for value, each in scores.items() if each and min(each) >= threshold}
        best = [value for value, score in agreeing.items() if score == max(agreeing.values())]
        return Match(best[0], "spelling") if len(best) == 1 else None

    def _similarities(self, words: Words, others: Words) -> list[float]:
        """How alike each two words are, 0 to 100; none where there are more of the one than the other."""
        return [self._similarity(*pair) for pair in zip(words, others)] if len(words) == len(others) else []

    def _similarity(self, word: str, other: str) -> float:
        """`word` is the literal's, `other` a known value's."""
        if word == other:
            return 100.0
        if _EXACT.fullmatch(word) or _EXACT.fullmatch(other):
            return 0.0
        if _abbreviates(*sorted((word, other), key=len)):
            return 99.0
        misspelt = word not in self._words and _is_typo(word, other)
        return fuzz.ratio(word, other) if misspelt else 0.0

    @cached_property
    def _plain(self) -> dict[str, str]:
        return {value: plain(value) for value in self._values}

    @cached_property
    def _style(self) -> Callable[[str], str] | None:
        shared = [style for style in STYLES if all(style(value) == value for value in self._values)]
        return shared[0] if shared and len(self._values) >= ENOUGH else None

    @cached_property
    def _by_letters(self) -> dict[str, str]:
        return {_letters(value): value for value in reversed(self._values)}

    @cached_property
    def _written_out(self) -> dict[str, Words]:
        return {value: _words(value, self._abbreviations) for value in self._by_letters.values()}

    @cached_property
    def _texts(self) -> dict[str, str]:
        return {value: " ".join(words) for value, words in self._written_out.items()}

    @cached_property
    def _by_words(self) -> dict[tuple[Words, Words], list[str]]:
        groups = defaultdict(list)
        for value, words in self._written_out.items():
            groups[_in_any_order(words)].append(value)
        return dict(groups)

    @cached_property
    def _by_initials(self) -> dict[str, list[str]]:
        groups = defaultdict(list)
        for value, words in self._written_out.items():
            groups[_initials(words)].append(value)
        return dict(groups)


def plain(text: str) -> str:
    """The words in lower case with a blank around each, so that what holds the others holds them whole."""
    words = _PLAIN.findall(_folded(text)) or ["\0"]  # no words are in no text
    return f" {' '.join(words)} "


def words_of(values: Iterable[str], abbreviations: Abbreviations) -> set[str]:
    """All words of values, in lower case and written out."""
    return {word for value in values for word in _words(value, abbreviations)}


def _folded(text: str) -> str:
    return re.sub(r"(?<=\d)\s+(?=%)", "", text.casefold())


def _letters(text: str) -> str:
    return " ".join(text.casefold().split())


def _words(text: str, abbreviations: Abbreviations) -> Words:
    """The words in lower case, without punctuation and written out: `Ac MI, NOS` → acute, mi, not, …"""
    words: list[str] = []
    for part in _folded(text).split():
        for word in _WORD.findall(abbreviations.get(part.strip(",;:()[]"), part)):
            words += _WORD.findall(abbreviations.get(word, word))
    return tuple(words)


def _in_any_order(words: Words) -> tuple[Words, Words]:
    """The same for the same words in any order; but 30/70 is not 70/30: those that have to be exact stay.

    Where numbers have words between them, all words do, for each number may belong to one of these.
    """
    numbers = [place for place, word in enumerate(words) if any(map(str.isdigit, word))]
    if numbers and numbers[-1] - numbers[0] >= len(numbers):
        return words, ()
    return tuple(sorted(words)), tuple(filter(_EXACT.fullmatch, words))


def _initials(words: Words) -> str:
    return "".join(word[0] for word in words)


def _is_typo(word: str, other: str) -> bool:
    """Whether one letter is wrong, missing, too many, or has changed places; but not the a- of atypical.

    More than that is as a rule another word, however similar: hyper- and hypotension, specified and
    unspecified, prednisone and prednisolone.
    """
    negated = word in (f"a{other}", other.removeprefix("a"))
    return not negated and OSA.distance(word, other, score_cutoff=1) <= 1


def _abbreviates(short: str, long: str) -> bool:
    """Whether a word was cut short (`malig`) or lost letters behind its first two (`infrct`).

    It keeps at least three, two fifths where it was cut and half where it lost some: with fewer, almost any
    word abbreviates another. With more than seven tenths nothing is saved: prednisone is not short for
    prednisolone.
    """
    if len(short) < 3 or len(short) > 0.7 * len(long):
        return False
    if long.startswith(short):
        return len(short) >= 0.4 * len(long)
    letters = iter(long)
    return short[:2] == long[:2] and len(short) >= 0.5 * len(long) and all(c in letters for c in short)
