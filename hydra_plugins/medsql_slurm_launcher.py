"""`hydra/launcher=slurm`: each job of a sweep as a job of a Slurm array.

Hydra's submitit launcher does the work. This says in one line what it is missing, and takes a job that
Slurm ended for good as one that failed: the others are waited for.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher

from medsql.errors import UserError

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job

log = logging.getLogger(__name__)


class JobLost(UserError):
    """A job ended without saying what it came to."""


class SlurmLauncher(Launcher):
    """Submits the jobs and waits for them. Raises `UserError` where submitit or Slurm is not installed."""

    def __init__(self, **parameters: Any) -> None:
        try:
            from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as Submitit
        except ImportError:
            raise UserError("hydra/launcher=slurm needs submitit: pip install 'medsql[slurm]'") from None
        self.submitit = Submitit(**parameters)

    def setup(self, **context: Any) -> None:
        """What Hydra gives each launcher."""
        self.submitit.setup(**context)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """What each job came to, a failure where Slurm ended it. Raises `UserError` where sbatch refuses."""
        from submitit.core.utils import FailedSubmissionError

        if shutil.which("srun") is None:
            raise UserError("hydra/launcher=slurm: there is no Slurm here (no srun)")
        numbers = [initial_job_idx + i for i in range(len(job_overrides))]
        for number, overrides in zip(numbers, job_overrides):
            log.info("#%d: %s", number, " ".join(filter_overrides(overrides)))
        state = Singleton.get_state()
        arguments = [
            (list(overrides), "hydra.sweep.dir", number, str(number), state)
            for number, overrides in zip(numbers, job_overrides)
        ]
        try:  # as Hydra's own launcher does, which would stop waiting at the first job without a result
            jobs = self._executor().map_array(self.submitit, *zip(*arguments))
        except FailedSubmissionError as error:
            raise UserError(
                f"hydra/launcher=slurm: sbatch refused: {' '.join(str(error).split())}"
            ) from error
        return [_outcome(job) for job in jobs]

    def _executor(self) -> AutoExecutor:
        from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
        from submitit import AutoExecutor

        parameters = dict(self.submitit.params)
        executor = AutoExecutor(
            cluster="slurm",
            folder=parameters.pop("submitit_folder"),
            slurm_max_num_timeout=parameters.pop("max_num_timeout"),
        )
        common = BaseQueueConf.__dataclass_fields__
        executor.update_parameters(
            **{key if key in common else f"slurm_{key}": value for key, value in parameters.items()}
        )
        return executor


def _outcome(job: Job[JobReturn]) -> JobReturn:
    """What the job came to, once it has ended; a failure also where its result does not survive the way."""
    try:
        return job.result()
    except Exception as error:  # whatever an error or a result that is unpickled here may raise
        returned = JobReturn(status=JobStatus.FAILED)
        returned.return_value = JobLost(
            f"Slurm's job {job.job_id} {_why(job, error)}, see {job.paths.stdout}"
        )
        log.error("%s", returned._return_value)
        return returned


def _why(job: Job[JobReturn], error: Exception) -> str:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    if isinstance(error, FailedJobError):  # the job's traceback in lines of dashes, and where the logs are
        trace = str(error).rsplit("\n-----", 1)[0].rstrip()
        return f"failed ({trace.splitlines()[-1]})"
    if isinstance(error, UncompletedJobError):
        return f"ended without a result ({job.state})"
    return f"has a result that cannot be read ({type(error).__name__}: {' '.join(str(error).split())})"
