"""How a search went: its history, the importances of its parameters, and what is on the Pareto front."""

import logging
import subprocess
import sys

import pytest
from sweep_folder import job

from medsql.runs.folder import RECORD
from medsql.runs.importances import FEWEST, importances
from medsql.runs.labels import labelled
from medsql.runs.recorded import best_first, recorded
from medsql.runs.report import make_report
from medsql.runs.sweep_sections import pareto_front
from medsql.runs.swept import swept


def runs_of(sweep):
    return labelled(best_first([recorded(path.parent) for path in sorted(sweep.rglob(RECORD))]))


def sections_of(sweep):
    return {section.title: section for section in make_report(runs_of(sweep), [], "", []).sections}


def trials(root, count, **facts):
    """The rate decides what comes out, the dropout next to nothing."""
    for i in range(count):
        rate, dropout = (i * 7 % count + 1) / 1000, (i * 5 % 11) / 50
        swept = {"optim.lr": rate, "lora.dropout": dropout}
        job(root / f"trial-{i:04d}", swept, 20 * rate + dropout / 100, trial=i, **facts)
    return root


def test_the_history_has_the_best_so_far_and_marks_what_did_not_finish(tmp_path):
    for i, value in enumerate((0.3, 0.2, 0.5, 0.4)):
        job(tmp_path / f"trial-{i}", {"lora.r": 4 + i}, value, trial=i)
    job(tmp_path / "trial-4", {"lora.r": 9}, 0.6, state="pruned", trial=4)
    job(tmp_path / "trial-5", {"lora.r": 10}, 0.9, state="failed", trial=5)
    plot = sections_of(tmp_path)["Search"].plots[0]
    lines = {line.get_label(): line for line in plot.figure.axes[0].lines}
    assert list(lines["best so far"].get_ydata()) == [0.3, 0.3, 0.5, 0.5, 0.5]
    assert list(lines["best so far"].get_xdata())[-1] == 5, "to the end of the search"
    assert list(lines["finished"].get_xdata()) == [0, 1, 2, 3]
    assert list(lines["not finished: last validation"].get_xdata()) == [4]
    assert list(lines["failed"].get_xdata()) == [5]
    assert "4 finished, 1 pruned, 1 failed" in plot.caption


def test_of_a_loss_the_best_so_far_falls(tmp_path):
    for i, value in enumerate((3.0, 4.0, 2.0)):
        job(tmp_path / f"trial-{i}", {"lora.r": 4 + i}, value, metric="val/loss", trial=i)
    (axes,) = sections_of(tmp_path)["Search"].plots[0].figure.axes
    assert list(axes.lines[-1].get_ydata()) == [3.0, 3.0, 2.0, 2.0]


def test_each_study_has_a_history_of_its_own_trials(tmp_path):
    for study, count in (("one", 3), ("two", 4)):
        for i in range(count):
            job(tmp_path / study / f"trial-{i}", {"lora.r": 4 + i, "seed": count}, 0.1 * count, trial=i)
    job(tmp_path / "single", {"lora.r": 99}, 0.9)
    one, two = sections_of(tmp_path)["Search"].plots
    assert sorted([one.name, two.name]) == ["history", "history-2"]
    for plot in (one, two):
        study, count = ("one", 3) if "one:" in plot.caption else ("two", 4)
        assert f"{study}: val/exact_match of each trial, {count} finished." in plot.caption
        assert len(plot.figure.axes[0].lines[0].get_xdata()) == count
    assert one.caption != two.caption


def test_equal_objectives_have_no_importances_and_that_is_said(tmp_path):
    for i in range(FEWEST):
        job(tmp_path / f"trial-{i}", {"lora.r": 4 + i, "optim.lr": 1 / (i + 1)}, 0.5, trial=i)
    section = sections_of(tmp_path)["Search"]
    assert section.texts == [
        "Importances of the parameters are not given: all 10 finished runs have the same objective."
    ]


def test_a_grid_has_no_history(tmp_path):
    for i in range(4):
        job(tmp_path / f"lora.r={i}", {"lora.r": i}, 0.5)
    assert "Search" not in sections_of(tmp_path)


def test_what_decides_is_important_and_the_shares_add_up(tmp_path):
    runs = runs_of(trials(tmp_path, 20))
    found = importances(runs, swept(runs))
    assert [*found] == ["optim.lr", "lora.dropout"]
    assert found["optim.lr"] > 0.8 and sum(found.values()) == pytest.approx(1)
    assert importances(runs, swept(runs)) == found, "the same again"


def test_categories_and_runs_that_did_not_finish_are_no_hindrance(tmp_path):
    for i in range(FEWEST):
        option, value = (("qv", 0.2), ("attention", 0.8))[i % 2]
        job(tmp_path / f"{i}", {"lora.r": 4 + i // 2}, value, options=(f"lora={option}",))
    job(tmp_path / "pruned", {"lora.r": 99}, 0.1, state="pruned", options=("lora=none",))
    runs = runs_of(tmp_path)
    assert importances(runs, swept(runs))["lora"] > 0.9


def test_too_few_runs_have_none_and_that_is_said(tmp_path):
    section = sections_of(trials(tmp_path, FEWEST - 1))["Search"]
    assert section.texts == [
        "Importances of the parameters are not given: 9 finished runs are too few, 10 are needed."
    ]
    assert [plot.name for plot in section.plots] == ["history"]


def test_the_page_says_how_importances_are_computed(tmp_path):
    made = make_report(runs_of(trials(tmp_path, 12)), [], "", [])
    section = next(each for each in made.sections if each.title == "Search")
    assert (
        "mean decrease in impurity" in section.plots[1].caption and "unreliable" in section.plots[1].caption
    )
    assert [row["parameter"] for row in made.numbers["importances"]] == ["optim.lr", "lora.dropout"]


def test_a_study_in_progress_keeps_its_voice(tmp_path):
    import optuna

    optuna.logging.set_verbosity(logging.INFO)
    runs = runs_of(trials(tmp_path, 12))
    importances(runs, swept(runs))
    assert optuna.logging.get_verbosity() == logging.INFO


def test_optuna_is_imported_only_where_importances_are_computed(tmp_path):
    script = "import sys; from medsql.compare import main\nmain()\nprint('optuna' in sys.modules)"
    for count, imported in ((3, "False"), (12, "True")):
        trials(tmp_path / f"{count}", count)
        command = [sys.executable, "-c", script, str(count)]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert result.stdout.splitlines()[-1] == imported, result.stderr
        assert result.stderr == ""


def test_on_the_front_is_what_no_run_beats_in_weights_and_objective(tmp_path):
    for rank, value in ((4, 0.3), (8, 0.5), (16, 0.4), (32, 0.6)):
        job(tmp_path / f"lora.r={rank}", {"lora.r": rank}, value)
    job(tmp_path / "pruned", {"lora.r": 2}, 0.9, state="pruned")
    assert [run.label for run in pareto_front(runs_of(tmp_path))] == ["lora.r=4", "lora.r=8", "lora.r=32"]
    section = sections_of(tmp_path)["Runs"]
    plot = next(each for each in section.plots if each.name == "pareto")
    step = next(line for line in plot.figure.axes[0].lines if line.get_label() == "Pareto front")
    assert list(step.get_ydata()) == [0.3, 0.5, 0.6]
    table = next(table for table in section.tables if table.columns[0] == "on the Pareto front")
    assert [row[:3] for row in table.rows][-1] == ["lora.r=32", "589,824", "0.600"]


def test_of_a_loss_the_front_falls(tmp_path):
    for rank, loss in ((4, 3.0), (8, 2.0), (16, 2.5)):
        job(tmp_path / f"lora.r={rank}", {"lora.r": rank}, loss, metric="val/loss")
    assert [run.label for run in pareto_front(runs_of(tmp_path))] == ["lora.r=4", "lora.r=8"]


def test_runs_of_the_same_size_have_no_front(tmp_path):
    for i in range(3):
        job(tmp_path / f"{i}", {"optim.lr": 1 / (i + 1)}, 0.5)
    assert pareto_front(runs_of(tmp_path)) == []
    assert all(plot.name != "pareto" for plot in sections_of(tmp_path)["Runs"].plots)


def test_of_equal_runs_the_smaller_one_is_on_the_front(tmp_path):
    for rank, value in ((8, 0.5), (4, 0.5), (16, 0.5)):
        job(tmp_path / f"lora.r={rank}", {"lora.r": rank}, value)
    assert [run.label for run in pareto_front(runs_of(tmp_path))] == ["lora.r=4"]


def test_trials_that_all_failed_after_a_validation_have_no_history(tmp_path):
    for i in range(3):
        job(tmp_path / f"trial-{i}", {"lora.r": 4 + i}, 0.5, state="failed", trial=i)
    assert "Search" not in sections_of(tmp_path) or not sections_of(tmp_path)["Search"].plots
