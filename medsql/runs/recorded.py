"""What run folders say: scores with their intervals, curves, and the settings in which runs differ."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsql.runs.fingerprint import flatten
from medsql.runs.plots import Estimate

log = logging.getLogger(__name__)

Records = Mapping[Path, dict[str, Any]]
"""Records by the folders they lie in."""


def scores_of(record: dict[str, Any]) -> dict[str, Any]:
    """What `metrics.json` holds: an evaluation's scores, or those of a run's test."""
    return record.get("scores") or record.get("test") or {}


def estimates_of(record: dict[str, Any]) -> dict[str, Estimate]:
    """Every score with its interval, by name, in the order of the record."""
    return {name: as_estimate(score) for name, score in scores_of(record).items() if has_interval(score)}


def as_estimate(score: dict[str, float]) -> Estimate:
    """A recorded score, which `has_interval`."""
    return Estimate(score["value"], score["low"], score["high"])


def has_interval(score: Any) -> bool:
    """Whether a recorded value is a score with its interval."""
    return isinstance(score, dict) and {"value", "low", "high"} <= score.keys()


def score_names(records: Records) -> list[str]:
    """The scores that any of the records holds."""
    return list(dict.fromkeys(name for record in records.values() for name in estimates_of(record)))


def _rows_scored(record: dict[str, Any]) -> str | None:
    """A hash of the rows that the scores are of."""
    split = scores_of(record).get("split")
    return record.get("data_sha256") or record.get("data", {}).get("sha256", {}).get(split)


def by_rows(records: Records) -> list[Records]:
    """Those with scores, those of the same rows together."""
    groups: dict[str | None, dict[Path, dict[str, Any]]] = {}
    for folder, record in records.items():
        if estimates_of(record):
            groups.setdefault(_rows_scored(record), {})[folder] = record
    return list(groups.values())


def training_minutes(record: dict[str, Any]) -> float | None:
    """Minutes of training alone; unknown of a run that was resumed, whose record has its last start's."""
    seconds = record.get("seconds_since_last_start", {}).get("training")
    return None if seconds is None or record.get("resumed") else seconds / 60


def read_curves(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """The columns of a `metrics.csv`, each as the steps that have a value and these values.

    None where there is no such file, or where it is damaged, which is logged.
    """
    curves: dict[str, tuple[list[int], list[float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file, strict=True):
                for name, value in row.items():
                    if name != "step" and value:
                        steps, values = curves.setdefault(name, ([], []))
                        steps.append(int(row["step"]))
                        values.append(float(value))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        log.warning("%s is damaged (%s), no curves are drawn of it", path, " ".join(str(error).split()))
        return {}
    return {name: curve for name, curve in curves.items() if all(map(math.isfinite, curve[1]))}


def differing_settings(runs: Records) -> dict[str, dict[Path, Any]]:
    """Each setting that changes results and is not the same for all runs, with every run's value."""
    identities = {folder: flatten(record.get("identity", {})) for folder, record in runs.items()}
    keys = dict.fromkeys(key for identity in identities.values() for key in identity)
    values = {key: {folder: identity.get(key) for folder, identity in identities.items()} for key in keys}
    return {key: found for key, found in values.items() if len(set(map(str, found.values()))) > 1}


def commit(record: dict[str, Any]) -> str:
    """The project's git commit that a run ran on, where it is known."""
    return record.get("environment", {}).get("git_commit") or ""
