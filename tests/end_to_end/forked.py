"""Doors in processes forked from one that has imported PyTorch and the rest already.

The imports take nine seconds of processor time, most of the tests' commands less than half of that, and
there are more than a hundred of them. A fork is a process of its own all the same, which ends as a program
does. But all have one seed of hashes, and what libraries read of the environment as they are imported is that
of the first command.
"""

from __future__ import annotations

import gc
import importlib
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

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
        self._connection, theirs = Pipe()
        command = [sys.executable, __file__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()

    def run(self, door: str, *arguments: str, cwd: Path, timeout: float) -> subprocess.CompletedProcess[str]:
        """`python -m medsql.<door>` to its end. Raises `subprocess.TimeoutExpired`, as `subprocess.run`."""
        with tempfile.TemporaryDirectory() as folder:
            streams = [Path(folder) / name for name in ("stdout", "stderr")]
            self._connection.send((door, arguments, str(cwd), dict(os.environ), [*map(str, streams)]))
            pid = self._connection.recv()  # once all is imported
            if not self._connection.poll(timeout):
                os.kill(pid, signal.SIGKILL)
                self._connection.recv()
                raise subprocess.TimeoutExpired([door, *arguments], timeout)
            texts = [stream.read_text() for stream in streams]
            return subprocess.CompletedProcess([door, *arguments], self._connection.recv(), *texts)

    def close(self) -> None:
        self._connection.close()
        self._process.wait()


def serve(connection: Connection[Any, Any]) -> None:
    """Fork a door for each that is asked for, and answer with its process and then how that ended."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # or each fork's collector walks through all of it, and so copies it
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        pid = os.fork()
        if pid == 0:
            connection.close()
            become(*request)
            return
        connection.send(pid)
        connection.send(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def become(
    door: str, arguments: list[str], cwd: str, environment: dict[str, str], streams: list[str]
) -> None:
    """Be `python -m medsql.<door>`, started in `cwd`."""
    for number, target in enumerate(streams, start=1):
        os.dup2(os.open(target, os.O_RDWR | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = cwd
    sys.argv[1:] = arguments
    runpy.run_module(f"medsql.{door}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
