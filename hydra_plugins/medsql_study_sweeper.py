"""`hydra/sweeper=study`: an Optuna study that resumes, prunes, and takes in workers on other machines.

Built on hydra-optuna-sweeper, whose samplers and grammar of search spaces it shares
(https://hydra.cc/docs/plugins/optuna_sweeper/). Beyond it, `n_trials` is a total, so that the same
command goes on where the last one ended; validation scores reach the study as they come, and a
pruner may end a trial early; known configurations can be asked for first.
"""

import logging
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from hydra_plugins.medsql_grid_sweeper import SweepFailed
from hydra_plugins.medsql_joblib_launcher import isolating
from medsql.composition import check_sweep_folder, checked_settings, quoted, study_address, trial_folder
from medsql.config import SettingsError
from medsql.files import write_text
from medsql.runs.fingerprint import identity
from medsql.runs.folder import RECORD, RunBusy, RunConflict, RunPruned, is_locked
from medsql.runs.labels import short
from medsql.runs.recorded import BEHIND_LOSSES
from medsql.runs.table import print_folders
from medsql.sweep_end import end_sweep
from medsql.wording import counted

if TYPE_CHECKING:  # importing Optuna takes seconds, and every command imports this module
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

    from medsql.runs.study import Job, SharedStudy

log = logging.getLogger(__name__)


@dataclass
class StudySweeperConf:
    """What `hydra.sweeper.` holds.

    `params` is the search space, `enqueue` lists trials to run before any is sampled, which are never
    pruned. `n_trials` counts all trials of the study; `n_jobs` is how many of them this command launches
    at once. A failed trial is repeated `retries` times; once more than `max_failure_rate` of all trials
    failed, the sweep gives up. `storage` is an SQLAlchemy URL, or null for a SQLite file in the sweep's
    folder; `study_name` null is the folder's name. Several machines work on one study by the same command
    with one database; a worker that is silent for `grace` seconds counts as dead. Each job has its `trial`.
    """

    _target_: str = "hydra_plugins.medsql_study_sweeper.StudySweeper"
    _recursive_: bool = False
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}, {"pruner": "none"}])
    sampler: Any = MISSING
    pruner: Any = MISSING
    params: dict[str, Any] = field(default_factory=dict)
    enqueue: list[dict[str, Any]] = field(default_factory=list)
    n_trials: int = 20
    n_jobs: int = 1
    retries: int = 1
    max_failure_rate: float = 0.5
    storage: str | None = None
    study_name: str | None = None
    grace: float = 60.0
    trial: int | None = None

    def __post_init__(self) -> None:
        for key, least in (("n_trials", 1), ("n_jobs", 1), ("retries", 0)):
            if getattr(self, key) < least:
                raise SettingsError(f"hydra.sweeper.{key}={getattr(self, key)}: must be at least {least}")
        if not 0 <= self.max_failure_rate <= 1:
            raise SettingsError(
                f"hydra.sweeper.max_failure_rate={self.max_failure_rate}: must be from 0 to 1"
            )
        if self.grace <= 0:
            raise SettingsError(f"hydra.sweeper.grace={self.grace}: must be greater than 0")


@dataclass
class NonePruner:
    """Every trial runs to its end."""

    _target_: str = "optuna.pruners.NopPruner"


@dataclass
class MedianPruner:
    """Ends a trial whose best score so far is below the median of the earlier ones' at the same step."""

    _target_: str = "optuna.pruners.MedianPruner"
    n_startup_trials: int = 5
    n_warmup_steps: int = 0
    interval_steps: int = 1


@dataclass
class SuccessiveHalvingPruner:
    """Goes on with the best part of the trials at each rung (Li et al. 2020, https://arxiv.org/abs/1810.05934).

    The first rung is at the first validation; each next one takes `reduction_factor` times the steps.
    """

    _target_: str = "optuna.pruners.SuccessiveHalvingPruner"
    min_resource: Any = "${validation.every_steps}"
    reduction_factor: int = 3
    min_early_stopping_rate: int = 0


@dataclass
class HyperbandPruner:
    """Successive halving with several first rungs (Li et al. 2018, https://arxiv.org/abs/1603.06560)."""

    _target_: str = "optuna.pruners.HyperbandPruner"
    min_resource: Any = "${validation.every_steps}"
    max_resource: Any = "auto"  # the steps of the first finished trial
    reduction_factor: int = 3


store = ConfigStore.instance().store
store(group="hydra/sweeper", name="study", node=StudySweeperConf, provider="medsql")
for name, pruner in (
    ("none", NonePruner),
    ("median", MedianPruner),
    ("successive_halving", SuccessiveHalvingPruner),
    ("hyperband", HyperbandPruner),
):
    store(group="hydra/sweeper/pruner", name=name, node=pruner, provider="medsql")


class StudySweeper(Sweeper):
    """Runs the trials of a study, as many as are left."""

    config: DictConfig
    hydra_context: HydraContext

    def __init__(self, **options: Any) -> None:
        self.options = StudySweeperConf(**options)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra hands over what a sweep needs."""
        self.config = config
        self.hydra_context = hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Go on with the study until all its trials have ended, then print them and the best.

        Raises `UserError` before anything starts, `SweepFailed` after.
        """
        from medsql.runs.leases import Leases
        from medsql.runs.study import Address, SharedStudy, open_storage

        folder = Path(self.config.hydra.sweep.dir).absolute()
        swept, self.fixed = self._overrides(arguments)
        space = _space(swept)
        # Each job is composed anew and would name the sweep's folder by its own overrides.
        self.config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted(str(folder))}")
        settings = self._check(space)
        check_sweep_folder(folder, searches=True)
        directions = directions_of(settings)
        prunes = not self._pruner_is_none()
        if len(directions) > 1 and prunes:
            prunes = False
            log.warning("a study of several objectives does not prune: hydra/sweeper/pruner is not used")
        folder.mkdir(parents=True, exist_ok=True)
        address = Address(*study_address(self.config.hydra))
        leases = Leases(open_storage(address.storage).engine, address.study, folder, self.options.grace)
        total, retries = self.options.n_trials, self.options.retries
        study = SharedStudy(
            address,
            leases,
            space,
            self._sampler,
            total,
            retries,
            is_running=lambda number: is_locked(folder / trial_folder(number)),
        )
        with leases:
            meaning = self._meaning(settings, swept, directions)
            study.prepare(directions, meaning, self.options.enqueue, self._seed())
            write_text(folder / "multirun.yaml", OmegaConf.to_yaml(self.config))
            log.info("study %s: %s; %s", address.study, study.standing(), self._search(prunes))
            try:
                self._run(study, folder)
            finally:  # also where a launcher gives up, or the sweep is stopped
                _print(study, folder)
        _write_best(study, folder)
        end_sweep(folder)
        _raise_failures(study, folder)

    # ---- before -----------------------------------------------------------------------------

    def _overrides(self, arguments: list[str]) -> tuple[dict[str, Override], list[str]]:
        """What is searched, by key, and what all trials share; what is typed comes last and wins."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        params = [f"{key}={value}" for key, value in self.options.params.items()]
        given = {
            override.get_key_element(): override for override in parser.parse_overrides([*params, *arguments])
        }
        swept = {key: override for key, override in given.items() if override.is_sweep_override()}
        fixed = [str(override.input_line) for key, override in given.items() if key not in swept]
        if not swept:
            raise SettingsError(
                "hydra/sweeper=study has nothing to search: give a key values, or key='interval(LOW,HIGH)'"
            )
        return swept, fixed

    def _check(self, space: "dict[str, BaseDistribution]") -> Any:
        """Compose what all trials share, and one trial. Returns the former's settings; raises `UserError`."""
        if len(self.options.enqueue) > self.options.n_trials:
            raise SettingsError(
                f"hydra.sweeper.n_trials={self.options.n_trials}: hydra.sweeper.enqueue alone has "
                f"{counted(len(self.options.enqueue), 'trial')}"
            )
        for params in self.options.enqueue:
            for key, value in params.items():
                _check_enqueued(key, value, space)
        self._sampler(0)
        loader = self.hydra_context.config_loader
        some = [f"{key}={_some(distribution)}" for key, distribution in space.items()]
        for overrides in ([*self.fixed, *some], self.fixed):
            config = loader.load_sweep_config(self.config, overrides)
            settings = checked_settings(config, config.hydra)
        _warn_of_losses(settings.objective, space)
        return settings

    def _meaning(
        self, settings: Any, swept: dict[str, Override], directions: Sequence[str]
    ) -> dict[str, Any]:
        """What must be the same where a study goes on: flat, for a message that names what differs."""

        def is_swept(key: str) -> bool:
            return any(key == name or key.startswith(f"{name}.") for name in swept)

        shared = {key: value for key, value in identity(settings).items() if not is_swept(key)}
        # Of a group that is searched each trial has another option, and these keys on top of it.
        typed = dict(text.split("=", 1) for text in self.fixed if is_swept(text.split("=", 1)[0]))
        space = {f"search of {key}": _value(override) for key, override in swept.items()}
        search = {
            "hydra.sweeper.enqueue": OmegaConf.to_container(self.config.hydra.sweeper.enqueue),
            "hydra.sweeper.sampler": OmegaConf.to_container(self.config.hydra.sweeper.sampler),
        }
        return {"direction": ", ".join(directions)} | space | search | shared | typed

    def _seed(self) -> int:
        """The sampler's, or where it has none a random one, which the study then keeps."""
        seed = self.config.hydra.sweeper.sampler.get("seed")
        return secrets.randbits(32) if seed is None else int(seed)

    def _sampler(self, seed: int) -> "BaseSampler":
        config = self.config.hydra.sweeper.sampler
        seeded = OmegaConf.merge(config, {"seed": seed}) if "seed" in config else config
        sampler = instantiate(seeded)
        if callable(sampler):  # GridSampler, which is still to be given its space
            raise SettingsError("hydra/sweeper/sampler=grid: hydra/sweeper=grid runs every combination")
        return sampler

    def _search(self, prunes: bool) -> str:
        """What samples and what prunes, in words."""
        options = self.config.hydra.sweeper
        sampler, pruner = (
            str(each._target_).rpartition(".")[2] for each in (options.sampler, options.pruner)
        )
        return f"{sampler}, {pruner if prunes else 'no pruner'}"

    def _pruner_is_none(self) -> bool:
        return str(self.config.hydra.sweeper.pruner._target_).endswith("NopPruner")

    # ---- meanwhile --------------------------------------------------------------------------

    def _run(self, study: "SharedStudy", folder: Path) -> None:
        """Launch what is to be run, until nothing is, or too much has failed."""
        while jobs := study.next(self.options.n_jobs):
            for job in jobs:
                params = " ".join(f"{key}={value}" for key, value in job.params.items())
                remark = f" ({job.remark})" if job.remark else ""
                log.info("trial %d of %d: %s%s", job.number, self.options.n_trials, params, remark)
            # Jobs are numbered from the first one on, which is their trials' numbers but where some
            # of a batch were interrupted and others were not.
            overrides = [self._job_overrides(job) for job in jobs]
            assert self.launcher is not None
            self.launcher = isolating(self.launcher, [folder / trial_folder(job.number) for job in jobs])
            returns = self.launcher.launch(overrides, initial_job_idx=jobs[0].number)
            for job, result in zip(jobs, returns, strict=True):
                _settle(study, job, result)
            failed, ended = len(study.failed()), sum(t.state.is_finished() for t in study.trials)
            if failed > 1 and failed / ended > self.options.max_failure_rate:
                log.error("%d of %s failed: no more are started", failed, counted(ended, "trial"))
                return

    def _job_overrides(self, job: "Job") -> list[str]:
        params = [f"{key}={value}" for key, value in job.params.items()]
        own = [f"hydra.sweep.subdir={quoted(trial_folder(job.number))}", f"hydra.sweeper.trial={job.number}"]
        return [*self.fixed, *params, *own]


def directions_of(settings: Any) -> list[str]:
    """What a study does with a run's objective and, if there is one, its cost."""
    score = "minimize" if settings.objective == "val/loss" else "maximize"
    return [score] if settings.cost is None else [score, "minimize"]


def _space(swept: dict[str, Override]) -> "dict[str, BaseDistribution]":
    from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override

    return {key: create_optuna_distribution_from_override(override) for key, override in swept.items()}


def _some(distribution: Any) -> Any:
    """One of the values that a key may have."""
    return distribution.choices[0] if hasattr(distribution, "choices") else distribution.low


def _warn_of_losses(objective: str, searched: Iterable[str]) -> None:
    """Say it where the losses of a search cannot be compared, which is all that it does with them."""
    behind = sorted(BEHIND_LOSSES & {key.lstrip("+") for key in searched})
    if objective == "val/loss" and behind:
        log.warning(
            "objective=val/loss: losses of trials that differ in %s cannot be compared; scores can",
            " and ".join(behind),
        )


def _check_enqueued(key: str, value: Any, space: "dict[str, BaseDistribution]") -> None:
    """Raises `SettingsError` for a value that the search could not come to: Optuna would sample another."""
    if key not in space:
        raise SettingsError(f"hydra.sweeper.enqueue sets {key}, which is not searched")
    try:
        known = space[key]._contains(space[key].to_internal_repr(value))
    except (TypeError, ValueError):
        known = False
    if not known:
        raise SettingsError(f"hydra.sweeper.enqueue: {key}={value} is not in the search, {space[key]}")


def _value(override: Override) -> str:
    """What stands behind the `=`, as it was typed."""
    return str(override.input_line).partition("=")[2]


def _settle(study: "SharedStudy", job: "Job", result: JobReturn) -> None:
    """Record how a trial ended."""
    value = result._return_value
    if result.status == JobStatus.COMPLETED:
        study.complete(job.number, value if isinstance(value, Sequence) else [value])
    elif isinstance(value, RunPruned):
        study.prune(job.number)
    elif isinstance(value, RunConflict):  # the folder is another search's: no trial could go on
        raise value
    elif isinstance(value, RunBusy):  # left behind by a sweep that was killed; it will end by itself
        log.info("trial %d: is being run by another process, its result is waited for", job.number)
        study.leave(job.number)
    else:
        why = " ".join(f"{type(value).__name__}: {value}".split())
        log.warning("trial %d failed: %s", job.number, why)
        study.fail(job.number, why)


# --- after ------------------------------------------------------------------------------------------


def _print(study: "SharedStudy", folder: Path) -> None:
    folders = [folder / trial_folder(trial.number) for trial in study.trials]
    here = [each for each in folders if (each / RECORD).exists()]
    print_folders(here)
    if len(here) < len(folders):
        log.info(
            "of %s there is no folder here: on other machines, or not yet started",
            counted(len(folders) - len(here), "trial"),
        )
    if study.left:
        log.info("study %s: %s", study.address.study, study.standing())


def _write_best(study: "SharedStudy", folder: Path) -> None:
    """Log the best trials, and write them where Optuna's own sweeper does."""
    best = study.best_trials()
    alone = len(best) == 1 or study.objectives > 1
    for trial in best if alone else best[:1]:
        values = ", ".join(f"{value:g}" for value in trial.values)
        params = " ".join(f"{key}={value}" for key, value in trial.params.items())
        place = "the best is" if alone else f"one of {len(best)} that are best is"
        log.info("%s trial %d with objective %s: %s", place, trial.number, values, params)
    found: dict[str, Any] = {"name": "optuna"}
    if study.objectives > 1:
        found["solutions"] = [{"params": trial.params, "values": list(trial.values)} for trial in best]
    elif best:
        found |= {"best_params": best[0].params, "best_value": best[0].value}
    write_text(folder / "optimization_results.yaml", OmegaConf.to_yaml(OmegaConf.create(found)))


def _raise_failures(study: "SharedStudy", folder: Path) -> None:
    """Raises `SweepFailed` where a trial failed for good."""
    failed = study.failed()
    if failed:
        names = ", ".join(str(trial.number) for trial in failed)
        why = failed[0].user_attrs.get("error", "")
        raise SweepFailed(
            f"{len(failed)} of {counted(len(study.trials), 'trial')} failed: {names} ({why}); "
            f"each has its log in {short(folder)}"
        )
