"""What runs, evaluations and scores are called where people read them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medsql.runs.table import common_parent, short

LONGEST = 36
"""Characters of a name that still fit beside a plot."""


def score_label(name: str) -> str:
    """`"token_f1"`, `"val/token_f1"` → `"token F1"`."""
    return name.rpartition("/")[2].replace("_", " ").replace("f1", "F1")


def labels_of(records: Mapping[Path, dict[str, Any]]) -> dict[Path, str]:
    """A short name for each folder, and no name twice.

    A run is called by what sets it apart from the other runs, an evaluation by what it scored, or
    where that says too little by its folder. Names that still fall together give way to paths.
    """
    scored = [folder for folder, record in records.items() if record.get("kind") == "evaluate"]
    runs = [folder for folder in records if folder not in scored]
    parent = common_parent(runs) if runs else Path()
    names = distinct([folder.absolute().relative_to(parent).as_posix() for folder in runs])
    labels = dict(zip(runs, names, strict=True))
    found = {folder: Path(records[folder].get("scored", folder.name)).name for folder in scored}
    taken = Counter([*names, *found.values()])
    labels |= {folder: name if taken[name] == 1 else folder.name for folder, name in found.items()}
    seen = Counter(labels.values())
    return {folder: labels[folder] if seen[labels[folder]] == 1 else short(folder) for folder in records}


def distinct(names: Sequence[str]) -> list[str]:
    """Each name by the parts that not all of them share.

    >>> distinct(["sweep/lora.r=8,seed=1", "sweep/lora.r=16,seed=1"])
    ['lora.r=8', 'lora.r=16']
    >>> distinct(["old/experiment=optimized", "new/experiment=optimized", "new/experiment=aggressive"])
    ['old, optimized', 'new, optimized', 'new, aggressive']
    """
    if len(names) < 2:
        return [_cut(name) for name in names]
    split = [_parts(name, _depth(names)) for name in names]
    shared = set.intersection(*map(set, split))
    groups = set.intersection(*({part.partition("=")[0] for part in parts if "=" in part} for parts in split))
    # What option a config group has (`experiment=optimized`) is said by the option; a number needs its key.
    groups = {group for group in groups if "." not in group and group != "seed"}
    kept = [[_option(part, groups) for part in parts if part not in shared] for parts in split]
    return [_cut(", ".join(parts) or name) for parts, name in zip(kept, names, strict=True)]


def _depth(names: Sequence[str]) -> int:
    """How many of their last path elements it takes to tell the names apart."""
    depth = 1
    while len({tuple(name.split("/")[-depth:]) for name in names}) < len(set(names)):
        depth += 1
    return depth


def _parts(name: str, depth: int) -> list[str]:
    """The last path elements, and for the very last, a run's own, its overrides one by one."""
    *above, own = name.split("/")[-depth:]
    return [*above, *re.split(r",(?![^\[]*\])", own)]  # a comma in [q,v] separates no overrides


def _option(part: str, groups: set[str]) -> str:
    group, _, option = part.partition("=")
    return option if group in groups else part


def _cut(name: str) -> str:
    """A long name without its middle: beginnings and ends tell names apart."""
    half = LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[:half]}…{name[-half + 1 :]}"
