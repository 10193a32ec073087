"""Reports: what they say of runs, where they may lie, and what they make of what is damaged."""

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from medsql.config import SCORES
from medsql.data.pairs import Pair, Prediction
from medsql.runs.folder import RECORD, Run
from medsql.runs.labels import distinct, labelled
from medsql.runs.predictions import write_predictions
from medsql.runs.recorded import best_first, recorded
from medsql.runs.table import print_records

PAIRS = [Pair(f"flag of {i}?", f'SELECT LAB."FLAG" FROM LAB WHERE LAB."ITEMID" = "{i}"') for i in range(20)]
CURVES = "step,train/loss,val/loss,val/exact_match\n10,2.0,,\n20,1.5,1.6,0.25\n30,1.2,1.3,0.5\n"
SHARE = {"count": 3, "value": 0.3, "low": 0.108, "high": 0.603}


def score(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def trained(
    folder, exact_match=0.5, checkpoint="bundled:mini", curves=CURVES, metric="val/exact_match", **facts
):
    """A finished training run, as far as a report reads it."""
    rank = round(10 * exact_match)
    settings = {
        "objective": metric,
        "optim": {"label_smoothing": facts.pop("smoothing", 0.05)},
        "validation": {"generate_rows": facts.pop("generate_rows", 64)},
        "data": {
            "source": "synthetic",
            "split": "source",
            "max_target_tokens": facts.pop("target_tokens", 512),
            "refit": facts.pop("refit", False),
        },
    }
    with Run(folder, "train", {"lora.r": rank, "seed": 42}, settings) as run:
        (folder / "metrics.csv").write_text(curves)
        found = {
            "objective": exact_match,
            "model": {"checkpoint": checkpoint, "failures": {}},
            "parameters": {"trainable": 1000 * rank, "total": 10**6},
            "data": {"sha256": {"test": "rows", "validation": "validation rows"}},
            "seconds_since_last_start": {"training": 60.0 * rank},
            "test": {"split": "test", "n": 20, "exact_match": score(exact_match), "execution": score(0.75)},
        }
        run.finish(**found | facts)
    return folder


def evaluated(folder, right, pairs=PAIRS, source="synthetic", digest="rows", split="test", **more):
    """An evaluation that has the first `right` rows right."""
    decode = {"num_beams": more.pop("beams", 4), "batch_size": more.pop("batch_size", 32)}
    decode |= more.pop("decode", {})
    settings = {"data": {"source": source, "split": "source"}, "decode": decode}
    with Run(folder, "evaluate", {"decode.num_beams": decode["num_beams"]}, settings) as run:
        predictions = [Prediction(pair.sql if i < right else "nothing") for i, pair in enumerate(pairs)]
        scores = write_predictions(folder, pairs, predictions, {"split": split}, mutated=0) | more
        run.finish(scored=folder.name, data_sha256=digest, split=split, scores=scores, decode=decode)
    return folder


def rewritten(folder, **facts):
    """The folder with other facts in its record."""
    path = folder / RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    return folder


def made_of(*folders):
    """The report of the folders before it is written, its sections by their titles."""
    from medsql.runs.report import make_report

    records = labelled(best_first([recorded(folder) for folder in folders]))
    made = make_report(records, [], "", [])
    return made, {section.title: section for section in made.sections}


def titles(plot):
    return [axes.get_title(loc="left").removesuffix(", %") for axes in plot.figure.axes]


def compare(cwd, *arguments):
    command = [sys.executable, "-m", "medsql.compare", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Compare folders in this process, in an empty folder: gives the report's folder."""
    monkeypatch.chdir(tmp_path)
    # Hydra sets logging up anew in every process of its own; here the tests' logging has to stay.
    for module in ("hydra.core.utils", "hydra._internal.hydra"):
        monkeypatch.setattr(f"{module}.configure_log", lambda *_, **__: None)
    # Each plot is drawn as SVG, too; once more as a picture would take a third of these tests' time.
    monkeypatch.setattr("medsql.runs.plots.as_png", lambda figure: b"drawn")
    terminate = signal.getsignal(signal.SIGTERM)

    def run(*arguments, name="made"):
        from medsql.compare import main

        monkeypatch.setattr(sys, "argv", ["compare", *map(str, arguments), f"name={name}"])
        main()
        return tmp_path / "outputs" / name

    yield run
    signal.signal(signal.SIGTERM, terminate)


def rows(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_sweep_is_reported_with_its_plots_and_numbers(tmp_path):
    sweep = tmp_path / "multirun" / "lora.r=4,6"
    for value in (0.4, 0.6):
        trained(sweep / f"lora.r={int(10 * value)}", value)
    result = compare(tmp_path, "multirun/lora.r=4,6")
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("report in outputs/compare-lora.r=4,6/report.html\n")
    folder = tmp_path / "outputs" / "compare-lora.r=4,6"
    for plot in ("loss", "validation", "configurations", "trade-off", "pareto", "effects"):
        assert (folder / "plots" / f"{plot}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (folder / "plots" / f"{plot}.svg").read_text()
    assert not (folder / "plots" / "scores.svg").exists() and not (folder / "differences.csv").exists()
    assert [(row["lora.r"], row["test_exact_match"]) for row in rows(folder / "runs.csv")] == [
        ("6", "0.6"),
        ("4", "0.4"),
    ]
    page = (folder / "report.html").read_text()
    assert "lora.r=6 is the best by val/exact_match (0.600" in page
    assert "test execution" in page and "(50.0–70.0)" in page
    assert page.count('src="data:image/svg+xml;base64,') == 6
    assert page.count(">lora.<wbr>r<") + page.count(">lora.r<") == 1, "the setting that differs"
    assert "| settings that differ | lora.r |" in (folder / "report.md").read_text()


def test_the_tables_hold_what_the_records_hold(report, tmp_path):
    folders = [evaluated(tmp_path / "base", 5), evaluated(tmp_path / "tuned", 15)]
    folder = report(*folders)
    found = rows(folder / "scores.csv")
    assert len(found) == 2 * len(SCORES)
    for row in found:
        of_record = json.loads((tmp_path / row["scored"] / RECORD).read_text())["scores"][row["score"]]
        assert [float(row[end]) for end in ("value", "low", "high", "n")] == list(of_record.values())
    first = rows(folder / "differences.csv")[0]
    assert (first["folder"], first["against"], first["score"]) == ("tuned", "base", "exact_match")
    assert (float(first["value"]), first["n"]) == (0.5, "20") and float(first["p"]) < 0.01
    for page in ((folder / "report.html").read_text(), (folder / "report.md").read_text()):
        assert "+50.0 (" in page and "McNemar" in page and "Wilson" in page
    assert "](plots/scores.png)" in (folder / "report.md").read_text()


def test_the_page_loads_nothing_and_runs_nothing(report, tmp_path):
    page = (report(trained(tmp_path / "a"), trained(tmp_path / "b", 0.7)) / "report.html").read_text()
    assert "<script" not in page and "<link" not in page and "@import" not in page
    loaded = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", page)
    assert loaded and all(target.startswith("data:") for target in loaded)


def test_what_pairs_and_names_say_is_text_on_the_page(report, tmp_path):
    hostile = '<script>alert("1")</script> & more'
    errors = {"wrong": 10, "patterns": {"wrong <column>": SHARE}}
    folder = evaluated(tmp_path / "a", 10, errors=errors, split="validation")
    example = {
        "index": 0,
        "question": hostile,
        "sql": 'A < "B"',
        "prediction": "<b>",
        "patterns": ["wrong <column>"],
    }
    (folder / "errors.jsonl").write_text(json.dumps(example) + "\n")
    made = report(folder)
    page = (made / "report.html").read_text()
    assert "<script" not in page and "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt; &amp; more" in page
    assert "A &lt; &#34;B&#34;" in page and "wrong &lt;column&gt;" in page and "<b>" not in page
    assert "wrong \\<column\\>" in (made / "report.md").read_text()


def test_errors_are_shown_with_at_most_three_examples_of_each(report, tmp_path):
    classes = {"column names": SHARE | {"claimed": 0.35}}
    errors = {
        "wrong": 10,
        "patterns": {"rare": SHARE | {"count": 1, "value": 0.1, "low": 0.018}, "often": SHARE},
        "report_classes": classes,
    }
    folders = [evaluated(tmp_path / name, 10, errors=errors, split="validation") for name in ("a", "b")]
    examples = [
        {"question": f"question {i}", "sql": "x", "prediction": "y", "patterns": ["often"]} for i in range(5)
    ]
    (folders[0] / "errors.jsonl").write_text("".join(json.dumps(row) + "\n" for row in examples))
    made = report(*folders)
    page = (made / "report.html").read_text()
    assert (made / "plots" / "errors.svg").exists()
    assert "question 2" in page and "question 3" not in page
    assert page.index(">often<") < page.index(">rare<")
    assert "claimed there" in page and ">35<" in page
    found = rows(made / "errors.csv")
    assert [(row["kind"], row["name"], row["count"]) for row in found[:3]] == [
        ("patterns", "often", "3"),
        ("patterns", "rare", "1"),
        ("report_classes", "column names", "3"),
    ]


def test_examples_of_test_rows_are_not_shown(report, tmp_path):
    folder = evaluated(tmp_path / "a", 10)
    page = (report(folder) / "report.html").read_text()
    assert "no longer held out" in page and "expected" not in page and "flag of 12?" not in page
    shown = (report(evaluated(tmp_path / "b", 10, split="validation")) / "report.html").read_text()
    assert "no longer held out" not in shown and "flag of 12?" in shown


def test_every_pattern_of_any_evaluation_is_in_the_table_and_none_is_unknown(report, tmp_path):
    def errors(name):
        return {"wrong": 10, "patterns": {name: {"count": 3, "value": 0.3, "low": 0.108, "high": 0.603}}}

    folders = [evaluated(tmp_path / f"e{i}", 10, errors=errors(f"pattern {i}")) for i in range(9)]
    made = report(*folders, evaluated(tmp_path / "blank", 10, errors=None))
    found = rows(made / "errors.csv")
    assert {row["name"] for row in found} == {f"pattern {i}" for i in range(9)}
    assert sorted(row["count"] for row in found) == ["0"] * 72 + ["3"] * 9
    table = (made / "report.md").read_text()
    assert "| pattern 8 |" in table and " 0.0 (0.0–27.8) |" in table
    assert "4 most frequent of 9 patterns" in table


def test_errors_of_other_rows_are_not_drawn_together(tmp_path):
    folders = [evaluated(tmp_path / f"{rows}{i}", 10, digest=rows) for rows in "xy" for i in range(2)]
    _, sections = made_of(*folders, evaluated(tmp_path / "alone", 3, digest="z"))
    drawn = sections["Errors"].plots
    assert [plot.name for plot in drawn] == ["errors", "errors-2"]
    ticks = [[label.get_text() for label in plot.figure.axes[0].get_yticklabels()] for plot in drawn]
    assert ticks == [["x0", "x1"], ["y0", "y1"]]


def test_how_well_execution_tells_queries_apart_is_one_sentence(report, tmp_path):
    mutants = {"told_apart": score(0.8), "queries": 20, "mutants": 1077}
    folders = [evaluated(tmp_path / name, 10, mutants=mutants) for name in ("a", "b")]
    page = (report(*folders) / "report.html").read_text()
    said = "all 2: sharpness of the execution score, no model&#39;s: 80.0 (70.0–90.0) % of 1,077 mutants"
    assert page.count(said) == 1


@pytest.mark.parametrize(
    ("checkpoint", "drawn"),
    [("google/flan-t5-base", True), ("bundled:mini", False), ("google-t5/t5-base", False)],
)
def test_the_published_losses_are_drawn_beside_losses_of_their_scale_only(
    report, tmp_path, checkpoint, drawn
):
    made = report(trained(tmp_path / "run", checkpoint=checkpoint))
    assert (made / "plots" / "published-loss.svg").exists() == drawn
    assert "Table 1" not in (made / "report.html").read_text() or drawn


def test_losses_of_another_smoothing_are_said_not_to_be_drawn_beside_the_published_ones(report, tmp_path):
    made = report(trained(tmp_path / "run", checkpoint="google/flan-t5-base", smoothing=0.1))
    assert "run: losses of another label smoothing" in (made / "report.html").read_text()
    assert not (made / "plots" / "published-loss.svg").exists()


@pytest.mark.parametrize(("source", "shown"), [("mimicsql", True), ("synthetic", False)])
def test_published_marks_are_context_for_questions_of_their_kind(report, tmp_path, source, shown):
    page = (report(evaluated(tmp_path / "a", 3, source=source)) / "report.html").read_text()
    assert ("TREQS" in page) == shown and ("Not comparable" in page) == shown


def test_one_evaluation_has_a_table_and_no_plot(report, tmp_path):
    made = report(evaluated(tmp_path / "a", 3))
    assert "15.0 <small>" in (made / "report.html").read_text()
    assert not list(made.glob("plots/*"))


def test_doubtful_runs_are_said_to_be(report, tmp_path):
    done = trained(tmp_path / "done", model={"checkpoint": "bundled:mini", "failures": {"big": "no memory"}})
    with Run(tmp_path / "halted", "train", {}, {"objective": "val/loss"}) as run:
        run.note(environment={"git_commit": "0123456789abcdef-dirty"})
    other = trained(tmp_path / "other", data={"sha256": {"test": "others", "validation": "validation rows"}})
    scored = evaluated(tmp_path / "scored", 3, trained_on=2)
    refit = trained(tmp_path / "refit", refit=True)
    page = (report(done, tmp_path / "halted", other, scored, refit) / "report.html").read_text()
    for doubt in (
        "halted: killed, not finished",
        "halted: ran on changes that are in no commit (0123456-dirty)",
        "done: the model asked for did not load, bundled:mini took its place",
        "scored: was trained on 2 of the 20 queries that it is scored on",
        "refit: was validated on rows that it was trained on, too: data.refit",
        "the runs were tested on different rows",
    ):
        assert f"<li>{doubt}" in page


def test_a_run_without_doubts_has_none(report, tmp_path):
    folders = [
        rewritten(trained(tmp_path / name, value), environment={"git_commit": "0123456789abcdef"})
        for name, value in (("a", 0.5), ("b", 0.6))
    ]
    assert "To be read with care" not in (report(*folders) / "report.html").read_text()


OTHER_ROWS = {"sha256": {"test": "rows", "validation": "others"}}


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ({}, {"metric": "val/loss"}, "objective"),
        ({}, {"data": OTHER_ROWS}, "validation rows"),
        ({}, {"generate_rows": 32}, "validation.generate_rows"),
        ({}, {"refit": True}, "data.refit"),
        ({"metric": "val/loss"}, {"metric": "val/loss", "smoothing": 0.1}, "optim.label_smoothing"),
        ({"metric": "val/loss"}, {"metric": "val/loss", "target_tokens": 64}, "data.max_target_tokens"),
        ({"metric": "val/loss"}, {"metric": "val/loss", "checkpoint": "other"}, "tokenizer"),
    ],
)
def test_runs_whose_objectives_are_not_comparable_have_no_best(report, tmp_path, caplog, one, other, differ):
    folders = [trained(tmp_path / "a", 0.4, **one), trained(tmp_path / "b", 0.6, **other)]
    made = report(*folders)
    page = (made / "report.html").read_text()
    assert f"the runs do not all have the same {differ}: none is called the best" in caplog.text
    assert "is the best" not in page and "Best first" not in page
    assert [row["folder"] for row in rows(made / "runs.csv")] == ["a", "b"]


SAME_TOKENIZER = {"tokenized": {"tokenizer": "spiece"}}
SPELLED = {"tokenized": {"tokenizer": "spiece", "spelling": {"<": "@l"}}}


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ({}, {"smoothing": 0.1}, "optim.label_smoothing"),
        ({}, {"checkpoint": "other"}, "tokenizer"),
        ({}, {"checkpoint": "other", "target_tokens": 64}, "tokenizer and data.max_target_tokens"),
        (SAME_TOKENIZER, SAME_TOKENIZER | {"checkpoint": "other"}, ""),
        ({}, SAME_TOKENIZER, ""),  # one has not recorded its tokenizer, both have its checkpoint
        ({}, SAME_TOKENIZER | {"checkpoint": "other"}, "tokenizer"),
        (SAME_TOKENIZER, SPELLED, "spelling"),
        (SPELLED, SPELLED, ""),
    ],
)
def test_where_losses_stand_side_by_side_it_is_said_if_they_cannot_be_compared(
    tmp_path, capsys, one, other, differ
):
    loss = {"validation": {"val/loss": 1.3}}
    folders = [trained(tmp_path / "a", 0.4, **one, **loss), trained(tmp_path / "b", 0.6, **other, **loss)]
    _, sections = made_of(*folders)
    said = f"Validation losses of runs that differ in {differ} cannot be compared."
    (curves,) = [plot for plot in sections["Training"].plots if plot.name == "loss"]
    print_records([recorded(folder) for folder in folders])
    places = [*sections["Runs"].notes, curves.caption, capsys.readouterr().out]
    assert sum(said in place for place in places) == (3 if differ else 0)
    assert sum("cannot be compared" in place for place in places) == (3 if differ else 0)
    assert "b is the best" in sections["In short"].texts[0], "exact match can be"


def test_the_only_run_that_finished_is_the_best_of_several(tmp_path):
    folders = [trained(tmp_path / "a", 0.4), rewritten(trained(tmp_path / "b", 0.6), state="pruned")]
    _, sections = made_of(*folders)
    said = "Of 2 runs, a alone has finished, and so is the best by val/exact_match (0.400"
    assert sections["In short"].texts[0].startswith(said)
    assert "In short" not in made_of(folders[0])[1]


def test_a_loss_is_better_when_lower_and_scores_when_higher(report, tmp_path):
    for metric, best in (("val/loss", "low"), ("val/exact_match", "high")):
        folders = [
            trained(tmp_path / metric[4:] / name, value, metric=metric)
            for name, value in (("high", 0.6), ("low", 0.4), ("middle", 0.5))
        ]
        made = report(*folders, name=metric[4:])
        assert rows(made / "runs.csv")[0]["folder"].endswith(best)
        assert f"Of 3 finished runs, {best} is the best by {metric}" in (made / "report.html").read_text()


def test_a_failed_run_is_never_the_best(report, tmp_path):
    failed = rewritten(trained(tmp_path / "failed", 0.9, metric="val/loss"), state="failed")
    folders = [failed, trained(tmp_path / "a", 0.4), trained(tmp_path / "b", 0.5)]
    made = report(*folders)
    assert "Of 2 finished runs, b is the best" in (made / "report.html").read_text()
    assert [row["folder"] for row in rows(made / "runs.csv")] == ["b", "a", "failed"]


def test_minutes_are_those_of_training(report, tmp_path):
    made = report(trained(tmp_path / "a", seconds_since_last_start={"training": 150.0, "test": 999.0}))
    assert rows(made / "runs.csv")[0]["training_minutes"] == "2.5"
    assert "5,000 | 2.5 |" in (made / "report.md").read_text()


def test_what_is_left_out_of_a_plot_is_said(report, tmp_path):
    folders = [trained(tmp_path / f"run{i}", i / 10) for i in range(1, 10)]
    page = (report(*folders) / "report.html").read_text()
    assert page.count("1 more is left out here; the table has all.") == 2, "beside and below its plot"
    assert page.count("1 more is drawn in grey.") == 4, "its curves"
    page = (report(*folders, trained(tmp_path / "run0", 0.05)) / "report.html").read_text()
    assert page.count("2 more are drawn in grey.") == 4
    assert "left out" not in page.replace("left out here; the table has all", "")
    assert "left out" not in (report(*folders[:8]) / "report.html").read_text()


def test_a_run_has_one_style_in_all_plots(tmp_path):
    quiet = trained(tmp_path / "quiet", 0.9, curves="step,train/loss\n")
    folders = [quiet, *(trained(tmp_path / f"run{i}", i / 10) for i in range(4, 6))]
    _, sections = made_of(*folders)
    found = {}
    for plot in (sections["Runs"].plots[1], *sections["Training"].plots):
        for axes in plot.figure.axes:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                line = handle.lines[0] if hasattr(handle, "lines") else handle
                found.setdefault(label, set()).add(line.get_color())
    assert {label: len(colors) for label, colors in found.items()} == {"quiet": 1, "run4": 1, "run5": 1}
    assert len(set.union(*found.values())) == 3


def test_precision_and_recall_are_in_tables_and_in_no_plot(tmp_path):
    scores = dict.fromkeys(SCORES, score(0.5)) | {"split": "test", "n": 20}
    header = ",".join(["step", "train/loss", "val/loss", *(f"val/{name}" for name in SCORES)])
    curves = header + "\n" + "\n".join(f"{step},1.0,1.0{',0.5' * len(SCORES)}" for step in (10, 20))
    folders = [trained(tmp_path / name, curves=curves, test=scores) for name in "ab"]
    scored = [evaluated(tmp_path / f"scored {name}", 5) for name in "ab"]
    _, sections = made_of(*folders, *scored)
    drawn = [*SCORES[:4], "token_f1"]
    expected = [name.replace("_", " ").replace("f1", "F1") for name in drawn]
    assert titles(sections["Training"].plots[1]) == expected
    assert titles(sections["Runs"].plots[0]) == titles(sections["Evaluations"].plots[0]) == expected
    assert "token recall" in sections["Evaluations"].tables[0].columns


def test_what_is_the_same_for_all_is_said_once(report, tmp_path):
    environment = {"git_commit": "0123456789abcdef", "cpus": 2}
    folders = [
        rewritten(trained(tmp_path / name), environment=environment, hardware={"device": "cpu", "threads": 1})
        for name in "ab"
    ]
    text = (report(*folders) / "report.md").read_text()
    assert (
        "The same for all: kind train; model bundled:mini; data synthetic (split source); rows scored 20"
        in text
    )
    assert "commit 0123456; machine cpu, 2 CPUs, 1 thread." in text
    assert "| name | folder |\n" in text


def test_comparisons_are_summed_up_in_a_line_for_each_group_of_rows(report, tmp_path):
    folders = [evaluated(tmp_path / f"x{i}", i) for i in range(6)]
    folders += [evaluated(tmp_path / f"y{i}", i, PAIRS[:9], digest="others") for i in range(2)]
    text = (report(*folders) / "report.md").read_text()
    assert text.count("Against x0, exact match on the same 20 rows: x1 +5.0") == 1
    assert "; 2 more below." in text and "Against y0, exact match on the same 9 rows: y1" in text


def test_how_it_was_decoded_is_said_whole(tmp_path):
    decode = {"constrained": True, "repair": True, "schema": "own.sql", "values": "train"}
    folders = evaluated(tmp_path / "a", 3), evaluated(tmp_path / "b", 3, beams=1, decode=decode)
    (table,) = made_of(*folders)[1]["What was compared"].tables
    assert {row[list(table.columns).index("decoding")] for row in table.rows} == {
        "4 beams",
        "greedy, constrained, repaired, schema own.sql, values train",
    }


def test_evaluations_of_one_run_are_called_by_how_they_differ(tmp_path):
    grounded = {"guided": True, "repair": True, "grounded": True}
    ways = {
        "a-1": {},
        "a-2": {"decode": grounded},
        "a-3": {"beams": 1},
        "a-4": {"beams": 1, "decode": {"repair": True, "repair_threshold": 90}},
        "a-5": {"beams": 1, "decode": {"repair": True, "repair_threshold": 80}},
    }
    folders = [evaluated(tmp_path / name, 3, **way) for name, way in ways.items()]

    def labels(*folders, **facts):
        return [each.label for each in labelled([recorded(rewritten(folder, **facts)) for folder in folders])]

    one = {"scored": "sweep/lora.r=8"}
    assert labels(*folders, **one) == [
        "lora.r=8, 4 beams",
        "lora.r=8, 4 beams, grounded",
        "lora.r=8, greedy",
        "lora.r=8, greedy, …pair_threshold=90",
        "lora.r=8, greedy, …pair_threshold=80",
    ]
    assert labels(*folders[:2], **one) == ["lora.r=8, 4 beams", "lora.r=8, grounded"]
    again = evaluated(tmp_path / "b", 3)
    assert labels(folders[0], again, **one) == [str(folders[0]), str(again)], "nothing tells them apart"


@pytest.mark.parametrize(("other", "alike"), [({"batch_size": 8}, True), ({"beams": 1}, False)])
def test_a_batch_size_changes_no_score(report, tmp_path, caplog, other, alike):
    report(evaluated(tmp_path / "a", 3), evaluated(tmp_path / "b", 3, **other))
    assert ("evaluations here differ in decoding" in caplog.text) != alike


def test_a_folder_spelled_in_two_ways_is_one(report, tmp_path):
    evaluated(tmp_path / "a", 3)
    (tmp_path / "link").symlink_to("a")
    made = report("a", tmp_path / "a", "link", "a/../a")
    assert "1 evaluation compared" in (made / "report.md").read_text()


def test_scores_of_other_rows_are_not_drawn_together(report, tmp_path):
    folders = [evaluated(tmp_path / "a", 3), evaluated(tmp_path / "b", 3, PAIRS[:9], digest="others")]
    made = report(*folders)
    assert (
        "evaluations here differ in rows: scores of those that do cannot be compared"
        in (made / "report.html").read_text()
    )
    assert not (made / "plots" / "scores.svg").exists()


@pytest.mark.parametrize(
    ("damaged", "content"),
    [
        ("metrics.csv", b"step,val/loss\nten,much\n"),
        ("metrics.csv", b"\xff\xfe\x00"),
        ("run.json", b"{"),
    ],
)
def test_damaged_runs_are_named_and_passed_over(tmp_path, damaged, content):
    for name, value in (("good", 0.5), ("other", 0.6), ("bad", 0.7)):
        trained(tmp_path / "sweep" / name, value)
    (tmp_path / "sweep" / "bad" / damaged).write_bytes(content)
    result = compare(tmp_path, "sweep")
    assert result.returncode == 0 and result.stderr == ""
    assert f"sweep/bad/{damaged}" in result.stdout
    page = (tmp_path / "outputs" / "compare-sweep" / "report.html").read_text()
    assert page.count(f"sweep/bad/{damaged}") == 1
    assert (tmp_path / "outputs" / "compare-sweep" / "plots" / "loss.svg").exists()


FOREIGN = {
    "nothing else": lambda record: {"state": "finished"},
    "no settings": lambda record: record | {"settings": None, "state": 3},
    "another kind": lambda record: record | {"kind": "backup"},
    "null scores": lambda record: record | {"test": {"exact_match": {"value": None, "low": 0, "high": 1}}},
    "patterns": lambda record: record | {"test": {"n": 3, "errors": {"wrong": 1, "patterns": {"a": 3}}}},
    "a list": lambda record: record | {"model": []},
    "text": lambda record: record | {"validation": {"val/loss": "low"}},
}


@pytest.mark.parametrize("damage", FOREIGN)
def test_foreign_records_are_passed_over(report, tmp_path, caplog, damage):
    bad = trained(tmp_path / "bad")
    (bad / RECORD).write_text(json.dumps(FOREIGN[damage](json.loads((bad / RECORD).read_text()))))
    trained(tmp_path / "good", 0.6)
    made = report(tmp_path)
    assert "passed over: " in caplog.text and "bad/run.json is no run's record, or damaged" in caplog.text
    assert [row["folder"] for row in rows(made / "runs.csv")] == ["good"]


@pytest.mark.parametrize(
    "facts",
    [
        {"settings": None},
        {"started": "yesterday", "ended": "soon"},
        {"model": {"failures": {"big": "no memory"}}},
        {"scored": None, "objective": None, "validation": None, "parameters": None},
        {"settings": {"data": {}}},
        {"test": None, "hardware": None, "environment": None},
    ],
)
def test_records_that_lack_something_are_shown_without(report, tmp_path, facts):
    folders = [rewritten(trained(tmp_path / "a"), **facts), trained(tmp_path / "b")]
    assert len(rows(report(*folders) / "runs.csv")) == 2


@pytest.mark.parametrize("content", [b'{"index": 0, "ques', b"[]\n", b"\xff\n"])
@pytest.mark.parametrize("damaged", ["predictions.jsonl", "errors.jsonl"])
def test_damaged_rows_are_named_and_passed_over(report, tmp_path, caplog, damaged, content):
    errors = {"wrong": 10, "patterns": {"often": SHARE}}
    folders = [evaluated(tmp_path / name, 3, errors=errors, split="validation") for name in ("a", "b")]
    (folders[1] / damaged).write_bytes(content)
    made = report(*folders)
    assert f"b/{damaged} is damaged" in caplog.text
    assert f"b/{damaged} is damaged" in (made / "report.html").read_text()
    assert (made / "differences.csv").exists() == (damaged == "errors.jsonl")


def test_a_report_is_replaced_and_leaves_nothing_of_the_old_one(report, tmp_path):
    folders = [evaluated(tmp_path / "a", 3), evaluated(tmp_path / "b", 9)]
    made = report(*folders)
    (made / "notes.txt").write_text("mine")
    report(folders[0])
    assert not (made / "plots" / "scores.png").exists() and not (made / "differences.csv").exists()
    assert rows(made / "scores.csv") and (made / "notes.txt").read_text() == "mine"
    assert "1 evaluation compared" in (made / "report.md").read_text()


@pytest.mark.parametrize("taken", ["run", "notes", "report.html"])
def test_a_report_is_written_into_no_folder_that_holds_something_else(tmp_path, taken):
    scored = evaluated(tmp_path / "outputs" / "run", 3)
    (tmp_path / "outputs" / "notes").mkdir()
    (tmp_path / "outputs" / "notes" / "report.html").write_text("<html>mine")
    (tmp_path / "outputs" / "report.html").write_text("a file")
    before = sorted(tmp_path.rglob("*"))
    result = compare(tmp_path, "outputs/run", f"name={taken}")
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("medsql: ") and result.stderr.count("\n") == 1
    assert f"outputs/{taken}" in result.stderr and "name=" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before and scored.exists()


def test_a_full_disk_is_one_line(report, tmp_path, monkeypatch, capsys):
    folder = evaluated(tmp_path / "a", 3)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit) as left:
        report(folder)
    assert left.value.code == 1
    assert capsys.readouterr().err == (
        "medsql: outputs/made: the report cannot be written: No space left on device\n"
    )
    assert not list((tmp_path / "outputs").rglob("*.*"))


def test_no_report_is_written_where_none_is_wanted(tmp_path):
    evaluated(tmp_path / "a", 3)
    result = compare(tmp_path, "a", "report=false")
    assert result.returncode == 0 and "report in" not in result.stdout
    assert not (tmp_path / "outputs").exists()
    both = compare(tmp_path, "a", "report=false", "name=x")
    assert both.returncode == 1 and "contradicts report=false" in both.stderr


def test_a_place_that_cannot_hold_a_report_is_said_before_anything_is_computed(tmp_path):
    for name in ("a", "b"):
        evaluated(tmp_path / name, 3)
    (tmp_path / "outputs").write_text("a file")
    result = compare(tmp_path, "a", "b")
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("medsql: outputs/compare-a,b cannot hold the report, ")
    assert result.stderr.count("\n") == 1


def test_a_mistyped_folder_is_no_setting(tmp_path):
    result = compare(tmp_path, "multirun/lora.r=8,16")
    assert result.returncode == 1
    assert result.stderr == "medsql: multirun/lora.r=8,16: no run, evaluation or sweep lies there\n"


def test_a_table_costs_no_plotting_library(tmp_path):
    trained(tmp_path / "a")
    code = """
import sys
from medsql.compare import main
sys.argv = ["compare", *sys.argv[1:]]
try:
    main()
finally:
    print(*sorted({"matplotlib", "jinja2", "scipy", "torch"} & set(sys.modules)))
"""
    for arguments, last in ((("a", "report=false"), ""), (("nowhere",), ""), (("a",), "jinja2 matplotlib")):
        command = [sys.executable, "-c", code, *arguments]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert result.stdout.splitlines()[-1] == last, result.stderr


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["s/lora.r=8,seed=1", "s/lora.r=16,seed=1"], ["lora.r=8", "lora.r=16"]),
        (["a/experiment=optimized", "b/experiment=optimized"], ["a", "b"]),
        (["experiment=optimized", "model=mini,seed=1", "plain"], ["optimized", "mini, seed=1", "plain"]),
        (
            ["lora.r=8,16/lora.r=8", "report/real", "scaled/real"],
            ["lora.r=8", "report, real", "scaled, real"],
        ),
        (["experiment=optimized", "experiment=aggressive"], ["optimized", "aggressive"]),
        (
            ["lora.targets=[q,v],seed=1", "lora.targets=[q],seed=1"],
            ["lora.targets=[q,v]", "lora.targets=[q]"],
        ),
        (["a,b/lora.r=8", "a,b/lora.r=16", "plain"], ["lora.r=8", "lora.r=16", "plain"]),
        (["only"], ["only"]),
    ],
)
def test_names_are_shortened_by_what_they_share(names, short):
    assert distinct(names) == short
