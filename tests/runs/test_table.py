"""Tables of runs, read from their records alone."""

import re

from sweep_folder import job

from medsql.config import SCORES
from medsql.runs.collect import newest, read_all
from medsql.runs.folder import Run
from medsql.runs.labels import labelled
from medsql.runs.recorded import recorded
from medsql.runs.score_sections import runs_section
from medsql.runs.table import print_folders, print_records


def finish(folder, kind="train", **facts):
    with Run(folder, kind, {}, {}) as run:
        run.finish(**facts)
    return folder


def test_runs_and_evaluations_are_listed_with_their_scores(tmp_path, capsys):
    score = {"value": 0.5, "low": 0.4, "high": 0.6}
    run = finish(tmp_path / "lora.targets=[q,v]", objective=0.25, parameters={"trainable": 12345})
    scored = finish(
        tmp_path / "s",
        "evaluate",
        scored="mini, zero-shot",
        scores={"n": 7, "split": "test", "token_f1": score},
    )
    print_folders([run, scored, tmp_path / "missing"])
    printed = capsys.readouterr().out
    assert "lora.targets=[q,v]  finished" in printed
    assert "0.250" in printed and "12,345" in printed
    assert "logical form %" in printed and "trained" in printed and "LF" not in printed
    assert "50.0 (40.0–60.0)" in printed and "mini, zero-shot" in printed
    assert "missing             not started" in printed


def test_every_score_stands_on_one_line_of_what_is_no_terminal(tmp_path, capsys):
    full = {"value": 1.0, "low": 0.981, "high": 1.0}  # the widest there is
    scores = {"n": 1000, "split": "validation", "decode": {"num_beams": 4}} | dict.fromkeys(SCORES, full)
    scored = finish(tmp_path / "s", "evaluate", scored="flan_t5_small", scores=scores)
    run = finish(tmp_path / "r", objective=0.25, parameters={"trainable": 12345678}, test=scores)
    print_folders([run, scored])
    lines = capsys.readouterr().out.splitlines()
    (of_run,) = [line for line in lines if line.startswith("r ")]
    (of_scored,) = [line for line in lines if line.startswith("flan_t5_small ")]
    assert of_run.count("100.0 (98.1–100.0)") == 4
    assert of_scored.count("100.0 (98.1–100.0)") == 5
    assert max(map(len, lines)) <= 160


def test_a_run_left_by_a_killed_process_is_shown_as_killed(tmp_path, capsys):
    with Run(tmp_path / "a", "train", {}, {}):
        pass
    print_folders([tmp_path / "a"])
    assert "killed" in capsys.readouterr().out


def test_the_newest_finished_run_is_found_past_a_damaged_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = finish(tmp_path / "outputs" / "good")
    (tmp_path / "outputs" / "bad").mkdir()
    (tmp_path / "outputs" / "bad" / "run.json").write_text("{")
    assert newest("train").absolute() == folder
    assert newest("evaluate") is None
    assert len(read_all()) == 1


def test_runs_that_started_together_are_in_the_order_of_their_names(tmp_path):
    for name in ("b", "c", "a"):
        record = finish(tmp_path / name) / "run.json"
        record.write_text(record.read_text().replace('"started": "', '"started": "same", "x": "'))
    assert [record.folder.name for record in read_all(tmp_path)] == ["a", "b", "c"]


def test_minutes_are_those_of_training(tmp_path, capsys):
    print_folders([finish(tmp_path / "a", seconds_since_last_start={"training": 150.0, "test": 60.0})])
    assert capsys.readouterr().out.splitlines()[2].split() == ["a", "finished", "2.5"]
    print_folders([finish(tmp_path / "b", resumed=1, seconds_since_last_start={"training": 150.0})])
    assert "2.5" not in capsys.readouterr().out, "of its last start only"


def test_what_scores_are_of_is_said_in_one_line(tmp_path, capsys):
    score = {"value": 0.5, "low": 0.4, "high": 0.6}
    scores = {
        "n": 30,
        "split": "test",
        "exact_match": score | {"n": 30},
        "execution": score | {"n": 20},
        "valid": score | {"n": 20},
        "gold": {"unknown table WARD": 10},
        "truncated": 3,
        "max_new_tokens": 64,
    }
    folders = [finish(tmp_path / name, "evaluate", scored=name, scores=scores) for name in ("a", "b")]
    print_folders(folders)
    printed = capsys.readouterr().out
    line = "execution, valid: of 20 rows; 10 gold queries cannot be judged: unknown table WARD\n"
    assert printed.count(line) == 1 and f"all 2: {line}" in printed
    assert "all 2: 3 of 30 outputs cut at 64 tokens\n" in printed
    nothing = scores | {"gold": {"empty": 10}}
    print_folders([finish(tmp_path / "c", "evaluate", scores=nothing)])
    assert line.replace("unknown table WARD", "finds nothing") in capsys.readouterr().out


def test_a_searchs_trials_are_listed_with_what_was_tried_and_a_grids_names_say_it(tmp_path, capsys):
    for number, rate in enumerate((0.0012345678, 0.01)):
        job(tmp_path / f"trial-000{number}", {"optim.lr": rate, "lora.r": 8}, 0.5, trial=number)
    job(tmp_path / "grid" / "lora.r=4", {"lora.r": 4}, 0.5)
    print_folders([tmp_path / "trial-0000", tmp_path / "trial-0001"])
    printed = capsys.readouterr().out
    assert re.search(r"run +optim.lr\ntrial-0000 +0.001235\ntrial-0001 +0.01\n", printed)
    assert "lora.r" not in printed  # all had the same
    print_folders([tmp_path / "grid" / "lora.r=4"])
    assert capsys.readouterr().out.count("lora.r=4") == 1


def test_columns_are_called_alike_on_the_terminal_and_on_the_page(tmp_path, capsys):
    runs = [recorded(job(tmp_path / f"r={rank}", {"lora.r": rank}, 0.5)) for rank in (4, 8)]
    print_records(labelled(runs))
    header = capsys.readouterr().out.partition("r=4")[0]
    leaderboard = runs_section(labelled(runs)).tables[0].columns
    words = {word for column in leaderboard for word in column.split()}
    assert {"run", "state", "val/exact_match", "val/loss", "exact", "trained", "minutes"} <= words
    assert words <= set(header.split())
