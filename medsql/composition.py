"""From Hydra's composed configuration to the typed settings of `medsql.config`, and to names of folders."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medsql.assets import BUNDLED, checkpoint_folder
from medsql.config import (
    CONF,
    HOSPITAL,
    AskSettings,
    CompareSettings,
    DemoSettings,
    EvaluateSettings,
    PredictSettings,
    PretrainSettings,
    SettingsError,
    TrainSettings,
)
from medsql.data.sources import check_files
from medsql.explain import explain, user_error
from medsql.runs.collect import Asking, newest, of_run
from medsql.runs.fingerprint import NOT_IDENTITY, fingerprint, identity, is_of
from medsql.runs.folder import RECORD, RunConflict, busy, check_folder, is_locked
from medsql.runs.labels import short

SETTINGS: dict[str, type] = {
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "compare": CompareSettings,
    "predict": PredictSettings,
    "demo": DemoSettings,
    "pretrain": PretrainSettings,
}
"""Which dataclass stands behind which `conf/NAME.yaml`."""

STUDY = "study.db"
"""In the folder of a search that has no `hydra.sweeper.storage`."""

TRIAL = re.compile(r"trial-\d{4,}")


def checked_settings(config: DictConfig, hydra: HydraConf) -> Any:
    """The typed settings behind a composed configuration; `hydra` is Hydra's own node of it.

    Raises `SettingsError`, one line, for an unknown key, a wrong type, a missing or contradictory value.
    """
    settings = to_settings(config, SETTINGS[str(hydra.job.config_name)])
    if isinstance(settings, EvaluateSettings | AskSettings):
        settings = _of_its_run(settings, explicit_keys(hydra.overrides.task))
    local = isinstance(settings, CompareSettings | PretrainSettings)  # neither reads anything from a path
    return settings if local else with_paths(settings)


def composed(door: str, *overrides: str) -> Any:
    """What `conf/<door>.yaml` and `overrides` come to, also in a program that uses Hydra for itself.

    Raises `UserError`, one line, for whatever is wrong with them.
    """
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose(door, list(overrides), return_hydra_config=True)
        return checked_settings(config, config.hydra)
    except Exception as error:
        mistake = user_error(error, SETTINGS[door])
        if mistake is None or mistake is error:  # which would be its own cause
            raise
        raise mistake from error
    finally:
        GlobalHydra.instance().hydra = outer


def _of_its_run(settings: Asking, explicit: set[str]) -> Asking:
    """The settings completed by those of the run they name; a run that nobody typed gives way to a model."""
    own = {"model", "adapter"} & {key.split(".")[0] for key in explicit}
    if own and "run" not in explicit:
        return replace(settings, run=None)
    if isinstance(settings, DemoSettings) and "run" not in explicit and newest("train") is None:
        return replace(settings, run=None)
    return settings if settings.run is None else of_run(settings, explicit)


def with_paths(settings: Any) -> Any:
    """The settings with local paths made absolute. Raises `SettingsError` where nothing lies there."""
    data, model = settings.data, settings.model
    reads_rows = not isinstance(settings, AskSettings)  # those its model was trained on may be gone
    if reads_rows and (data.source in ("jsonl", "mimicsql") or _looks_local(data.path)):
        data = replace(data, path=_existing("data.path", data.path))
    if reads_rows and data.templates is not None:
        data = replace(data, templates=_existing("data.templates", data.templates))
    if reads_rows:
        check_files(data)
    if model.checkpoint.startswith(BUNDLED) and not checkpoint_folder(model.checkpoint).is_dir():
        raise SettingsError(f"model.checkpoint={model.checkpoint}: no such checkpoint is bundled")
    data = replace(data, cache_dir=str(Path(data.cache_dir).expanduser().absolute()))
    if _looks_local(model.checkpoint) and not model.fallbacks:
        model = replace(model, checkpoint=_existing("model.checkpoint", model.checkpoint))
    if isinstance(settings, EvaluateSettings | AskSettings) and settings.adapter is not None:
        adapter = _existing("adapter", settings.adapter)
        if Path(adapter, RECORD).exists():
            raise SettingsError(f"adapter={settings.adapter}: that is a run's folder: run={settings.adapter}")
        settings = replace(settings, adapter=adapter)
    if isinstance(settings, EvaluateSettings) and settings.eval.database is not None:
        database = _existing("eval.database", settings.eval.database)
        settings = replace(settings, eval=replace(settings.eval, database=database))
    for key in ("database", "schema", "values"):
        path = getattr(settings.decode, key)
        if path is not None and (key, path) != ("values", "train"):
            absolute = {key: _existing(f"decode.{key}", path)}
            settings = replace(settings, decode=replace(settings.decode, **absolute))
    if isinstance(settings, PredictSettings) and settings.file is not None:
        settings = replace(settings, file=_existing("file", settings.file))
    if isinstance(settings, AskSettings) and settings.database not in (None, HOSPITAL):
        settings = replace(settings, database=_existing("database", settings.database))
    return replace(settings, data=data, model=model)


def _looks_local(path: str | None) -> bool:
    """A hub name is never absolute; where a folder of that name lies here, that is what is meant."""
    return path is not None and (path.startswith((".", "/", "~")) or Path(path).exists())


def _existing(key: str, path: str) -> str:
    located = Path(path).expanduser().absolute()
    if not located.exists():
        raise SettingsError(f"{key}={path}: no such file or folder")
    return str(located)


def to_settings(config: DictConfig, kind: type) -> Any:
    """The composed configuration as `kind`, a dataclass of `medsql.config`. Raises `SettingsError`."""
    plain = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), plain))
    except OmegaConfBaseException as error:
        raise SettingsError(explain(error, kind)) from error


def explicit_keys(overrides: Iterable[str]) -> set[str]:
    """`["data=mimicsql", "+data.path=x"]` → `{"data", "data.path"}`."""
    return {override.split("=", 1)[0].lstrip("+~") for override in overrides}


# --- names of folders -------------------------------------------------------------------------------


def run_folder(parent: str, root: DictConfig) -> str:
    """A single run's folder, named by `name`, or by the model, the data and the fingerprint.

    Hydra writes into it before the run itself can look: so whether this run may have it is checked here.
    Raises `SettingsError`, `RunConflict` and `RunBusy`.
    """
    settings = checked_settings(root, root.hydra)
    found = identity(settings)
    folder = Path(parent, settings.name or unnamed(settings))
    check_folder(folder, root.hydra.job.name, found)
    if is_locked(folder):
        raise busy(folder)
    return str(folder)


def unnamed(settings: TrainSettings | EvaluateSettings | PretrainSettings) -> str:
    """What the folder of a run without a `name` is called."""
    return f"{_label(settings)}-{fingerprint(identity(settings))[:8]}"


def _label(settings: TrainSettings | EvaluateSettings | PretrainSettings) -> str:
    if isinstance(settings, PretrainSettings):
        return "base"
    if isinstance(settings, TrainSettings):
        return f"{settings.model.name}-{settings.data.source}"
    tuned = settings.run or settings.adapter
    return folder_name(f"score-{Path(tuned).name if tuned else settings.model.name + '-zero-shot'}")


def sweep_folder(parent: str, root: DictConfig) -> str:
    """A sweep's folder: its name, or the overrides it was asked for that its results depend on.

    A search's says so, since a grid may be asked for with the same ones. Those of before were named by all
    overrides and nothing else: where there is such a folder, and it is a search's or not like this one, the
    sweep goes on in it.
    """
    if root.get("name"):
        return str(Path(parent, root.name))
    overrides = sorted(override for override in root.hydra.overrides.task if not override.startswith("name="))
    before = Path(parent, folder_name(",".join(overrides) or "defaults"))
    searches = root.hydra.runtime.choices.get("hydra/sweeper") == "study"
    if before.exists() and (before / STUDY).exists() == searches:
        return str(before)
    telling = [*filter(tells, overrides), *(["study"] if searches else [])]
    return str(Path(parent, folder_name(",".join(telling) or "defaults")))


def tells(override: str) -> bool:
    """Whether results depend on the override, or the sweep is over it: then jobs are named by it, too."""
    (key,) = explicit_keys([override])
    if OverridesParser.create().parse_override(override).is_sweep_override():
        return True
    # The first of these stands for its adapter, and the second for the search's second objective.
    return not is_of(key, NOT_IDENTITY - {"run", "cost"})


def check_sweep_folder(folder: Path, *, searches: bool) -> None:
    """Raises `RunConflict` where a search would go on in the folder of a grid, or a grid in a search's."""
    runs = {file.parent.name for file in folder.glob(f"*/{RECORD}")}
    trials = {name for name in runs if TRIAL.fullmatch(name)}
    baselines = {name for name in runs if name.startswith("score-")}
    if searches and runs - trials - baselines:
        raise RunConflict(f"{short(folder)} holds a grid's jobs: give the search another name=")
    if not searches and (trials or (folder / STUDY).exists()):
        raise RunConflict(f"{short(folder)} holds a search: give the grid another name=")


def trial_folder(number: int) -> str:
    """The name of a trial's folder in the search's."""
    return f"trial-{number:04d}"


def study_address(hydra: HydraConf) -> tuple[str, str]:
    """The database and the name of the Optuna study that `hydra/sweeper=study` works on."""
    folder = Path(hydra.sweep.dir).absolute()
    options = hydra.sweeper
    return options.storage or f"sqlite:///{folder / STUDY}", options.study_name or folder.name


def trial_reporter(hydra: HydraConf, objectives: int) -> Callable[[int, float], bool] | None:
    """What a run tells its validation scores to, and asks whether to go on; `None` outside of a study.

    Of several objectives Optuna takes no scores before the end.
    """
    number = hydra.sweeper.get("trial")
    if number is None or objectives > 1:
        return None
    from medsql.runs.study import Address, Reporter  # imports Optuna, which takes seconds

    return Reporter(Address(*study_address(hydra)), number, instantiate(hydra.sweeper.pruner))


def folder_name(text: str, longest: int = 120) -> str:
    """`text` as one path element; where it is too long, its end gives way to a hash of the whole."""
    name = re.sub(r"[^\w=.,+\[\]-]+", "_", text, flags=re.ASCII)
    if len(name) <= longest:
        return name
    return f"{name[: longest - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def quoted(text: str) -> str:
    """`text` as a quoted value in Hydra's grammar, which unescapes only backslashes before a quote."""
    escaped = re.sub(r"(\\*)('|\Z)", lambda run: run[1] * 2 + ("\\'" if run[2] else ""), text)
    return f"'{escaped}'"


# --- help -------------------------------------------------------------------------------------------


def explained(root: DictConfig) -> str:
    """What `--help` says of a door's keys, which is its own file and comments, and of its groups."""
    door, chosen = str(root.hydra.job.config_name), root.hydra.runtime.choices
    text = (CONF / f"{door}.yaml").read_text(encoding="utf-8")
    keys = re.findall(r"\n\n(.*?)\n+(?:#[^\n]*\n)*hydra:\n", text, re.DOTALL)
    folders = {str(group): CONF / str(group) for group in (*root, *chosen)}
    folders |= {"+sweeps": CONF.parent / "sweeps"} if door == "train" else {}
    groups = [
        f"{group}: {', '.join(_options(folder, chosen.get(group, root.get(group))))}"
        for group, folder in sorted(folders.items())
        if not group.startswith("hydra") and folder.is_dir()
    ]
    said = ["Its keys, KEY=VALUE, or where they stand below another KEY.KEY=VALUE:", "", *keys, ""]
    if groups:
        said += ["Its groups, GROUP=OPTION, and GROUP.KEY=VALUE for the keys of an option:", "", *groups, ""]
    return "\n".join(said)


def _options(group: Path, choice: Any) -> list[str]:
    """Of a group that may have several, such as `logger`, `choice` is its node: Hydra tells nothing else."""
    names = sorted(str(file.relative_to(group).with_suffix("")) for file in group.rglob("*.yaml"))
    chosen = [choice] if isinstance(choice, str) else choice or ()
    return [f"{name} (chosen)" if name in chosen else name for name in names]


def _times(factor: float, value: Any) -> Any:
    # A value that is no number is reported where it stands, not where it is multiplied.
    return factor * value if isinstance(value, int | float) else None


def register_resolvers() -> None:
    """The interpolations that `conf/` uses."""
    OmegaConf.register_new_resolver("medsql.times", _times, replace=True)
    OmegaConf.register_new_resolver(
        "medsql.run_folder", lambda parent, *, _root_: run_folder(parent, _root_), replace=True
    )
    OmegaConf.register_new_resolver(
        "medsql.sweep_folder", lambda parent, *, _root_: sweep_folder(parent, _root_), replace=True
    )
    OmegaConf.register_new_resolver("medsql.explained", lambda *, _root_: explained(_root_), replace=True)


register_resolvers()
