"""Doors in processes forked from one that has imported PyTorch and the rest already.

The imports take nine seconds of processor time, most of the tests' commands less than half of that, and
there are more than a hundred of them. A fork is a process of its own all the same, which ends as a program
does. But all have one seed of hashes, and what libraries read of the environment as they are imported is that
of the first command.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import math
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

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
    """Forks doors, and says how they ended."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        command = [sys.executable, __file__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()

    def start(self, door: str, *arguments: str, cwd: Path, stdout: Path, stderr: Path) -> Forked:
        """`python -m medsql.<door>`, which writes into these two files."""
        streams = [str(stdout), str(stderr)]
        pid = self.ask((door, arguments, str(cwd), dict(os.environ), streams))
        return Forked([door, *arguments], self, pid, stdout)

    def run(self, door: str, *arguments: str, cwd: Path, timeout: float) -> subprocess.CompletedProcess[str]:
        """`python -m medsql.<door>` to its end. Raises `subprocess.TimeoutExpired`, as `subprocess.run`."""
        with tempfile.TemporaryDirectory() as folder:
            stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
            process = self.start(door, *arguments, cwd=cwd, stdout=stdout, stderr=stderr)
            try:
                code = process.wait(timeout)
            except BaseException:
                process.kill()
                raise
            return subprocess.CompletedProcess(
                [door, *arguments], code, stdout.read_text(), stderr.read_text()
            )

    def ask(self, request: Any) -> Any:
        """A door to start: its process, once all is imported. A process: its exit code, or None so far."""
        self._connection.send(request)
        return self._connection.recv()

    def close(self) -> None:
        self._connection.close()
        self._process.wait()


class Forked:
    """A door that runs, with what tests use of `subprocess.Popen`."""

    def __init__(self, args: list[str], server: Server, pid: int, stdout: Path) -> None:
        self.args = args
        self._server = server
        self._stdout = stdout
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask(self.pid)
        return self.returncode

    def wait(self, timeout: float = math.inf) -> int:
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.005)
        return code

    def communicate(self, timeout: float = math.inf) -> tuple[str, None]:
        """What it wrote, once it and whatever it started have ended."""
        end = time.monotonic() + timeout
        self.wait(timeout)
        with self._stdout.open() as output:
            while not _locked(output):
                if time.monotonic() > end:
                    raise subprocess.TimeoutExpired(self.args, timeout)
                time.sleep(0.005)
            return output.read(), None

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _locked(file: IO[str]) -> bool:
    """Lock a file, if nobody holds it open who has locked it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def serve(connection: Connection[Any, Any]) -> None:
    """Answer what `Server.ask` asks."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # or each fork's collector walks through all of it, and so copies it
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        if isinstance(request, int):
            pid, status = os.waitpid(request, os.WNOHANG)
            connection.send(os.waitstatus_to_exitcode(status) if pid else None)
            continue
        pid = os.fork()
        if pid == 0:
            connection.close()
            become(*request)
            return
        connection.send(pid)


def become(
    door: str, arguments: list[str], cwd: str, environment: dict[str, str], streams: list[str]
) -> None:
    """Be `python -m medsql.<door>`, started in `cwd`, and lock its streams while anything has them open."""
    for number, target in enumerate(streams, start=1):
        os.dup2(os.open(target, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
        fcntl.flock(number, fcntl.LOCK_SH)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = cwd
    sys.argv[1:] = arguments
    runpy.run_module(f"medsql.{door}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
