"""Where metrics go while a run trains: a CSV file in its folder, Weights & Biases, or both."""

from __future__ import annotations

import csv
import io
import json
import logging
import secrets
import shlex
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from medsql.config import VALIDATION_METRICS, LoggerSettings, WandbSettings
from medsql.errors import UserError
from medsql.files import create_json, write_text
from medsql.runs.fingerprint import flatten
from medsql.runs.folder import Run, RunPruned
from medsql.runs.labels import short
from medsql.runs.overrides import overrides_of, search_space
from medsql.runs.pages import PAGE
from medsql.runs.predictions import read_predictions

log = logging.getLogger(__name__)

REPORT_RUN = "wandb-report.json"
"""Beside a sweep's runs: the id of the W&B run that shows its report."""

COLUMNS = ("step", "train/loss", "train/grad_norm", "train/lr", *VALIDATION_METRICS)


class CsvLogger(Logger):
    """One row a logged step. A resumed run goes on in the same file: steps it repeats replace their
    rows, where Lightning's own CSV logger would begin anew."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows: dict[int, dict[str, Any]] = {}
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = {int(row["step"]): row for row in csv.DictReader(file)}

    @property
    def name(self) -> str:
        """Lightning's name for it."""
        return self.path.stem

    @property
    def version(self) -> None:
        """None: the file is the run's, and there is one run a folder."""
        return None

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The run's record holds them."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Put the metrics that have a column into the step's row."""
        known = {key: value for key, value in metrics.items() if key in COLUMNS}
        if step is not None and known:
            self.rows.setdefault(step, {"step": step}).update(known)

    def save(self) -> None:
        """Write all rows, atomically."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows[step] for step in sorted(self.rows))
        write_text(self.path, text.getvalue())


@contextmanager
def open_loggers(settings: LoggerSettings, run: Run) -> Iterator[list[Logger]]:
    """The loggers of a run; leaving the context closes them, as failed where an error passes through."""
    loggers: list[Logger] = []
    if settings.csv is not None:
        loggers.append(CsvLogger(run.folder / "metrics.csv"))
    if settings.wandb is None:
        yield loggers
        return
    wandb_logger = _wandb_logger(settings.wandb, run)
    state = "interrupted"
    try:
        yield [*loggers, wandb_logger]
        state = "finished"
    except RunPruned:
        state = "pruned"
        raise
    except Exception:
        state = "failed"
        raise
    finally:
        counts = {f"parameters/{name}": count for name, count in run.record.get("parameters", {}).items()}
        wandb_logger.experiment.summary.update(
            {"state": state} | counts
        )  # columns of every run, pruned or not
        # W&B itself knows finished and failed.
        wandb_logger.experiment.finish(exit_code=0 if state in ("finished", "pruned") else 1)
        _say_where(settings.wandb, wandb_logger.experiment)


def _wandb_logger(settings: WandbSettings, run: Run) -> Any:
    """One W&B run for this run folder, the same again when the run goes on."""
    from lightning.pytorch.loggers import WandbLogger

    group = settings.group or sweep_of(run.folder)
    known = run.record.get("wandb", {}).get("id") or _new_id()
    run.note(wandb={"id": known, "group": group, "mode": settings.mode})  # first: W&B may not be reached
    experiment = _start(
        settings,
        group=group,
        job_type=run.kind,
        name=run.folder.name,
        id=known,
        dir=run.folder,
        config=flatten(run.settings) | {f"swept/{key}": value for key, value in swept_here(run).items()},
    )
    # As `WandbLogger` does for a run that it starts itself, which it does with a deprecated setting.
    experiment.define_metric("trainer/global_step")
    experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(experiment=experiment, save_dir=run.folder)


def _start(settings: WandbSettings, **options: Any) -> Any:
    """A W&B run, or the same again. Raises `UserError` where there is no account, or no connection."""
    import wandb  # takes a second

    places = {"project": settings.project, "entity": settings.entity, "tags": settings.tags}
    if settings.mode == "offline":  # one line of our own says enough
        options["settings"] = wandb.Settings(silent=True)
    try:
        return wandb.init(**places, mode=settings.mode, resume="allow", **options)  # type: ignore[arg-type]
    except wandb.errors.Error as error:
        raise UserError(
            f"W&B: {' '.join(str(error).split())}; logger.wandb.mode=offline needs no account"
        ) from error


def _say_where(settings: WandbSettings, experiment: Any) -> None:
    """Of an offline run, where it lies and how it is uploaded."""
    if settings.mode == "offline":
        command = shlex.join(["wandb", "sync", short(Path(experiment.settings.sync_dir))])
        log.info("W&B offline, to upload it: %s", command)


def swept_here(run: Run) -> dict[str, Any]:
    """What the run's sweep varies, with its values for this run: `{"lora.r": 8, "lora": "qv"}`.

    Beside some sixty settings a column that is called `swept/lora.r` is found.
    """
    asked = {each.key_or_group: each.value() for each in overrides_of(run.folder)}
    settings = flatten(run.settings)
    return {key: settings.get(key, asked.get(key)) for key in search_space(run.folder.parent)}


def _new_id() -> str:
    """Random, for two users of one project may well begin the same run, or one user the same again."""
    return secrets.token_hex(8)


def sweep_of(folder: Path) -> str | None:
    """The name of the sweep a run folder lies in, if it lies in one."""
    return folder.parent.name if (folder.parent / "multirun.yaml").exists() else None


def log_results(
    loggers: list[Logger], settings: LoggerSettings, run: Run, saved: str, summary: dict[str, Any]
) -> None:
    """Give W&B, where it is on, what came out: summary scores, predictions as a table, what was trained.

    `saved` is the folder in the run's that holds the adapter or the model.
    """
    for logger in loggers:
        if isinstance(logger, CsvLogger) or settings.wandb is None:
            continue
        import wandb

        experiment = logger.experiment  # type: ignore[attr-defined]
        experiment.summary.update(summary)
        rows = read_predictions(run.folder)
        table = wandb.Table(columns=[*(rows[0] if rows else ())], data=[list(row.values()) for row in rows])
        experiment.log({"predictions": table})
        if settings.wandb.log_model:
            model = wandb.Artifact(
                f"{saved}-{experiment.id}", "model", metadata={**summary, **swept_here(run)}
            )
            model.add_dir(str(run.folder / saved), policy="immutable")  # nobody changes it: no copy is needed
            experiment.log_artifact(model)


def _report_id(file: Path) -> str:
    """The id that the file keeps; it is written where there is none, by the first of several workers."""
    if not file.exists():
        create_json(file, {"id": _new_id()})
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}): remove it to begin another report in W&B") from error


def log_report(settings: WandbSettings, sweep: str, report: Path) -> None:
    """A sweep's report as a small run of its group: the page to look at, and all files as an artifact.

    Its id is kept in the sweep's folder, so that the next report takes its place. Raises `UserError` where
    that is damaged, and where there is no account, or no connection.
    """
    import wandb

    group = settings.group or sweep
    name = _report_id(report.parent / REPORT_RUN)
    with _start(
        settings, group=group, job_type="report", name=f"report of {sweep}", id=name, dir=report.parent
    ) as experiment:
        experiment.log({"report": wandb.Html((report / PAGE).read_text(encoding="utf-8"), inject=False)})
        files = wandb.Artifact(f"report-{name}", "report")
        files.add_dir(str(report))
        experiment.log_artifact(files)
    _say_where(settings, experiment)
