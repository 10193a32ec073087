"""What is trained on besides the training rows: template questions, other values, the synthetic hospital.

All of it is made from training rows and lists alone. Of held-out rows nothing is used, but that
templates with one of their keys are left out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from medsql.config import DataSettings, SettingsError
from medsql.data.pairs import Pair
from medsql.data.sources import read_templates

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Further:
    """Rows to add behind the training rows, the last `hospital` of them the hospital's, and a record."""

    rows: list[Pair]
    hospital: int
    record: dict[str, Any]


def further_rows(train: Sequence[Pair], held_out: Iterable[Pair], settings: DataSettings) -> Further:
    """What `settings` add to the rows of `train`: templates, versions of both, and the hospital's rows.

    Raises:
        SettingsError: `data.templates` cannot be read or joins no training row, or the hospital is too small.
    """
    rows: list[Pair] = []
    record: dict[str, Any] = {}
    if settings.templates is not None:
        found, record["templates"] = _templates(train, held_out, settings)
        rows += found
    if settings.augment:
        from medsql.data.augment import augmented  # takes a second to import

        found, record["augmented"] = augmented([*train, *rows], settings.augment, settings.seed)
        _say("data.augment", found, record["augmented"]["missed"])
        rows += found
    hospital: list[Pair] = []
    if settings.hospital_epochs or settings.hospital_weight:
        from medsql.data.hospital import synthetic_splits  # slow to import

        hospital = synthetic_splits(settings.admissions, settings.pairs, settings.seed)["train"]
        record["hospital"] = {"rows": len(hospital)}
        _say("the synthetic hospital", hospital, {})
    return Further([*rows, *hospital], len(hospital), record)


def _templates(
    train: Iterable[Pair], held_out: Iterable[Pair], settings: DataSettings
) -> tuple[list[Pair], dict[str, Any]]:
    """The template pairs with a key of a training row, each once.

    Keys that a held-out row has too are left out, and counted as `held_out`; training rows without a
    template are counted as `no_template`.
    """
    templates = read_templates(settings)
    held_out_keys = {key for pair in held_out for key in templates.keys.get(pair, ())}
    missed = {"no_template": 0, "held_out": 0}
    rows: dict[Pair, None] = {}
    for pair in train:
        keys = templates.keys.get(pair, set())
        if keys & held_out_keys:
            missed["held_out"] += 1
        found = [row for key in sorted(keys - held_out_keys) for row in templates.pairs.get(key, [])]
        missed["no_template"] += not found and not keys & held_out_keys
        rows |= dict.fromkeys(found)
    if not rows:
        raise SettingsError(
            f"data.templates={settings.templates}: none of its rows has the `key` of a training row in "
            f"{settings.path}"
        )
    _say("data.templates", rows, missed)
    return list(rows), {"rows": len(rows), "missed": missed, "dropped": templates.dropped}


def _say(what: str, rows: Any, missed: dict[str, int]) -> None:
    without = ", ".join(f"{reason} {count}" for reason, count in missed.items() if count)
    log.info("%s: %d further training rows%s", what, len(rows), f"; none for {without}" if without else "")
