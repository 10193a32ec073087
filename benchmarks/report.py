"""The comparisons as one table, on the terminal and on a page of the documentation."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Self

from rich.table import Table

from benchmarks.timing import Comparison
from medsql.files import write_text
from medsql.runs.folder import environment
from medsql.runs.table import show

COLUMNS = ("measured", "beside", "ratio", "pairs", "medsql", "the other", "unit")

KINDS = {"s": ("time", min), "MiB": ("memory", min)}
"""What less is of, by its unit; of all others more is better."""

PAGE = """# Benchmarks

Written by `make bench`, which runs `python -m benchmarks`, on {date}.

{place}

{table}

{remarks}

A **ratio** is medsql's figure over that of what stands beside it: the median over pairs of neighbouring
runs, and in brackets the lowest and the highest pair. The figures of either side are the median of its
runs, and in brackets the best. Runs alternate, A B A B …, both in one process or both as processes of
their own, with the same number of PyTorch threads, on the CPU, in float32.

All figures but those of memory are wall-clock time, and whatever else the machine does is in them. A load
average near the number of cores before the start, or a wide bracket, says that they are rough. Ratios
suffer less than absolute figures; one whose bracket holds 1 says that no difference was seen.

## What is measured

**Configuration error answered.** The whole command `python -m medsql.train lora.rr=8`, which ends with one
line, beside the whole command `python -c "import hydra"`, which nothing built on Hydra can undercut.

**Command to first training step.** `python -m medsql.train` on the bundled model and all 4,000 training
rows, tokenised by an earlier run, beside `python -c "import torch, transformers, peft, lightning,
datasets"`. With `optim.max_steps=1 validation.every_steps=1 data.validation_rows=1
validation.generate_rows=0` a checkpoint is written right behind the first step, and the time of that file
is taken. One row's validation and the writing are in it, so the step itself was earlier.

**Scoring.** `medsql.model.generation.predict`, which `medsql.evaluate` calls, in its default batches (up to
64 rows greedily, 32 with 4 beams), beside one call of `model.generate` for each question, as in the
published experiment; both with a key-value cache and the same bound on the output. Rows: the first {rows}
test rows of `data=synthetic`, `question` prompt. Model: the bundled base, a T5 of five million
weights, all of them trained for {lesson_steps} steps before the clock starts. Zero-shot it would now and then
run an output to the bound, which flatters batches. After this lesson outputs are shaped like queries
and end at different lengths; a batch takes as long as its longest.

**Constrained decoding.** The model and bounds of scoring, decoded by `predict` with
`decode.constrained=true` beside without. Of 200 test rows, as many as the ladder of results.md is scored on,
those are timed whose output is valid without it: others may run on to the bound, where the constraint saves
time. The grammar is made anew in each run, and what may follow at a place of it is asked for when a row first
gets there: both are in the figures. Another processor, and a vocabulary ten times as large, as T5's, may have
another ratio: the masks' part is some passes over a row's vocabulary a token.

**Training.** medsql's module, data module, trainer and CSV log beside `transformers.Seq2SeqTrainer` with
`DataCollatorForSeq2Seq` and transformers' default attention and dropout, both with the published
hyperparameters (`experiment=optimized`: batches of 2, accumulated over 2, AdamW, LoRA with r = 16, label
smoothing 0.05), from the same weights, on the same rows
in the same order. The clock runs from the end of step {warm_up} to that of the last ({steps});
set-up, validation and checkpoints are outside. The base is so small that what a loop does beside the
model's own work weighs more than with any model of use. It drops nothing by itself, so that dropout is
LoRA's alone; a model that does, as FLAN-T5, gains more. What makes medsql faster: a step's batches are
computed at once while their tokens fit (`trainer.tokens_at_once`), one draw of dropout serves four elements,
attention's bias is made once a pass, keys and values are not copied for a cache. The two draw
dropout differently, so that they compute the same is checked in a further run of {checked_steps}
steps without it: the losses on 32 validation rows must agree to {tolerance:g} of their size. One thing is
set back for that: with accumulation, current transformers weight the batches of a step by their tokens,
where the published run's version, and medsql, take their mean. *Padded as published*: the published script
masks pad tokens in its labels when it tokenises, so rows were padded there. Taken for that is what
`padding=True` does under `Dataset.map(batched=True)`: as long as the longest of each thousand rows.
*Memory* is the most that a process of its own held which trained as much with one of the two.

**Profiles.** Steps of training as above, warm-up outside, and scoring as above, beside the time that their
matrix products take alone: each is counted with its shapes and memory layout as it is computed, then as many
of each shape are computed in a row, on random numbers, into memory that is there already. The products inside
the fused attention are counted as two forward and five backward, each as if computed by itself. What lies
above this floor is the most that better code around the products could save. The shares are of the wall-clock
time of a further run under PyTorch's profiler, which slows many short operators most: each operator's own
time, sorted by its name. What no operator takes is Python's, the loop's and autograd's.

**LoRA beside all weights.** `lora=attention` beside `lora=none` in medsql's loop, everything else alike:
the bundled base, the first synthetic training rows in batches of 8, `optim=adamw`, timed as above over
{lora_steps} steps. The published experiment claims three times the speed.

**A step of Muon.** The optimiser's step alone, on all LoRA matrices of the bundled base at r = 16 with
invented gradients, beside PyTorch's own, which takes one matrix after the other and always in bfloat16.

**Sweep.** One command, `python -m medsql.train -m seed=…` with {sweep_runs} seeds, from its start to its
end, beside single commands: one before it and one behind it, each of which stands for {sweep_runs}. The work
of a run is what its record says of it: training with a validation at the end, generating for the test rows,
and scoring. All else, such as imports, composing the configuration, reading the rows and loading the base, is
what a sweep should pay for once. So is judging the mutants of gold queries, which is in the work of a single
run, and makes a ratio below 1 possible. Each run trains {sweep_steps} steps on all synthetic training rows
and generates for {sweep_rows} validation and {sweep_rows} test rows. All else takes no
longer where runs take hours.

**Growth.** medsql alone, each size beside the smallest, each in a process of its own and measured once:
`python -m medsql.train data=jsonl` on the synthetic hospital's pairs, over and over with other numbers, with
nothing cached and one row to validate. By rows: the file's, in a run of {growth_rows_steps} steps; the
time is the whole command's, reading, splitting and tokenising included. By length: a training step, the mean
of {growth_length_steps} in batches of 8, with all inputs cut to so many tokens and targets to 64 at most. By
jobs: one command with so many seeds, {growth_jobs_steps} steps each. Memory is the highest that the process
held, as Linux counts it (`VmHWM`), in MiB: pages of mapped files are in it, such as rows and token ids that
were looked at, though the system takes them back where memory is wanted. Memory without mapped files is
the highest seen of what is left without them (`RssAnon`, looked at 50 times a second).
"""


@dataclass(frozen=True)
class Place:
    """Where and on what the figures came about."""

    machine: str
    threads: int
    load: float
    commit: str
    versions: str

    @classmethod
    def here(cls, threads: int) -> Self:
        """`load` is that of the minute before: other work on the machine."""
        found = environment()
        versions = ", ".join(
            f"{name} {found['packages'][name]}" for name in ("torch", "transformers", "peft", "lightning")
        )
        return cls(
            machine=f"{_processor()}, {found['cpus']} cores",
            threads=threads,
            load=os.getloadavg()[0],
            commit=found["git_commit"] or "none",
            versions=f"Python {found['python']}, {versions}",
        )

    def lines(self) -> list[str]:
        return [
            f"machine: {self.machine}; load average before: {self.load:.1f}",
            f"PyTorch threads: {self.threads}; {self.versions}",
            f"commit: {self.commit}",
        ]


def print_table(comparisons: list[Comparison], place: Place) -> None:
    """The comparisons, what else was found, and where they were made."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for comparison in comparisons:
        table.add_row(*_row(comparison))
    show(table)
    print("\n".join([*_remarks(comparisons), *place.lines()]))


def write_page(path: Path, comparisons: list[Comparison], place: Place) -> None:
    """The documentation's page; until it is whole the old one stays."""
    # They import PyTorch, which is not wanted before start-up's turn.
    from benchmarks import growth, lora, scoring, sweep, training

    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *map(_row, comparisons)]
    page = PAGE.format(
        date=date.today().isoformat(),
        place=_bullets(place.lines()),
        table="\n".join(f"| {' | '.join(line)} |" for line in lines),
        remarks=_bullets(_remarks(comparisons)),
        rows=scoring.ROWS,
        lesson_steps=scoring.LESSON_STEPS,
        warm_up=training.WARM_UP,
        steps=", ".join(f"{steps} in the `{prompt}` prompt" for prompt, steps in training.STEPS.items()),
        checked_steps=training.CHECKED_STEPS,
        tolerance=training.TOLERANCE,
        lora_steps=lora.STEPS,
        sweep_runs=sweep.RUNS,
        sweep_steps=sweep.STEPS,
        sweep_rows=sweep.ROWS,
        growth_rows_steps=growth.STEPS["rows"],
        growth_length_steps=growth.STEPS["length"],
        growth_jobs_steps=growth.STEPS["jobs"],
    )
    write_text(path, page)


def _row(comparison: Comparison) -> tuple[str, ...]:
    kind, best = KINDS.get(comparison.unit, ("speed", max))
    low, high = min(comparison.ratios), max(comparison.ratios)
    medsql, other = (
        f"{_figure(middle)} ({_figure(best(figures))})"
        for middle, figures in zip(comparison.medians, zip(*comparison.figures, strict=True), strict=True)
    )
    ratio = f"{comparison.ratio:.2f} × the {kind} ({low:.2f}–{high:.2f})"
    pairs = str(len(comparison.figures))
    return (comparison.what, comparison.other, ratio, pairs, medsql, other, comparison.unit)


def _figure(value: float) -> str:
    """Three digits of it, or all before the point."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _remarks(comparisons: list[Comparison]) -> list[str]:
    return [f"{comparison.what}: {comparison.remark}" for comparison in comparisons if comparison.remark]


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _processor() -> str:
    """The processor's name; where Linux's list lacks it, what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
