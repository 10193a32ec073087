"""The command that trains a recorded run again, checked by composing it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from medsql.composition import quoted, to_settings, with_paths
from medsql.config import CONF, TrainSettings
from medsql.errors import UserError
from medsql.explain import explain
from medsql.runs.fingerprint import LATER, difference, flatten, identity
from medsql.runs.overrides import options_of, overrides_of
from medsql.runs.recorded import Again, Recorded, ranked, unlike
from medsql.runs.seeds import Configuration

OF_THE_SWEEP = ("name", "sweeps", "hydra")
"""Overrides that say which sweep a run was a job of, and not what it was."""

PLAIN = re.compile(r"[A-Za-z_/][\w/.-]*", re.ASCII)
"""Text that Hydra's grammar takes as it stands, but for these words."""

WORDS = ("true", "false", "null", "inf", "nan")
"""Whatever their case."""

PATHS = (
    "data.path",
    "data.templates",
    "model.checkpoint",
    "data.cache_dir",
    "decode.database",
    "decode.schema",
    "decode.values",
)
"""Typed relative to a working folder that may be another one by now; settings hold them absolute."""


def best_again(runs: Sequence[Recorded], configurations: Sequence[Configuration]) -> Again | None:
    """The command of the best run, or where configurations have several seeds, of the best of these.

    None where there is nothing to choose from, none has finished, or objectives cannot be compared.
    """
    done = ranked(runs)
    if len(runs) < 2 or not done or unlike(done):
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
    typed = [each for each in overrides_of(run.folder) if not _of_the_sweep(each.key_or_group)]
    if len(seeds) > 1:
        typed = [each for each in typed if each.key_or_group != "seed"]
    try:
        overrides = [*_options_beyond(run, typed), *(_absolute(each, run.settings) for each in typed)]
        # Compared before anything is checked: half of what a file of `sweeps/` set may contradict itself.
        there = _settings(overrides)
        was = _was(run)
        left_different = [key for key in sorted(was) if there.get(key, LATER.get(key)) != was[key]]
        overrides += [f"{key}={_value(was[key])}" for key in left_different]
        there = _identity(overrides)
    except Exception as error:  # whatever Hydra makes of a configuration of another time
        reason = str(error) if isinstance(error, UserError) else explain(error, TrainSettings)
        return Again(run.label, "", f"its overrides do not compose any more ({reason})")
    if left := difference(dict(run.identity), there):
        return Again(run.label, "", f"what they compose today is another run ({'; '.join(left[:3])})")
    if len(seeds) > 1:
        overrides = [text for text in overrides if not text.startswith("seed=")]  # the first run's own
        overrides = ["-m", *overrides, f"seed={','.join(map(str, seeds))}"]
    return Again(run.label, shlex.join(["python", "-m", "medsql.train", *overrides]))


def _was(run: Recorded) -> dict[str, Any]:
    """What the run's results depend on, by key; also settings that it left as before, or that came later."""
    return LATER | {key: run.settings[key] for key in run.identity.keys() & run.settings}


def _of_the_sweep(key: str) -> bool:
    return re.split(r"[./]", key, maxsplit=1)[0] in OF_THE_SWEEP


def _absolute(override: Override, settings: Mapping[str, Any]) -> str:
    key = override.key_or_group
    if key in PATHS and settings.get(key):
        return f"{override.get_key_element()}={_value(settings[key])}"
    return str(override.input_line)


def _value(value: Any) -> str:
    """A setting's value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(_value, value))}]"
    plain = not isinstance(value, str) or (PLAIN.fullmatch(value) and value.lower() not in WORDS)
    return str(value) if plain else quoted(value)


def _options_beyond(run: Recorded, typed: Sequence[Override]) -> list[str]:
    """The options of groups that the run was composed of and these overrides would not choose.

    They are those that a file of `sweeps/` chose. Keys may exist in these options alone, so that only the
    overrides of groups are composed to find them.
    """
    wanted = options_of(run.folder)
    found = _composed([str(each.input_line) for each in typed if each.key_or_group in wanted])
    chosen = found.hydra.runtime.choices
    return [
        f"{group}={option}"
        for group, option in wanted.items()
        if group in chosen and option != chosen[group] and not _of_the_sweep(group)
    ]


def _settings(overrides: Sequence[str]) -> dict[str, Any]:
    """What overrides compose to, flat and unchecked."""
    composed = _composed(overrides)
    plain = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    return flatten(OmegaConf.to_container(plain, resolve=True))  # type: ignore[arg-type]


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
