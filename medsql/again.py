"""The command that trains a recorded run again, checked by composing it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from medsql.composition import CONF, explain, quoted, to_settings, with_paths
from medsql.config import TrainSettings
from medsql.errors import UserError
from medsql.runs.fingerprint import difference, identity
from medsql.runs.recorded import Again, Recorded, overrides_of, ranked, unlike
from medsql.runs.seeds import Configuration

OF_THE_SWEEP = ("name", "sweeps", "hydra")
"""Overrides that say which sweep a run was a job of, and not what it was."""

PLAIN = re.compile(r"[A-Za-z_/][\w/.-]*", re.ASCII)
"""Text that Hydra's grammar takes as it stands."""

PATHS = ("data.path", "data.templates", "model.checkpoint", "data.cache_dir", "decode.database")
"""Typed relative to a working folder that may be another one by now; settings hold them absolute."""


def best_again(runs: Sequence[Recorded], configurations: Sequence[Configuration]) -> Again | None:
    """The command of the best run, or where configurations have several seeds, of the best of these.

    None where there is nothing to choose from, or where objectives cannot be compared.
    """
    done = ranked(runs)
    if len(done) < 2 or unlike(runs):
        return None
    if not configurations:
        return command_for(done[0])
    best = configurations[0]
    return command_for(next(iter(best.runs.values())), list(best.runs))._replace(label=best.label)


def command_for(run: Recorded, seeds: Sequence[int] = ()) -> Again:
    """What trains a run again: its own overrides, and whatever these leave different, key by key.

    What is composed of them is compared with what the run recorded. With several `seeds` the command is the
    sweep over them.
    """
    if run.kind != "train":
        return Again(run.label, "", f"{run.label} is no fine-tuning")
    overrides = [
        _absolute(text, run.settings) for text in overrides_of(run.folder) if not _of_the_sweep(text)
    ]
    try:
        overrides = [*_options_beyond(run.folder, overrides), *overrides]
        there = _identity(overrides)
        known = {key for key in run.identity if run.identity[key] != there.get(key) and key in run.settings}
        overrides += [f"{key}={_value(run.settings[key])}" for key in sorted(known)]
        if known:
            there = _identity(overrides)
    except Exception as error:  # whatever Hydra makes of a configuration of another time
        reason = str(error) if isinstance(error, UserError) else explain(error, TrainSettings)
        return Again(run.label, "", f"its overrides do not compose any more ({reason})")
    if left := difference(dict(run.identity), there):
        return Again(run.label, "", f"what they compose today is another run ({'; '.join(left[:3])})")
    if len(seeds) > 1:
        overrides = [text for text in overrides if not text.startswith("seed=")]
        overrides = ["-m", *overrides, f"seed={','.join(map(str, seeds))}"]
    return Again(run.label, shlex.join(["python", "-m", "medsql.train", *overrides]))


def _of_the_sweep(override: str) -> bool:
    return re.split(r"[.=/]", override.lstrip("+~"), maxsplit=1)[0] in OF_THE_SWEEP


def _absolute(override: str, settings: Mapping[str, Any]) -> str:
    key = override.split("=", 1)[0].lstrip("+")
    return f"{key}={_value(settings[key])}" if key in PATHS and settings.get(key) else override


def _value(value: Any) -> str:
    """A setting's value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(_value, value))}]"
    plain = not isinstance(value, str) or (PLAIN.fullmatch(value) and value not in ("true", "false", "null"))
    return str(value) if plain else quoted(value)


def _options_beyond(folder: Path, overrides: Sequence[str]) -> list[str]:
    """The options of groups that the run was composed of and these overrides would not choose.

    They are those that a file of `sweeps/` chose.
    """
    path = folder / ".hydra" / "hydra.yaml"
    if not path.exists():
        return []
    wanted = yaml.safe_load(path.read_text(encoding="utf-8"))["hydra"]["runtime"]["choices"]
    found = _composed(overrides).hydra.runtime.choices
    return [
        f"{group}={option}"
        for group, option in wanted.items()
        if group in found and isinstance(option, str) and option != found[group] and not _of_the_sweep(group)
    ]


def _identity(overrides: Sequence[str]) -> dict[str, Any]:
    return identity(with_paths(to_settings(_composed(overrides), TrainSettings)))


def _composed(overrides: Sequence[str]) -> DictConfig:
    with _configuration():
        return compose("train", overrides=list(overrides), return_hydra_config=True)


@contextmanager
def _configuration() -> Iterator[None]:
    """Hydra over `conf/`: what the command set up already, or one for the while."""
    if GlobalHydra.instance().is_initialized():
        yield
        return
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
