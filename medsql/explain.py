"""From Hydra's errors to one line: which setting is wrong, and what was probably meant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import Node, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError
from rapidfuzz import fuzz, process

from medsql.config import CONF, SettingsError
from medsql.errors import UserError

WANTED = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list: "a list, as [a,b]",
    NoneType: "null",
}
"""What a value of a type is called to people."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def user_error(error: Exception, kind: type) -> UserError | None:
    """`error` as one that a user can mend, or `None` where it is a bug."""
    for cause in causes(error):
        if isinstance(cause, UserError):
            return cause
    if isinstance(error, HydraException | OmegaConfBaseException):
        return SettingsError(explain(error, kind))
    if isinstance(error, ValueError) and str(error).startswith("Config group override"):
        return SettingsError("a group takes an option, or as `logger` does a list of them: [] is none")
    if isinstance(error, ValueError) and str(error).startswith("Only one of --run"):
        return SettingsError(
            "-m runs a sweep and --cfg and --info only show something: leave one of them out"
        )
    if isinstance(error, OSError):
        return UserError(" ".join(f"{error.strerror or error}: {error.filename or ''}".split()).rstrip(": "))
    return None


def explain(error: Exception, kind: type) -> str:
    """One line for an error of Hydra or OmegaConf; for a key that does not exist, with the closest one."""
    if isinstance(error, MissingConfigException):
        return _explain_missing_option(error)
    key = getattr(error, "full_key", None) or ""
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        return unknown_key(key, kind)
    refused = re.match(r"Could not override '(.+?)'\.", str(error))
    if isinstance(error, ConfigCompositionException) and refused:
        return unknown_key(refused[1], kind)
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as key=value"
    ambiguous = re.match(r"Ambiguous value for argument '(.+)'", str(error))
    if ambiguous:
        return f"{ambiguous[1]} is a sweep: add -m, or write a list as key=[a,b]"
    merging = re.match(r"Error merging override ([^=]+)=", str(error))
    if merging and isinstance(error.__cause__, ValidationError):
        return _explain_wrong_type(merging[1], error.__cause__)
    if merging and error.__cause__:
        return f"{merging[1]}: {str(error.__cause__).splitlines()[0]}"
    if isinstance(error, ValidationError) and is_dataclass(error.object_type):
        return _explain_wrong_type(key, error)
    message = str(error) or str(error.__cause__)
    # Hydra and OmegaConf append a block of context, and links, below their first lines.
    first = " ".join(message.split("\n    full_key")[0].split("\nSee https")[0].split())
    return f"{key}: {first}" if key else first


def _explain_wrong_type(key: str, error: ValidationError) -> str:
    value = error.value
    if isinstance(value, Node):
        value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value._value()
    # Nearly as it was typed: without quotes, and null and true in YAML's words.
    given = value if isinstance(value, str) else json.dumps(value, default=str).replace('"', "")
    hint = get_type_hints(error.object_type).get(str(error.key))
    parts = get_args(hint) if isinstance(hint, UnionType) or get_origin(hint) is Union else (hint,)
    return f"{key}={given}: must be {' or '.join(map(_wanted, parts))}"


def _wanted(kind: Any) -> str:
    """What a value of a type is, in words."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(kind.__members__)}"
    return WANTED.get(get_origin(kind) or kind, "a group of settings")


def _explain_missing_option(error: MissingConfigException) -> str:
    wanted = error.missing_cfg_file or ""
    group, _, option = wanted.rpartition("/")
    if wanted == "hydra/launcher/ray":
        return "hydra/launcher=ray is not installed here: docs/sweeps.md says how to"
    options = list(error.options or []) or sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    if not options:
        return f"there is no configuration {wanted}"
    closest = process.extractOne(option, options)
    return f"{group}={option}: there is no such option; did you mean {closest[0]}? ({', '.join(options)})"


def unknown_key(key: str, kind: type) -> str:
    """The line for a key that no setting has."""
    if key == "sweeps":  # a group that is in no configuration's defaults
        return "sweeps= is added to the others with a plus sign: +sweeps=NAME"
    if key in ("hydra/sweeper/sampler", "hydra/sweeper/pruner"):  # groups of that sweeper alone
        return f"{key}= is for a search: add hydra/sweeper=study"
    if key.startswith(("hydra.sweeper.", "hydra.launcher.")):
        return _unknown_plugin_key(key)
    shortest_first = sorted(known_keys(kind), key=len)  # which decides between equally likely ones
    closest = process.extractOne(key, shortest_first, scorer=_likeness, score_cutoff=60)
    cure = f"did you mean {closest[0]}?" if closest else "--cfg job lists all"
    return f"there is no setting {key}; {cure}"


def _unknown_plugin_key(key: str) -> str:
    """The line for a key that the chosen sweeper or launcher does not have, with the closest that any has."""
    _, kind, wanted = key.split(".", 2)
    group, store = f"hydra/{kind}", ConfigStore.instance()
    options = [name.removesuffix(".yaml") for name in store.list(group) if name.endswith(".yaml")]
    known = {str(name): option for option in options for name in store.load(f"{group}/{option}.yaml").node}
    closest = process.extractOne(wanted, list(known), scorer=fuzz.ratio, score_cutoff=60)
    cure = "leave it out"
    if closest:
        cure = f"did you mean hydra.{kind}.{closest[0]} of {group}={known[closest[0]]}?"
    return f"there is no setting {key} in the chosen {group}; {cure}"


def _likeness(one: str, other: str, **_: Any) -> float:
    """Whole keys are compared, and their last parts for who writes `lr` for `optim.lr`."""
    last = fuzz.ratio(one.rpartition(".")[2], other.rpartition(".")[2])
    return max(fuzz.ratio(one, other), 0.9 * last)


def known_keys(kind: type) -> list[str]:
    """Every dotted key that may be set for a door, Hydra's own included."""
    return [*_keys(kind), "experiment", *_keys(HydraConf, "hydra.")]


def _keys(kind: type, prefix: str = "") -> Iterator[str]:
    for name, hint in get_type_hints(kind).items():
        yield f"{prefix}{name}"
        for part in (hint, *get_args(hint)):  # a group, or `Group | None`
            if is_dataclass(part) and isinstance(part, type):
                yield from _keys(part, f"{prefix}{name}.")
