"""What runs, evaluations and scores are called where people read them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medsql.runs.recorded import Recorded

LONGEST = 36
"""Characters of a name that still fit beside a plot."""

SPEAKING = re.compile(r"^(experiment|model|data|optim)=")
"""Keys whose options say by themselves what they are of; a number needs its key."""


def score_label(name: str) -> str:
    """`"token_f1"`, `"val/token_f1"` → `"token F1"`."""
    return name.rpartition("/")[2].replace("_", " ").replace("f1", "F1")


def state_label(run: Recorded) -> str:
    """The state, and of a run that is not finished how far it came: `pruned at 400 of 1,800 steps`."""
    if run.state == "finished" or run.step is None:
        return run.state
    joint = "," if run.state == "running" else " at"
    return f"{run.state}{joint} {run.step:,}{f' of {run.steps:,}' if run.steps else ''} steps"


def labelled(records: Sequence[Recorded]) -> list[Recorded]:
    """The same with a short label each, and no label twice.

    A run is called by what sets it apart from the other runs, an evaluation by what it scored, or
    where that says too little by its folder. Labels that still fall together give way to paths.
    """
    runs = [record for record in records if record.kind != "evaluate"]
    parent = common_parent([run.folder for run in runs]) if runs else Path()
    names = distinct([run.folder.absolute().relative_to(parent).as_posix() for run in runs])
    found = dict(zip(runs, names, strict=True))
    scored = {record: Path(record.scored).name for record in records if record.kind == "evaluate"}
    taken = Counter([*names, *scored.values()])
    for record, name in scored.items():
        found[record] = SPEAKING.sub("", name) if name and taken[name] == 1 else record.folder.name
    seen = Counter(found.values())
    return [
        replace(record, label=found[record] if seen[found[record]] == 1 else short(record.folder))
        for record in records
    ]


def distinct(names: Sequence[str]) -> list[str]:
    """Each name by the parts that not all of them share.

    >>> distinct(["sweep/lora.r=8,seed=1", "sweep/lora.r=16,seed=1"])
    ['lora.r=8', 'lora.r=16']
    >>> distinct(["old/experiment=optimized", "new/experiment=optimized", "new/experiment=aggressive"])
    ['old, optimized', 'new, optimized', 'aggressive']
    """
    split = [_parts(name, _depth(name, names)) for name in names]
    shared = set.intersection(*map(set, split)) if len(names) > 1 else set()
    kept = [[SPEAKING.sub("", part) for part in parts if part not in shared] for parts in split]
    return [_cut(", ".join(parts) or name) for parts, name in zip(kept, names, strict=True)]


def _depth(name: str, names: Sequence[str]) -> int:
    """How many of its last path elements it takes to tell a name from the others."""
    own = name.split("/")
    others = [other.split("/") for other in names if other != name]
    return next(
        (depth for depth in range(1, len(own)) if all(own[-depth:] != other[-depth:] for other in others)),
        len(own),
    )


def _parts(name: str, depth: int) -> list[str]:
    """The last path elements, and for the very last, a run's own, its overrides one by one."""
    *above, own = name.split("/")[-depth:]
    return [*above, *re.split(r",(?![^\[]*\])", own)]  # a comma in [q,v] separates no overrides


def _cut(name: str) -> str:
    """A long name without its middle: beginnings and ends tell names apart."""
    half = LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[:half]}…{name[-half + 1 :]}"


def common_parent(folders: Sequence[Path]) -> Path:
    """The deepest folder that all of them lie in."""
    return Path(os.path.commonpath([folder.absolute().parent for folder in folders]))


def short(folder: Path) -> str:
    """The path as one would type it: relative to the working folder where it lies below."""
    absolute = folder.absolute()
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)
