"""What runs, evaluations and scores are called where people read them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medsql.wording import counted

if TYPE_CHECKING:
    from medsql.runs.recorded import Recorded

LONGEST = 36
"""Characters of a name that still fit beside a plot."""

SPEAKING = re.compile(r"^(experiment|model|data|optim)=")
"""Keys whose options say by themselves what they are of; a number needs its key."""

SWITCHES = {"constrained": "constrained", "guided": "guided", "repair": "repaired", "grounded": "grounded"}
"""Settings of decoding, and what a query is where they are on."""

IMPLIES = {"grounded": ("guided", "repaired"), "repaired": ("guided",)}
"""What goes without saying beside one of these words."""

DETAILS = ("length_penalty", "max_new_tokens", "margin_tokens", "repair_threshold", "known_values")
"""Settings of decoding that are worth a word only where nothing else tells evaluations apart."""

SHOWN = ("exact_match", "logical_form", "execution", "valid", "token_f1")
"""The scores that a table has room for; precision and recall are within token F1."""


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

    A run is called by what sets it apart from the other runs, an evaluation by what it scored, and where
    others scored that, too, by what sets it apart from them or by the name that it was given. Labels that
    still fall together give way to paths.
    """
    runs = [record for record in records if record.kind != "evaluate"]
    parent = common_parent([run.folder for run in runs]) if runs else Path()
    names = distinct([run.folder.absolute().relative_to(parent).as_posix() for run in runs])
    found = dict(zip(runs, names, strict=True))
    scored = {record: Path(record.scored).name for record in records if record.kind == "evaluate"}
    taken = Counter([*names, *scored.values()])
    for record, name in scored.items():
        others = [other for other, its in scored.items() if its == name and other is not record]
        if name and taken[name] == 1:
            found[record] = SPEAKING.sub("", name)
        elif not name or not others or record.settings.get("name"):
            found[record] = record.folder.name
        else:
            found[record] = _cut(", ".join([SPEAKING.sub("", name), *_apart(record, others)]))
    seen = Counter(found.values())
    return [
        replace(record, label=found[record] if seen[found[record]] == 1 else short(record.folder))
        for record in records
    ]


def decoding_words(record: Recorded) -> list[str]:
    """How it decoded, its beams first; nothing where that is not recorded."""
    beams = record.settings.get("decode.num_beams")
    if beams is None:
        return []
    on = [word for key, word in SWITCHES.items() if record.settings.get(f"decode.{key}")]
    files = {name: record.settings.get(f"decode.{name}") for name in ("schema", "values", "database")}
    named = [f"{name} {short(Path(file))}" for name, file in files.items() if file]
    return ["greedy" if beams == 1 else counted(beams, "beam"), *on, *named]


def _apart(record: Recorded, others: Sequence[Recorded]) -> list[str]:
    """What an evaluation has that not all of the others have, or where that is nothing, its beams."""
    own, shared = _ways(record), set.intersection(*map(set, map(_ways, others)))
    apart = [way for way in own if way not in shared]
    implied = {each for way in apart for each in IMPLIES.get(way, ())}
    words = [way for way in apart if way not in implied] or own[:1]
    twins = [_details(other) for other in others if _ways(other) == own]
    return words + [detail for detail in _details(record) if any(detail not in each for each in twins)]


def _ways(record: Recorded) -> list[str]:
    """How an evaluation decoded, and which rows, in words."""
    return [*decoding_words(record), record.split, counted(record.n or 0, "row")]


def _details(record: Recorded) -> list[str]:
    return [f"{key}={record.settings.get(f'decode.{key}')}" for key in DETAILS]


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
