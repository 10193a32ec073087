"""What runs were swept over: each parameter with the value that every run had."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import median
from typing import Any

from medsql.runs.fingerprint import NOT_IDENTITY
from medsql.runs.recorded import Recorded, differing_settings, overrides_of

log = logging.getLogger(__name__)

NOT_SWEPT = NOT_IDENTITY | {"sweeps", "hydra", "seed"}
"""Overrides that no score is to be explained by; what seeds do is told by means over them."""

SPREAD = 8
"""From this ratio of the largest value to the smallest, an axis may be logarithmic: r = 4, 8, 16, 32 is."""


@dataclass(frozen=True)
class Parameter:
    """A swept key; `values[i]` belongs to the i-th run: numbers, or else the names of categories."""

    key: str
    values: Sequence[float] | Sequence[str]
    asked: str = ""
    """What the sweep was asked to try, such as `tag(log, interval(1e-4, 1e-2))`; empty where that is lost."""

    @property
    def numeric(self) -> bool:
        """Whether its values have an order and distances."""
        return not any(isinstance(value, str) for value in self.values)

    @property
    def logarithmic(self) -> bool:
        """Whether its values are spread over orders of magnitude."""
        if (
            not self.values
            or not self.numeric
            or min(self.numbers()) <= 0
            or max(self.numbers()) / min(self.numbers()) < SPREAD
        ):
            return False
        if re.match(r"(tag|interval|range|int|float)\b", self.asked):
            return bool(re.match(r"tag\([^(]*\blog\b", self.asked))
        # Values that somebody chose: is their middle that of factors, or that of distances?
        levels = self.levels
        middle, low, high = median(levels), levels[0], levels[-1]
        return abs(middle - sqrt(low * high)) < abs(middle - (low + high) / 2)

    @property
    def levels(self) -> list[Any]:
        """Its different values: numbers sorted, categories in their first order."""
        found: dict[Any, None] = dict.fromkeys(self.values)
        return sorted(found) if self.numeric else [*found]

    def numbers(self) -> list[float]:
        """Its values as places on an axis: a category is the number of its level."""
        if self.numeric:
            return [float(value) for value in self.values]
        places = {level: float(place) for place, level in enumerate(self.levels)}
        return [places[str(value)] for value in self.values]

    def of(self, places: Sequence[int]) -> Parameter:
        """The same for some of the runs."""
        return Parameter(self.key, [self.values[place] for place in places], self.asked)  # type: ignore[arg-type]


def swept(runs: Sequence[Recorded]) -> list[Parameter]:
    """The keys that the runs were asked for with different values, in the order in which they were typed.

    So that what follows from another key (alpha from r, all that an experiment sets) is not a parameter of
    its own. Where no folder has its overrides, the settings that differ stand for them.
    """
    asked = [_asked(run) for run in runs]
    if not any(asked):
        keys = [key for key in differing_settings(runs) if not NOT_SWEPT & {key, key.split(".")[0]}]
        asked = [dict.fromkeys(keys, "") for _ in runs]
    typed = dict.fromkeys(key for overrides in asked for key in overrides)
    spaces = [search_space(folder) for folder in dict.fromkeys(run.folder.parent for run in runs)]
    space = spaces[0] if len(spaces) == 1 else {}
    found = [_parameter(key, runs, asked, space.get(key, "")) for key in typed]
    return [parameter for parameter in found if len(parameter.levels) > 1]


def _asked(run: Recorded) -> dict[str, str]:
    parts = [override.lstrip("+").partition("=") for override in overrides_of(run.folder)]
    return {key: value for key, _, value in parts if not NOT_SWEPT & {key, key.split(".")[0]}}


def _parameter(
    key: str, runs: Sequence[Recorded], asked: Sequence[Mapping[str, str]], space: str
) -> Parameter:
    """A setting's values are typed ones; the option of a group is known by its name alone."""
    values = [
        ({**run.identity, **run.settings}).get(key, overrides.get(key, "default"))
        for run, overrides in zip(runs, asked)
    ]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return Parameter(key, values, space)
    return Parameter(key, [_name(value) for value in values], space)


def search_space(sweep: Path) -> dict[str, str]:
    """What a sweep's folder says was swept: `{"lora.r": "8,16,32"}`; empty where it is no sweep's.

    That is what the sweeper's `params` and the overrides held that are sweeps by Hydra's grammar. A file that
    cannot be read is logged.
    """
    import yaml

    path = sweep / "multirun.yaml"
    if not path.exists():
        return {}
    try:
        hydra = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))[
            "hydra"
        ]
        typed = [override.lstrip("+").partition("=") for override in hydra["overrides"]["task"]]
        params = {**(hydra["sweeper"].get("params") or {}), **{key: value for key, _, value in typed}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        log.warning("%s is damaged (%s), what was swept is not known", path, " ".join(str(error).split()))
        return {}
    return {key: str(value) for key, value in params.items() if _is_sweep(key, str(value))}


def _is_sweep(key: str, value: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(f"{key}={value}").is_sweep_override()
    except HydraException:
        return False


def _name(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "null" if value is None else str(value)
