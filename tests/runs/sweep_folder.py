"""A sweep as the folder it leaves, made without training: a run for each set of overrides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from medsql.runs.folder import RECORD, Run

STEPS = 100


def score(value: float) -> dict[str, float]:
    """A test score, as a record holds it."""
    return {"value": value, "low": max(0.0, value - 0.05), "high": min(1.0, value + 0.05)}


def job(
    folder: Path,
    swept: Mapping[str, Any],
    objective: float,
    *,
    state: str = "finished",
    fixed: Mapping[str, Any] | None = None,
    metric: str = "val/exact_match",
    reached: int = STEPS,
    options: tuple[str, ...] = (),
    **facts: Any,
) -> Path:
    """One run with the settings `swept`, which its overrides name; `options` are overrides of groups.

    It logged the objective every ten steps, up to `reached`, on its way to what it ended with.
    """
    settings: dict[str, Any] = {
        "optim.lr": 1e-3,
        "lora.r": 8,
        "lora.alpha": 16.0,
        "seed": 42,
        "objective": metric,
    }
    settings |= {**(fixed or {}), **swept}
    folder.mkdir(parents=True)
    (folder / ".hydra").mkdir()
    overrides = [*options, *(f"{key}={value}" for key, value in swept.items())]
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    lines = [f"step,train/loss,val/loss,{metric}" if metric != "val/loss" else "step,train/loss,val/loss"]
    for step in range(10, reached + 1, 10):
        value = objective * step / reached if metric != "val/loss" else objective * (2 - step / reached)
        lines.append(
            f"{step},{2 - step / STEPS},{2 - step / STEPS},{value}"
            if metric != "val/loss"
            else f"{step},1,{value}"
        )
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *above, last = key.split(".")
        place = nested
        for name in above:
            place = place.setdefault(name, {})
        place[last] = value
    with Run(folder, "train", settings, nested) as run:
        rank = settings["lora.r"]
        found: dict[str, Any] = {
            "model": {"checkpoint": "bundled:mini", "failures": {}},
            "parameters": {"trainable": 18432 * rank, "total": 5 * 10**6},
            "steps": STEPS,
            "data": {"sha256": {"test": "rows", "validation": "validation rows"}},
        }
        if state == "finished":
            test = {"split": "test", "n": 150, "exact_match": score(objective), "token_f1": score(0.9)}
            found |= {"objective": objective, "validation": {metric: objective}, "test": test}
            found |= {"seconds_since_last_start": {"training": 6.0 * rank}}
        if state == "pruned":
            found |= {"objective": objective, "validation": {metric: objective}}
        run.finish(**found | facts)
    record = json.loads((folder / RECORD).read_text()) | {"state": state}
    (folder / RECORD).write_text(json.dumps(record))
    return folder
