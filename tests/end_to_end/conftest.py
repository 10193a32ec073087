"""A checkpoint and a data set small enough that a whole run takes seconds, and commands over them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from end_to_end_tools import Process, forked_doors, run_command
from tiny import tiny_t5, tiny_tokenizer


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seq2seq checkpoint of a few thousand random weights, as `from_pretrained` reads it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_t5().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pairs as a user's own JSON lines."""
    file = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    wards = [{"question": f"beds of ward {i}?", "sql": f'SELECT B FROM W WHERE N = "{i}"'} for i in range(60)]
    file.write_text("".join(json.dumps(row) + "\n" for row in wards))
    return file


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m medsql.<door>` in an empty folder, as a user would."""
    return partial(run_command, cwd=tmp_path)


@pytest.fixture(scope="session")
def small(checkpoint: Path, pairs: Path) -> list[str]:
    """Overrides that make any command a matter of seconds."""
    return [
        f"model.checkpoint={checkpoint}",
        "data=jsonl",
        f"data.path={pairs}",
        "trainer=cpu",
        "trainer.threads=1",
        "decode.max_new_tokens=6",
    ]


@pytest.fixture(scope="session")
def training(small: list[str]) -> list[str]:
    """`small`, and a training of forty steps with eight validations."""
    return [
        *small,
        "optim.max_steps=40",
        "optim.epochs=100",
        "optim.batch_size=2",
        "optim.accumulate=2",
        "validation.every_steps=5",
        "validation.generate_rows=4",
        "objective=val/loss",
    ]


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start a command without waiting for it, in a fork where it needs nothing special.

    Whatever still runs at the end is killed.
    """
    outputs = tmp_path_factory.mktemp("outputs")
    started: list[Process] = []

    def run(door: str, *arguments: str, cwd: Path = tmp_path, **options: Any) -> Process:
        process: Process
        if options:
            process = subprocess.Popen(
                [sys.executable, "-m", f"medsql.{door}", *arguments],
                cwd=cwd,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                **options,
            )
        else:
            output = outputs / str(len(started))
            process = forked_doors().start(door, *arguments, cwd=cwd, stdout=output, stderr=output)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        if not (isinstance(process, subprocess.Popen) and process.stdout and process.stdout.closed):
            process.communicate(timeout=30)  # whatever it has started is to end with it
