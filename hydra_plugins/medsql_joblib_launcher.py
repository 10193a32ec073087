"""`hydra/launcher=joblib`: several jobs of a sweep at once on one machine, each in a process of its own.

Beyond Hydra's own joblib launcher, each worker process has its share of the threads and one GPU; one
that dies takes only its own job with it, which is started again and goes on from its checkpoint; and
no worker outlives the command.
"""

import logging
import os
import pickle
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra_plugins.hydra_joblib_launcher import joblib_launcher

from medsql.config import SettingsError
from medsql.errors import UserError
from medsql.runs.folder import was_killed
from medsql.runs.terminal import SHARED
from medsql.wording import counted

log = logging.getLogger(__name__)

PATIENCE = 120.0
"""Seconds that a stopped job has to finish its step and save, before its process is killed."""


@dataclass
class JoblibLauncherConf:
    """What `hydra.launcher.` holds."""

    _target_: str = "hydra_plugins.medsql_joblib_launcher.JoblibLauncher"
    n_jobs: int | None = None
    """Jobs at a time; null: one a GPU, or where there is none, one for every two CPUs and at least two."""
    attempts: int = 2
    """A job whose process was lost that often, out of memory or crashed, is given up."""


def store(name: str) -> None:
    """Make the launcher an option of `hydra/launcher`."""
    ConfigStore.instance().store(
        group="hydra/launcher", name=name, node=JoblibLauncherConf, provider="medsql"
    )


class WorkerLost(UserError):
    """A job was given up: its process died each time."""


class Worker:
    """One process for one job after the other; where it was lost, the next job gets a new one."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self._pool = self._open()

    def _open(self) -> Any:
        from joblib.externals.loky import ProcessPoolExecutor

        return ProcessPoolExecutor(
            max_workers=1, initializer=_enter_worker, initargs=(os.getpid(),), env=self.environment
        )

    def submit(self, function: Callable[..., JobReturn], *arguments: Any) -> Future[JobReturn]:
        """Call `function` in the process."""
        from joblib.externals.loky import BrokenProcessPool

        try:
            future: Future[JobReturn] = self._pool.submit(function, *arguments)
        except BrokenProcessPool:  # the process died while it had nothing to do
            self._pool = self._open()
            future = self._pool.submit(function, *arguments)
        return future

    def how_it_was_lost(self, error: BaseException) -> str | None:
        """What ended the process, where the error means that; there is a new one then."""
        from joblib.externals.loky import BrokenProcessPool

        if isinstance(error, BrokenProcessPool):
            self._pool = self._open()
            codes = re.search(r"exit codes of the workers are \{(.+)\}", str(error))
            return codes[1] if codes else " ".join(str(error).split())
        return f"told to stop, {error}" if isinstance(error, SystemExit) else None

    def terminate(self) -> None:
        """Ask the process to stop; training does so once its state is saved."""
        for pid in list(self._pool._processes):
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGTERM)

    def close(self) -> None:
        """End the process, at once."""
        self._pool.shutdown(kill_workers=True)


@dataclass
class _Job:
    """One job of a launch, and what has become of it so far."""

    number: int
    overrides: Sequence[str]
    losses: int = 0
    returned: JobReturn | None = None


class JoblibLauncher(joblib_launcher.JoblibLauncher):
    """Runs jobs in worker processes that stay from job to job, and from one `launch` to the next.

    Raises `SettingsError` for an `n_jobs` or `attempts` that means nothing.
    """

    def __init__(self, n_jobs: int | None = None, attempts: int = 2) -> None:
        super().__init__()
        for key, value in (("n_jobs", n_jobs), ("attempts", attempts)):
            if value is not None and value < 1:
                raise SettingsError(f"hydra.launcher.{key}={value}: must be at least 1")
        self.n_jobs = n_jobs
        self.attempts = attempts
        self.workers: list[Worker] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """All jobs, as many at a time as there are workers; what each came to, in the order given.

        A stop by Ctrl-C or SIGTERM is passed on to the jobs, which save their state, before it is raised.
        """
        assert self.config is not None and self.task_function is not None
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        idle = deque(self._open_workers(len(job_overrides)))
        shared = (self.hydra_context, self.config, self.task_function, Singleton.get_state())
        jobs = [_Job(initial_job_idx + i, overrides) for i, overrides in enumerate(job_overrides)]
        waiting = deque(jobs)
        running: dict[Future[JobReturn], tuple[_Job, Worker]] = {}
        try:
            while waiting or running:
                while waiting and idle:
                    job, worker = waiting.popleft(), idle.popleft()
                    log.info("#%d: %s", job.number, " ".join(filter_overrides(job.overrides)))
                    future = worker.submit(_run_job, job.number, job.overrides, *shared)
                    running[future] = job, worker
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job, worker = running.pop(future)
                    job.returned = self._outcome(job, worker, future)
                    idle.append(worker)
                    if job.returned is None:
                        waiting.append(job)  # behind the others, which may be what memory was short for
        except BaseException:
            self._stop(running)
            raise
        return [job.returned for job in jobs if job.returned is not None]

    def _outcome(self, job: _Job, worker: Worker, future: Future[JobReturn]) -> JobReturn | None:
        """What the job came to, be it a failure; None where it is to be started again."""
        error = future.exception()
        if error is None:
            return future.result()
        lost = worker.how_it_was_lost(error)
        if lost is not None:
            job.losses += 1
            if job.losses < self.attempts:
                log.warning("#%d: its process was lost (%s), the job is started again", job.number, lost)
                return None
            reason = "out of memory, or a crash in native code?"
            error = WorkerLost(f"its process was lost {counted(job.losses, 'time')} ({lost}): {reason}")
            log.error("#%d: %s", job.number, error)
        returned = JobReturn(overrides=job.overrides, status=JobStatus.FAILED)
        returned.return_value = error
        return returned

    def _open_workers(self, jobs: int) -> list[Worker]:
        """The workers for so many jobs; those of the last launch where there are as many."""
        devices = [] if self.n_jobs == 1 else visible_devices()  # which imports PyTorch
        cpus = _cpus()
        count = min(jobs, self.n_jobs or len(devices) or max(2, cpus // 2))
        if count != len(self.workers):
            for worker in self.workers:
                worker.close()
            self.workers = [Worker(environment) for environment in divided(count, cpus, devices)]
        log.info("%s, %d at a time%s", counted(jobs, "job"), count, _shown(self.workers[0].environment))
        return self.workers

    def _stop(self, running: dict[Future[JobReturn], tuple[_Job, Worker]]) -> None:
        """Pass a stop on to the jobs and wait until they have saved; whoever takes too long is killed."""
        log.warning("stopping %s, as soon as its state is saved", counted(len(running), "running job"))
        try:
            for _, worker in running.values():
                worker.terminate()
            wait(running, timeout=PATIENCE)
        finally:
            for worker in self.workers:
                worker.close()
            self.workers = []


def isolating(launcher: Launcher, folders: Iterable[Path]) -> Launcher:
    """What to launch the runs in `folders` with: `launcher`, or a worker process where one was killed.

    That is for Hydra's basic launcher, whose jobs run in the command's own process. Whether a job itself
    has ended it, out of memory or crashed, or somebody else has, nobody can tell afterwards; of a worker's
    process it is seen as it happens, and costs no other job.
    """
    if not isinstance(launcher, BasicLauncher):
        return launcher
    killed = [folder.name for folder in folders if _was_killed(folder)]
    if not killed:
        return launcher
    log.info("%s: killed when last at work, so jobs run in a process of their own now", ", ".join(killed))
    aside = JoblibLauncher(n_jobs=1)
    aside.setup(
        hydra_context=launcher.hydra_context, task_function=launcher.task_function, config=launcher.config
    )
    return aside


def _was_killed(folder: Path) -> bool:
    try:
        return was_killed(folder)
    except UserError:  # of a damaged record, with which the job itself will fail and say so
        return False


def divided(workers: int, cpus: int, devices: Sequence[str]) -> list[dict[str, str]]:
    """Each worker's environment: its share of the CPUs as threads, and one of the GPUs in turn.

    What the user has set of it stays. A single worker has all that the command has.

    >>> divided(2, 8, ["0"])[1]["CUDA_VISIBLE_DEVICES"]
    '0'
    """
    if workers == 1:
        return [{}]
    threads = str(max(1, cpus // workers))
    names = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")  # PyTorch's and NumPy's, and the tokenizer's
    share = {name: os.environ.get(name) or threads for name in names} | {SHARED: "1"}
    return [
        share | ({"CUDA_VISIBLE_DEVICES": devices[worker % len(devices)]} if devices else {})
        for worker in range(workers)
    ]


def _shown(environment: dict[str, str]) -> str:
    if not environment:
        return ""
    threads = f"OMP_NUM_THREADS={environment['OMP_NUM_THREADS']}"  # which may be a list, one for each level
    return f", each with {threads}{' and a GPU' if 'CUDA_VISIBLE_DEVICES' in environment else ''}"


def visible_devices() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (visible.split(",") if visible else [str(device) for device in range(count)])[:count]


def _cpus() -> int:
    from joblib import cpu_count

    return int(cpu_count())  # of those that affinity and container allow


# --- in the worker's process ------------------------------------------------------------------------


def _enter_worker(command: int) -> None:
    """Stop when the command says so by SIGTERM, or is gone.

    Ctrl-C reaches every process of the terminal; what it means for the jobs is the command's matter.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    threading.Thread(target=_leave_with, args=(command,), daemon=True).start()


def _leave_with(command: int) -> None:
    while os.getppid() == command:
        time.sleep(0.2)
    while True:  # a job may have been between two things that listen
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def _run_job(number: int, overrides: Sequence[str], *shared: Any) -> JobReturn:
    from hydra_plugins.hydra_joblib_launcher._core import execute_job

    command = os.getppid()
    try:
        returned = execute_job(number, overrides, *shared)
    except SystemExit as stop:
        if os.getppid() != command:  # nobody is left to tell
            os._exit(128 + signal.SIGTERM)
        raise SystemExit(str(stop)) from None  # its own kind may not survive the way to the command
    if returned.status == JobStatus.FAILED:
        returned.return_value = _portable(returned._return_value)
    return returned


def _portable(error: Exception) -> Exception:
    """The error, or where it does not survive pickling, one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:  # whatever the error's own class raises
        return RuntimeError(f"{type(error).__name__}: {error}")
