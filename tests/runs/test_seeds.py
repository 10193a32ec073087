"""Runs that differ in their seed alone: means over seeds, and configurations compared over rows and seeds."""

import json
import re

import pytest

from medsql.data.pairs import Pair, Prediction
from medsql.runs.folder import Run
from medsql.runs.labels import labelled
from medsql.runs.predictions import PREDICTIONS, write_predictions
from medsql.runs.recorded import best_first, recorded
from medsql.runs.seeds import compare_seeds, configurations, print_seeds
from medsql.runs.sweep_sections import seeds_section

PAIRS = [Pair(f"flag of {i}?", f'SELECT LAB."FLAG" FROM LAB WHERE LAB."ITEMID" = "{i}"') for i in range(20)]


def trained(
    folder, right, seed=42, rank=8, objective=None, metric="val/exact_match", pairs=PAIRS, state=None
):
    """A finished run that has the rows in `right` right."""
    with Run(folder, "train", {"lora.r": rank, "seed": seed}, {"objective": metric}) as run:
        predictions = [Prediction(pair.sql if i in right else "no") for i, pair in enumerate(pairs)]
        test = write_predictions(folder, pairs, predictions, {"split": "test"}, mutated=0)
        hashes = {"test": str(len(pairs)), "validation": "validation rows"}
        run.finish(objective=objective or len(right) / 20, test=test, data={"sha256": hashes})
    if state:
        record = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(record | {"state": state}))
    return folder


def sweep(root, **right):
    """`sweep(root, r8=[range(5), range(6)])`: a run for each range, with seeds 42, 43, …"""
    for name, of_seeds in right.items():
        for seed, rows in enumerate(of_seeds, 42):
            trained(root / f"lora.r={name[1:]},seed={seed}", rows, seed, int(name[1:]))
    return runs_of(root)


def runs_of(root):
    return labelled(best_first([recorded(path.parent) for path in sorted(root.rglob("run.json"))]))


def test_a_configuration_is_its_runs_of_all_seeds_the_best_mean_first(tmp_path):
    found = configurations(sweep(tmp_path, r8=[range(4), range(18)], r16=[range(12), range(14)]))
    assert [(each.label, each.seeds) for each in found] == [("lora.r=16", "42, 43"), ("lora.r=8", "42, 43")]
    assert found[0].objective().mean == pytest.approx(0.65)
    assert found[0].score("exact_match").mean == pytest.approx(0.65)


def test_the_interval_is_of_the_seeds_and_not_of_the_rows(tmp_path):
    (found,) = configurations(sweep(tmp_path, r8=[range(8), range(10), range(12)]))
    # Means 0.4, 0.5, 0.6: standard error 0.1 / √3, and t of two degrees of freedom is 4.303.
    assert found.score("exact_match").percent() == "50.0 (25.2–74.8)"
    assert found.objective().plain() == "0.500 (0.252–0.748)"


def test_a_loss_is_better_when_lower(tmp_path):
    for rank, loss in ((8, 1.0), (16, 2.0)):
        for seed in (1, 2):
            folder = tmp_path / f"lora.r={rank},seed={seed}"
            trained(folder, range(5), seed, rank, loss + seed / 10, "val/loss")
    assert [each.label for each in configurations(runs_of(tmp_path))] == ["lora.r=8", "lora.r=16"]


def test_without_several_seeds_there_is_nothing_to_average(tmp_path, capsys):
    assert configurations(sweep(tmp_path, r8=[range(4)], r16=[range(12)])) == []
    print_seeds([], [])
    assert capsys.readouterr().out == ""


def test_only_finished_runs_count_and_one_seed_alone_has_no_interval(tmp_path):
    runs = sweep(tmp_path, r8=[range(4), range(6)], r16=[range(10)])
    trained(tmp_path / "lora.r=16,seed=43", range(20), 43, 16, state="failed")
    alone = next(each for each in configurations(runs_of(tmp_path)) if each.label == "lora.r=16")
    assert len(runs) == 3 and alone.seeds == "42"
    assert alone.score("exact_match").percent() == "50.0" and alone.objective().plain() == "0.500"


def test_the_same_run_twice_counts_once_and_that_is_said(tmp_path, caplog):
    sweep(tmp_path / "one", r8=[range(4), range(6)])
    trained(tmp_path / "again", range(4), 42, 8)
    (found,) = configurations(runs_of(tmp_path))
    assert len(found.runs) == 2 and "the same run twice" in caplog.text


def test_configurations_are_compared_on_their_common_seeds_better_minus_worse(tmp_path):
    sweep(tmp_path, r8=[range(4), range(5), range(6), range(20)], r16=[range(12), range(12), range(14)])
    (comparison,) = compare_seeds(configurations(runs_of(tmp_path)))
    assert (comparison.second.label, comparison.first.label) == ("lora.r=16", "lora.r=8")
    assert comparison.seeds == [42, 43, 44], "seed 45 has no partner"
    over_rows, over_seeds = comparison.over_rows["exact_match"], comparison.over_seeds["exact_match"]
    assert (over_rows.n, over_seeds.n) == (20, 3)
    assert [over_rows.value, over_seeds.value] == pytest.approx([(38 - 15) / 60] * 2)


def test_a_difference_of_all_seeds_alike_is_sure_over_seeds_and_not_over_rows(tmp_path):
    # Every seed gains about the same three rows of twenty: other seeds would, other rows need not.
    sweep(tmp_path, r8=[range(4), range(5), range(4)], r16=[range(7), range(8), range(8)])
    (comparison,) = compare_seeds(configurations(runs_of(tmp_path)))
    assert comparison.over_seeds["exact_match"].p < 0.05 < comparison.over_rows["exact_match"].p


def test_a_difference_that_changes_with_the_seed_is_not_sure_over_seeds(tmp_path):
    sweep(tmp_path, r8=[range(2), range(2)], r16=[range(4), range(20)])
    (comparison,) = compare_seeds(configurations(runs_of(tmp_path)))
    assert comparison.over_rows["exact_match"].p < 0.01 and comparison.over_seeds["exact_match"].p > 0.2


@pytest.mark.parametrize("damage", ["missing", "of other rows"])
def test_predictions_that_are_gone_or_of_other_rows_are_said_to_be(tmp_path, caplog, damage):
    sweep(tmp_path, r8=[range(4), range(6)], r16=[range(9), range(12)])
    file = tmp_path / "lora.r=8,seed=42" / PREDICTIONS
    file.unlink() if damage == "missing" else file.write_text("".join(file.open().readlines()[:-1]))
    assert compare_seeds(configurations(runs_of(tmp_path))) == []
    assert (
        "lora.r=8, lora.r=16: predictions.jsonl is missing or of other rows, nothing is tested" in caplog.text
    )


def test_runs_tested_on_other_rows_have_no_common_mean_and_are_not_compared(tmp_path):
    sweep(tmp_path, r8=[range(4), range(6)])
    for seed in (42, 43):
        trained(tmp_path / f"lora.r=16,seed={seed}", range(3), seed, 16, pairs=PAIRS[:10])
    trained(tmp_path / "lora.r=16,seed=44", range(3), 44, 16)
    found = configurations(runs_of(tmp_path))
    assert compare_seeds(found) == []
    assert next(each for each in found if each.label == "lora.r=16").score("exact_match") is None


def test_of_many_configurations_each_is_compared_with_the_best_alone(tmp_path):
    right = {f"r{rank}": [range(rank), range(rank + 1)] for rank in (2, 4, 6, 8, 10)}
    compared = compare_seeds(configurations(sweep(tmp_path, **right)))
    assert [each.second.label for each in compared] == ["lora.r=10"] * 4
    assert [each.first.label for each in compared] == ["lora.r=8", "lora.r=6", "lora.r=4", "lora.r=2"]


def test_the_terminal_says_what_each_interval_and_test_covers(tmp_path, capsys):
    found = configurations(sweep(tmp_path, r8=[range(4), range(6)], r16=[range(9), range(12)]))
    print_seeds(found, compare_seeds(found))
    printed = capsys.readouterr().out
    assert "configuration" in printed and "val/exact_match, mean" in printed and "Student's t" in printed
    assert "lora.r=16 minus lora.r=8, 2 seeds:" in printed
    assert re.search(r"^exact match +20 +[+]", printed, re.MULTILINE), "of how many rows"
    assert "points, over rows" in printed and "points, over seeds" in printed
    assert "paired permutation test" in printed and "paired t test" in printed
    assert max(map(len, printed.splitlines()[:4])) <= 160


def report_of(root):
    from medsql.runs.report import make_report

    runs = runs_of(root)
    found = configurations(runs)
    return make_report(runs, [], "", [], found, compare_seeds(found))


def section_of(made):
    return next(each for each in made.sections if each.title == "Seeds")


def test_the_report_has_means_rings_and_both_tests(tmp_path):
    sweep(tmp_path, r8=[range(4), range(6)], r16=[range(9), range(12)])
    made = report_of(tmp_path)
    section = section_of(made)
    assert [row[0] for row in section.tables[0].rows] == ["lora.r=16", "lora.r=8"]
    axes = section.plots[0].figure.axes[0]
    assert list(axes.lines[0].get_xdata()) == [45, 60], "the rings are the single seeds"
    assert "over seeds" in " ".join(section.tables[1].columns)
    numbers = made.numbers["seed_differences"]
    assert {row["covers"] for row in numbers} == {"rows", "seeds"}
    assert made.numbers["seeds"][1]["mean"] == pytest.approx(0.525)


def test_another_settings_seed_is_part_of_a_configurations_name(tmp_path):
    for place in (1, 2):
        for seed in (42, 43):
            folder = tmp_path / f"data.seed={place},seed={seed}"
            trained(folder, range(4 + place), seed, 8 + place)
    assert {each.label for each in configurations(runs_of(tmp_path))} == {"data.seed=1", "data.seed=2"}


def test_configurations_that_their_labels_do_not_tell_apart_are_called_by_a_run(tmp_path):
    for rank, seeds in ((8, (1, 2)), (16, (3, 4))):
        for seed in seeds:
            trained(tmp_path / f"seed={seed}", range(rank), seed, rank)
    labels = [each.label for each in configurations(runs_of(tmp_path))]
    assert len(set(labels)) == 2


def test_differences_that_are_the_same_for_every_seed_have_no_interval_and_no_p(tmp_path):
    sweep(tmp_path, r8=[range(4), range(5), range(6)], r16=[range(7), range(8), range(9)])
    made = report_of(tmp_path)
    (table,) = [table for table in section_of(made).tables if "minus" in table.columns[0]]
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert (row["points, over seeds"], row["p, over seeds"]) == ("+15.0 (no spread)", "")
    assert row["points, over rows"].startswith("+15.0 (+") and row["rows"] == "20"
    numbers = {
        each["covers"]: each for each in made.numbers["seed_differences"] if each["score"] == "exact_match"
    }
    assert [numbers["seeds"][key] for key in ("low", "high", "p")] == [None] * 3
    assert numbers["rows"]["low"] < numbers["rows"]["high"]


def test_configurations_of_other_objectives_stand_in_no_order_and_that_is_said(tmp_path):
    for rank, metric in ((8, "val/exact_match"), (16, "val/loss")):
        for seed in (1, 2):
            trained(tmp_path / f"lora.r={rank},seed={seed}", range(4 + seed), seed, rank, rank / 10, metric)
    runs = [recorded(path.parent) for path in sorted(tmp_path.rglob("run.json"), reverse=True)]
    found = configurations(labelled(best_first(runs)))
    assert [each.label for each in found] == ["lora.r=8", "lora.r=16"], "as given, of which 8 is the lower"
    section = section_of(report_of(tmp_path))
    assert "In no order: the runs do not all have the same objective." in section.texts
    assert "objective, mean" in section.tables[0].columns


def test_of_many_comparisons_a_terminal_shows_the_first_and_says_how_many_are_left(tmp_path, capsys):
    found = configurations(sweep(tmp_path, r8=[range(4), range(6)], r16=[range(9), range(12)]))
    print_seeds(found, compare_seeds(found) * 8)
    printed = capsys.readouterr().out
    assert printed.count(" minus ") == 6 and "2 more comparisons of configurations: in the report" in printed


def test_configurations_that_a_plot_has_no_room_for_are_counted(tmp_path):
    (found,) = configurations(sweep(tmp_path, r8=[range(4), range(6)]))
    plot = seeds_section([found] * 22, []).plots[0]
    assert "2 more are left out here; the table has all." in plot.caption
    assert "finished" in plot.caption


def test_the_same_run_twice_is_no_matter_where_there_are_no_several_seeds(tmp_path, caplog):
    trained(tmp_path / "one", range(4))
    trained(tmp_path / "again", range(4))
    assert configurations(runs_of(tmp_path)) == [] and "the same run twice" not in caplog.text
