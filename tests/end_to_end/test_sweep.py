"""`python -m medsql.train -m`: sweeps that end with a table, survive a kill, fail a job at a time, and load
once what their jobs share."""

import shlex
import shutil
import signal

import pytest
from end_to_end_tools import adapter_difference, kill_when_training, record, wait_for
from filelock import FileLock

from medsql.runs.folder import LOCK

RANKS = ["-m", "lora.r=2,4", "name=ranks"]


def test_a_sweep_killed_in_the_middle_and_typed_again_equals_an_undisturbed_one(
    start, command, training, tmp_path
):
    other = tmp_path / "undisturbed"
    other.mkdir()
    assert command("train", *RANKS, *training, cwd=other).returncode == 0
    first, second = (tmp_path / "multirun" / "ranks" / f"lora.r={r}" for r in (2, 4))
    kill_when_training(start("train", *RANKS, *training), second)
    assert record(first)["state"] == "finished"
    before = record(first)

    result = command("train", *RANKS, *training)
    assert result.returncode == 0, result.stdout + result.stderr
    assert record(first) == before
    assert record(second)["resumed"] == 1
    table = [line.split()[:2] for line in result.stdout.splitlines() if line.startswith("lora.r=")]
    assert table == [["lora.r=2", "finished"], ["lora.r=4", "finished"]]
    assert "multirun/ranks" in result.stdout

    for folder in (first, second):
        twin = other / folder.relative_to(tmp_path)
        assert adapter_difference(twin, folder) < 1e-6
        assert record(twin)["objective"] == record(folder)["objective"]
        assert record(twin)["test"]["exact_match"] == record(folder)["test"]["exact_match"]


def test_a_failed_job_leaves_its_traceback_and_the_others_run(command, training, tmp_path):
    wild = ["optim.max_grad_norm=null", "optim.max_steps=10"]
    result = command("train", "-m", "optim.lr=1e38,1e-3", "name=wild", *training, *wild)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("medsql: 1 of 2 jobs failed: optim.lr=1e+38")
    failed, finished = (tmp_path / "multirun" / "wild" / f"optim.lr={lr}" for lr in ("1e+38", "0.001"))
    assert record(failed)["state"] == "failed"
    assert "Traceback" in (failed / "train.log").read_text()
    assert record(finished)["state"] == "finished"
    assert "Traceback" not in (finished / "train.log").read_text()
    lines = [line.split()[:2] for line in result.stdout.splitlines() if line.startswith("optim.lr=")]
    table = [line for line in lines if not line[0].endswith(":")]  # without what is remarked below
    assert table == [["optim.lr=1e+38", "failed"], ["optim.lr=0.001", "finished"]]


def reused(folder):
    found = record(folder)
    return [found[part]["reused"] for part in ("data", "tokenized", "model")]


def test_a_job_after_others_and_a_failed_one_ends_as_it_would_alone(command, training, tmp_path):
    quick = [*training, "optim.max_steps=10", "optim.max_grad_norm=null", "lora.use_dora=true"]
    swept = command("train", "-m", "optim.lr=1e-2,1e38,1e-3", "name=swept", *quick)
    assert swept.returncode == 1 and "1 of 3 jobs failed" in swept.stderr
    alone = command("train", "optim.lr=1e-3", "name=alone", *quick)
    assert alone.returncode == 0, alone.stderr
    first, failed, third = (
        tmp_path / "multirun" / "swept" / f"optim.lr={lr}" for lr in (0.01, "1e+38", 0.001)
    )
    alone = tmp_path / "outputs" / "alone"
    assert [reused(folder) for folder in (first, failed, third, alone)] == [
        [False] * 3, [True] * 3, [True] * 3, [False] * 3
    ]  # fmt: skip
    assert adapter_difference(third, alone) == 0 < adapter_difference(third, first)
    assert (third / "predictions.jsonl").read_text() == (alone / "predictions.jsonl").read_text()
    assert record(third)["fingerprint"] == record(alone)["fingerprint"]


@pytest.mark.slow
def test_a_job_after_full_fine_tuning_ends_as_it_would_alone(command, training, tmp_path):
    quick = [*training, "optim.max_steps=10"]
    swept = command("train", "-m", "lora=all_linear,none,qv", "name=swept", *quick)
    assert swept.returncode == 0, swept.stderr
    assert command("train", "lora=qv", "name=alone", *quick).returncode == 0
    _, full, third = (
        tmp_path / "multirun" / "swept" / f"lora={name}" for name in ("all_linear", "none", "qv")
    )
    assert reused(full) == [True] * 3
    assert reused(third) == [True, True, False]  # the base was changed, and loaded afresh
    assert adapter_difference(third, tmp_path / "outputs" / "alone") == 0


def test_the_baseline_is_scored_once_for_all_runs_and_is_no_part_of_them(command, training, tmp_path):
    quick = [*training, "optim.max_steps=2"]
    first = command("train", *RANKS, *quick)
    assert first.returncode == 0, first.stderr
    sweep = tmp_path / "multirun" / "ranks"
    finished, to_do = sweep / "lora.r=2", sweep / "lora.r=4"
    before = record(finished)
    shutil.rmtree(to_do)

    result = command("train", *RANKS, *quick, "baseline=true")  # beside a run that is finished
    assert result.returncode == 0, result.stderr
    assert record(finished) == before
    assert record(to_do)["state"] == "finished"
    (baseline,) = sweep.glob("*zero-shot*")
    found = record(baseline)
    assert (found["kind"], found["state"], found["tuned"]) == ("evaluate", "finished", False)
    assert found["scores"]["n"] == before["test"]["n"]
    assert result.stdout.count("scoring the baseline") == 1
    assert f"{baseline.relative_to(tmp_path)}: finished already" in result.stdout
    rows = [line.split()[0] for line in result.stdout.splitlines() if line.startswith("lora.r=")]
    assert rows == ["lora.r=2", "lora.r=4"]  # the sweep's own table
    assert "mini, zero-shot" not in result.stdout

    compared = command("compare", "multirun/ranks")
    assert compared.returncode == 0, compared.stderr
    assert "2 runs in multirun/ranks" in compared.stdout and "mini, zero-shot" in compared.stdout


def test_a_run_goes_on_without_a_baseline_that_is_being_scored_elsewhere(command, training, tmp_path):
    quick = [*training, "optim.max_steps=2", "baseline=true"]
    assert command("train", *quick, "name=run").returncode == 0
    (baseline,) = (tmp_path / "outputs").glob("*zero-shot*")
    with FileLock(baseline / LOCK):
        other = command("train", *quick, "lora.r=3", "name=other")
    assert other.returncode == 0, other.stderr
    assert "the baseline is being scored in another process" in other.stdout


@pytest.mark.slow
def test_a_run_goes_on_without_a_baseline_that_cannot_be_scored(command, training, tmp_path):
    quick = [*training, "optim.max_steps=2", "baseline=true"]
    assert command("train", *quick, "name=run").returncode == 0
    (baseline,) = (tmp_path / "outputs").glob("*zero-shot*")
    (baseline / "run.json").write_text("{")
    other = command("train", *quick, "lora.r=3", "name=other")
    assert other.returncode == 0 and "the baseline is not scored" in other.stdout
    assert record(tmp_path / "outputs" / "other")["state"] == "finished"


@pytest.mark.slow
def test_the_baseline_is_the_run_of_the_same_evaluation(command, small, training, tmp_path):
    assert command("train", *training, "optim.max_steps=2", "baseline=true", "name=run").returncode == 0
    again = command("evaluate", *small, "decode=greedy", "decode.max_new_tokens=6")
    assert again.returncode == 0 and "finished already" in again.stdout


@pytest.mark.slow
def test_a_stopped_sweep_stops_as_a_whole(start, training, tmp_path):
    process = start("train", *RANKS, *training)
    first = tmp_path / "multirun" / "ranks" / "lora.r=2"
    kill_when_training(process, first, signal.SIGTERM)
    assert process.returncode == 143
    assert record(first)["state"] == "interrupted"
    assert not (tmp_path / "multirun" / "ranks" / "lora.r=4").exists()


@pytest.mark.slow
def test_a_second_terminal_leaves_the_running_job_alone(start, command, training, tmp_path):
    long = ["-m", "lora.r=2", "name=long", *training, "optim.max_steps=100000", "optim.epochs=100000"]
    first = start("train", *long)
    wait_for(lambda: list(tmp_path.glob("multirun/long/*/checkpoints")), first)
    second = command("train", *long)
    assert second.returncode == 75
    assert "running elsewhere: 1 of 1 job: lora.r=2" in second.stderr
    assert first.poll() is None


@pytest.mark.parametrize(
    ("swept", "says"),
    [
        ("lora.r=2,abc", "lora.r=abc"),
        ("lora.r=2,0", "lora.r=0: must be at least 1"),
        ("lora=attention,atention", "did you mean attention?"),
    ],
)
def test_every_job_is_checked_before_the_first_one_starts(command, tmp_path, swept, says):
    result = command("train", "-m", swept)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and says in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_another_configuration_in_a_sweeps_folder_is_refused_at_once(command, training, tmp_path):
    quick = [*training, "optim.max_steps=2"]
    assert command("train", *RANKS, *quick).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    result = command("train", *RANKS, *quick, "seed=1")
    assert result.returncode == 1
    assert "seed: 42 there, 1 here" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_unnamed_sweep_is_named_by_its_overrides(command, training, tmp_path):
    result = command("train", "-m", "lora.r=2,4", *training, "optim.max_steps=1")
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "multirun").iterdir()
    assert sorted(path.parent.name for path in folder.glob("*/run.json")) == ["lora.r=2", "lora.r=4"]
    again = command("train", "-m", "lora.r=2,4", *training, "optim.max_steps=1", "validation.show=0")
    assert again.stdout.count("finished already") == 2, "a key that changes no result makes no other sweep"
    assert list((tmp_path / "multirun").iterdir()) == [folder]


def test_a_ready_made_sweep_needs_no_flag_and_no_path(command, training, tmp_path):
    result = command("train", "+sweeps=lora_rank", *training, "optim.max_steps=2", "validation.every_steps=2")
    assert result.returncode == 0, result.stderr
    ran = {path.parent.name for path in (tmp_path / "multirun" / "lora_rank").glob("*/run.json")}
    assert ran == {f"lora.r={r}" for r in (8, 16, 32)}
    elsewhere = command("train", "+sweeps=lora_rnk")
    assert elsewhere.returncode == 1 and "did you mean lora_rank?" in elsewhere.stderr
    listed = command("train", "--help")
    assert "sweeps: augment, ladder, learning_rate, lora_rank" in listed.stdout


def test_the_command_that_a_comparison_ends_with_trains_the_best_again(command, training, tmp_path):
    assert (
        command("train", *RANKS, *training, "optim.max_steps=2", "validation.every_steps=2").returncode == 0
    )
    compared = command("compare", "multirun/ranks", "report=false")
    (again,) = [line for line in compared.stdout.splitlines() if line.startswith("python -m medsql.train ")]
    result = command("train", *shlex.split(again)[3:])
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "outputs").iterdir()
    ranks = [record(tmp_path / "multirun" / "ranks" / f"lora.r={r}") for r in (2, 4)]
    best = min(ranks, key=lambda each: each["objective"])
    assert record(folder)["fingerprint"] == best["fingerprint"]
    assert record(folder)["objective"] == pytest.approx(best["objective"])


def test_a_study_is_reported_at_its_end_and_its_best_trial_is_trained_again(command, training, tmp_path):
    # The ready-made sweep chooses an optimiser in its defaults: the command has to name it.
    quick = ["optim.max_steps=2", "validation.every_steps=1", "hydra.sweeper.n_trials=4"]
    quick += ["objective=val/token_f1"]
    result = command("train", "+sweeps=optuna", *training, *quick)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "to compare them again: python -m medsql.compare multirun/optuna\n" in result.stdout
    sweep = tmp_path / "multirun" / "optuna"
    page = (sweep / "report" / "report.html").read_text()
    assert "What was swept" in page and "val/token_f1 of each trial, " in page
    compared = command("compare", "multirun/optuna", "report=false").stdout
    (again,) = [line for line in compared.splitlines() if line.startswith("python -m medsql.train ")]
    assert "optim=adamw" in again and "sweeps" not in again
    assert command("train", *shlex.split(again)[3:]).returncode == 0
    (folder,) = (tmp_path / "outputs").iterdir()
    trials = [record(sweep / f"trial-{number:04d}") for number in range(4)]
    done = [trial for trial in trials if trial["state"] == "finished"]
    best = max(trial["objective"] for trial in done)
    assert record(folder)["fingerprint"] in {x["fingerprint"] for x in done if x["objective"] == best}
