"""How the jobs of a sweep are chosen and launched, and what a launcher makes of those that were lost."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher

Plugins.instance()  # which executes the plugins' modules anew: what is imported before has other classes

from hydra._internal.core_plugins.basic_launcher import BasicLauncher  # noqa: E402

from hydra_plugins.medsql_joblib_launcher import JoblibLauncher, isolating  # noqa: E402
from hydra_plugins.medsql_slurm_launcher import JobLost, SlurmLauncher, _outcome  # noqa: E402
from hydra_plugins.medsql_study_sweeper import _warn_of_losses  # noqa: E402
from medsql.runs.folder import LOCK, RECORD  # noqa: E402


@pytest.fixture
def basic() -> BasicLauncher:
    launcher = BasicLauncher()
    launcher.setup(hydra_context=None, task_function=None, config=None)  # type: ignore[arg-type]
    return launcher


def job(folder: Path, content: str) -> Path:
    folder.mkdir()
    (folder / RECORD).write_text(content)
    return folder


KILLED = json.dumps({"state": "running"})


def test_a_job_that_was_killed_runs_in_a_process_of_its_own(basic: BasicLauncher, tmp_path: Path) -> None:
    launcher = isolating(basic, [job(tmp_path / "killed", KILLED)])
    assert isinstance(launcher, JoblibLauncher) and launcher.n_jobs == 1


@pytest.mark.parametrize("content", [json.dumps({"state": "finished"}), "{", "[]"])
def test_what_has_ended_or_has_a_damaged_record_changes_no_launcher(
    basic: BasicLauncher, tmp_path: Path, content: str
) -> None:
    assert isolating(basic, [job(tmp_path / "job", content), tmp_path / "not begun"]) is basic


def test_a_damaged_record_hides_no_killed_job(basic: BasicLauncher, tmp_path: Path) -> None:
    folders = [job(tmp_path / "damaged", "{"), job(tmp_path / "killed", KILLED)]
    assert isolating(basic, folders) is not basic


def test_a_job_that_is_running_was_not_killed(basic: BasicLauncher, tmp_path: Path) -> None:
    folder = job(tmp_path / "running", KILLED)
    with FileLock(folder / LOCK):
        assert isolating(basic, [folder]) is basic


@pytest.mark.parametrize("launcher", [JoblibLauncher(), SlurmLauncher.__new__(SlurmLauncher)])  # no submitit
def test_a_launcher_whose_jobs_are_processes_already_stays(launcher: Launcher, tmp_path: Path) -> None:
    assert isolating(launcher, [job(tmp_path / "killed", KILLED)]) is launcher


FAILED = """Job (task=0) failed during processing with trace:
----------------------
Traceback (most recent call last):
  File "main.py", line 1, in main
ValueError: no such option

----------------------
You can check full logs with 'job.stderr(0)' and 'job.stdout(0)'or at paths:
  - err
  - out"""


def submitted(error: Exception) -> Any:
    def result() -> None:
        raise error

    paths = SimpleNamespace(stdout="out.log")
    return SimpleNamespace(job_id="700_0", state="FAILED", paths=paths, result=result)


@pytest.mark.parametrize(
    ("kind", "message", "said"),
    [
        ("FailedJobError", FAILED, "failed (ValueError: no such option)"),
        ("UncompletedJobError", "has not produced\nany output", "ended without a result (FAILED)"),
        (None, "what\nwas it", "has a result that cannot be read (TypeError: what was it)"),
    ],
)
def test_whatever_a_slurm_job_ends_with_is_its_own_failure(kind: str | None, message: str, said: str) -> None:
    errors = pytest.importorskip("submitit.core.utils", reason="the slurm extra is not installed")
    error = getattr(errors, kind)(message) if kind else TypeError(message)
    returned = _outcome(submitted(error))
    assert returned.status == JobStatus.FAILED
    assert isinstance(returned._return_value, JobLost)
    assert str(returned._return_value) == f"Slurm's job 700_0 {said}, see out.log"


@pytest.mark.parametrize(
    ("objective", "searched", "said"),
    [
        (
            "val/loss",
            ["optim.lr", "optim.label_smoothing", "+model"],
            "differ in model and optim.label_smoothing",
        ),
        ("val/loss", ["data.max_target_tokens"], "differ in data.max_target_tokens cannot be compared"),
        ("val/loss", ["data.lossless"], "differ in data.lossless cannot be compared"),
        ("val/loss", ["optim.lr", "lora.r"], ""),
        ("val/exact_match", ["optim.label_smoothing"], ""),
    ],
)
def test_a_search_by_losses_that_cannot_be_compared_says_so(
    caplog: pytest.LogCaptureFixture, objective: str, searched: list[str], said: str
) -> None:
    _warn_of_losses(objective, searched)
    assert said in caplog.text and bool(caplog.text) == bool(said)
