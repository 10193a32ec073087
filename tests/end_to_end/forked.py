"""Doors in processes forked from one that has imported PyTorch and the rest already.

The imports take nine seconds of processor time, most of the tests' commands less than half of that, and there
are more than a hundred of them. A fork is a process of its own all the same, which ends as a program does.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

PRELOADED = (
    "torch",
    "lightning",
    "transformers",
    "peft",
    "datasets",
    "hydra",
    "sqlglot",
    "sklearn.model_selection",
    "scipy.stats",
    "medsql.model.module",
    "medsql.model.training",
    "medsql.model.lora",
    "medsql.model.checkpoints",
    "medsql.model.generation",
    "medsql.data.tokenized",
    "medsql.metrics.execution",
)
"""No door: each is to run as the program that it is, and be imported for that."""


class Server:
    """Forks one door after another."""

    def __init__(self) -> None:
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def run(self, door: str, *arguments: str, cwd: Path, timeout: float) -> subprocess.CompletedProcess[str]:
        """`python -m medsql.<door>` to its end. Raises `subprocess.TimeoutExpired`, as `subprocess.run`."""
        with tempfile.TemporaryDirectory() as folder:
            streams = [Path(folder) / name for name in ("stdout", "stderr")]
            request = {"door": door, "arguments": arguments, "cwd": str(cwd), "environment": dict(os.environ)}
            self._send(request | {"streams": [str(stream) for stream in streams]})
            pid = self._answer(timeout=60)
            try:
                status = self._answer(timeout)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                self._answer(timeout=60)
                raise subprocess.TimeoutExpired([door, *arguments], timeout) from None
            return subprocess.CompletedProcess(
                [door, *arguments], status, *(stream.read_text() for stream in streams)
            )

    def close(self) -> None:
        self._process.communicate()

    def _send(self, request: Mapping[str, object]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")

    def _answer(self, timeout: float) -> int:
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            raise TimeoutError
        return int(self._process.stdout.readline())


def serve() -> None:
    """Fork a door for each line of the standard input, and answer with its process and how that ended."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # or each fork's collector walks through all of it, and so copies it
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            become(**json.loads(line))
            return
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def become(
    door: str, arguments: list[str], cwd: str, environment: dict[str, str], streams: list[str]
) -> None:
    """Be `python -m medsql.<door>`, started in `cwd`."""
    for number, target in ((0, os.devnull), *enumerate(streams, start=1)):
        os.dup2(os.open(target, os.O_RDWR | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = cwd
    sys.argv[1:] = arguments
    runpy.run_module(f"medsql.{door}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve()
