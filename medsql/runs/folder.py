"""The run folder: its record `run.json`, its lock, and what starting a run there again means.

Runs are idempotent. Starting one in a folder whose record says `finished`, with the same identity,
gives back what is recorded; `interrupted`, `failed`, or `running` with nobody holding the lock, it
goes on from the last checkpoint; with another identity it is refused.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from medsql.errors import UserError
from medsql.files import write_json
from medsql.runs.fingerprint import Identity, difference, fingerprint
from medsql.runs.labels import short

log = logging.getLogger(__name__)

RECORD = "run.json"
LOCK = ".lock"
PATIENCE = 1.0
"""Seconds to wait for the lock: `is_locked` in another process holds it for an instant."""

PACKAGES = ("medsql", "torch", "transformers", "peft", "lightning", "datasets", "hydra-core", "tokenizers")


class RunConflict(UserError):
    """The folder holds a run of another configuration."""


class RunBusy(UserError):
    """Another process is at work in the folder; 75 is `EX_TEMPFAIL`, try again later."""

    exit_code = 75


def read_record(folder: Path) -> dict[str, Any] | None:
    """The folder's record, or `None` where it has none. Raises `UserError` on an unreadable one."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise UserError(f"{short(folder)} cannot be a run's folder: a file is in the way") from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{short(path)} cannot be read ({error}): move it away to start the run afresh"
        ) from error
    if not isinstance(record, dict) or "state" not in record:
        raise UserError(f"{short(path)} is not a run's record: move it away to start the run afresh")
    return record


def check_folder(folder: Path, kind: str, identity: Identity) -> dict[str, Any] | None:
    """The folder's record, `None` where it has none. Raises `RunConflict` where it is of another run."""
    record = read_record(folder)
    if record is not None and record.get("kind") != kind:
        raise RunConflict(
            f"{short(folder)} holds a run of another kind ({record.get('kind')}): choose another name="
        )
    if record is not None and record.get("fingerprint") != fingerprint(identity):
        keys = "; ".join(difference(record.get("identity", {}), identity))
        raise RunConflict(
            f"{short(folder)} holds a run of another configuration ({keys}): choose another name="
        )
    return record


def is_locked(folder: Path) -> bool:
    """Whether some process is at work in the folder."""
    lock = FileLock(folder / LOCK)
    try:
        with lock.acquire(blocking=False):
            return False
    except Timeout:
        return True
    except OSError:  # no such folder, or one that cannot be written to
        return False


def was_killed(folder: Path) -> bool:
    """Whether a process died at work in the folder. Raises `UserError` on an unreadable record."""
    record = read_record(folder)
    return record is not None and record["state"] == "running" and not is_locked(folder)


def busy(folder: Path) -> RunBusy:
    """The error of a run that another process is at work on."""
    return RunBusy(f"{short(folder)}: this run is running elsewhere, in another process")


class RunPruned(Exception):
    """A study's pruner ended the run early, with `objective` as its last score. That is no failure."""

    def __init__(self, objective: float) -> None:
        super().__init__(objective)
        self.objective = objective

    def __str__(self) -> str:
        return f"pruned at {self.objective:.4f}"


class Run:
    """One run in its folder, as a context: entering takes the lock, leaving records how it ended.

    >>> with Run(Path("outputs/demo"), "train", {"seed": 42}, {"seed": 42}) as run:
    ...     if not run.finished:
    ...         run.finish(objective=0.5)

    Raises `RunConflict` or `RunBusy` on entering, and `RunPruned` where the run was. An exception that
    leaves the context is recorded as `failed`, an exit (Ctrl-C, SIGTERM) as `interrupted`, `RunPruned`
    as `pruned`, and goes on its way.
    """

    def __init__(self, folder: Path, kind: str, identity: Identity, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.kind = kind
        self.identity = identity
        self.settings = settings
        self.record: dict[str, Any] = {}
        self._lock = FileLock(folder / LOCK)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=PATIENCE)
        except Timeout:
            raise busy(self.folder) from None
        try:
            self._begin(check_folder(self.folder, self.kind, self.identity))
        except BaseException:
            self._lock.release()
            raise
        return self

    def _begin(self, earlier: dict[str, Any] | None) -> None:
        if earlier is not None and earlier["state"] == "finished":
            self.record = earlier
            log.info("%s: finished already, nothing is run again", short(self.folder))
            return
        if earlier is not None and earlier["state"] == "pruned":
            log.info("%s: pruned already, nothing is run again", short(self.folder))
            raise RunPruned(earlier["objective"])
        if earlier is not None:
            log.info("%s: was %s, goes on", short(self.folder), _how_it_ended(earlier))
        self.record = {
            "kind": self.kind,
            "state": "running",
            "started": _now(),
            "resumed": earlier.get("resumed", 0) + 1 if earlier else 0,
            "fingerprint": fingerprint(self.identity),
            "identity": self.identity,
            "settings": self.settings,
            "environment": environment(),
        } | {key: earlier[key] for key in ("started", "pinned", "wandb") if earlier and key in earlier}
        self._write()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, RunPruned):
                self._close(state="pruned", objective=error.objective)
                log.info("%s: %s", short(self.folder), error)
            elif error is not None and not self.finished:
                state = "failed" if isinstance(error, Exception) else "interrupted"
                self._close(state=state, error=_one_line(error))
                if state == "interrupted":
                    log.warning("%s: interrupted; the same command goes on", short(self.folder))
        except OSError as problem:  # a full disk must not hide what went wrong
            log.error("%s: cannot record the end of the run: %s", short(self.folder), problem)
        finally:
            self._lock.release()

    @property
    def finished(self) -> bool:
        """Whether the folder holds the whole run already."""
        return self.record.get("state") == "finished"

    @property
    def objective(self) -> float | None:
        """What the run gave back, once it is finished."""
        return self.record.get("objective")

    def pin(self, **facts: Any) -> None:
        """Record what a run must find again when it goes on. Raises `RunConflict` where it does not.

        The settings may leave it open, as where a fallback was loaded or a hub data set has changed.
        """
        pinned = self.record.get("pinned", {})
        changed = difference(pinned, pinned | facts) if pinned else []
        if changed:
            raise RunConflict(
                f"{short(self.folder)} cannot go on, it was started with another {'; '.join(changed)}: "
                "bring that back, or choose another name="
            )
        self.note(pinned=facts)

    def note(self, **facts: Any) -> None:
        """Merge facts into the record and write it."""
        self.record |= facts
        self._write()

    def finish(self, **facts: Any) -> None:
        """Record the facts and that the run is finished."""
        self.record.pop("error", None)
        self._close(state="finished", **facts)

    def _close(self, **facts: Any) -> None:
        self.note(ended=_now(), **facts)

    def _write(self) -> None:
        write_json(self.folder / RECORD, self.record)


def environment() -> dict[str, Any]:
    """Where and on what a run ran: versions, git commit of the project, machine, process."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
        "host": socket.gethostname(),
        "cpus": os.cpu_count(),
        "pid": os.getpid(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the project's checkout, `-dirty` where tracked files differ; None outside one."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _how_it_ended(record: dict[str, Any]) -> str:
    # The lock is ours, so a record that says "running" was left by a process that is gone.
    return "killed" if record["state"] == "running" else str(record["state"])


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
