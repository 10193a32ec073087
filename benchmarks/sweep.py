"""What a sweep costs: one process beside the work of its runs alone, and beside a command for each."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.timing import Comparison, say
from medsql.runs.folder import read_record

RUNS = 8
STEPS = 60
ROWS = 64

SHORT = (
    "trainer=cpu",
    f"optim.max_steps={STEPS}",
    f"validation.every_steps={STEPS}",
    f"data.validation_rows={ROWS}",
    f"data.test_rows={ROWS}",
)
"""With the bundled model and all training rows, a run is a quarter of a minute's work."""


@dataclass(frozen=True)
class Cost:
    """Seconds of a command, and those of them in which its runs trained, generated and scored."""

    command: float
    work: float


def measure() -> list[Comparison]:
    """One command before the sweep and one behind it: each stands for as many as the sweep has runs."""
    say("filling the cache")
    _cost("optim.max_steps=1", "validation.every_steps=1")
    before = _one()
    sweep = _cost("hydra.mode=MULTIRUN", f"seed={','.join(map(str, range(RUNS)))}")
    singles = (before, _one())
    say(f"sweep of {RUNS} runs: {sweep}; one command: {singles}")
    what = f"sweep of {RUNS} runs"
    work = [(sweep.command, RUNS * single.work) for single in singles]
    commands = [(sweep.command, RUNS * single.command) for single in singles]
    rest = sweep.command - sweep.work
    remark = f"{sweep.work:.0f} s of it are its runs' own work, and {rest:.1f} s all else"
    return [
        Comparison(what, f"{RUNS} × the work of one", "s", work, remark),
        Comparison(what, f"{RUNS} commands", "s", commands),
    ]


def _one() -> Cost:
    return _cost("seed=0")


def _cost(*overrides: str) -> Cost:
    """Run `python -m medsql.train` in a folder of its own."""
    root = Path(__file__).parent.parent
    with TemporaryDirectory() as folder:
        places = (f"hydra.run.dir={folder}/run", f"hydra.sweep.dir={folder}")
        command = [sys.executable, "-m", "medsql.train", *SHORT, *places, *overrides]
        started = time.perf_counter()
        process = subprocess.run(command, cwd=root, capture_output=True, text=True)
        seconds = time.perf_counter() - started
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: {process.stdout}{process.stderr}")
        records = [read_record(record.parent) or {} for record in Path(folder).glob("*/run.json")]
    return Cost(seconds, sum(sum(record["seconds_since_last_start"].values()) for record in records))
