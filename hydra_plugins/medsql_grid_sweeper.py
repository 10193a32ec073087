"""The default sweeper, `hydra/sweeper=grid`: every combination, checked before the first one starts.

Beyond Hydra's basic sweeper it names each job's folder by what the job varies, so that the same
command finds finished jobs again; a failed job does not end the sweep; and a table ends it.
"""

from dataclasses import dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from omegaconf import OmegaConf

from hydra_plugins.medsql_joblib_launcher import isolating
from medsql.composition import check_sweep_folder, checked_settings, folder_name, quoted, tells
from medsql.errors import UserError
from medsql.files import write_text
from medsql.runs.fingerprint import identity
from medsql.runs.folder import RunBusy, check_folder
from medsql.runs.labels import short
from medsql.runs.table import print_folders
from medsql.sweep_end import end_sweep
from medsql.wording import counted


@dataclass
class GridSweeperConf(BasicSweeperConf):
    """What `hydra.sweeper.` holds: as for Hydra's basic sweeper, `max_batch_size` and `params`."""

    _target_: str = "hydra_plugins.medsql_grid_sweeper.GridSweeper"


def store(name: str) -> None:
    """Make the grid an option of `hydra/sweeper`."""
    ConfigStore.instance().store(group="hydra/sweeper", name=name, node=GridSweeperConf, provider="medsql")


store("grid")


class SweepFailed(UserError):
    """At least one job failed; the others are done."""


class SweepBusy(UserError):
    """Nothing failed, but some jobs are running elsewhere."""

    exit_code = RunBusy.exit_code


@dataclass(frozen=True)
class Job:
    """One combination: the overrides that compose it and the name of its folder."""

    overrides: list[str]
    name: str


class GridSweeper(BasicSweeper):
    """All combinations of the swept values, in the order in which they were typed."""

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Check, launch, print the table. Raises `UserError` before anything starts, `SweepFailed` after."""
        assert self.config is not None and self.launcher is not None
        setup_globals()
        folder = Path(self.config.hydra.sweep.dir).absolute()
        jobs = self._jobs([*self._parse_config(), *arguments], folder)
        # Each job is composed anew and would name the sweep's folder by its own overrides.
        self.config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted(str(folder))}")
        self._check(jobs, folder)
        check_sweep_folder(folder, searches=False)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "multirun.yaml", OmegaConf.to_yaml(self.config))
        returns: list[JobReturn] = []
        size = self.max_batch_size or len(jobs)
        try:
            for start in range(0, len(jobs), size):
                batch = jobs[start : start + size]
                self.launcher = isolating(self.launcher, [folder / job.name for job in batch])
                returns += self.launcher.launch([job.overrides for job in batch], initial_job_idx=start)
        finally:  # also where a launcher gives up, or the sweep is stopped
            print_folders([folder / job.name for job in jobs])
        end_sweep(folder)
        _raise_failures(jobs, returns, folder)
        return returns

    def _jobs(self, arguments: list[str], folder: Path) -> list[Job]:
        """Every combination, named by the keys that vary."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides(arguments)
        swept = {override.get_key_element() for override in overrides if override.is_sweep_override()}
        jobs = []
        for combination in self.split_arguments(overrides, None)[0]:
            if swept:
                name = folder_name(",".join(text for text in combination if text.split("=", 1)[0] in swept))
            else:
                name = _name_of_one([text for text in combination if not text.startswith("name=")], folder)
            jobs.append(Job([*combination, f"hydra.sweep.subdir={quoted(name)}"], name))
        return jobs

    def _check(self, jobs: list[Job], folder: Path) -> None:
        """Compose and check every job, and that its folder holds no other run. Raises `UserError`."""
        assert self.hydra_context is not None and self.config is not None
        for job in jobs:
            try:
                config = self.hydra_context.config_loader.load_sweep_config(self.config, job.overrides)
                check_folder(
                    folder / job.name, config.hydra.job.name, identity(checked_settings(config, config.hydra))
                )
            except UserError as error:
                said = str(error)
                raise type(error)(said if said.startswith(job.name) else f"{job.name}: {said}") from error


def _name_of_one(overrides: list[str], folder: Path) -> str:
    """Where nothing varies: what results depend on; all overrides, as before, where that folder is there."""
    before = folder_name(",".join(overrides) or "defaults")
    if (folder / before).exists():
        return before
    return folder_name(",".join(filter(tells, overrides)) or "defaults")


def _raise_failures(jobs: list[Job], returns: list[JobReturn], folder: Path) -> None:
    """Raises `SweepFailed` or `SweepBusy` where some job did not finish."""
    results = {job.name: result for job, result in zip(jobs, returns)}
    outcomes = {name: r._return_value for name, r in results.items() if r.status != JobStatus.COMPLETED}
    busy = [name for name, error in outcomes.items() if isinstance(error, RunBusy)]
    failed = [name for name in outcomes if name not in busy]
    if failed:
        reason = " ".join(str(outcomes[failed[0]]).split())
        raise SweepFailed(
            f"{len(failed)} of {counted(len(jobs), 'job')} failed: {', '.join(failed)} ({reason}); "
            f"each has its log in {short(folder)}"
        )
    if busy:
        raise SweepBusy(f"running elsewhere: {len(busy)} of {counted(len(jobs), 'job')}: {', '.join(busy)}")
