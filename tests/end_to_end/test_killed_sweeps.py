"""Sweeps killed at any moment and typed again: nothing finished is lost or run twice, and the end is
that of a sweep that nobody disturbed; and a job that kills its process each time holds up no other one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from end_to_end_tools import record, run_command

from medsql.runs.folder import RECORD
from medsql.runs.study import Address

pytestmark = pytest.mark.slow

GRID = ["lora.r=1,2,3,4"]
STUDY = [
    "hydra/sweeper=study",
    "hydra.sweeper.sampler.seed=1",
    "hydra.sweeper.sampler.n_startup_trials=3",
    "hydra.sweeper.n_trials=4",
    "hydra.sweeper.enqueue=[{lora.r:2}]",
    "lora.r=1,2,4",
    "optim.lr=tag(log,interval(1e-4,1e-1))",
]
KINDS = {
    "grid": GRID,
    "study": [*STUDY, "hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=2"],
    "halving": [*STUDY, "hydra/sweeper/pruner=successive_halving", "hydra.sweeper.pruner.reduction_factor=2"],
    "joblib": [*GRID, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
}

SETTLED = {"finished", "pruned"}
"""States of runs that are not run again."""

DEADLY = """
import os, signal, sys

def die(event, arguments):
    if event in ("open", "os.mkdir") and os.environ["DEADLY"] in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die)
"""
"""A `sitecustomize.py` with which a process dies as soon as it is to write into certain folders."""

MOMENTS = [place / 11 for place in range(1, 11)]
"""As shares of the time that an undisturbed sweep takes."""


class Undisturbed(NamedTuple):
    """How a sweep ends, and after how many seconds."""

    outcome: dict[str, Any]
    seconds: float


def overrides(kind: str, training: list[str]) -> list[str]:
    return ["-m", *KINDS[kind], *training, "name=killed"]


def command(kind: str, training: list[str]) -> list[str]:
    return [sys.executable, "-m", "medsql.train", *overrides(kind, training)]


def outcome(sweep: Path) -> dict[str, Any]:
    """What a sweep came to: of each run how it ended, its scores and, in a study, all that was reported."""
    found: dict[str, Any] = {}
    for file in sorted(sweep.glob(f"*/{RECORD}")):
        run = record(file.parent)
        facts = {key: run.get(key) for key in ("state", "objective", "validation", "trial", "identity")}
        scores = {name: score for name, score in run.get("test", {}).items() if isinstance(score, dict)}
        found[file.parent.name] = facts | {"test": scores}
    if (sweep / "study.db").exists():
        trials = Address(f"sqlite:///{sweep / 'study.db'}", sweep.name).load().trials
        found["study"] = [(t.number, t.state, t.params, t.values, t.intermediate_values) for t in trials]
    return found


@pytest.fixture(scope="module")
def undisturbed(training: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The same sweep, left alone; run once for all moments."""
    known: dict[str, Undisturbed] = {}

    def run(kind: str) -> Undisturbed:
        if kind not in known:
            folder = tmp_path_factory.mktemp(kind)
            started = time.monotonic()
            subprocess.run(command(kind, training), cwd=folder, check=True, capture_output=True, timeout=600)
            seconds = time.monotonic() - started
            known[kind] = Undisturbed(outcome(folder / "multirun" / "killed"), seconds)
        return known[kind]

    yield run


def kill_when(due: Callable[[], bool], arguments: list[str], folder: Path) -> bool:
    """Start a command and kill it, and whatever it started, once it is due; False where it ended before."""
    process = subprocess.Popen(
        arguments, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while process.poll() is None:
            if due():
                return True
            time.sleep(0.02)
        return False
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def after(seconds: float) -> Callable[[], bool]:
    """Due when so much time has passed."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def states(sweep: Path) -> dict[Path, str]:
    """The state of each run of a sweep so far, by the file of its record."""
    return {file: record(file.parent)["state"] for file in sweep.glob(f"*/{RECORD}")}


def check_resumed(kind: str, undisturbed: Any, training: list[str], folder: Path) -> None:
    """Type a killed sweep again: it ends as it would have, and no run that was settled is touched."""
    sweep = folder / "multirun" / "killed"
    settled = {file: file.read_bytes() for file, state in states(sweep).items() if state in SETTLED}
    again = run_command("train", *overrides(kind, training), cwd=folder, timeout=600)
    assert again.returncode == 0, again.stdout + again.stderr
    assert outcome(sweep) == undisturbed(kind).outcome
    for file, content in settled.items():
        assert file.read_bytes() == content, f"{file} was run again"


@pytest.mark.parametrize("kind", ["grid", "study"])
def test_a_sweep_killed_in_the_middle_ends_as_if_it_had_not_been(kind, undisturbed, training, tmp_path):
    def one_settled_and_the_next_in_training() -> bool:
        known = states(tmp_path / "multirun" / "killed")
        running = [file.parent for file, state in known.items() if state == "running"]
        at_work = any(any(run.glob("checkpoints/*.ckpt")) for run in running)
        return at_work and bool(SETTLED & {*known.values()})

    assert kill_when(one_settled_and_the_next_in_training, command(kind, training), tmp_path)
    check_resumed(kind, undisturbed, training, tmp_path)
    ends = {run["state"] for name, run in undisturbed(kind).outcome.items() if name != "study"}
    assert ends == (SETTLED if kind == "study" else {"finished"})


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: f"{moment:.0%}")
@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_killed_at_any_moment_ends_as_if_it_had_not_been(
    kind, moment, undisturbed, training, tmp_path
):
    seconds = moment * undisturbed(kind).seconds
    while not kill_when(after(seconds), command(kind, training), tmp_path):  # the machine is idler now
        shutil.rmtree(tmp_path / "multirun")
        seconds *= 0.8
    check_resumed(kind, undisturbed, training, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_killed_again_and_again_ends_as_if_it_had_not_been(kind, undisturbed, training, tmp_path):
    expected = undisturbed(kind)
    for place in range(10):
        kill_when(after(4 + 0.7 * place), command(kind, training), tmp_path)
    subprocess.run(command(kind, training), cwd=tmp_path, check=True, capture_output=True, timeout=600)
    assert outcome(tmp_path / "multirun" / "killed") == expected.outcome


def deadly(folder: Path, where: str) -> dict[str, str]:
    """An environment in which processes die where they write into a folder of that name."""
    (folder / "sitecustomize.py").write_text(DEADLY)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "DEADLY": where}


def test_a_job_that_kills_its_process_each_time_costs_one_command(command, training, tmp_path):
    typed = ["-m", "lora.r=2,4,8", "name=ranks", *training, "optim.max_steps=10"]
    env = deadly(tmp_path, "lora.r=4/checkpoints")
    assert command("train", *typed, env=env).returncode == -signal.SIGKILL
    again = command("train", *typed, env=env)
    assert again.returncode == 1, again.stdout + again.stderr
    assert "lora.r=4: killed when last at work" in again.stdout
    last = again.stderr.splitlines()[-1]
    assert last.startswith("medsql: 1 of 3 jobs failed: lora.r=4 (its process was lost 2 times (SIGKILL(-9))")
    table = [line.split()[:2] for line in again.stdout.splitlines() if line.startswith("lora.r=")]
    assert ["lora.r=4", "killed"] in table
    assert [name for name, state in table if state == "finished"] == ["lora.r=2", "lora.r=8"]

    without_the_cause = command("train", *typed)
    assert without_the_cause.returncode == 0, without_the_cause.stdout + without_the_cause.stderr
    assert record(tmp_path / "multirun" / "ranks" / "lora.r=4")["state"] == "finished"


def test_a_trial_that_kills_its_process_each_time_has_failed_and_the_search_goes_on(
    command, training, tmp_path
):
    search = ["hydra/sweeper=study", "hydra.sweeper.n_trials=3", "lora.r=2,4", "name=search"]
    typed = ["-m", *search, *training, "optim.max_steps=10"]
    env = deadly(tmp_path, "trial-0001/checkpoints")
    assert command("train", *typed, env=env).returncode == -signal.SIGKILL
    again = command("train", *typed, env=env)
    assert again.returncode == 0, again.stdout + again.stderr
    trials = Address(f"sqlite:///{tmp_path / 'multirun' / 'search' / 'study.db'}", "search").load().trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials[1].user_attrs["error"].startswith("WorkerLost: its process was lost 2 times (SIGKILL(-9))")
    assert sorted(trial.user_attrs["retries"] for trial in trials if "retries" in trial.user_attrs) == [1]
