"""Finding run folders again, and what they recorded."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from medsql.config import AskSettings, DataSettings, EvaluateSettings, ModelSettings, SettingsError
from medsql.errors import UserError
from medsql.runs.folder import RECORD, read_record
from medsql.runs.labels import short
from medsql.runs.recorded import Recorded, ranked, recorded, unlike

log = logging.getLogger(__name__)

ROOTS = ("outputs", "multirun")
"""Where runs land unless told otherwise, below the working folder."""

OF_THE_ADAPTER = ("prompt", "max_input_tokens", "max_target_tokens", "lossless")
"""Data settings that a fine-tuned model was trained with, whatever data it is then scored on."""


Asking = TypeVar("Asking", bound=EvaluateSettings | AskSettings)
"""Settings that may name a run."""


def read_all(*roots: str | Path) -> list[Recorded]:
    """All runs at or below the given folders (default: `ROOTS`), oldest start first.

    What cannot be read, or is no run's record, is passed over, which is logged.
    """
    found: dict[Path, Recorded] = {}
    for folder in (path.parent for root in roots or ROOTS for path in Path(root).rglob(RECORD)):
        try:
            found.setdefault(folder.resolve(), recorded(folder))  # one run, however it is spelled
        except UserError as error:
            log.warning("passed over: %s", error)
    return sorted(found.values(), key=lambda record: (record.started, record.folder))


def newest(kind: str) -> Path | None:
    """The newest finished run of a kind (`train`, `evaluate`)."""
    finished = [each for each in read_all() if (each.kind, each.state) == (kind, "finished")]
    return finished[-1].folder if finished else None


def better_in_its_sweep(folder: Path) -> Recorded | None:
    """The best run of the sweep that a run is of, where that is a better one.

    None, too, where the objectives of the sweep cannot be compared.
    """
    if not (folder.parent / "multirun.yaml").exists():
        return None
    done = ranked(run for run in read_all(folder.parent) if run.kind == "train")
    if not done or unlike(done):
        return None
    own = next((run.objective for run in done if run.folder.samefile(folder)), done[0].objective)
    return None if own == done[0].objective else done[0]


def finished_run(run: str) -> tuple[Path, dict[str, Any]]:
    """The folder and record of a named run, or of the newest one for `latest`. Raises `SettingsError`."""
    folder = newest("train") if run == "latest" else Path(run).expanduser()
    if folder is None:
        raise SettingsError(f"run=latest: no finished run below {' or '.join(ROOTS)}: make train makes one")
    record = read_record(folder)
    if record is None or record.get("kind") != "train":
        raise SettingsError(f"run={run}: {folder} is not the folder of a training run")
    if record["state"] != "finished":
        raise SettingsError(f"run={run}: the run in {folder} is {record['state']}, not finished")
    return folder, record


def base_of(run: str | None) -> str | None:
    """The checkpoint that a run fine-tuned."""
    return None if run is None else str(finished_run(run)[1]["model"]["checkpoint"])


def codes_of(run: str) -> dict[str, str]:
    """How a run spelled what its vocabulary lacks; none in the records of runs before there were any."""
    return dict(finished_run(run)[1]["tokenized"].get("spelling", {}))


def longest_target_of(run: str) -> int:
    """Tokens of the longest target that a run was trained on."""
    return int(finished_run(run)[1]["tokenized"]["longest_target"])


def of_run(settings: Asking, explicit: set[str]) -> Asking:
    """The settings completed by what the named run was trained with, except what was typed (`explicit`).

    Raises `SettingsError` where no such run is finished, where a model was typed too, or a spelling is asked
    for that the run has not.
    """
    assert settings.run is not None
    own = sorted(key for key in explicit if key.split(".")[0] in ("model", "adapter"))
    if own:
        raise SettingsError(
            f"{own[0]}= contradicts run={settings.run}, which brings its own model and adapter"
        )
    folder, record = finished_run(settings.run)
    if settings.run == "latest" and (best := better_in_its_sweep(folder)):
        log.info(
            "run=latest is %s, with %s %.4f; the best of its sweep is %s, with %.4f",
            short(folder),
            best.metric,
            record["objective"],
            short(best.folder),
            best.objective,
        )
    trained = record["settings"]
    # The checkpoint that was really loaded, where the one asked for had to be replaced by a fallback.
    used = {"checkpoint": record["model"]["checkpoint"], "fallbacks": []}
    model = ModelSettings(**trained["model"] | used)
    saved = str(folder / record["saved"])
    data = _data(settings, explicit, trained)
    if record["saved"] == "model":  # all weights were trained: there is no adapter
        return replace(settings, run=str(folder), data=data, model=replace(model, checkpoint=saved))
    return replace(settings, run=str(folder), data=data, model=model, adapter=saved)


def _data(settings: Asking, explicit: set[str], trained: dict[str, Any]) -> DataSettings:
    """The run's data; or, where `data=` was typed, that, prompted as the run was."""
    recorded = {"lossless": False} | trained["data"]  # as it was before that was a setting
    if "data.lossless" in explicit and settings.data.lossless and not recorded["lossless"]:
        raise SettingsError(f"data.lossless=true contradicts run={settings.run}, which was trained without")
    taken = {key: recorded[key] for key in OF_THE_ADAPTER} if "data" in explicit else recorded
    kept = {
        key: value for key, value in taken.items() if f"data.{key}" not in explicit and key != "cache_dir"
    }
    return replace(settings.data, **kept)
