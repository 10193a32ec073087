"""Tables of runs, read from their records alone."""

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
    assert "50.0 (40.0–60.0)" in printed and "mini, zero-shot" in printed
    assert "missing             not started" in printed


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
