"""What runs were swept over, as a report finds and shows it."""

import pytest
import yaml
from sweep_folder import job

from medsql.compare import findings_of
from medsql.runs.folder import RECORD
from medsql.runs.labels import labelled
from medsql.runs.overrides import not_begun, search_space
from medsql.runs.recorded import best_first, recorded
from medsql.runs.report import make_report
from medsql.runs.sweep_plots import ticks_of
from medsql.runs.swept import Parameter, swept


def runs_of(sweep):
    return labelled(best_first([recorded(path.parent) for path in sorted(sweep.rglob(RECORD))]))


def section_of(sweep, title="What was swept"):
    sections = {section.title: section for section in make_report(runs_of(sweep), [], "", []).sections}
    return sections.get(title)


def grid(root, ranks=(8, 16), rates=(1e-4, 1e-3), **facts):
    for rank in ranks:
        for rate in rates:
            folder = root / f"lora.r={rank},optim.lr={rate}"
            fixed = {"lora.alpha": 2.0 * rank}
            job(folder, {"lora.r": rank, "optim.lr": rate}, rank / 50 + 100 * rate, fixed=fixed, **facts)
    return root


def multirun(root, params=None, task=()):
    settings = {"sweeper": {"params": params}, "overrides": {"task": list(task)}}
    (root / "multirun.yaml").write_text(yaml.safe_dump({"hydra": settings, "seed": "${x}"}))
    return root


def test_a_parameter_is_what_was_asked_for_and_not_what_follows_from_it(tmp_path):
    found = swept(runs_of(grid(tmp_path, options=("name=sweep", "trainer.threads=1"))))
    assert [(each.key, each.levels) for each in found] == [("lora.r", [8, 16]), ("optim.lr", [1e-4, 1e-3])]


def test_the_option_of_a_group_is_a_category_and_a_seed_is_no_parameter(tmp_path):
    for seed, option in ((1, "qv"), (2, "attention"), (3, "qv")):
        settings = {"lora.targets": list(option)}
        job(tmp_path / f"{seed}", {"seed": seed}, 0.5, options=(f"lora={option}",), fixed=settings)
    (found,) = swept(runs_of(tmp_path))
    assert (found.key, found.numeric, sorted(found.levels)) == ("lora", False, ["attention", "qv"])


def test_without_overrides_the_settings_that_differ_stand_for_them(tmp_path):
    for path in grid(tmp_path).rglob("overrides.yaml"):
        path.unlink()
    assert [each.key for each in swept(runs_of(tmp_path))] == ["optim.lr", "lora.r", "lora.alpha"]


@pytest.mark.parametrize(
    ("values", "asked", "logarithmic"),
    [
        ([1e-4, 1e-3, 1e-2], "", True),
        ([4, 8, 16, 32], "", True),
        ([8, 16, 32], "", False),
        ([0, 0.1, 1.0], "", False),
        ([1, 5, 6, 7, 10], "", False),
        ([0.01, 0.08, 0.13, 0.2], "interval(0.0, 0.2)", False),
        ([1, 4, 8, 16], "range(1, 20)", False),
        ([1e-4, 6e-3, 8e-3, 1e-2], "tag(log, interval(1e-4, 1e-2))", True),
        ([6, 9, 30], "int(tag(log, interval(4, 32)))", True),
        ([8, 9, 16], "tag(log, int(interval(8, 16)))", True),
        (["a", "b"], "a,b", False),
    ],
)
def test_an_axis_is_logarithmic_where_values_were_searched_or_chosen_so(tmp_path, values, asked, logarithmic):
    for place, value in enumerate(values):
        job(tmp_path / f"{place}", {"optim.lr": value}, 0.5)
    multirun(tmp_path, {"optim.lr": asked} if asked else None)
    (found,) = swept(runs_of(tmp_path))
    assert found.logarithmic == logarithmic


def test_a_score_has_an_even_scale_however_low_its_lowest(tmp_path):
    for place, value in enumerate((0.01, 0.6, 0.7)):
        job(tmp_path / f"{place}", {"lora.r": 4 + place}, value)
    assert section_of(tmp_path).plots[0].figure.axes[0].get_yscale() == "linear"


def test_objectives_that_cannot_be_compared_are_not_drawn_and_that_is_said(tmp_path):
    for i in range(4):
        metric = ("val/loss", "val/exact_match")[i % 2]
        job(tmp_path / f"{i}", {"lora.r": i, "optim.lr": i / 7}, 0.5, metric=metric, trial=i)
    said = "Nothing is drawn of objectives: the runs do not all have the same objective."
    assert section_of(tmp_path).texts == [said] and not section_of(tmp_path).plots
    search = section_of(tmp_path, "Search")
    assert search.texts[0] == said and not search.plots
    assert search.texts[1].endswith("not given: the runs do not all have the same objective.")


def test_what_is_not_finished_counts_among_what_is_drawn(tmp_path):
    for rank in (4, 8):
        job(tmp_path / f"{rank}", {"lora.r": rank}, 0.5)
    job(tmp_path / "pruned", {"lora.r": 16}, 3.0, metric="val/loss", state="pruned")
    assert not section_of(tmp_path).plots
    assert "4 is one of 2 that are best" in section_of(tmp_path, "In short").texts[0]


def test_that_a_loss_is_better_lower_is_said_wherever_it_is_an_axis(tmp_path):
    for i in range(3):
        swept = {"lora.r": 4 + i, "optim.lr": 1 / (i + 1)}
        job(tmp_path / f"{i}", swept, 30.0 / (10 * i + 1), metric="val/loss", trial=i)
    plots = [*section_of(tmp_path).plots, *section_of(tmp_path, "Search").plots]
    plots += [plot for plot in section_of(tmp_path, "Runs").plots if plot.name == "pareto"]
    assert [plot.name for plot in plots] == ["effects", "parallel-coordinates", "history", "pareto"]
    assert all(plot.caption.endswith("Lower is better.") for plot in plots)
    labels = {plot.figure.axes[0].get_ylabel() for plot in plots if plot.name != "parallel-coordinates"}
    assert labels == {"val/loss (lower is better, log scale)"}


def test_a_sweeps_folder_says_what_was_swept(tmp_path):
    task = ["lora.r=8,16", "optim.lr=1e-3", "lora.targets=[q,v]", "name=x"]
    multirun(tmp_path, {"lora.dropout": "interval(0.0, 0.3)", "seed": 42}, task)
    found = {key: override.input_line for key, override in search_space(tmp_path).items()}
    assert found == {"lora.dropout": "lora.dropout=interval(0.0, 0.3)", "lora.r": "lora.r=8,16"}
    assert search_space(tmp_path / "nowhere") == {}


def test_a_sweeps_damaged_file_is_named(tmp_path, caplog):
    (tmp_path / "multirun.yaml").write_text("hydra: []")
    assert search_space(tmp_path) == {} and "multirun.yaml is damaged" in caplog.text


def test_each_parameter_has_a_panel_with_its_runs_and_the_mean_of_each_value(tmp_path):
    effects = section_of(grid(tmp_path, rates=(1e-4, 3e-4, 1e-3))).plots[0]
    rank, rate = effects.figure.axes
    assert (rank.get_xlabel(), rate.get_xlabel()) == ("lora.r", "optim.lr")
    assert (rank.get_xscale(), rate.get_xscale()) == ("linear", "log")
    assert [label.get_text() for label in rank.get_xticklabels()] == ["8", "16"]
    runs, means = rank.lines
    assert sorted(zip(runs.get_xdata(), runs.get_ydata(), strict=True))[0] == (8, pytest.approx(0.17))
    assert list(means.get_ydata()) == pytest.approx([0.16 + 0.14 / 3, 0.32 + 0.14 / 3])
    assert rank.get_ylabel() == "val/exact_match"


def test_values_tried_once_have_no_mean(tmp_path):
    for place, rate in enumerate((0.001, 0.004, 0.009)):
        job(tmp_path / f"trial-{place}", {"optim.lr": rate}, 0.5, trial=place)
    (axes,) = section_of(tmp_path).plots[0].figure.axes
    assert len(axes.lines) == 1 and len(section_of(tmp_path).plots) == 1, "one parameter needs no parallels"


def test_runs_of_one_category_do_not_hide_each_other(tmp_path):
    for place in range(6):
        job(tmp_path / f"{place}", {}, 0.5, options=(f"lora={('qv', 'none')[place % 2]}",))
    (axes,) = section_of(tmp_path).plots[0].figure.axes
    assert len(set(axes.lines[0].get_xdata())) == 6
    assert [label.get_text() for label in axes.get_xticklabels()] == ["qv", "none"]


def test_runs_that_are_not_finished_are_marked_and_failed_ones_counted(tmp_path):
    grid(tmp_path)
    job(tmp_path / "pruned", {"lora.r": 16, "optim.lr": 0.01}, 0.1, state="pruned", reached=20)
    job(tmp_path / "failed", {"lora.r": 8, "optim.lr": 0.01}, 0.1, state="failed", reached=0)
    section = section_of(tmp_path)
    unfinished = section.plots[0].figure.axes[0].lines[0]
    assert (list(unfinished.get_xdata()), unfinished.get_marker()) == ([16], "x")
    assert "1 run without a validation is left out" in section.plots[0].caption
    drawn = [line for line in section.plots[1].figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert len(drawn) == 5 and sum(line.get_linewidth() < 1 for line in drawn) == 1


def test_jobs_of_a_grid_that_have_not_begun_are_told_by_what_they_vary(tmp_path, caplog):
    multirun(grid(tmp_path), {"+lora.r": "8,16"}, ["seed=3", "optim.lr=0.0001,0.001,0.01"])
    asked = yaml.safe_load((tmp_path / "multirun.yaml").read_text())
    asked["hydra"]["sweeper"]["_target_"] = "hydra_plugins.medsql_grid_sweeper.GridSweeper"
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump(asked))
    for path in tmp_path.rglob("overrides.yaml"):
        path.write_text(path.read_text().replace("lora.r", "+lora.r"))
    assert not_begun(tmp_path) == ["+lora.r=8,optim.lr=0.01", "+lora.r=16,optim.lr=0.01"]
    findings_of(runs_of(tmp_path))
    assert f"{tmp_path}: 2 jobs not begun yet" in caplog.text
    asked["hydra"]["sweeper"]["_target_"] = "hydra_plugins.medsql_study_sweeper.StudySweeper"
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump(asked))
    assert not_begun(tmp_path) == [], "what a search tries is not known before"


def test_of_a_grid_over_whatever_options_a_group_has_it_is_not_known_what_has_not_begun(tmp_path, caplog):
    multirun(tmp_path, task=["model=glob(flan*)", "seed=1,2"])
    asked = yaml.safe_load((tmp_path / "multirun.yaml").read_text())
    asked["hydra"]["sweeper"]["_target_"] = "hydra_plugins.medsql_grid_sweeper.GridSweeper"
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump(asked))
    assert not_begun(tmp_path) == []
    assert "which options model=glob(flan*) had is not known" in caplog.text
    assert "damaged" not in caplog.text


@pytest.mark.parametrize("metric", ["val/exact_match", "val/loss"])
def test_parallel_lines_end_higher_where_the_objective_is_better(tmp_path, metric):
    runs = runs_of(grid(tmp_path, metric=metric))
    figure = section_of(tmp_path).plots[1].figure
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    ends = [line.get_ydata()[-1] for line in lines]
    assert min(ends) == 0 and max(ends) == 1
    best = max(lines, key=lambda line: line.get_linewidth())
    assert best.get_ydata()[-1] == 1
    rank = {8: 0, 16: 1}[runs[0].settings["lora.r"]]
    assert best.get_ydata()[0] == rank


def test_a_run_that_diverged_does_not_press_the_others_together(tmp_path):
    for place, loss in enumerate((0.5, 0.6, 40.0)):
        job(tmp_path / f"{place}", {"lora.r": 4 + place}, loss, metric="val/loss")
    assert section_of(tmp_path).plots[0].figure.axes[0].get_yscale() == "log"


def test_few_values_are_named_and_many_give_way_to_round_ones():
    assert list(ticks_of([8, 16, 32]).values()) == ["8", "16", "32"]
    many = [0.0001 * 1.5**n for n in range(12)]
    assert list(ticks_of(many, logarithmic=True).values()) == ["0.0001", "0.0003", "0.001", "0.003"]


def test_names_that_would_overlap_are_left_out():
    assert list(ticks_of([0.0001, 0.000101, 0.0072]).values()) == ["0.0001", "0.0072"]
    assert list(ticks_of([6, 6.1, 32], logarithmic=True).values()) == ["6", "32"]


def test_runs_that_differ_in_nothing_were_not_swept(tmp_path):
    for place in range(3):
        job(tmp_path / f"{place}", {"seed": place}, 0.5)
    assert section_of(tmp_path) is None


def test_without_any_finished_or_validated_run_nothing_is_drawn_and_nothing_breaks(tmp_path):
    for rank in (4, 8, 16):
        folder = tmp_path / f"lora.r={rank}"
        job(folder, {"lora.r": rank, "optim.lr": rank / 100}, 0.5, state="failed", reached=0)
        (folder / "metrics.csv").unlink()
    assert section_of(tmp_path) is None
    assert Parameter("x", [1, 2]).of([]).levels == []


def test_the_numbers_of_a_run_have_its_objective_and_not_the_metrics_name(tmp_path):
    job(tmp_path / "one", {"lora.r": 4}, 0.25)
    (row,) = make_report(runs_of(tmp_path), [], "", []).numbers["runs"]
    assert (row["objective"], row["objective_metric"]) == (0.25, "val/exact_match")
