"""All that decides what a model's outputs become, put together from the settings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from medsql.cache import cached
from medsql.config import DecodeSettings, SettingsError
from medsql.data.hospital import vocabulary
from medsql.data.hospital.cohort import listed_values
from medsql.data.pairs import Pair, pairs_digest
from medsql.data.spelling import Spelling
from medsql.model.constraint import Constraint, load_constraint
from medsql.model.guidance import Guidance
from medsql.runs.fingerprint import by_content
from medsql.sql.choice import Chooser
from medsql.sql.known_values import WORDS, Values, merged, values_in_database, values_in_queries
from medsql.sql.parts import Column
from medsql.sql.repair import Repairer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoder:
    """From tokens to SQL: `spelling` is that of the targets, a `constraint` is what outputs are held to,
    and `guidance` chooses among beams and repairs."""

    tokenizer: PreTrainedTokenizerBase
    settings: DecodeSettings
    max_new_tokens: int
    spelling: Spelling = field(default_factory=Spelling)
    constraint: Constraint | None = None
    guidance: Guidance | None = None


def output_bound(longest_target: int, decode: DecodeSettings) -> int:
    """The most tokens an output may have: as set, or the longest *training* target plus a margin.

    `longest_target` counts tokens, end of sequence included. The reference of the row at hand
    never has a say: its length would tell the model something about the answer.
    """
    return decode.max_new_tokens or longest_target + decode.margin_tokens


def load_decoder(
    decode: DecodeSettings,
    tokenizer: PreTrainedTokenizerBase,
    longest_target: int,
    spelling: Spelling,
    training: Sequence[Pair] | None,
) -> tuple[Decoder, dict[str, Any]]:
    """What `decode` comes to, and what a run's record shall say of it.

    `training` are the source's own training rows, whose values may be known; None where they are not at
    hand, and then are none, which is logged. Nothing else that has gold queries is ever looked at.

    Raises `SettingsError` or `UserError` where a file or a database of `decode` cannot be used.
    """
    if training is None:
        training = _none_known(decode)
    bound = output_bound(longest_target, decode)
    constraint = load_constraint(decode, tokenizer, training, bound, spelling)
    guidance, known = _guidance(decode, training)
    record = {
        "max_new_tokens": bound,
        "constraint": constraint and constraint.record,
        "known_values": known,
    }
    return Decoder(tokenizer, decode, bound, spelling, constraint, guidance), record


def _none_known(decode: DecodeSettings) -> Sequence[Pair]:
    if decode.values == "train":
        raise SettingsError("decode.values=train: there are no training rows here; name a file")
    if decode.repair and "train" in decode.known_values:
        log.warning("repair without the values of training rows, which are not at hand")
    return []


def _guidance(decode: DecodeSettings, training: Sequence[Pair]) -> tuple[Guidance | None, dict[str, Any]]:
    """How beams are chosen and repaired, None where neither is asked for; and a record of what is known."""
    chooser = Chooser(decode.database) if decode.guided else None
    if not decode.repair:
        return Guidance(chooser) if chooser else None, {}
    key = (
        pairs_digest(training),
        *decode.known_values,
        decode.database and by_content(decode.database),
    )
    (values, record), again = cached("known values", key, lambda: _known_values(decode, training))
    abbreviations = {row["short"].casefold(): row["full"] for row in vocabulary.read("abbreviations")}
    repairer = Repairer(values, abbreviations, decode.repair_threshold)
    return Guidance(chooser, repairer, decode.grounded), record | {"reused": again}


def _known_values(decode: DecodeSettings, training: Sequence[Pair]) -> tuple[Values, dict[str, Any]]:
    """The values for repair, from the user's database, the training rows and the lists, in this order."""
    sources: dict[str, Values] = {}
    record: dict[str, Any] = {}
    if decode.database is not None:
        sources["database"], record["not_in_database"] = values_in_database(decode.database)
    if "train" in decode.known_values:
        queries = (pair.sql for pair in training)
        sources["train"], record["unread_training_queries"] = values_in_queries(queries, WORDS)
    if "lists" in decode.known_values:
        sources["lists"] = {Column(*name): values for name, values in listed_values().items()}
    for key, left_out in record.items():
        if left_out:
            log.warning("values known for repair: %s: %s", key.replace("_", " "), left_out)
    values = merged(sources.values())
    known = {name: sum(map(len, found.values())) for name, found in (sources | {"all": values}).items()}
    log.info("values known for repair: %s", ", ".join(f"{name} {count}" for name, count in known.items()))
    return values, record | {"values": known}
