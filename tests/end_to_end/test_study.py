"""`hydra/sweeper=study`: a search as its users see it."""

import re

import pytest
from end_to_end_tools import kill_when_training, record
from omegaconf import OmegaConf

from medsql.runs.study import Address

STUDY = ["-m", "hydra/sweeper=study", "hydra.sweeper.sampler.seed=1", "name=search"]


def trials(tmp_path):
    return Address(f"sqlite:///{tmp_path / 'multirun' / 'search' / 'study.db'}", "search").load().trials


def test_scores_of_jobs_in_other_processes_prune_and_a_larger_total_goes_on(command, training, tmp_path):
    # What is asked for learns, and what this seed samples hardly: that is pruned.
    prune = ["hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=2"]
    enqueue = "hydra.sweeper.enqueue=[{optim.lr:0.05},{optim.lr:0.04}]"
    search = [*STUDY, *prune, enqueue, "optim.lr=tag(log,interval(1e-8,0.05))", *training]
    aside = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_jobs=2"]
    result = command("train", *search, *aside, "hydra.sweeper.n_trials=4")
    assert result.returncode == 0, result.stdout + result.stderr
    sweep = tmp_path / "multirun" / "search"
    states = [record(sweep / f"trial-{number:04d}")["state"] for number in range(4)]
    assert states == ["finished", "finished", "pruned", "pruned"]
    pruned = record(sweep / "trial-0002")
    assert pruned["trial"] == 2 and pruned["pruned_at_step"] < 40
    assert pruned["objective"] == pruned["validation"]["val/loss"]
    assert [trial.state.name for trial in trials(tmp_path)] == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]
    assert trials(tmp_path)[2].value == pruned["objective"]
    assert "Traceback" not in (sweep / "trial-0002" / "train.log").read_text()

    assert "study search: 0 of 4 trials done, 4 to go; TPESampler, MedianPruner\n" in result.stdout
    assert re.search(r"run +optim.lr\n(.*\n)*trial-0000 +0.05\n", result.stdout)

    result = command("train", *search, "hydra.sweeper.n_trials=5")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "study search: 4 of 5 trials done, 1 to go; " in result.stdout
    assert "the same command goes on" not in result.stdout
    assert [trial.number for trial in trials(tmp_path)] == [0, 1, 2, 3, 4]
    assert record(sweep / "trial-0002") == pruned
    best = OmegaConf.load(sweep / "optimization_results.yaml")
    assert best.best_params["optim.lr"] in (0.05, 0.04)


def test_a_search_killed_in_the_middle_and_typed_again_goes_on_from_there(start, command, training, tmp_path):
    search = [*STUDY, "hydra.sweeper.n_trials=3", "lora.r=2,4", *training, "optim.max_steps=20"]
    first, second = (tmp_path / "multirun" / "search" / f"trial-{number:04d}" for number in range(2))
    kill_when_training(start("train", *search), second)
    before = record(first)
    assert before["state"] == "finished"
    result = command("train", *search)
    assert result.returncode == 0, result.stdout + result.stderr
    assert record(first) == before
    assert (record(second)["state"], record(second)["resumed"]) == ("finished", 1)
    assert [trial.state.name for trial in trials(tmp_path)] == ["COMPLETE"] * 3


def test_a_failed_trial_is_tried_again_and_does_not_end_the_search(command, training, tmp_path):
    asked = "hydra.sweeper.enqueue=[{optim.lr:1e38},{optim.lr:1e-3},{optim.lr:1e-3}]"
    wild = ["optim.lr=1e38,1e-3", asked, "optim.max_grad_norm=null", "optim.max_steps=10"]
    result = command("train", *STUDY, *training, *wild, "hydra.sweeper.n_trials=3")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("medsql: 1 of 4 trials failed: 3 (TrainingError: ") and "step" in last
    states = [trial.state.name for trial in trials(tmp_path)]
    assert states == ["FAIL", "COMPLETE", "COMPLETE", "FAIL"]
    assert trials(tmp_path)[3].user_attrs["retries"] == 0


def test_a_search_of_which_too_much_fails_gives_up(command, training, tmp_path):
    wild = ["optim.lr=tag(log,interval(1e37,1e38))", "optim.max_grad_norm=null", "optim.max_steps=10"]
    result = command("train", *STUDY, *wild, *training[:-5], "objective=val/loss", "hydra.sweeper.retries=0")
    assert result.returncode == 1
    assert len(trials(tmp_path)) == 2
    assert "study search: 2 of 20 trials done, 18 to go\n" in result.stdout


def test_two_objectives_have_a_front_and_no_pruning(command, training, tmp_path):
    result = command(
        "train", *STUDY, "lora.r=1,4", *training, "optim.max_steps=10", "cost=parameters",
        "hydra/sweeper/pruner=median", "hydra.sweeper.n_trials=4",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "does not prune" in result.stdout and "TPESampler, no pruner\n" in result.stdout
    sweep = tmp_path / "multirun" / "search"
    weights = {record(sweep / f"trial-{trial.number:04d}")["parameters"]["trainable"]: trial.values[1]
               for trial in trials(tmp_path)}  # fmt: skip
    assert all(found == told for found, told in weights.items())
    front = OmegaConf.load(sweep / "optimization_results.yaml").solutions
    assert 1 <= len(front) <= 4 and min(weights) in [
        values[1] for values in (each["values"] for each in front)
    ]


def test_another_objective_or_another_key_below_what_is_searched_is_refused(command, training, tmp_path):
    search = [*STUDY, "lora=attention,qv", *training, "optim.max_steps=5", "hydra.sweeper.n_trials=1"]
    assert command("train", *search).returncode == 0
    for typed, said in (
        ("objective=val/exact_match", "direction: minimize there, maximize here"),
        ("lora.dropout=0.4", "lora.dropout: nothing there, 0.4 here"),
        ("hydra.sweeper.sampler.seed=2", "hydra.sweeper.sampler: "),
    ):
        result = command("train", *search, typed)
        assert result.returncode == 1
        assert said in result.stderr and len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert len(trials(tmp_path)) == 1


def test_a_grid_and_a_search_do_not_share_a_folder(command, training, tmp_path):
    search = [*STUDY, "hydra.sweeper.n_trials=1", "lora.r=2,4", *training, "optim.max_steps=1"]
    grid = ["-m", "lora.r=2", *training, "optim.max_steps=1"]
    for first, then, said in (
        (search, [*grid, "name=search"], "holds a search"),
        ([*grid, "name=grid"], [*search, "name=grid"], "holds a grid's jobs"),
    ):
        assert command("train", *first).returncode == 0
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
        refused = command("train", *then)
        assert refused.returncode == 1
        assert said in refused.stderr and len(refused.stderr.strip().splitlines()) == 1, refused.stderr
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["lora.r=8"], "has nothing to search"),
        (["lora.r=8,16", "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: must be at least 1"),
        (["lora.r=8,16", "hydra.sweeper.enqueue=[{lora.alpha:8}]"], "sets lora.alpha, which is not searched"),
        (["lora.r=8,16", "hydra.sweeper.enqueue=[{lora.r:12}]"], "lora.r=12 is not in the search"),
        (
            ["optim.lr=interval(0,1)", "hydra.sweeper.enqueue=[{optim.lr:5}]"],
            "optim.lr=5 is not in the search",
        ),
        (
            ["optim.lr=interval(0,1)", "hydra.sweeper.enqueue=[{optim.lr:x}]"],
            "optim.lr=x is not in the search",
        ),
        (
            ["lora.r=8,16", "hydra.sweeper.enqueue=[{lora.r:8},{lora.r:16}]", "hydra.sweeper.n_trials=1"],
            "hydra.sweeper.enqueue alone has 2 trials",
        ),
        (["lora.rr=8,16"], "there is no setting lora.rr; did you mean lora.r?"),
        (["lora.r=0,16"], "lora.r=0: must be at least 1"),
        (["lora.r=8,16", "hydra/sweeper/sampler=grid"], "hydra/sweeper=grid runs every combination"),
        (["lora.r=8,16", "hydra.sweeper.storage=mysql://x/y"], "hydra.sweeper.storage=mysql://x/y: "),
    ],
)
def test_a_search_that_means_nothing_is_refused_in_one_line(typed, said, command, tmp_path):
    result = command("train", "-m", "hydra/sweeper=study", "name=search", *typed)
    assert result.returncode == 1
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("medsql: ") and said in lines[0], result.stderr
    assert not list(tmp_path.glob("multirun/*/trial-*"))
