"""Where each run of a sweep stands, whatever its state: on the terminal and in the report."""

import json

from sweep_folder import job

from medsql.config import SCORES
from medsql.runs.folder import RECORD, Run
from medsql.runs.labels import labelled
from medsql.runs.recorded import best_first, recorded
from medsql.runs.report import make_report
from medsql.runs.table import print_records


def runs_of(sweep):
    return labelled(best_first([recorded(path.parent) for path in sorted(sweep.rglob(RECORD))]))


def leaderboard(sweep):
    runs = runs_of(sweep)
    section = next(each for each in make_report(runs, [], "", []).sections if each.title == "Runs")
    return section, [dict(zip(section.tables[0].columns, row)) for row in section.tables[0].rows]


def search(root):
    """Two finished trials, one pruned, one failed, one killed."""
    job(root / "trial-0000", {"lora.r": 4}, 0.4, trial=0)
    job(root / "trial-0001", {"lora.r": 8}, 0.6, trial=1)
    job(root / "trial-0002", {"lora.r": 16}, 0.2, state="pruned", reached=40, trial=2)
    error = f"OutOfMemoryError: no memory {'x' * 300}"
    job(root / "trial-0003", {"lora.r": 32}, 0.3, state="failed", reached=20, error=error, trial=3)
    job(root / "trial-0004", {"lora.r": 64}, 0.7, state="running", reached=50, trial=4)
    return root


def test_finished_runs_come_first_then_those_with_a_validation_then_failed_ones(tmp_path):
    _, rows = leaderboard(search(tmp_path))
    assert [row["run"][-1] for row in rows] == ["1", "0", "4", "2", "3"]
    assert [row["val/exact_match"] for row in rows] == ["0.600", "0.400", "0.700", "0.200", "0.300"]
    assert [row["state"].partition(":")[0] for row in rows] == [
        "finished",
        "finished",
        "killed at 50 of 100 steps",
        "pruned at 40 of 100 steps",
        "failed at 20 of 100 steps",
    ]
    assert "OutOfMemoryError: no memory" in rows[-1]["state"] and len(rows[-1]["state"]) < 180


def test_a_running_run_stands_where_its_last_validation_left_it(tmp_path, capsys):
    folder = job(tmp_path / "done", {"lora.r": 4}, 0.4).parent
    with Run(tmp_path / "live", "train", {}, {"objective": "val/exact_match"}) as run:
        run.note(steps=100)
        (run.folder / "metrics.csv").write_text("step,train/loss,val/exact_match\n10,2.0,0.25\n15,1.9,\n")
        runs = runs_of(folder)
        print_records(runs)
    live = next(each for each in runs if each.label == "live")
    assert (live.state, live.standing, live.step, live.objective) == ("running", 0.25, 15, None)
    assert "running, 15 of 100" in capsys.readouterr().out


def test_a_pruned_run_is_no_doubt_and_a_failed_one_is(tmp_path):
    warnings = " ".join(make_report(runs_of(search(tmp_path)), [], "", []).warnings)
    assert "failed, not finished" in warnings and "killed, not finished" in warnings
    assert "pruned" not in warnings


def test_why_a_run_failed_stands_below_the_table(tmp_path, capsys):
    print_records(runs_of(search(tmp_path)))
    printed = capsys.readouterr().out
    assert "trial-0003: failed, OutOfMemoryError: no memory" in printed
    assert "pruned at 40 of 100" in printed


def test_an_error_of_before_is_none_of_a_run_that_goes_on(tmp_path, capsys):
    folder = job(tmp_path / "again", {"lora.r": 4}, 0.4, error="RuntimeError: once")
    assert recorded(folder).error == ""


def test_many_scores_have_a_table_of_their_own(tmp_path):
    for name in ("a", "b"):
        folder = job(tmp_path / name, {"lora.r": 4}, 0.4)
        record = json.loads((folder / RECORD).read_text())
        record["test"] |= {score: {"value": 0.5, "low": 0.4, "high": 0.6} for score in SCORES}
        (folder / RECORD).write_text(json.dumps(record))
    section, rows = leaderboard(tmp_path)
    assert sum(column.startswith("test ") for column in rows[0]) == 1
    assert len(section.tables[1].columns) == 1 + len(SCORES)
