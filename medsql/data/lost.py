"""What a tokenizer loses of the data: counted for every split, recorded, and said in a line."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medsql.config import SPLITS, DataSettings
from medsql.data.pairs import Pair
from medsql.data.spelling import BLANKS, Spelling, lost_characters
from medsql.data.splits import Splits

if TYPE_CHECKING:  # takes a second or more to import
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


def lost_record(
    splits: Splits,
    tokenizer: PreTrainedTokenizerBase,
    spelling: Spelling,
    counts: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    """The characters that the tokenizer loses, and how many rows of each split lose something.

    `unspelled` is as they are, `spelled` in `spelling`. Of targets, `counts` says how many came back as
    something else (`lost_unspelled` and `lost`, by split); a question counts where it holds such a character.
    """
    pairs: dict[str, Sequence[Pair]] = {name: getattr(splits, name) for name in SPLITS}
    lost = _lost_in(tokenizer, (pair.question for split in pairs.values() for pair in split))
    without_code = [each for each in lost if each not in spelling.codes]
    return {
        "targets": {
            "characters": _lost_in(tokenizer, (pair.sql for split in pairs.values() for pair in split)),
            "unspelled": {name: counts[name]["lost_unspelled"] for name in SPLITS},
            "spelled": {name: counts[name]["lost"] for name in SPLITS},
        },
        "questions": {
            "characters": lost,
            "unspelled": {name: _holding(lost, pairs[name]) for name in SPLITS},
            "spelled": {name: _holding(without_code, pairs[name]) for name in SPLITS},
        },
    }


def _lost_in(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> list[str]:
    found: set[str] = set()
    for text in texts:
        found.update(text)
        if BLANKS in text:
            found.add(BLANKS)
    return [each for each in lost_characters(tokenizer, found) if each in found]


def _holding(characters: list[str], pairs: Iterable[Pair]) -> int:
    """In how many questions any of the characters stands."""
    if not characters:
        return 0
    return sum(any(each in pair.question for each in characters) for pair in pairs)


def log_lost(record: Mapping[str, Any], settings: DataSettings, example: Pair | None) -> None:
    """One line where targets have to be spelled, and a warning where one is lost for good.

    `record` is that of the tokenised splits, `example` a training row whose target is lost.
    """
    targets, codes = record["lost"]["targets"], record["spelling"]
    rows, unspelled, lost = (
        sum(counts.values()) for counts in (record["rows"], targets["unspelled"], targets["spelled"])
    )
    if codes and unspelled:
        spelled = ", ".join(f"{each!r} {codes[each]}" for each in targets["characters"] if each in codes)
        log.info("the tokenizer loses a part of %d of %d targets; spelled: %s", unspelled, rows, spelled)
    if lost and settings.source != "corpus":  # whose sentinels are meant as tokens, not as text
        without_code = [repr(each) for each in targets["characters"] if each not in codes]
        characters = " ".join(without_code) or "no single character"
        cure = "" if settings.lossless else ", which data.lossless=true spells"
        such_as = "" if example is None else f"; such as {example.sql}"
        message = "%d of %d targets cannot be written: the tokenizer loses %s%s%s"
        log.warning(message, lost, rows, characters, cure, such_as)
