"""Where metrics go while a run trains: a CSV file in its folder, Weights & Biases, or both."""

from __future__ import annotations

import csv
import hashlib
import io
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from medsql.config import VALIDATION_METRICS, LoggerSettings, WandbSettings
from medsql.errors import UserError
from medsql.files import write_text
from medsql.runs.fingerprint import flatten
from medsql.runs.folder import Run, RunPruned
from medsql.runs.predictions import read_predictions

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
    exit_code = 1
    try:
        yield [*loggers, wandb_logger]
        exit_code = 0
    except RunPruned:
        wandb_logger.experiment.summary["state"] = "pruned"
        exit_code = 0  # W&B knows finished and failed
        raise
    finally:
        wandb_logger.experiment.finish(exit_code=exit_code)


def _wandb_logger(settings: WandbSettings, run: Run) -> Any:
    """One W&B run for this run folder, the same again when the run goes on."""
    import wandb  # takes a second
    from lightning.pytorch.loggers import WandbLogger

    group = settings.group or sweep_of(run.folder)
    logger = WandbLogger(
        project=settings.project,
        entity=settings.entity,
        group=group,
        tags=settings.tags,
        name=run.folder.name,
        id=wandb_id(run, group),
        resume="allow",
        mode=settings.mode,
        save_dir=run.folder,
        config=flatten(run.settings),
    )
    try:
        logger.experiment  # noqa: B018  connects
    except wandb.errors.Error as error:
        raise UserError(
            f"W&B: {' '.join(str(error).split())}; logger.wandb.mode=offline needs no account"
        ) from error
    run.note(wandb={"id": logger.experiment.id, "group": group, "mode": settings.mode})
    return logger


def wandb_id(run: Run, group: str | None) -> str:
    """A run id that follows from the sweep, the job and its configuration."""
    parts = f"{group}/{run.folder.name}/{run.record['fingerprint']}"
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def sweep_of(folder: Path) -> str | None:
    """The name of the sweep a run folder lies in, if it lies in one."""
    return folder.parent.name if (folder.parent / "multirun.yaml").exists() else None


def log_results(loggers: list[Logger], folder: Path, summary: dict[str, Any]) -> None:
    """Give W&B, where it is on, the summary scores and the folder's predictions as a table."""
    for logger in loggers:
        if isinstance(logger, CsvLogger):
            continue
        import wandb

        experiment = logger.experiment  # type: ignore[attr-defined]
        experiment.summary.update(summary)
        rows = read_predictions(folder)
        table = wandb.Table(columns=[*(rows[0] if rows else ())], data=[list(row.values()) for row in rows])
        experiment.log({"predictions": table})
