"""The command that trains a run again: whatever named the run, it composes to the same fingerprint."""

import json
import shlex
from dataclasses import asdict, replace

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from medsql.again import PATHS, _value, best_again, command_for
from medsql.composition import to_settings, with_paths
from medsql.config import CONF, TrainSettings
from medsql.runs.fingerprint import fingerprint, identity
from medsql.runs.folder import RECORD, Run
from medsql.runs.labels import labelled
from medsql.runs.recorded import best_first, recorded
from medsql.runs.seeds import configurations


def settings_of(overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return with_paths(to_settings(compose("train", overrides), TrainSettings))


def asked_for(folder, *overrides, objective=0.5, left=None):
    """A finished run of these overrides; `left` are those that Hydra left in its folder."""
    settings = settings_of([each for each in overrides if not each.startswith("+sweeps")])
    with Run(folder, "train", identity(settings), asdict(settings)) as run:
        run.finish(objective=objective, data={"sha256": {"validation": "rows"}})
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(left or overrides)))
    return recorded(folder)


def overrides_in(command):
    python, flag, module, *overrides = shlex.split(command)
    assert (python, flag, module) == ("python", "-m", "medsql.train")
    return overrides


@pytest.mark.parametrize(
    "overrides",
    [
        ["lora.r=16"],
        ["experiment=aggressive", "optim.lr_scale=10", "seed=7", "trainer.threads=1"],
        ["lora=qv", "lora.targets=[q,v,k]", "optim.lr=0.00123", "logger=[csv]"],
        ["lora=none", "optim=adafactor"],
    ],
)
def test_the_command_composes_to_the_same_fingerprint(tmp_path, overrides):
    run = asked_for(tmp_path / "job", *overrides, "name=sweep")
    again = command_for(run)
    assert "name=" not in again.command and not again.why_not
    there = fingerprint(identity(settings_of(overrides_in(again.command))))
    assert there == json.loads((run.folder / RECORD).read_text())["fingerprint"]


def test_what_a_sweeps_file_had_set_is_typed_out(tmp_path):
    left = ["+sweeps=search", "lora.r=4", "hydra.sweep.dir=x"]
    run = asked_for(tmp_path / "job", "lora.r=4", "optim.epochs=7", "objective=val/loss", left=left)
    found = overrides_in(command_for(run).command)
    assert sorted(found) == ["lora.r=4", "objective=val/loss", "optim.epochs=7"]


def test_a_setting_that_came_after_the_run_is_typed_out_where_its_default_is_another_one(tmp_path):
    run = asked_for(tmp_path / "job", "lora.r=4", "data.lossless=false", left=["lora.r=4"])
    record = json.loads((run.folder / RECORD).read_text())
    del record["settings"]["data"]["lossless"]
    (run.folder / RECORD).write_text(json.dumps(record))
    again = command_for(recorded(run.folder))
    assert overrides_in(again.command) == ["lora.r=4", "data.lossless=false"]


def test_what_a_sweeps_file_left_as_it_was_before_the_setting_is_typed_out(tmp_path):
    run = asked_for(tmp_path / "job", "lora.r=4", "data.lossless=false", left=["+sweeps=plain", "lora.r=4"])
    assert overrides_in(command_for(run).command) == ["lora.r=4", "data.lossless=false"]


def test_what_does_not_stand_without_a_sweeps_file_is_no_hindrance(tmp_path):
    given = ["validation.generate_rows=0", "objective=val/loss"]
    run = asked_for(tmp_path / "job", *given, left=["+sweeps=losses", "validation.generate_rows=0"])
    assert sorted(overrides_in(command_for(run).command)) == sorted(given)


def test_a_key_of_an_option_that_a_sweeps_file_chose_is_no_hindrance(tmp_path):
    (tmp_path / "pairs.jsonl").write_text('{"question": "q", "sql": "SELECT 1"}\n' * 9)
    path = f"data.path={tmp_path}/pairs.jsonl"
    run = asked_for(tmp_path / "job", "data=jsonl", path, "optim=adamw", left=["+sweeps=mine", path])
    options = {
        "hydra": {"runtime": {"choices": {"data": "jsonl", "optim": "adamw", "hydra/sweeper": "study"}}}
    }
    (run.folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(options))
    assert overrides_in(command_for(run).command) == ["data=jsonl", "optim=adamw", path]


@pytest.mark.parametrize("left", ["[1, 2]", "hydra: {}", "- [", "\x00"])
def test_options_that_cannot_be_read_are_said_to_be_damaged(tmp_path, caplog, left):
    run = asked_for(tmp_path / "job", "lora=qv")
    (run.folder / ".hydra" / "hydra.yaml").write_text(left)
    assert overrides_in(command_for(run).command) == ["lora=qv"]
    assert "hydra.yaml is damaged" in caplog.text and "options are not known" in caplog.text


def test_added_and_forced_overrides_are_read_as_such(tmp_path):
    left = ["++seed=1", "++lora.r=4", "+hydra.launcher.x=1", "++name=x"]
    run = asked_for(tmp_path / "job", "seed=1", "lora.r=4", left=left)
    assert overrides_in(command_for(run).command) == ["++seed=1", "++lora.r=4"]
    assert overrides_in(command_for(run, seeds=[1, 2]).command) == ["-m", "++lora.r=4", "seed=1,2"]


def test_a_cache_is_named_where_it_lies_and_tells_no_runs_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = asked_for(tmp_path / "job", "data.cache_dir=cache")
    assert overrides_in(command_for(run).command) == [f"data.cache_dir={tmp_path}/cache"]
    (run.folder / ".hydra" / "overrides.yaml").unlink()
    assert overrides_in(command_for(recorded(run.folder)).command) == []


def test_a_relative_path_is_made_absolute(tmp_path, monkeypatch):
    rows = [{"question": f"beds of {i}?", "sql": f"SELECT {i}"} for i in range(9)]
    (tmp_path / "my, pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    run = asked_for(tmp_path / "job", "data=jsonl", "data.path='my, pairs.jsonl'")
    monkeypatch.chdir("/")
    overrides = overrides_in(command_for(run).command)
    assert f"data.path='{tmp_path}/my, pairs.jsonl'" in overrides
    assert fingerprint(identity(settings_of(overrides))) == fingerprint(dict(run.identity))


BESIDE = {
    "data.path": ["data=jsonl"],
    "data.templates": ["data=mimicsql", "data.path=rows"],
    "decode.schema": ["decode=constrained"],
    "decode.values": ["decode=constrained"],
    "decode.database": ["decode=guided"],
}
"""What a path needs to be of any use."""


@pytest.mark.parametrize("key", PATHS)
def test_whatever_path_is_typed_the_command_has_it_absolute(tmp_path, monkeypatch, key):
    (tmp_path / "place").write_text("content")
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.json").touch()
    monkeypatch.chdir(tmp_path)
    run = asked_for(tmp_path / "job", *BESIDE.get(key, []), f"{key}=place")
    monkeypatch.chdir("/")
    assert f"{key}={tmp_path}/place" in overrides_in(command_for(run).command)


@pytest.mark.parametrize("text", ["true", "False", "NULL", "Inf", "nan", "a,b", "", "7"])
def test_text_that_means_something_else_to_hydra_is_quoted(text):
    override = OverridesParser.create().parse_override(f"name={_value(text)}")
    assert override.value() == text


def test_a_run_of_another_time_has_no_command_and_it_is_said_why(tmp_path):
    run = asked_for(tmp_path / "gone", "lora.r=4")
    record = json.loads((run.folder / RECORD).read_text())
    record["identity"]["meaning"] = 1
    (run.folder / RECORD).write_text(json.dumps(record))
    again = command_for(recorded(run.folder))
    assert again.command == "" and "meaning: 1 there" in again.why_not
    (run.folder / ".hydra" / "overrides.yaml").write_text("- lora.rank=4\n")
    again = command_for(recorded(run.folder))
    assert again.command == "" and "there is no setting lora.rank" in again.why_not


@pytest.mark.parametrize("left", ["[1, 2]", "a: b", "- [", "\x00"])
def test_overrides_that_cannot_be_read_are_said_to_be_damaged(tmp_path, caplog, left):
    run = asked_for(tmp_path / "job", "lora.r=4")
    (run.folder / ".hydra" / "overrides.yaml").write_text(left)
    assert overrides_in(command_for(run).command) == ["lora.r=4", "lora.alpha=8.0"][::-1]
    assert "overrides.yaml is damaged" in caplog.text


def test_of_several_seeds_the_command_is_a_sweep_over_them(tmp_path):
    for rank, value in ((4, 0.3), (8, 0.6)):
        for seed in (1, 2):
            folder = tmp_path / f"lora.r={rank},seed={seed}"
            asked_for(folder, f"lora.r={rank}", f"seed={seed}", objective=value)
    runs = labelled(best_first([recorded(path.parent) for path in tmp_path.rglob(RECORD)]))
    again = best_again(runs, configurations(runs))
    assert again.label == "lora.r=8"
    assert overrides_in(again.command) == ["-m", "lora.r=8", "seed=1,2"]


def test_of_several_runs_it_is_the_best_ones_and_of_one_there_is_none(tmp_path):
    runs = [asked_for(tmp_path / f"{rank}", f"lora.r={rank}", objective=rank / 10) for rank in (4, 8, 2)]
    assert overrides_in(best_again(runs, []).command) == ["lora.r=8"]
    assert best_again(runs[:1], []) is None


def test_the_only_run_that_finished_among_several_is_the_best(tmp_path):
    done, pruned = (asked_for(tmp_path / f"{rank}", f"lora.r={rank}") for rank in (4, 8))
    pruned = replace(pruned, state="pruned")
    assert overrides_in(best_again([done, pruned], []).command) == ["lora.r=4"]
    assert best_again([pruned, pruned], []) is None
