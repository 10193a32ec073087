"""A shared study: totals, resuming, retries and pruning, without any training."""

import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, UniformDistribution
from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import Trial, TrialState
from sqlalchemy import text

from medsql.errors import UserError
from medsql.runs.folder import RunConflict
from medsql.runs.leases import Leases
from medsql.runs.study import Address, Job, Reporter, SharedStudy, open_storage

SPACE = {"x": UniformDistribution(0, 1), "c": CategoricalDistribution(["a", "b", "z"])}


@pytest.fixture
def address(tmp_path: Path) -> Address:
    return Address(f"sqlite:///{tmp_path / 'study.db'}", "s")


@contextmanager
def worker(
    address: Address,
    tmp_path: Path,
    n_trials: int = 6,
    retries: int = 0,
    enqueue: Sequence[dict[str, Any]] = (),
    meaning: dict[str, Any] | None = None,
    **options: Any,
) -> Iterator[SharedStudy]:
    """A command at work on the study."""
    sampler = options.get("sampler", lambda seed: RandomSampler(seed))
    with Leases(open_storage(address.storage).engine, address.study, tmp_path, 60) as leases:
        study = SharedStudy(address, leases, SPACE, sampler, n_trials, retries)
        directions = options.get("directions", ["maximize"])
        study.prepare(directions, meaning or {"direction": "maximize"}, enqueue, seed=7)
        yield study


def test_who_held_a_trial_that_has_ended_is_forgotten(address: Address, tmp_path: Path) -> None:
    engine = open_storage(address.storage).engine
    with worker(address, tmp_path) as study, Leases(engine, address.study, tmp_path, 60) as died:
        (job,) = study.next(1)
        study.complete(job.number, [0.5])
        key = f"trial {job.number}"
        assert died.take(key)  # as one that has no time to give it back
        study.next(1)
        assert not died.holds(key)


def run_all(study: SharedStudy, stop_after: int | None = None) -> list[Job]:
    """Run what there is to run; a trial's result is its x."""
    done: list[Job] = []
    while (stop_after is None or len(done) < stop_after) and (jobs := study.next(1)):
        study.complete(jobs[0].number, [jobs[0].params["x"]])
        done += jobs
    return done


def params(address: Address) -> list[dict]:
    return [trial.params for trial in address.load().trials]


def test_the_number_of_trials_is_a_total_over_commands(address, tmp_path):
    with worker(address, tmp_path, n_trials=4) as study:
        assert [job.number for job in run_all(study)] == [0, 1, 2, 3]
    with worker(address, tmp_path, n_trials=4) as study:
        assert run_all(study) == []
    with worker(address, tmp_path, n_trials=6) as study:
        assert [job.number for job in run_all(study)] == [4, 5]


@pytest.mark.parametrize("stop", (1, 4, 7))
def test_an_interrupted_search_samples_what_an_undisturbed_one_does(address, tmp_path, stop):
    tpe = {"sampler": lambda seed: TPESampler(seed=seed, n_startup_trials=2), "n_trials": 8}
    other = Address(f"sqlite:///{tmp_path / 'undisturbed.db'}", "s")
    with worker(other, tmp_path, **tpe) as study:
        run_all(study)
    with worker(address, tmp_path, **tpe) as study:
        run_all(study, stop_after=stop - 1)
        study.next(1)  # and never heard of again
    with worker(address, tmp_path, **tpe) as study:
        run_all(study)
    assert params(address) == params(other)
    assert len({str(each) for each in params(address)}) == 8


def test_a_trial_interrupted_before_all_its_parameters_were_sampled_gets_the_same_ones(address, tmp_path):
    other = Address(f"sqlite:///{tmp_path / 'undisturbed.db'}", "s")
    with worker(other, tmp_path) as study:
        run_all(study)
    with worker(address, tmp_path) as study:
        address.load().ask()  # no parameter at all
        run_all(study)
    assert params(address) == params(other)


def run_until_killed(address: Address, tmp_path: Path, where: tuple[type, str, str], **options: Any) -> None:
    """Run the search; at the third call of a method, before it or after, the process is killed."""
    owner, name, moment = where
    original, calls = getattr(owner, name), 0

    def deadly(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3 and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **keywords)
        if calls == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)
    with worker(address, tmp_path, **options) as study:
        run_all(study)


@pytest.mark.parametrize(
    "where",
    [
        (Study, "ask", "before"),
        (Study, "ask", "after"),
        (Trial, "_suggest", "after"),  # between the two parameters of a trial
        (SharedStudy, "next", "after"),  # the job is not launched
        (Study, "tell", "before"),
        (Study, "tell", "after"),
    ],
    ids=lambda where: f"{where[2]} {where[1]}",
)
def test_a_process_killed_at_any_point_loses_no_trial_and_repeats_none(address, tmp_path, where):
    tpe = {"sampler": lambda seed: TPESampler(seed=seed, n_startup_trials=2), "n_trials": 5}
    killed = multiprocessing.get_context("fork").Process(
        target=run_until_killed, args=(address, tmp_path, where), kwargs=tpe
    )
    killed.start()
    killed.join(120)
    assert killed.exitcode == -signal.SIGKILL
    ended = [trial.number for trial in address.load().trials if trial.state == TrialState.COMPLETE]
    with worker(address, tmp_path, **tpe) as study:
        assert [job.number for job in run_all(study)] == [
            number for number in range(5) if number not in ended
        ]
    other = Address(f"sqlite:///{tmp_path / 'undisturbed.db'}", "s")
    with worker(other, tmp_path, **tpe) as study:
        run_all(study)
    assert params(address) == params(other)


def test_a_study_whose_maker_was_killed_before_it_had_a_direction_is_made_anew(address, tmp_path):
    with worker(address, tmp_path):
        pass
    engine = open_storage(address.storage).engine
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM trials"))
        connection.execute(text("DELETE FROM study_user_attributes"))
        connection.execute(text("UPDATE study_directions SET direction = 'NOT_SET'"))
    with worker(address, tmp_path) as study:
        run_all(study)
    other = Address(f"sqlite:///{tmp_path / 'undisturbed.db'}", "s")
    with worker(other, tmp_path) as study:
        run_all(study)
    assert address.load().directions == other.load().directions
    assert params(address) == params(other)


def test_two_workers_share_the_trials(address, tmp_path):
    with worker(address, tmp_path, n_trials=3) as one, worker(address, tmp_path, n_trials=3) as other:
        jobs = [*one.next(1), *other.next(1), *one.next(1)]
        assert [job.number for job in jobs] == [0, 1, 2]
        for study, job in zip((one, other, one), jobs):
            study.complete(job.number, [0.5])
        assert other.next(1) == one.next(1) == []


def test_a_study_says_how_many_trials_are_done_and_how_many_are_left(address, tmp_path):
    with worker(address, tmp_path, n_trials=3, retries=1) as study:
        assert study.standing() == "0 of 3 trials done, 3 to go"
        run_all(study, stop_after=1)
        (job,) = study.next(1)
        assert study.standing() == "1 of 3 trials done, 2 to go, 1 of them begun"
        study.fail(job.number, "once")
        assert study.left == 2, "it is tried again"
        (again,) = study.next(1)
        study.fail(again.number, "twice")
        assert study.standing() == "2 of 3 trials done, 1 to go", "one failed for good"
        run_all(study)
        assert study.standing() == "3 of 3 trials done, 0 to go"


def test_an_interrupted_trial_is_run_again_before_new_ones(address, tmp_path):
    with worker(address, tmp_path) as study:
        (first,) = study.next(1)
    with worker(address, tmp_path) as study:
        (again,) = study.next(2)
        assert (again.number, again.params) == (first.number, first.params)
        assert "interrupted" in again.remark


def test_trials_that_are_asked_for_come_first_and_once(address, tmp_path):
    asked = [{"x": 0.25, "c": "z"}, {"x": 0.75}]
    for stop in (1, None):
        with worker(address, tmp_path, enqueue=asked, n_trials=4) as study:
            run_all(study, stop_after=stop)
    found = params(address)
    assert len(found) == 4
    assert found[0] == asked[0] and found[1]["x"] == 0.75 and found[1]["c"] in "abz"


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_a_failed_trial_is_repeated_as_often_as_configured_and_does_not_count_again(
    address, tmp_path, retries
):
    tried = []
    with worker(address, tmp_path, n_trials=2, retries=retries) as study:
        while jobs := study.next(1):
            tried.append(jobs[0].params["x"])
            study.fail(jobs[0].number, "out of memory")
        assert len(study.failed()) == 2
    assert len(tried) == 2 * (1 + retries)
    assert len(set(tried)) == 2
    assert [t.user_attrs["error"] for t in address.load().trials] == ["out of memory"] * len(tried)


def test_a_failed_trial_that_succeeds_when_repeated_is_no_failure(address, tmp_path):
    with worker(address, tmp_path, n_trials=1, retries=1) as study:
        study.fail(study.next(1)[0].number, "no space left")
        run_all(study)
        assert study.failed() == []


@pytest.mark.parametrize(
    ("meaning", "said"),
    [
        ({"direction": "minimize"}, "direction: maximize there, minimize here"),
        ({"direction": "maximize", "seed": 3}, "seed: nothing there, 3 here"),
    ],
)
def test_another_configuration_is_refused_with_the_difference(address, tmp_path, meaning, said):
    with worker(address, tmp_path):
        pass
    with pytest.raises(RunConflict, match=said), worker(address, tmp_path, meaning=meaning):
        pass


def test_a_bad_trial_is_pruned_by_what_others_reported_and_asked_for_ones_never_are(address, tmp_path):
    pruner = MedianPruner(n_startup_trials=2)
    verdicts = []
    with worker(address, tmp_path, n_trials=4, enqueue=[{"x": 0.1}]) as study:
        for value in (0.1, 0.9, 0.8, 0.2):
            (job,) = study.next(1)
            # Another object, as in another process: what it reports must reach the pruner there.
            verdicts.append(Reporter(address, job.number, pruner)(10, value))
            study.prune(job.number) if verdicts[-1] else study.complete(job.number, [value])
    assert verdicts == [False, False, False, True]
    last = address.load().trials[-1]
    assert (last.state, last.value) == (TrialState.PRUNED, 0.2)


def test_a_step_that_was_reported_before_an_interruption_is_not_reported_twice(address, tmp_path):
    with worker(address, tmp_path) as study, warnings.catch_warnings():
        warnings.filterwarnings("error", ".*already reported.*")
        report = Reporter(address, study.next(1)[0].number, NopPruner())
        report(10, 0.5)
        report(10, 0.5)
    assert address.load().trials[0].intermediate_values == {10: 0.5}


def test_a_study_that_cannot_be_reached_costs_the_report_and_not_the_run(address, tmp_path, caplog):
    with worker(address, tmp_path) as study:
        report = Reporter(address, study.next(1)[0].number, NopPruner())
    (tmp_path / "study.db").unlink()
    assert report(10, 0.5) is False
    assert "step 10 was not reported" in caplog.text


def test_a_study_that_is_away_from_the_start_costs_the_report_too(caplog):
    assert Reporter(Address("sqlite:////no/such/folder/s.db", "s"), 0, NopPruner())(10, 0.5) is False
    assert "step 10 was not reported" in caplog.text


def test_a_pruner_is_asked_once_about_a_validation_that_is_repeated(address, tmp_path):
    pruner = SuccessiveHalvingPruner(min_resource=10, reduction_factor=2)
    with worker(address, tmp_path, n_trials=3) as study:
        for value in (0.9, 0.8):
            (job,) = study.next(1)
            Reporter(address, job.number, pruner)(10, value)
            study.complete(job.number, [value])
        (job,) = study.next(1)
        report = Reporter(address, job.number, pruner)
        assert report(10, 0.1) is True
        assert report(10, 0.1) is True


def test_a_trial_that_begins_anew_is_not_pruned_by_steps_it_is_yet_to_repeat(address, tmp_path):
    pruner = MedianPruner(n_startup_trials=1)
    with worker(address, tmp_path, n_trials=3) as study:
        (job,), (other,) = study.next(1), study.next(1)
        report = Reporter(address, job.number, pruner)
        assert [report(step, 0.1) for step in (10, 20, 30)] == [False] * 3
        for step in (10, 20, 30, 40):
            Reporter(address, other.number, pruner)(step, 0.9)
        study.complete(other.number, [0.9])
        assert [report(step, 0.1) for step in (10, 20)] == [False, False]
        assert report(40, 0.1) is True


def test_a_worker_that_lost_its_trial_does_not_end_it(address, tmp_path, caplog):
    with worker(address, tmp_path) as study:
        (job,) = study.next(1)
        study.leases.release(f"trial {job.number}")
        study.fail(job.number, "too late")
    assert address.load().trials[0].state == TrialState.RUNNING
    assert "not used" in caplog.text


def test_a_trial_that_another_worker_finished_keeps_its_result(address, tmp_path, caplog):
    with worker(address, tmp_path) as study:
        (job,) = study.next(1)
        address.load().tell(job.number, 0.3)
        study.complete(job.number, [0.9])
    assert address.load().trials[0].value == 0.3
    assert "not used" in caplog.text


def test_a_trial_that_ends_while_another_worker_looks_at_it_is_not_run_again(address, tmp_path, monkeypatch):
    monkeypatch.setattr("medsql.runs.study.POLL", 0.1)
    with worker(address, tmp_path, n_trials=1) as one, worker(address, tmp_path, n_trials=1) as other:
        (job,) = one.next(1)
        take = other.leases.take

        def take_late(key: str) -> bool:
            if key == f"trial {job.number}":
                one.complete(job.number, [0.5])
            return take(key)

        monkeypatch.setattr(other.leases, "take", take_late)
        assert other.next(1) == []


def test_a_trial_that_runs_without_a_worker_is_waited_for(address, tmp_path, monkeypatch):
    monkeypatch.setattr("medsql.runs.study.POLL", 0.1)
    with worker(address, tmp_path, n_trials=1) as study:
        (job,) = study.next(1)
        study.leave(job.number)
        assert [again.number for again in study.next(1)] == [job.number]


def test_the_best_of_several_objectives_are_those_that_none_is_better_than(address, tmp_path):
    with worker(address, tmp_path, n_trials=3, directions=["maximize", "minimize"]) as study:
        for values in ([0.5, 10], [0.9, 20], [0.4, 30]):
            study.complete(study.next(1)[0].number, values)
        assert [trial.number for trial in study.best_trials()] == [0, 1]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([0.2, 0.5, 0.5], "one of 2 that are best is trial 1 with objective 0.5: "),
        ([0.2, 0.5, 0.4], "the best is trial 1 with objective 0.5: "),
    ],
)
def test_trials_that_are_as_good_as_the_best_are_counted(address, tmp_path, caplog, values, says):
    from hydra_plugins.medsql_study_sweeper import _write_best  # Hydra executes plugins anew when it starts

    caplog.set_level("INFO")
    with worker(address, tmp_path, n_trials=3) as study:
        for value in values:
            study.complete(study.next(1)[0].number, [value])
        caplog.clear()  # of what Optuna says, where no command has told it not to
        _write_best(study, tmp_path)
        (params,) = [trial.params for trial in study.trials if trial.number == 1]
    assert [record.getMessage().startswith(says) for record in caplog.records] == [True]
    written = OmegaConf.load(tmp_path / "optimization_results.yaml")
    assert (written.best_params, written.best_value) == (params, 0.5)


def test_a_search_without_a_result_has_no_best(address, tmp_path):
    with worker(address, tmp_path) as study:
        assert study.best_trials() == []


def test_another_direction_is_refused_with_the_difference(address, tmp_path):
    with worker(address, tmp_path):
        pass
    other = {"directions": ["minimize"], "meaning": {"direction": "minimize"}}
    with pytest.raises(RunConflict, match="direction"), worker(address, tmp_path, **other):
        pass


@pytest.mark.parametrize(
    "url",
    [
        "postgres//me:secret@host/x",
        "nothing://here",
        "sqlite:////no/such/folder/study.db",
        "postgresql://me:secret@127.0.0.1:1/x",
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_line_without_the_password(url):
    with pytest.raises(UserError) as refusal:
        open_storage(url)
    assert str(refusal.value).startswith("hydra.sweeper.storage=")
    assert "\n" not in str(refusal.value) and "secret" not in str(refusal.value)
