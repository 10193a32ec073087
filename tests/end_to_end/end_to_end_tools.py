"""Watching, stopping and comparing runs from outside."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from forked import Forked, Server
from safetensors.torch import load_file

from medsql.runs.folder import read_record

Process: TypeAlias = subprocess.Popen[str] | Forked
"""A command that runs."""


def run_command(
    door: str, *arguments: str, cwd: Path, timeout: float = 300, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run `python -m medsql.<door>` to its end, in a fork where it needs nothing special."""
    if not options:
        return forked_doors().run(door, *arguments, cwd=cwd, timeout=timeout)
    command = [sys.executable, "-m", f"medsql.{door}", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, **options)


@cache
def forked_doors() -> Server:
    """The one of this process."""
    server = Server()
    atexit.register(server.close)
    return server


def wait_for(condition: Callable[[], Any], process: Process, seconds: float = 120) -> None:
    """Wait until the condition holds; fails where the process ends before, or time runs out."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def kill_when_training(process: Process, folder: Path, signum: int = signal.SIGKILL) -> str:
    """Send the signal once the run in `folder` has saved its first checkpoint; returns the output."""
    wait_for(lambda: list(folder.glob("checkpoints/*.ckpt")), process)
    os.kill(process.pid, signum)
    return process.communicate(timeout=120)[0]


def record(folder: Path) -> dict[str, Any]:
    found = read_record(folder)
    assert found is not None, f"no record in {folder}"
    return found


def adapter_difference(one: Path, other: Path) -> float:
    """The largest difference between the weights of two runs' adapters."""
    first, second = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)
