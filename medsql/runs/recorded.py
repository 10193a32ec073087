"""What run folders say, checked once where it is read, so that nothing above asks whether a key is there."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from medsql.config import SCORES
from medsql.errors import UserError
from medsql.metrics.estimate import Estimate
from medsql.runs.fingerprint import flatten
from medsql.runs.folder import RECORD, is_locked, read_record
from medsql.wording import counted

log = logging.getLogger(__name__)

KINDS = ("train", "pretrain", "evaluate")


class Sharpness(NamedTuple):
    """The share of `mutants`, made of `queries`, that the execution score tells from their originals."""

    told_apart: Estimate
    queries: int
    mutants: int


@dataclass(frozen=True, eq=False)
class Recorded:
    """A run or an evaluation. What it has not come to, or what was not yet recorded, is empty or None."""

    folder: Path
    kind: str = "train"
    state: str = "not started"
    started: str = ""
    label: str = ""
    """What it is called beside others, see `medsql.runs.labels`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    """Both flat: dotted key → value."""
    checkpoint: str = ""
    fell_back: bool = False
    parameters: Mapping[str, int] = field(default_factory=dict)
    steps: int | None = None
    minutes: float | None = None
    """Of training alone; None for a run that was resumed, whose record has its last start's."""
    commit: str = ""
    """Seven digits, with `-dirty` where tracked files differed."""
    machine: str = ""

    error: str = ""
    """Why it failed."""
    trial: int | None = None
    """Its number in an Optuna study."""

    objective: float | None = None
    last: float | None = None
    """What the objective was at the last validation so far, of a run that has not recorded it; at `step`."""
    step: int | None = None
    validation: Mapping[str, float] = field(default_factory=dict)
    validation_rows: str | None = None
    """A hash of them; so is `rows`, of the rows that the scores are of."""
    tokenizer: str = ""
    """A hash of it; empty for a run that did not record it."""
    spelling: Mapping[str, str] = field(default_factory=dict)
    """Of the targets that it was trained on; empty for queries as they stand."""

    scored: str = ""
    tuned: bool = False
    base: str = ""
    trained_on: int = 0
    """Of the `n` rows scored, those whose query the model was trained on; 0, too, where that is not known."""
    split: str = ""
    n: int | None = None
    rows: str | None = None
    scores: Mapping[str, Estimate] = field(default_factory=dict)
    truncated: int = 0
    bound: int | None = None
    cannot_judge: Mapping[str, int] = field(default_factory=dict)
    """How many gold queries tell nothing of a prediction, by why."""
    sharpness: Sharpness | None = None
    wrong: int = 0
    patterns: Mapping[str, Estimate] | None = None
    """Shares of the `wrong` predictions, as `classes`, the published report's; None where nobody looked."""
    classes: Mapping[str, Estimate] = field(default_factory=dict)
    claimed: Mapping[str, float] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """What the objective is."""
        return str(self.settings.get("objective", ""))

    @property
    def standing(self) -> float | None:
        """The objective, or where it is not yet or never settled what it was last; None where nothing is."""
        value = self.last if self.objective is None else self.objective
        return value if value is None or math.isfinite(value) else None

    @property
    def database(self) -> str | None:
        """The content of the file that execution was scored on; None for databases made for that."""
        return self.identity.get("eval.database")

    @property
    def decoding(self) -> dict[str, Any]:
        """The settings of decoding that change results."""
        return {key: value for key, value in self.identity.items() if key.startswith("decode.")}


class Again(NamedTuple):
    """The command that trains the run, or the configuration, of this label again; or why there is none."""

    label: str
    command: str
    why_not: str = ""


def recorded(folder: Path) -> Recorded:
    """What the folder's `run.json` says. Raises `UserError` where it is none, or damaged."""
    record = read_record(folder)
    if record is None:
        raise UserError(f"{folder} holds no {RECORD}")
    try:
        run = Recorded(folder, **_of_run(folder, record), **_of_scores(record))
        return run if run.kind == "evaluate" or run.state == "finished" else _with_last_validation(run)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{folder / RECORD} is no run's record, or damaged ({reason})") from error


def _of_run(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    environment, hardware, model, seconds, data, tokenized = (
        _fact(record, key, dict, {})
        for key in ("environment", "hardware", "model", "seconds_since_last_start", "data", "tokenized")
    )
    kind, state = record["kind"], _fact(record, "state", str, "")
    if kind not in KINDS:
        raise ValueError(f"kind {kind}")
    if state == "running" and not is_locked(folder):  # left by a process that was killed
        state = "killed"
    minutes = None if record.get("resumed") else _fact(seconds, "training", float, None)
    digits, _, dirty = _fact(environment, "git_commit", str, "").partition("-")
    return {
        "kind": kind,
        "state": state,
        "started": _fact(record, "started", str, ""),
        "settings": flatten(_fact(record, "settings", dict, {})),
        "identity": flatten(_fact(record, "identity", dict, {})),
        "checkpoint": _fact(model, "checkpoint", str, ""),
        "fell_back": bool(model.get("failures")),
        "parameters": _numbers(record, "parameters", int),
        "steps": _fact(record, "steps", int, None),
        "minutes": None if minutes is None else minutes / 60,
        "commit": digits[:7] + "-dirty" * bool(dirty),
        "machine": _machine(_fact(hardware, "device", str, ""), environment.get("cpus"), hardware),
        "error": _fact(record, "error", str, "") if state == "failed" else "",
        "trial": _fact(record, "trial", int, None),
        "objective": _fact(record, "objective", float, None),
        "validation": _numbers(record, "validation", float),
        "validation_rows": _fact(data, "sha256", dict, {}).get("validation"),
        "tokenizer": _fact(tokenized, "tokenizer", str, ""),
        "spelling": _fact(tokenized, "spelling", dict, {}),
    }


def _of_scores(record: dict[str, Any]) -> dict[str, Any]:
    """What `metrics.json` holds: an evaluation's scores, or those of a run's test."""
    scores = _fact(record, "scores", dict, None) or _fact(record, "test", dict, {})
    errors, gold = (_fact(scores, key, dict, {}) for key in ("errors", "gold"))
    mutants = _fact(scores, "mutants", dict, {})
    told_apart = mutants.get("told_apart")
    wrong = _fact(errors, "wrong", int, 0)
    classes = _fact(errors, "report_classes", dict, {})
    split, n = _fact(scores, "split", str, ""), _fact(scores, "n", int, None)
    hashes = _fact(_fact(record, "data", dict, {}), "sha256", dict, {})
    found = {name: score for name, score in scores.items() if isinstance(score, dict) and "low" in score}
    cannot = {why: int(count) for why, count in gold.items()}
    return {
        "scored": _fact(record, "scored", str, ""),
        "tuned": bool(record.get("tuned")),
        "base": _fact(record, "base", str, ""),
        "trained_on": _fact(scores, "trained_on", int, 0),
        "split": split,
        "n": n,
        "rows": _fact(record, "data_sha256", str, None) or hashes.get(split),
        "scores": {name: _estimate(score, n) for name, score in found.items()},
        "truncated": _fact(scores, "truncated", int, 0),
        "bound": _fact(scores, "max_new_tokens", int, None),
        "cannot_judge": cannot,
        "sharpness": told_apart
        and Sharpness(
            _estimate(told_apart, mutants["mutants"]), int(mutants["queries"]), int(mutants["mutants"])
        ),
        "wrong": wrong,
        "patterns": _shares(errors["patterns"], wrong) if errors else None,
        "classes": _shares(classes, wrong),
        "claimed": {name: float(share["claimed"]) for name, share in classes.items() if "claimed" in share},
    }


def _with_last_validation(run: Recorded) -> Recorded:
    """How far a run that is not finished has come, by what it logged."""
    curves = read_curves(run.folder / "metrics.csv")
    _, values = curves.get(run.metric, ([], []))
    reached = max((steps[-1] for steps, _ in curves.values()), default=None)
    return replace(run, step=reached, last=values[-1] if values else None)


def _fact(source: dict[str, Any], key: str, kind: type, missing: Any) -> Any:
    """A value of this type; `missing` where there is none, or null. Raises `ValueError` for another type."""
    value = source.get(key)
    if value is None:
        return missing
    if not isinstance(value, (int, float) if kind is float else kind):
        raise ValueError(f"{key} is a {type(value).__name__}")
    return value


def _numbers(record: dict[str, Any], key: str, kind: type) -> dict[str, Any]:
    return {name: kind(value) for name, value in _fact(record, key, dict, {}).items()}


def _estimate(score: dict[str, Any], rows: Any) -> Estimate:
    value, low, high = (float(score[end]) for end in ("value", "low", "high"))
    if not math.isfinite(value + low + high):
        raise ValueError(f"a score of {value}")
    return Estimate(value, low, high, int(score.get("n", rows)))


def _shares(shares: dict[str, Any], wrong: int) -> dict[str, Estimate]:
    return {name: _estimate(share, wrong) for name, share in shares.items()}


def _machine(device: str, cpus: Any, hardware: dict[str, Any]) -> str:
    counts = ((cpus, "CPU"), (hardware.get("threads"), "thread"))
    return ", ".join([*filter(None, [device]), *(counted(count, what) for count, what in counts if count)])


def score_names(records: Iterable[Recorded]) -> list[str]:
    """The scores that any of them has, in the project's order."""
    found = dict.fromkeys(name for record in records for name in record.scores)
    return [*(name for name in SCORES if name in found), *(name for name in found if name not in SCORES)]


def by_rows(records: Iterable[Recorded]) -> list[list[Recorded]]:
    """Those with scores, those of the same rows together."""
    groups: dict[str | None, list[Recorded]] = {}
    for record in records:
        if record.scores:
            groups.setdefault(record.rows, []).append(record)
    return list(groups.values())


def ranked(runs: Iterable[Recorded]) -> list[Recorded]:
    """Those that finished with an objective, the best first: a loss is better when lower."""
    done = [run for run in runs if run.state == "finished" and run.objective is not None]
    return _by_standing(done)


def _by_standing(runs: Iterable[Recorded]) -> list[Recorded]:
    """Those that have any value of the objective, the best first; of equal ones that of the lowest loss."""

    def standing(run: Recorded) -> tuple[float, float]:
        sign = 1 if lower_is_better(run) else -1
        return sign * (run.standing or 0.0), run.validation.get("val/loss", math.inf)

    return sorted((run for run in runs if run.standing is not None), key=standing)


def metric_of(runs: Iterable[Recorded]) -> str:
    """What the objective of all of them is; `objective` where there is not one for all."""
    metrics = {run.metric for run in runs if run.metric}  # one that has not begun has none
    return metrics.pop() if len(metrics) == 1 else "objective"


def lower_is_better(run: Recorded) -> bool:
    """Whether the run's objective is a loss."""
    return run.metric == "val/loss"


Facts = Mapping[str, Callable[[Recorded], Any]]


def _was_refit(run: Recorded) -> bool:
    """Whether the run was trained on its validation rows."""
    return bool(run.settings.get("data.refit"))


def of_losses(runs: Iterable[Recorded]) -> Facts:
    """What validation losses of these runs must share to be comparable: nats a token, raised by smoothing.

    Of tokenizers the hashes are compared, or where a run has not recorded its own the checkpoints of all,
    which bring them.
    """
    hashed = all(run.tokenizer for run in runs)
    return {
        "validation rows": lambda run: run.validation_rows,
        "tokenizer": lambda run: run.tokenizer if hashed else run.checkpoint,
        "spelling": lambda run: frozenset(run.spelling.items()),
        "data.max_target_tokens": lambda run: run.settings.get("data.max_target_tokens"),
        "optim.label_smoothing": lambda run: run.settings.get("optim.label_smoothing"),
        "data.refit": _was_refit,
    }


BEHIND_LOSSES = {
    *("model", "model.checkpoint", "model.lacks", "data.lossless", "data.max_target_tokens"),
    *("optim.label_smoothing", "data.refit"),
}
"""Groups and keys by which runs of the same rows come to differ in what `of_losses` looks at."""

OF_A_SCORE: Facts = {
    "validation rows": lambda run: run.validation_rows,
    "validation.generate_rows": lambda run: run.settings.get("validation.generate_rows"),
    "data.refit": _was_refit,
}
"""What two validation scores must share to be comparable."""


def unlike(runs: Iterable[Recorded]) -> str:
    """In what runs differ so that what their objectives are, or were last, cannot be ranked.

    Empty where they can, which is up to the runs that have such a value alone.
    """
    valued = [run for run in runs if run.standing is not None]
    if differing := _differing(valued, {"objective": lambda run: run.metric}):
        return differing
    return _differing(valued, of_losses(valued) if valued and lower_is_better(valued[0]) else OF_A_SCORE)


def _differing(runs: Sequence[Recorded], facts: Facts) -> str:
    return " and ".join(what for what, of in facts.items() if len({of(run) for run in runs}) > 1)


def on_losses(runs: Iterable[Recorded]) -> str:
    """Why validation losses of runs cannot be compared, in a sentence; empty where they can."""
    runs = [*runs]
    differing = _differing(runs, of_losses(runs))
    return differing and f"Validation losses of runs that differ in {differing} cannot be compared."


def best_first(runs: Sequence[Recorded]) -> list[Recorded]:
    """Finished runs by their objectives, then the others by what theirs was last, then those without one.

    In the order given where objectives cannot be ranked.
    """
    done = ranked(runs)
    if unlike(done):
        return list(runs)
    others = [run for run in runs if run not in done]
    valued = [] if unlike(runs) else _by_standing(others)
    rest = [*valued, *(run for run in others if run not in valued)]
    return [*done, *sorted(rest, key=lambda run: run.state == "failed")]


def remarks(records: Sequence[Recorded]) -> list[str]:
    """What is to be known of scores before they are read, each said once."""
    said = [(record, sentence) for record in records for sentence in _remarks(record)]
    return together(said, sum(bool(record.scores) for record in records))


def _remarks(record: Recorded) -> Iterable[str]:
    fewer: dict[int, list[str]] = {}
    for name, score in record.scores.items():
        if score.n != record.n:
            fewer.setdefault(score.n, []).append(name.replace("_", " "))
    if fewer:
        of = "; ".join(f"{', '.join(names)}: of {counted(rows, 'row')}" for rows, names in fewer.items())
        cannot = record.cannot_judge
        why = ", ".join("finds nothing" if reason == "empty" else reason for reason in cannot)
        queries = counted(sum(cannot.values()), "gold query", "gold queries")
        yield of + (f"; {queries} cannot be judged: {why}" if cannot else "")
    if record.truncated:
        bound = f" at {record.bound} tokens" if record.bound else ""
        yield f"{record.truncated} of {counted(record.n or 0, 'output')} cut{bound}"
    if record.sharpness:
        share, originals, mutants = record.sharpness
        yield (
            f"sharpness of the execution score, no model's: {share} % of {mutants:,} mutants told from the "
            f"{originals} gold queries they were made of"
        )


def together(said: Iterable[tuple[Recorded, str]], everyone: int) -> list[str]:
    """Each sentence once, after the labels of those it is said of; of many, of the first few."""
    labels: dict[str, list[str]] = {}
    for record, sentence in said:
        labels.setdefault(sentence, []).append(record.label)
    return [
        f"{f'all {everyone}' if len(of) == everyone > 1 else _some(of)}: {sentence}"
        for sentence, of in labels.items()
    ]


def _some(labels: Sequence[str], most: int = 5) -> str:
    more = len(labels) - most
    return ", ".join(labels) if more < 2 else f"{', '.join(labels[:most])} and {more} more"


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


def differing_settings(runs: Sequence[Recorded]) -> dict[str, list[Any]]:
    """Each setting that changes results and is not the same for all runs, with every run's value."""
    keys = dict.fromkeys(key for run in runs for key in run.identity)
    # An identity leaves out what is as it was before there was such a setting.
    values = {key: [run.identity.get(key, run.settings.get(key)) for run in runs] for key in keys}
    return {key: found for key, found in values.items() if len(set(map(str, found))) > 1}
