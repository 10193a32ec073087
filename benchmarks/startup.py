"""How long one waits: for the answer to a mistake, and for the first step of a training."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.timing import Comparison, alternate, say

LIBRARIES = "torch, transformers, peft, lightning, datasets"

# The first step is read off the time at which its checkpoint was written, so that nothing in medsql needs
# changing to see it. That adds one row's validation and the writing; what comes later is made short.
FIRST_STEP = (
    "trainer=cpu",
    "optim.max_steps=1",
    "validation.every_steps=1",
    "validation.generate_rows=0",
    "objective=val/loss",
    "data.validation_rows=1",
    "data.test_rows=1",
    "decode.max_new_tokens=1",
)


def measure() -> list[Comparison]:
    return [_mistake(), _first_step()]


def _mistake() -> Comparison:
    what = "configuration error answered"
    _answer_mistake()  # once for the byte code and the disk's cache
    _import("hydra")
    figures = alternate(what, _answer_mistake, lambda: _import("hydra"), times=5)
    return Comparison(what, "import hydra", "s", figures)


def _first_step() -> Comparison:
    what = "command to first training step"
    say("filling the cache")
    _reach_first_step()
    figures = alternate(what, _reach_first_step, lambda: _import(LIBRARIES), times=3)
    return Comparison(what, f"import {LIBRARIES}", "s", figures)


def _answer_mistake() -> float:
    started = time.perf_counter()
    process = _python("-m", "medsql.train", "lora.rr=8")
    seconds = time.perf_counter() - started
    if process.returncode != 1 or "lora.r?" not in process.stderr:
        raise RuntimeError(f"the mistake was not answered: {process.stdout}{process.stderr}")
    return seconds


def _reach_first_step() -> float:
    with TemporaryDirectory() as folder:
        started = time.time()
        _succeed("-m", "medsql.train", *FIRST_STEP, f"hydra.run.dir={folder}/run")
        return (Path(folder) / "run" / "checkpoints" / "step-000001.ckpt").stat().st_mtime - started


def _import(modules: str) -> float:
    started = time.perf_counter()
    _succeed("-c", f"import {modules}")
    return time.perf_counter() - started


def _succeed(*arguments: str) -> None:
    process = _python(*arguments)
    if process.returncode:
        raise RuntimeError(f"python {' '.join(arguments)}: {process.stdout}{process.stderr}")


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parent.parent
    return subprocess.run([sys.executable, *arguments], cwd=root, capture_output=True, text=True)
