"""What a run, or a sweep, was asked for, as Hydra left it in its folder."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medsql.runs.folder import RECORD

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

log = logging.getLogger(__name__)

T = TypeVar("T")


def overrides_of(folder: Path) -> list[Override]:
    """What the run was asked for; none where Hydra left nothing, or what cannot be read, which is logged."""

    def read(found: Any) -> list[Override]:
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise ValueError("not a list of overrides")
        return [_parsed(each) for each in found]

    return _left_by_hydra(folder / ".hydra" / "overrides.yaml", read, [], "the run's overrides are not known")


def options_of(folder: Path) -> dict[str, str]:
    """The option of each group that the run was composed of: `{"lora": "qv", "hydra/sweeper": "grid"}`.

    None where Hydra left nothing, or nothing that can be read, which is logged.
    """

    def read(found: Any) -> dict[str, str]:
        options = found["hydra"]["runtime"]["choices"].items()
        return {group: option for group, option in options if isinstance(option, str)}

    return _left_by_hydra(folder / ".hydra" / "hydra.yaml", read, {}, "the run's options are not known")


def search_space(sweep: Path) -> dict[str, Override]:
    """What a sweep's folder says was swept, by key; empty where it is no sweep's.

    That is what the sweeper's `params` and the overrides held that are sweeps by Hydra's grammar. A file that
    cannot be read is logged.
    """

    def read(found: Any) -> dict[str, Override]:
        params = found["hydra"]["sweeper"].get("params") or {}
        texts = [*(f"{key}={value}" for key, value in params.items()), *found["hydra"]["overrides"]["task"]]
        given = {override.key_or_group: override for override in map(_parsed, texts)}
        return {key: override for key, override in given.items() if override.is_sweep_override()}

    return _left_by_hydra(sweep / "multirun.yaml", read, {}, "what was swept is not known")


def not_begun(sweep: Path) -> list[str]:
    """The jobs of a grid's folder that have no record yet, by what they vary: `["lora.r=8,seed=1"]`.

    None where it is no grid's, or where that cannot be told, which is logged.
    """
    from hydra.core.override_parser.types import ValueType

    def read(found: Any) -> list[tuple[str, ...]]:
        if not found["hydra"]["sweeper"]["_target_"].endswith("GridSweeper"):
            return []
        swept = {each.get_key_element(): each for each in search_space(sweep).values()}
        globs = [each.input_line for each in swept.values() if each.value_type == ValueType.GLOB_CHOICE_SWEEP]
        if globs:
            log.warning("%s: which options %s had is not known, nor what has not begun", sweep, globs[0])
            return []
        tried = [[f"{key}={value}" for value in each.sweep_string_iterator()] for key, each in swept.items()]
        return [*product(*tried)] if tried else []

    none: list[tuple[str, ...]] = []
    jobs = _left_by_hydra(sweep / "multirun.yaml", read, none, "what has not begun is not known")
    begun = [{each.input_line for each in overrides_of(path.parent)} for path in sweep.glob(f"*/{RECORD}")]
    return [",".join(job) for job in jobs if not any(overrides.issuperset(job) for overrides in begun)]


@cache
def _parsed(text: str) -> Override:
    """An override by Hydra's grammar. Raises `HydraException`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(text)


def _left_by_hydra(path: Path, read: Callable[[Any], T], missing: T, lost: str) -> T:
    """What `read` takes from a YAML file; `missing` where there is none, or where it is damaged.

    The latter is logged, with what is `lost`.
    """
    import yaml
    from hydra.errors import HydraException

    damage = (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError, HydraException)
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return read(found)
    except FileNotFoundError:
        return missing
    except damage as error:
        log.warning("%s is damaged (%s), %s", path, " ".join(f"{error}".split()), lost)
        return missing
