"""What runs were swept over: each parameter with the value that every run had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import median
from typing import TYPE_CHECKING, Any

from medsql.runs.fingerprint import NOT_IDENTITY, is_of
from medsql.runs.overrides import overrides_of, search_space
from medsql.runs.recorded import Recorded, differing_settings

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

NOT_SWEPT = NOT_IDENTITY | {"sweeps", "hydra", "seed"}
"""Overrides that no score is to be explained by; what seeds do is told by means over them."""

SPREAD = 8
"""From this ratio of the largest value to the smallest, an axis may be logarithmic: r = 4, 8, 16, 32 is."""


@dataclass(frozen=True)
class Parameter:
    """A swept key; `values[i]` belongs to the i-th run: numbers, or else the names of categories."""

    key: str
    values: Sequence[float] | Sequence[str]
    in_factors: bool | None = None
    """Whether the sweep searched it logarithmically; None where values were listed, or that is lost."""

    @property
    def numeric(self) -> bool:
        """Whether its values have an order and distances."""
        return not any(isinstance(value, str) for value in self.values)

    @property
    def logarithmic(self) -> bool:
        """Whether it is positive, and was searched or listed in factors rather than in distances."""
        levels = self.levels
        if not levels or not self.numeric or levels[0] <= 0 or self.in_factors is False:
            return False
        if self.in_factors or levels[-1] / levels[0] < SPREAD:
            return bool(self.in_factors)
        # Values that somebody chose: is their middle that of factors, or that of distances?
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
        return replace(self, values=[self.values[place] for place in places])  # type: ignore[arg-type]


def swept(runs: Sequence[Recorded]) -> list[Parameter]:
    """The keys that the runs were asked for with different values, in the order in which they were typed.

    So that what follows from another key (alpha from r, all that an experiment sets) is not a parameter of
    its own. Where no folder has its overrides, the settings that differ stand for them.
    """
    asked = [_asked(run) for run in runs]
    if not any(asked):
        keys = [key for key in differing_settings(runs) if not is_of(key, NOT_SWEPT)]
        asked = [dict.fromkeys(keys, "") for _ in runs]
    typed = dict.fromkeys(key for overrides in asked for key in overrides)
    spaces = [search_space(folder) for folder in dict.fromkeys(run.folder.parent for run in runs)]
    space = spaces[0] if len(spaces) == 1 else {}
    found = [_parameter(key, runs, asked, space.get(key)) for key in typed]
    return [parameter for parameter in found if len(parameter.levels) > 1]


def _asked(run: Recorded) -> dict[str, Any]:
    typed = {override.key_or_group: override.value() for override in overrides_of(run.folder)}
    return {key: value for key, value in typed.items() if not is_of(key, NOT_SWEPT)}


def _parameter(
    key: str, runs: Sequence[Recorded], asked: Sequence[Mapping[str, Any]], sweep: Override | None
) -> Parameter:
    """A setting's values are typed ones; the option of a group is known by its name alone."""
    values = [
        ({**run.identity, **run.settings}).get(key, overrides.get(key, "default"))
        for run, overrides in zip(runs, asked)
    ]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return Parameter(key, values, None if sweep is None else _in_factors(sweep))
    return Parameter(key, [_name(value) for value in values])


def _in_factors(sweep: Override) -> bool | None:
    """Whether the sweep's interval or range is tagged `log`; None where it lists values."""
    from hydra.core.override_parser.types import IntervalSweep, RangeSweep

    searched = sweep.value()
    return "log" in searched.tags if isinstance(searched, IntervalSweep | RangeSweep) else None


def _name(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "null" if value is None else str(value)
