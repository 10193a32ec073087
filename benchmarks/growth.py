"""How time and memory grow: with a source's rows, with the length of inputs, with the jobs of a process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.timing import Comparison, say
from medsql.data.hospital import synthetic_splits
from medsql.runs.folder import read_record
from medsql.wording import counted

ROWS = (1_000, 10_000, 100_000)
LENGTHS = (32, 128, 512)
JOBS = (1, 2, 4, 8)
FEW = 200
"""Rows, where these are not what grows."""

STEPS = {"rows": 2, "length": 20, "jobs": 2}

EVERY_SECONDS = 0.02
"""Between two looks at a process: what it holds for less than that may be missed."""

SHORT = (
    "trainer=cpu",
    "validation.generate_rows=0",
    "objective=val/loss",
    "checkpoint.monitor=val/loss",
    "data.validation_rows=1",
    "data.test_rows=1",
    "decode.max_new_tokens=1",
)
"""Training alone; one row is always validated, and one tested."""


@dataclass(frozen=True)
class Cost:
    """Seconds of a command, those in which its runs trained, and its memory at the highest, in MiB.

    `resident` is all that it held, mapped files included, which the system can take back; `own` is without.
    """

    seconds: float
    training: float
    resident: float
    own: float


def measure() -> list[Comparison]:
    return [*_by_rows(), *_by_length(), *_by_jobs()]


def _by_rows() -> list[Comparison]:
    steps = STEPS["rows"]
    costs = {f"{rows:,} rows": _cost(rows, steps) for rows in ROWS}
    return [
        *_compared(f"{steps} steps, nothing cached", "s", costs, lambda cost: cost.seconds),
        *_compared("memory", "MiB", costs, lambda cost: cost.resident),
        *_compared("memory without mapped files", "MiB", costs, lambda cost: cost.own),
    ]


def _by_length() -> list[Comparison]:
    """Questions are longer than any bound, so that all inputs are as long as it."""
    steps = STEPS["length"]
    costs = {}
    for length in LENGTHS:
        bounds = (f"data.max_input_tokens={length}", "data.max_target_tokens=64")
        costs[f"{length} tokens"] = _cost(FEW, steps, *bounds, repeated=max(LENGTHS) // 10)
    return [
        *_compared("training step", "s", costs, lambda cost: cost.training / steps),
        *_compared("memory", "MiB", costs, lambda cost: cost.resident),
    ]


def _by_jobs() -> list[Comparison]:
    costs = {}
    for jobs in JOBS:
        seeds = f"seed={','.join(map(str, range(jobs)))}"
        costs[counted(jobs, "job")] = _cost(FEW, STEPS["jobs"], "hydra.mode=MULTIRUN", seeds)
    return [
        *_compared("sweep", "s", costs, lambda cost: cost.seconds),
        *_compared("memory", "MiB", costs, lambda cost: cost.resident),
    ]


def _compared(
    what: str, unit: str, costs: dict[str, Cost], figure: Callable[[Cost], float]
) -> list[Comparison]:
    """All sizes beside the first one, the smallest."""
    (smallest, least), *others = costs.items()
    return [
        Comparison(f"{what}, {size}", smallest, unit, [(figure(cost), figure(least))])
        for size, cost in others
    ]


def _cost(rows: int, steps: int, *overrides: str, repeated: int = 1) -> Cost:
    """Run `python -m medsql.train` on so many rows, in a folder and with a cache of its own.

    Each question stands `repeated` times in its row.
    """
    root = Path(__file__).parent.parent
    with TemporaryDirectory() as folder:
        data = Path(folder, "rows.jsonl")
        data.write_text("".join(islice(_lines(repeated), rows)), "utf-8")
        wanted = (
            *(f"data.path={data}", f"data.cache_dir={folder}/cache"),
            *(f"hydra.run.dir={folder}/runs/run", f"hydra.sweep.dir={folder}/runs"),
            *(f"optim.max_steps={steps}", f"validation.every_steps={steps}"),
        )
        command = [sys.executable, "-m", "medsql.train", "data=jsonl", *SHORT, *wanted, *overrides]
        with Path(folder, "log").open("w+") as output:
            started = time.perf_counter()
            process = subprocess.Popen(command, cwd=root, stdout=output, stderr=subprocess.STDOUT, text=True)
            resident, own = highest_memory(process)
            seconds = time.perf_counter() - started
            if process.returncode:
                output.seek(0)
                raise RuntimeError(f"{' '.join(command)}: {output.read()}")
        records = [read_record(record.parent) or {} for record in Path(folder, "runs").glob("*/run.json")]
    training = sum(record["seconds_since_last_start"]["training"] for record in records)
    cost = Cost(seconds, training, resident, own)
    memory = f"{resident:.0f} MiB, {own:.0f} without mapped files"
    say(f"growth, {', '.join([counted(rows, 'row'), *overrides])}: {seconds:.1f} s, {memory}")
    return cost


def _lines(repeated: int) -> Iterator[str]:
    """The hospital's pairs over and over, each time with other numbers in the question."""
    pairs = synthetic_splits(200, 5000, seed=42)["train"]
    for turn in count():
        for pair in pairs:
            question = f"{pair.question} ({turn})" * repeated
            yield json.dumps({"question": question, "sql": pair.sql}) + "\n"


def highest_memory(process: subprocess.Popen[Any]) -> tuple[float, float]:
    """The most memory that a process held until its end, resident and anonymous, in MiB.

    Linux keeps the highest resident size itself, but not for anonymous memory, so the process is looked at
    again and again. `getrusage` would count what this process held when it forked.
    """
    highest = {"VmHWM": 0, "RssAnon": 0}
    while process.poll() is None:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines)
        for name, most in highest.items():
            highest[name] = max(most, int(found.get(name, "0 kB").split()[0]))  # none at its very end
        time.sleep(EVERY_SECONDS)
    return highest["VmHWM"] / 1024, highest["RssAnon"] / 1024
