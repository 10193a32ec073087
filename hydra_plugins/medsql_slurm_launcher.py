"""`hydra/launcher=slurm`: each job of a sweep as a job of a Slurm array.

Hydra's submitit launcher does the work. This says in one line what it is missing, and what became of a
job that Slurm ended for good.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from medsql.errors import UserError


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
        """What each job came to. Raises `UserError` where one ended without saying what."""
        import shutil

        from submitit.core.utils import FailedSubmissionError, UncompletedJobError

        if shutil.which("srun") is None:
            raise UserError("hydra/launcher=slurm: there is no Slurm here (no srun)")
        try:
            returns: Sequence[JobReturn] = self.submitit.launch(job_overrides, initial_job_idx)
        except FailedSubmissionError as error:
            raise UserError(f"hydra/launcher=slurm: sbatch refused: {_one_line(error)}") from error
        except UncompletedJobError as error:
            raise UserError(
                f"a Slurm job ended without a result, the others go on: {_one_line(error)}; "
                "the same command takes up what is left"
            ) from error
        return returns


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
