"""Sweeps killed at any moment and typed again: nothing finished is lost or run twice, and the end is
that of a sweep that nobody disturbed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from end_to_end_tools import record

from medsql.runs.folder import RECORD
from medsql.runs.study import Address

KINDS = {
    "grid": ["lora.r=1,2,3,4"],
    "study": [
        "hydra/sweeper=study",
        "hydra/sweeper/pruner=median",
        "hydra.sweeper.pruner.n_startup_trials=2",
        "hydra.sweeper.sampler.seed=1",
        "hydra.sweeper.sampler.n_startup_trials=3",
        "hydra.sweeper.n_trials=6",
        "hydra.sweeper.enqueue=[{lora.r:2}]",
        "lora.r=1,2,4",
        "optim.lr=tag(log,interval(1e-4,1e-1))",
    ],
}

MOMENTS = [place / 11 for place in range(1, 11)]
"""As shares of the time that an undisturbed sweep takes."""


class Undisturbed(NamedTuple):
    """How a sweep ends, and after how many seconds."""

    outcome: dict[str, Any]
    seconds: float


def command(kind: str, training: list[str]) -> list[str]:
    return [sys.executable, "-m", "medsql.train", "-m", *KINDS[kind], *training, "name=killed"]


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


def kill_after(arguments: list[str], seconds: float, folder: Path) -> bool:
    """Start a command and kill it, with whatever it started; False where it had ended before."""
    process = subprocess.Popen(
        arguments, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


def check(kind: str, moment: float, undisturbed: Any, training: list[str], folder: Path) -> None:
    expected = undisturbed(kind)
    sweep = folder / "multirun" / "killed"
    assert kill_after(command(kind, training), moment * expected.seconds, folder)
    settled = {
        file: file.read_bytes()
        for file in sweep.glob(f"*/{RECORD}")
        if record(file.parent)["state"] in ("finished", "pruned")
    }
    again = subprocess.run(
        command(kind, training), cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert outcome(sweep) == expected.outcome
    for file, content in settled.items():
        assert file.read_bytes() == content, f"{file} was run again"


@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_killed_in_the_middle_ends_as_if_it_had_not_been(kind, undisturbed, training, tmp_path):
    check(kind, 0.6, undisturbed, training, tmp_path)
    states = [run["state"] for name, run in undisturbed(kind).outcome.items() if name != "study"]
    assert set(states) == ({"finished", "pruned"} if kind == "study" else {"finished"})


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: f"{moment:.0%}")
@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_killed_at_any_moment_ends_as_if_it_had_not_been(
    kind, moment, undisturbed, training, tmp_path
):
    check(kind, moment, undisturbed, training, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_killed_again_and_again_ends_as_if_it_had_not_been(kind, undisturbed, training, tmp_path):
    expected = undisturbed(kind)
    for place in range(10):
        kill_after(command(kind, training), 4 + 0.7 * place, tmp_path)
    subprocess.run(command(kind, training), cwd=tmp_path, check=True, capture_output=True, timeout=600)
    assert outcome(tmp_path / "multirun" / "killed") == expected.outcome
