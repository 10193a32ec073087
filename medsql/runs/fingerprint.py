"""What makes two runs the same run: the settings that change results, and nothing else.

Paths do not count, but what lies there does: a data folder or a local checkpoint enters by the
hash of its content. Loggers, hardware and the run's own name are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Set
from dataclasses import asdict
from typing import Any

from medsql.assets import checkpoint_folder
from medsql.files import content_digest

MEANING_VERSION = 7
"""Raised whenever the same settings come to mean another result."""

NOT_IDENTITY = {
    "trainer",
    "logger",
    "name",
    "show",
    "run",
    "cost",
    "baseline",
    "validation.show",
    "data.cache_dir",
    "decode.batch_size",
}
"""Keys, and groups of keys, that no result depends on; `run` is there as the adapter it names,
and a baseline is a run of its own."""

LATER: dict[str, Any] = {
    "model.lacks": None,
    "data.lossless": False,
    "data.fold": None,
    "data.refit": False,
    "data.augment": 0,
    "data.templates": None,
    "data.hospital_epochs": 0,
    "data.hospital_weight": 0,
    "decode.constrained": False,
    "decode.schema": None,
    "decode.values": None,
    "decode.guided": False,
    "decode.grounded": False,
    "decode.repair": False,
    "decode.database": None,
}
"""Settings that came later, each with the value at which all is as before: there they are left out, and
runs of before are the same runs still."""

OF_REPAIR = {"decode.known_values", "decode.repair_threshold"}
"""Left out where nothing is repaired."""

FILES = (
    *("data.path", "data.templates", "model.checkpoint", "adapter", "eval.database"),
    *("decode.schema", "decode.values", "decode.database"),
)
"""Keys whose value may be a path, which counts by its content."""

Identity = dict[str, Any]
"""Flat: dotted key → value, JSON-ready."""


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"lora": {"r": 8}}` → `{"lora.r": 8}`; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def identity(settings: Any) -> Identity:
    """The flat settings of a door's dataclass that its results depend on."""
    flat = flatten(asdict(settings))
    kept = {key: value for key, value in flat.items() if not is_of(key, NOT_IDENTITY)}
    left_out = {key for key, value in LATER.items() if kept.get(key) == value}
    left_out |= OF_REPAIR if "decode.repair" in left_out else set()
    kept = {key: value for key, value in kept.items() if key not in left_out}
    for key in FILES:
        if kept.get(key) and (key, kept[key]) != ("decode.values", "train"):  # a word, and no path
            kept[key] = by_content(kept[key])
    return kept | {"meaning": MEANING_VERSION}


def is_of(key: str, keys: Set[str]) -> bool:
    """Whether a flat key is one of `keys`, or of one of the groups there."""
    return key in keys or key.split(".")[0] in keys


def by_content(name: str) -> str:
    """A hash of what lies at a path or in a bundled checkpoint; any other name as it is."""
    path = checkpoint_folder(name)
    return f"content {content_digest(path)[:16]}" if path.exists() else name


def fingerprint(identity: Identity) -> str:
    """Twelve hexadecimal digits that differ where identities do."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def difference(recorded: Identity, wanted: Identity) -> list[str]:
    """The keys that differ, as `lora.r: 8 there, 16 here`; a key left out has its value of `LATER`."""
    keys = sorted(recorded.keys() | wanted.keys())
    values = {key: [each.get(key, LATER.get(key, "nothing")) for each in (recorded, wanted)] for key in keys}
    return [f"{key}: {there} there, {here} here" for key, (there, here) in values.items() if there != here]
