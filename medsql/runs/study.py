"""An Optuna study that several processes and machines work on, and that goes on where any of them died.

Optuna's storage keeps the trials; `medsql.runs.leases` beside it who is at work on which. A trial whose
worker is gone stays the same trial: its number, its parameters and its folder. Only calls are used
that Optuna 2.10 and 4 both have.
"""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from medsql.errors import UserError
from medsql.runs.fingerprint import difference
from medsql.runs.folder import RunConflict
from medsql.runs.leases import METADATA, Leases
from medsql.wording import counted

log = logging.getLogger(__name__)
optuna.logging.set_verbosity(optuna.logging.WARNING)
# `add_trial`, which 2.10 calls experimental, and the distributions of hydra-optuna-sweeper, which came before
# those of 3 and 4.
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", category=FutureWarning, module=r"optuna\.")

POLL = 2.0
"""Seconds between looks at what other workers have come to."""

MEANING, SEED = "medsql_meaning", "medsql_seed"
"""What a study was begun with, among its attributes: what may not change, and its sampler's seed."""

ENQUEUED, RETRIES, ANSWER = "enqueued", "retries", "answer"
"""Attributes of trials: that one was asked for and not sampled; the number of the one it repeats; the last
step that a pruner was asked about, and what it said."""

FIXED = "fixed_params"
"""Where Optuna itself, 2.10 and 4 alike, keeps the parameters of a trial that is still to start."""


@dataclass(frozen=True)
class Address:
    """Where a study is found: a URL as SQLAlchemy reads it, and the name of the study there."""

    storage: str
    study: str

    def load(self, pruner: BasePruner | None = None) -> optuna.Study:
        """The study as it stands now: Optuna caches what a process has seen of its own trials."""
        storage = open_storage(self.storage)
        return optuna.load_study(study_name=self.study, storage=storage, pruner=pruner)


@cache
def open_storage(url: str) -> RDBStorage:
    """The database, with all tables. Raises `UserError` where it cannot be reached."""
    sqlite = url.startswith("sqlite")
    options = {"connect_args": {"timeout": 60}} if sqlite else {"pool_pre_ping": True}
    for last in (False, False, False, True):
        try:
            storage = RDBStorage(url, engine_kwargs=options)
            METADATA.create_all(storage.engine)
            return storage
        except (SQLAlchemyError, ImportError, RuntimeError) as error:
            # Two workers that begin at once both make the tables, and one comes second.
            if last or not re.search("already exists|duplicate|unique", str(error), re.IGNORECASE):
                raise UserError(
                    f"hydra.sweeper.storage={_shown(url)}: {_shown(_first_line(error))}"
                ) from error
        time.sleep(0.5)
    raise AssertionError("the last attempt returns or raises")


def _shown(url: str) -> str:
    """The URL without its password."""
    return re.sub(r"(//[^:/@]*):[^@]*@", r"\1:***@", url)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


@dataclass(frozen=True)
class Job:
    """A trial to be run: its number and the values of the swept keys."""

    number: int
    params: Mapping[str, Any]
    remark: str = ""
    """How it came about, for who reads along."""


class SharedStudy:
    """A study, and this process as one of those at work on it.

    `sampler` makes a sampler from a seed, so that what is sampled depends on the seed, the trial's
    number and the trials before, and not on how often the search was interrupted. `n_trials` is the
    total over all workers and commands; a trial that repeats a failed one is not counted. `is_running` says
    of a trial that nobody holds whether a process that lost its command runs it still.
    """

    def __init__(
        self,
        address: Address,
        leases: Leases,
        space: Mapping[str, BaseDistribution],
        sampler: Callable[[int], BaseSampler],
        n_trials: int,
        retries: int,
        is_running: Callable[[int], bool] = lambda number: False,
    ) -> None:
        self.address = address
        self.leases = leases
        self.space = space
        self.sampler = sampler
        self.n_trials = n_trials
        self.retries = retries
        self.is_running = is_running
        self._at_work: set[int] = set()  # trials that `next` gave and that have not ended
        self._later: dict[int, float] = {}
        self._seed = 0

    # ---- beginning --------------------------------------------------------------------------

    def prepare(
        self,
        directions: Sequence[str],
        meaning: dict[str, Any],
        enqueued: Sequence[Mapping[str, Any]],
        seed: int,
    ) -> None:
        """Create the study with its first trials, or find it as it was created.

        Raises `RunConflict` where it was created with another `meaning`, a flat mapping of what results
        depend on: the search space, the directions, the configuration that all trials share.
        """
        with self.leases.alone():
            study = self._found_or_made(directions)
            self._check(study, meaning)
            if SEED not in study.user_attrs:  # whoever began died before this; nobody has asked yet
                for params in enqueued[len(study.get_trials(deepcopy=False)) :]:
                    _enqueue(study, params, {ENQUEUED: True})
                study.set_user_attr(MEANING, meaning)
                study.set_user_attr(SEED, seed)
            self._seed = study.user_attrs[SEED]

    def _found_or_made(self, directions: Sequence[str]) -> optuna.Study:
        name, storage = self.address.study, open_storage(self.address.storage)
        try:
            study = self.address.load()
            if StudyDirection.NOT_SET not in study.directions:
                return study
            # Optuna 2 writes a study first and its directions then: whoever began died in between.
            optuna.delete_study(study_name=name, storage=storage)
        except KeyError:
            pass
        return optuna.create_study(study_name=name, storage=storage, directions=list(directions))

    def _check(self, study: optuna.Study, meaning: dict[str, Any]) -> None:
        recorded = study.user_attrs.get(MEANING, meaning)
        if recorded != meaning:
            raise RunConflict(
                f"study {self.address.study} was begun with another configuration "
                f"({'; '.join(difference(recorded, meaning))}): choose another name="
            )

    # ---- what to run next -------------------------------------------------------------------

    def next(self, most: int) -> list[Job]:
        """Up to `most` trials to run now; waits while only others are at work, empty when all is done.

        Interrupted trials come first, then those that wait for their start, then newly sampled ones.
        """
        told = False
        while True:
            with self.leases.alone():
                study = self.address.load()
                trials = study.get_trials(deepcopy=False)
                # A worker that died between a trial's end and giving it back holds it still.
                self.leases.settle([_key(trial.number) for trial in trials if trial.state.is_finished()])
                jobs = self._interrupted(study, trials, most) or self._new(study, trials, most)
                running = [trial for trial in trials if trial.state == TrialState.RUNNING]
            if jobs or not running:
                return jobs
            if not told:
                log.info("waiting for %s of other workers", counted(len(running), "trial"))
                told = True
            time.sleep(POLL)

    def _interrupted(self, study: optuna.Study, trials: Sequence[FrozenTrial], most: int) -> list[Job]:
        """Those that run with nobody at work on them."""
        jobs: list[Job] = []
        for trial in trials:
            free = trial.state == TrialState.RUNNING and trial.number not in self._at_work
            waits = time.monotonic() < self._later.get(trial.number, 0)
            if not free or waits or len(jobs) == most or self.is_running(trial.number):
                continue
            if not self.leases.take(_key(trial.number)):
                continue
            if study.get_trials(deepcopy=False)[trial.number].state == TrialState.RUNNING:
                jobs.append(self._job(study, trial.number, "interrupted, goes on"))
            else:  # whoever ran it has given it back just now, because it has ended
                self._release(trial.number)
        return jobs

    def _new(self, study: optuna.Study, trials: Sequence[FrozenTrial], most: int) -> list[Job]:
        self._retry(study, trials)
        trials = study.get_trials(deepcopy=False)
        waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        left = self.n_trials - sum(RETRIES not in trial.user_attrs for trial in trials)
        return [self._ask(study) for _ in range(min(most, waiting + max(left, 0)))]

    def _retry(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
        """Put failed trials in line again, as trials of their own, as often as `retries` says."""
        repeated = {trial.user_attrs.get(RETRIES) for trial in trials}
        for trial in trials:
            left = trial.state == TrialState.FAIL and trial.number not in repeated
            if left and _attempts(trial, trials) <= self.retries:
                _enqueue(study, trial.params, _inherited(trial) | {RETRIES: trial.number})

    def _ask(self, study: optuna.Study) -> Job:
        trials = study.get_trials(deepcopy=False)
        numbers = [trial.number for trial in trials if trial.state == TrialState.WAITING]
        number = min(numbers, default=len(trials))
        study.sampler = self._sampler(number)
        trial = study.ask()
        assert trial.number == number, "other workers wait for their turn"
        self.leases.take(_key(number))
        if RETRIES in trial.user_attrs:
            return self._job(study, number, f"repeats trial {trial.user_attrs[RETRIES]}, which failed")
        return self._job(study, number, "asked for" if ENQUEUED in trial.user_attrs else "")

    def _job(self, study: optuna.Study, number: int, remark: str) -> Job:
        """The trial with all its parameters, the missing ones sampled; none is where it was interrupted."""
        study.sampler = self._sampler(number)
        trial = _trial(study, number)  # samples what its sampler samples together
        for place, (name, distribution) in enumerate(self.space.items(), 1):
            study.sampler = self._sampler(number, place)
            trial._suggest(name, distribution)
        self._at_work.add(number)
        return Job(number, trial.params, remark)

    def _sampler(self, number: int, place: int = 0) -> BaseSampler:
        """A sampler whose randomness is that of this trial and this of its parameters."""
        from numpy.random import SeedSequence

        return self.sampler(int(SeedSequence([self._seed, number, place]).generate_state(1)[0]))

    # ---- how it ended -----------------------------------------------------------------------

    def complete(self, number: int, values: Sequence[float]) -> None:
        """Record a trial's result, one value a direction."""
        self._tell(number, list(values), TrialState.COMPLETE)

    def prune(self, number: int) -> None:
        """Record that a trial was ended early; its value is the last one reported."""
        self._tell(number, None, TrialState.PRUNED)

    def fail(self, number: int, why: str) -> None:
        """Record that a trial has no result."""
        self._tell(number, None, TrialState.FAIL, {"error": why})

    def leave(self, number: int) -> None:
        """Give a trial back that a process without a lease is at work on; it is looked at again later."""
        self._later[number] = time.monotonic() + POLL
        self._release(number)

    def _tell(
        self,
        number: int,
        values: list[float] | None,
        state: TrialState,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        if not self.leases.holds(_key(number)) or self.trial(number).state.is_finished():
            log.warning("trial %d was taken over by another worker: its result here is not used", number)
        else:
            study = self.address.load()
            for key, value in (attributes or {}).items():
                _trial(study, number).set_user_attr(key, value)
            study.tell(number, values, state)
        self._release(number)

    def _release(self, number: int) -> None:
        self._at_work.discard(number)
        self.leases.release(_key(number))

    # ---- looking at it ----------------------------------------------------------------------

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.address.load().get_trials()

    @property
    def left(self) -> int:
        """How many trials have neither ended well nor failed for good."""
        ended = (TrialState.COMPLETE, TrialState.PRUNED)
        return max(0, self.n_trials - sum(t.state in ended for t in self.trials) - len(self.failed()))

    def standing(self) -> str:
        """How far the study has come: `3 of 20 trials done, 17 to go, 1 of them begun`."""
        left, begun = self.left, sum(trial.state == TrialState.RUNNING for trial in self.trials)
        done = f"{self.n_trials - left} of {counted(self.n_trials, 'trial')} done, {left} to go"
        return f"{done}, {begun} of them begun" if begun else done

    @property
    def objectives(self) -> int:
        """How many objectives a trial has."""
        return len(self.address.load().directions)

    def best_trials(self) -> list[FrozenTrial]:
        """The best trial and those that are as good, by number; with several objectives those that no other
        one is better than in all."""
        study = self.address.load()
        done = study.get_trials(states=(TrialState.COMPLETE,))
        if not done:
            return []
        if len(study.directions) > 1:
            return study.best_trials
        return [trial for trial in done if trial.value == study.best_value]

    def trial(self, number: int) -> FrozenTrial:
        """One trial."""
        return self.trials[number]

    def failed(self) -> list[FrozenTrial]:
        """Those that failed for good: that were not repeated, and will not be."""
        trials = self.trials
        repeated = {trial.user_attrs.get(RETRIES) for trial in trials}
        failed = [t for t in trials if t.state == TrialState.FAIL and t.number not in repeated]
        return [trial for trial in failed if _attempts(trial, trials) > self.retries]


@dataclass(frozen=True)
class Reporter:
    """What the process that runs a trial tells the study, and asks it: whether to go on.

    A study that cannot be reached costs the report, never the run.
    """

    address: Address
    number: int
    pruner: BasePruner

    def __call__(self, step: int, value: float) -> bool:
        """Report a validation's `value`; True where the trial should end. Asked-for trials never should.

        A validation that is repeated after an interruption gets the answer that it got before: Optuna's
        pruners may take it as another step. Where a trial began anew, its earlier steps end nothing.
        """
        try:
            study = self.address.load(pruner=self.pruner)
            trial, known = _trial(study, self.number), study.trials[self.number].intermediate_values
            answered, answer = trial.user_attrs.get(ANSWER, (None, False))
            if answered == step:
                return bool(answer)
            if step not in known:
                trial.report(value, step)
            if ENQUEUED in trial.user_attrs or step < max(known, default=step):
                return False
            answer = bool(trial.should_prune())  # NumPy's, of some pruners
            trial.set_user_attr(ANSWER, (step, answer))
            return answer
        except (SQLAlchemyError, StorageInternalError, UserError, KeyError, RuntimeError) as error:
            # The last: another worker took the trial over and has finished it.
            log.warning("step %d was not reported to the study: %s", step, _first_line(error))
            return False


def _trial(study: optuna.Study, number: int) -> Trial:
    return Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def _enqueue(study: optuna.Study, params: Mapping[str, Any], attributes: dict[str, Any]) -> None:
    # As `enqueue_trial` does, which takes no attributes in Optuna 2.10.
    fixed = {FIXED: dict(params)}
    study.add_trial(create_trial(state=TrialState.WAITING, system_attrs=fixed, user_attrs=attributes))


def _inherited(trial: FrozenTrial) -> dict[str, Any]:
    return {ENQUEUED: True} if ENQUEUED in trial.user_attrs else {}


def _attempts(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int:
    """How often the trial was tried, itself and those that it repeats."""
    earlier = trial.user_attrs.get(RETRIES)
    return 1 if earlier is None else 1 + _attempts(trials[earlier], trials)


def _key(number: int) -> str:
    return f"trial {number}"
