"""Tables of runs, read from their records alone."""

from medsql.config import SCORES
from medsql.runs.collect import newest, run_folders
from medsql.runs.folder import Run
from medsql.runs.table import print_folders


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
    assert "logical form %" in printed and "test LF %" in printed
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
    assert len(run_folders()) == 1
