"""What a tokenizer loses of the data: counted for every split, recorded, and said in a line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
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
    sql = {name: [pair.sql for pair in getattr(splits, name)] for name in SPLITS}
    questions = {name: [pair.question for pair in getattr(splits, name)] for name in SPLITS}
    lost = _lost_in(tokenizer, questions)
    without_code = [each for each in lost if each not in spelling.codes]
    return {
        "targets": {
            "characters": _lost_in(tokenizer, sql),
            "unspelled": {name: counts[name]["lost_unspelled"] for name in SPLITS},
            "spelled": {name: counts[name]["lost"] for name in SPLITS},
        },
        "questions": {
            "characters": lost,
            "unspelled": {name: _holding(lost, questions[name]) for name in SPLITS},
            "spelled": {name: _holding(without_code, questions[name]) for name in SPLITS},
        },
    }


def _lost_in(tokenizer: PreTrainedTokenizerBase, texts: dict[str, list[str]]) -> list[str]:
    together = [text for split in texts.values() for text in split]
    lost = lost_characters(tokenizer, set().union(*together))
    return [each for each in lost if each != BLANKS or _holding([BLANKS], together)]


def _holding(characters: list[str], texts: list[str]) -> int:
    return sum(any(each in text for each in characters) for text in texts)


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
