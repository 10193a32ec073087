"""A run stopped anywhere and started again must end as if it had not been stopped."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import Logger
from tiny import FULL, TinyRun

from medsql.model import module
from medsql.model.checkpoints import TrainingInterrupted, load_weights
from medsql.model.module import TrainingError

STEPS = 7  # of two micro-batches each; validated after steps 3, 6 and, being the last, 7


class Crash(Exception):
    """Stands for `kill -9`: nothing is saved on the way out."""


class StopAt(pl.Callback):
    """Crashes or signals at the start of one step, or in the second batch of one step's validation."""

    def __init__(
        self,
        how: str,
        step: int | None = None,
        validation: int | None = None,
        signum: int = signal.SIGTERM,
    ) -> None:
        self.how = how
        self.signum = signum
        self.step = step
        self.validation = validation

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.step:
            self._stop()

    def on_validation_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.validation and args[2] == 1:
            self._stop()

    def _stop(self) -> None:
        if self.how == "crash":
            raise Crash
        os.kill(os.getpid(), self.signum)


class Rows(Logger):
    """Keeps what is logged, by step, over restarts."""

    name = version = "rows"

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.rows.setdefault(step, {}).update(metrics)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...


@pytest.fixture(autouse=True)
def every_other_step_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_EVERY_STEPS", 2)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyRun, Rows, Path]:
    folder, rows = tmp_path_factory.mktemp("uninterrupted"), Rows()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LOG_EVERY_STEPS", 2)
        return TinyRun(folder, steps=STEPS, loggers=[rows]).fit(), rows, folder


STOPS = [
    *(StopAt("crash", step=i) for i in (0, 3, 4, 6)),
    *(StopAt("signal", step=i) for i in (0, 2, 4, 6)),
    *(StopAt("signal", validation=step) for step in (3, 7)),
    StopAt("crash", validation=7),
]


@pytest.mark.parametrize("stop", STOPS, ids=lambda s: f"{s.how}-{s.step}-{s.validation}")
def test_a_stopped_run_ends_like_an_uninterrupted_one(
    stop: StopAt, uninterrupted: tuple[TinyRun, Rows, Path], tmp_path: Path
) -> None:
    whole, whole_rows, whole_folder = uninterrupted
    rows = Rows()
    with pytest.raises((Crash, TrainingInterrupted)):
        TinyRun(tmp_path, stop, steps=STEPS, loggers=[rows]).fit()
    resumed = TinyRun(tmp_path, steps=STEPS, loggers=[rows]).fit()

    torch.testing.assert_close(resumed.weights(), whole.weights(), rtol=0, atol=1e-6)
    assert resumed.checkpoints.validations == whole.checkpoints.validations
    assert resumed.module.passes == whole.module.passes == 2 * STEPS
    assert rows.rows == whole_rows.rows
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in whole_folder.iterdir())


def test_a_run_whose_steps_are_computed_at_once_resumes_too(tmp_path: Path) -> None:
    whole = TinyRun(tmp_path / "whole", whole_steps=True, steps=STEPS).fit()
    with pytest.raises(TrainingInterrupted):
        TinyRun(tmp_path / "cut", StopAt("signal", step=3), whole_steps=True, steps=STEPS).fit()
    resumed = TinyRun(tmp_path / "cut", whole_steps=True, steps=STEPS).fit()
    torch.testing.assert_close(resumed.weights(), whole.weights(), rtol=0, atol=1e-6)
    assert resumed.module.passes == whole.module.passes == STEPS


def test_a_run_stopped_over_and_over_ends_like_an_uninterrupted_one(
    uninterrupted: tuple[TinyRun, Rows, Path], tmp_path: Path
) -> None:
    rows = Rows()
    stops = [StopAt("signal", validation=3), StopAt("signal", step=4), StopAt("signal", validation=6)]
    stops += [StopAt("crash", step=6), StopAt("signal", validation=7), StopAt("signal", validation=7)]
    for stop in stops:
        with pytest.raises((Crash, TrainingInterrupted)):
            TinyRun(tmp_path, stop, steps=STEPS, loggers=[rows]).fit()
    resumed = TinyRun(tmp_path, steps=STEPS, loggers=[rows]).fit()
    torch.testing.assert_close(resumed.weights(), uninterrupted[0].weights(), rtol=0, atol=1e-6)
    assert rows.rows == uninterrupted[1].rows


def test_dropout_acts_and_follows_the_seed(uninterrupted: tuple[TinyRun, Rows, Path], tmp_path: Path) -> None:
    """Otherwise equal weights would prove nothing about random state."""
    other = TinyRun(tmp_path, steps=STEPS)
    other.module.seed = 2
    other.fit()
    assert any(
        not torch.allclose(a, b, atol=1e-4)
        for a, b in zip(other.weights().values(), uninterrupted[0].weights().values(), strict=True)
    )


def test_a_finished_run_started_again_trains_and_validates_nothing(tmp_path: Path) -> None:
    first = TinyRun(tmp_path).fit()
    rows = Rows()
    again = TinyRun(tmp_path, loggers=[rows]).fit()
    assert rows.rows == {}
    torch.testing.assert_close(again.weights(), first.weights(), rtol=0, atol=0)
    assert again.checkpoints.restore_best(again.module) == first.checkpoints.restore_best(first.module)


def test_a_signal_ends_the_run_with_the_step_in_hand_finished_and_saved(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterrupted) as stopped:
        TinyRun(tmp_path, StopAt("signal", step=4)).fit()
    assert (stopped.value.signum, stopped.value.step, stopped.value.code) == (signal.SIGTERM, 5, 143)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-000003.ckpt", "step-000005.ckpt"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_who_listened_to_a_signal_before_acts_once_the_step_is_saved(tmp_path: Path) -> None:
    found: list[str] = []

    def requeue(signum: int, frame: Any) -> None:
        found.extend(path.name for path in sorted(tmp_path.iterdir()))
        sys.exit(99)

    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        with pytest.raises(TrainingInterrupted) as stopped:
            TinyRun(tmp_path, StopAt("signal", step=4, signum=signal.SIGUSR2)).fit()
        assert signal.getsignal(signal.SIGUSR2) is requeue
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert found == ["step-000003.ckpt", "step-000005.ckpt"]
    assert (stopped.value.signum, stopped.value.step, stopped.value.code) == (signal.SIGUSR2, 5, 99)


@pytest.mark.parametrize("where", [{"step": 4}, {"validation": 6}])
def test_training_goes_on_where_who_listened_before_does_not_end_it(
    where: dict[str, int], tmp_path: Path, uninterrupted: tuple[TinyRun, Rows, Path]
) -> None:
    heard = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: heard.append(signum))
    try:
        run = TinyRun(tmp_path, StopAt("signal", **where), steps=STEPS).fit()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert set(heard) == {signal.SIGTERM}
    torch.testing.assert_close(run.weights(), uninterrupted[0].weights(), rtol=0, atol=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in uninterrupted[2].iterdir())


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path, uninterrupted: tuple[TinyRun, Rows, Path]) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        run = TinyRun(tmp_path, StopAt("signal", step=4), steps=STEPS).fit()
    finally:
        signal.signal(signal.SIGTERM, before)
    torch.testing.assert_close(run.weights(), uninterrupted[0].weights(), rtol=0, atol=0)


def test_the_best_and_the_last_stay_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "step-000002.tmp").write_bytes(b"left by a killed run")
    run = TinyRun(tmp_path, steps=6, every_steps=1, keep=2, lr=1e-9, max_grad_norm=None)
    losses = iter([0.3, 0.1, 0.2, 0.1, 0.5, 0.4])
    run.module.validation_loss.compute = lambda: torch.tensor(next(losses))
    run.fit()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"step-00000{i}.ckpt" for i in (2, 4, 6)]
    assert run.checkpoints.best_step == 2, "the earliest of equals"


def test_metrics_other_than_the_loss_are_maximised(tmp_path: Path) -> None:
    run = TinyRun(tmp_path, steps=3, every_steps=1, keep=1, monitor="val/exact_match")
    shares = iter([0.1, 0.7, 0.2])
    run.module.scores["exact_match"].compute = lambda: torch.tensor(next(shares))
    run.fit()
    assert run.checkpoints.restore_best(run.module)["val/exact_match"] == pytest.approx(0.7)
    assert run.checkpoints.best_step == 2


def test_the_last_is_taken_where_no_score_is_to_choose(tmp_path: Path) -> None:
    run = TinyRun(tmp_path, steps=3, every_steps=1, keep=1, monitor="last")
    losses = iter([0.1, 0.3, 0.2])
    run.module.validation_loss.compute = lambda: torch.tensor(next(losses))
    run.fit()
    assert run.checkpoints.restore_best(run.module)["val/loss"] == pytest.approx(0.2)
    assert run.checkpoints.best_step == 3


def test_restoring_the_best_brings_its_weights_back(tmp_path: Path) -> None:
    weights: dict[int, dict[str, torch.Tensor]] = {}

    class Snapshot(pl.Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            weights[trainer.global_step] = run.weights()

    run = TinyRun(tmp_path, Snapshot(), steps=4, every_steps=2)
    losses = iter([0.1, 0.2])
    run.module.validation_loss.compute = lambda: torch.tensor(next(losses))
    run.fit()
    run.checkpoints.restore_best(run.module)
    torch.testing.assert_close(run.weights(), weights[2], rtol=0, atol=0)
    assert any(not torch.equal(weights[2][name], weights[4][name]) for name in weights[2])


def test_checkpoints_hold_no_frozen_weights(tmp_path: Path) -> None:
    run = TinyRun(tmp_path, steps=1).fit()
    path = run.checkpoints.path(1)
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert set(saved) == set(run.weights())
    assert all("lora_" in name for name in saved)
    total = 4 * sum(p.numel() for p in run.module.parameters())
    trained = 4 * sum(p.numel() for p in run.weights().values())
    assert trained < 0.15 * total
    # Weights and two moments, and some thousand bytes of names for each tensor.
    assert path.stat().st_size < 3 * trained + 3000 * len(saved)


def test_full_fine_tuning_resumes_too(tmp_path: Path) -> None:
    whole = TinyRun(tmp_path / "whole", lora=FULL, steps=4, every_steps=2).fit()
    with pytest.raises(Crash):
        TinyRun(tmp_path / "cut", StopAt("crash", step=3), lora=FULL, steps=4, every_steps=2).fit()
    resumed = TinyRun(tmp_path / "cut", lora=FULL, steps=4, every_steps=2).fit()
    torch.testing.assert_close(resumed.weights(), whole.weights(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "other", [{"name": "adafactor"}, {"name": "muon", "lora": FULL, "scale_by_size": True}]
)
def test_other_optimisers_resume_too(tmp_path: Path, other: dict[str, Any]) -> None:
    changes: dict[str, Any] = {
        **other,
        "lr": 1e-3,
        "schedule": "cosine",
        "steps": 4,
        "every_steps": 2,
    }
    whole = TinyRun(tmp_path / "whole", **changes).fit()
    with pytest.raises(TrainingInterrupted):
        TinyRun(tmp_path / "cut", StopAt("signal", step=2), **changes).fit()
    torch.testing.assert_close(
        TinyRun(tmp_path / "cut", **changes).fit().weights(), whole.weights(), rtol=0, atol=1e-6
    )


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    uninterrupted: tuple[TinyRun, Rows, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Crash):
        TinyRun(tmp_path, StopAt("crash", step=6), steps=STEPS).fit()
    newest = tmp_path / "step-000006.ckpt"
    newest.write_bytes(newest.read_bytes()[:5000])
    with caplog.at_level(logging.WARNING):
        resumed = TinyRun(tmp_path, steps=STEPS).fit()
    assert "step-000006.ckpt cannot be read" in caplog.text
    torch.testing.assert_close(resumed.weights(), uninterrupted[0].weights(), rtol=0, atol=1e-6)
    assert resumed.checkpoints.validations == uninterrupted[0].checkpoints.validations


def test_only_damaged_checkpoints_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "step-000003.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match=r"cannot read step-000003.ckpt.*remove") as error:
        TinyRun(tmp_path).fit()
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_another_model_is_one_line(tmp_path: Path) -> None:
    path = TinyRun(tmp_path, steps=1).fit().checkpoints.path(1)
    other = TinyRun(tmp_path / "other", lora=FULL)
    with pytest.raises(TrainingError, match="another model or lora configuration") as error:
        load_weights(other.module, path)
    assert "\n" not in str(error.value)


CHILD = """
import sys, time
from pathlib import Path
import lightning.pytorch as pl
from tiny import TinyRun

class Slow(pl.Callback):
    def on_train_batch_end(self, *args):
        time.sleep(0.05)

TinyRun(Path(sys.argv[1]), Slow(), steps=400, every_steps=2).fit()
"""


@pytest.mark.parametrize(
    "signum",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_a_killed_process_leaves_a_checkpoint_to_go_on_from(signum: signal.Signals, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], env=environment, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("step-*.ckpt")) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signum)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == (-9 if signum == signal.SIGKILL else 128 + signum), errors.decode()
    assert b"Traceback" not in errors
    resumed = TinyRun(tmp_path, steps=400, every_steps=2)
    step = int(resumed.checkpoints.latest().stem.removeprefix("step-"))
    assert 2 <= step < 400
