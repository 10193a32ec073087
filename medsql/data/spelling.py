"""Writes what a vocabulary lacks with what it has, and reads it back.

T5's vocabulary has no `<` and no `{ } ~ \\ ^` or backtick: they are encoded to `<unk>` and decoded to
nothing. Runs of blanks are lost in it, too. A model can then never write a query that holds one. So a target
is spelled: `AGE < 60` becomes `AGE @l 60`, and what a model writes is read the other way round.

The other way out, tokens added to the vocabulary, needs embeddings that are trained from nothing: twice,
where the output layer is not tied, and kept in every adapter. A spelling needs no weights, leaves the base
frozen, and is made of pieces that the base knows.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # takes a second or more to import
    from transformers import PreTrainedTokenizerBase

BLANKS = "  "
"""Two blanks: the second one is what many vocabularies lose."""

BLOCK = 1000
"""Targets that are looked through at once."""

ESCAPES = "@#$&|!?;:%~^`\\{}[]+-/'<>=*,(_.)\""
"""What codes may begin with: that comes first which SQL and its values hold seldom."""

LETTERS = {
    "<": "l",  # less
    ">": "g",  # greater
    "{": "o",  # open
    "}": "c",  # close
    "~": "t",  # tilde
    "\\": "b",  # backslash
    "^": "h",  # hat
    "`": "q",  # quote
    BLANKS: "s",  # space
    "\n": "n",
    "\t": "i",  # indent
}
"""One for each, but not `x`: anything else is spelled by its code point, as `@xe9;`."""


@dataclass(frozen=True)
class Spelling:
    """`codes` maps a character, or `BLANKS`, to what is written for it; none: texts stay as they are.

    No code begins another one, and the character that codes begin with has a code itself. So any text comes
    back, one that looks spelled already too: `unspell(spell(text)) == text`.

    >>> Spelling({"<": "@l", "@": "@@"}).spell("A < @l")
    'A @l @@l'
    """

    codes: Mapping[str, str] = field(default_factory=dict)

    def spell(self, text: str) -> str:
        """`text` as a target is encoded."""
        return self._spelled.sub(lambda found: self.codes[found[0]], text) if self.codes else text

    def unspell(self, text: str) -> str:
        """What a model wrote, as SQL; half a code, at the end or elsewhere, and an unknown one stay."""
        return self._codes.sub(lambda found: self._characters[found[0]], text) if self.codes else text

    @cached_property
    def _characters(self) -> dict[str, str]:
        return {code: character for character, code in self.codes.items()}

    @cached_property
    def _spelled(self) -> re.Pattern[str]:
        return _any_of(self.codes)

    @cached_property
    def _codes(self) -> re.Pattern[str]:
        return _any_of(self._characters)


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, texts)))


def needed_spelling(tokenizer: PreTrainedTokenizerBase, targets: Iterable[str]) -> Spelling:
    """The spelling of what the tokenizer loses, of all that stands in `targets` and of printable ASCII.

    ASCII always, so that two data sets in ASCII have the same spelling. Codes begin with the first of
    `ESCAPES` that they come back with, or else with the one that most come back with.
    """
    ascii_and_found = {*string.digits, *string.ascii_letters, *string.punctuation}
    # The text of a special token would become that token: its first character keeps it from that.
    special_tokens = tokenizer.all_special_tokens
    specials: set[str] = set()
    rows = iter(targets)
    while block := list(islice(rows, BLOCK)):
        ascii_and_found.update(*block)
        together = "\0".join(block)
        specials.update(token[0] for token in special_tokens if token in together)
    needed = sorted({*lost_characters(tokenizer, ascii_and_found), *specials})
    if not needed:
        return Spelling()
    spellings = [_spelling(needed, escape) for escape in ESCAPES if escape not in needed]
    return min(spellings, key=lambda spelling: _lost_codes(tokenizer, spelling), default=Spelling())


def _spelling(needed: list[str], escape: str) -> Spelling:
    codes = {each: escape + LETTERS.get(each, f"x{ord(each[0]):x};") for each in needed}
    return Spelling(codes | {escape: escape * 2})


def _lost_codes(tokenizer: PreTrainedTokenizerBase, spelling: Spelling) -> int:
    """How many of its codes do not come back."""
    texts = [_in_context(character) for character in spelling.codes]
    ids = _encoded(tokenizer, [spelling.spell(text) for text in texts])
    back = [spelling.unspell(text) for text in decoded(tokenizer, ids)]
    return sum(read != text for read, text in zip(back, texts, strict=True))


def lost_characters(tokenizer: PreTrainedTokenizerBase, characters: Iterable[str]) -> list[str]:
    """Those of `characters`, and of `BLANKS`, that do not come back from the tokenizer as they were."""
    tried = [*sorted({*characters} - {" ", BLANKS}), BLANKS]
    texts = [_in_context(character) for character in tried]
    back = decoded(tokenizer, _encoded(tokenizer, texts))
    return [each for each, text, read in zip(tried, texts, back, strict=True) if read != text]


def _in_context(character: str) -> str:
    """Within a word, as a word, and twice; not at an end, where pairs are trimmed."""
    return f"a{character}b {character} a{character}{character}b"


def _encoded(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(text_target=texts, verbose=False)["input_ids"]
    return ids


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Any) -> list[str]:
    """The texts of rows of token ids, special tokens left out and blanks as they stand."""
    texts: list[str] = tokenizer.batch_decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return texts
