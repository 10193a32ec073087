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
from medsql.runs.labels import distinct
from medsql.runs.predictions import write_predictions

PAIRS = [Pair(f"flag of {i}?", f'SELECT LAB."FLAG" FROM LAB WHERE LAB."ITEMID" = "{i}"') for i in range(20)]
CURVES = "step,train/loss,val/loss,val/exact_match\n10,2.0,,\n20,1.5,1.6,0.25\n30,1.2,1.3,0.5\n"
SHARE = {"count": 3, "value": 0.3, "low": 0.108, "high": 0.603}


def score(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def trained(folder, exact_match=0.5, checkpoint="bundled:mini", curves=CURVES, **facts):
    """A finished training run, as far as a report reads it."""
    rank = int(10 * exact_match)
    settings = {
        "objective": "val/exact_match",
        "optim": {"label_smoothing": 0.05},
        "data": {"source": "synthetic", "split": "source"},
    }
    with Run(folder, "train", {"lora.r": rank, "seed": 42}, settings) as run:
        (folder / "metrics.csv").write_text(curves)
        run.finish(
            objective=exact_match,
            model={"checkpoint": checkpoint, "failures": {}},
            parameters={"trainable": 1000 * rank, "total": 10**6},
            data={"sha256": {"test": "rows"}},
            seconds_since_last_start={"training": 60.0 * rank},
            test={"split": "test", "n": 20, "exact_match": score(exact_match), "execution": score(0.75)},
            **facts,
        )
    return folder


def evaluated(folder, right, pairs=PAIRS, source="synthetic", digest="rows", **more):
    """An evaluation that has the first `right` rows right."""
    with Run(folder, "evaluate", {}, {"data": {"source": source, "split": "source"}}) as run:
        predictions = [Prediction(pair.sql if i < right else "nothing") for i, pair in enumerate(pairs)]
        scores = write_predictions(folder, pairs, predictions, {"split": "test"}, mutated=0) | more
        run.finish(scored=folder.name, data_sha256=digest, split="test", scores=scores)
    return folder


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
    for plot in ("loss", "validation", "configurations", "trade-off"):
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
    assert page.count("<svg") == 4


def test_the_tables_hold_what_the_records_hold(report, tmp_path):
    folders = [evaluated(tmp_path / "base", 5), evaluated(tmp_path / "tuned", 15)]
    folder = report(*folders)
    found = rows(folder / "scores.csv")
    assert len(found) == 2 * len(SCORES)
    for row in found:
        recorded = json.loads((tmp_path / row["scored"] / RECORD).read_text())["scores"][row["score"]]
        assert [float(row[end]) for end in ("value", "low", "high")] == list(recorded.values())[:3]
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
    assert loaded and all(target.startswith("#") for target in loaded)


def test_what_pairs_and_names_say_is_text_on_the_page(report, tmp_path):
    hostile = '<script>alert("1")</script> & more'
    errors = {"wrong": 10, "patterns": {"wrong <column>": SHARE}}
    folder = evaluated(tmp_path / "a", 10, errors=errors)
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
        "patterns": {"rare": SHARE | {"count": 1}, "often": SHARE},
        "report_classes": classes,
    }
    folders = [evaluated(tmp_path / name, 10, errors=errors) for name in ("a", "b")]
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
        ("patterns", "rare", "1"),
        ("patterns", "often", "3"),
        ("report_classes", "column names", "3"),
    ]


def test_how_well_execution_tells_queries_apart_is_one_sentence(report, tmp_path):
    mutants = {"told_apart": score(0.8), "queries": 20, "mutants": 1077}
    folders = [evaluated(tmp_path / name, 10, mutants=mutants) for name in ("a", "b")]
    page = (report(*folders) / "report.html").read_text()
    assert page.count("a, b: execution tells 80.0 (70.0–90.0) % of 1,077 queries") == 1


@pytest.mark.parametrize(
    ("checkpoint", "drawn"),
    [("google/flan-t5-base", True), ("bundled:mini", False), ("google-t5/t5-base", False)],
)
def test_the_published_losses_are_drawn_beside_losses_of_their_scale_only(
    report, tmp_path, checkpoint, drawn
):
    made = report(trained(tmp_path / "run", checkpoint=checkpoint))
    assert (made / "plots" / "published-loss.svg").exists() == drawn
    assert ("are not drawn beside these" in (made / "report.html").read_text()) != drawn


@pytest.mark.parametrize(("source", "shown"), [("mimicsql", True), ("synthetic", False)])
def test_published_marks_are_context_for_questions_of_their_kind(report, tmp_path, source, shown):
    page = (report(evaluated(tmp_path / "a", 3, source=source)) / "report.html").read_text()
    assert ("TREQS" in page) == shown and ("Not comparable" in page) == shown


def test_one_evaluation_has_a_table_and_no_plot(report, tmp_path):
    made = report(evaluated(tmp_path / "a", 3))
    assert "15.0 <small>" in (made / "report.html").read_text()
    assert not list(made.glob("plots/*"))


def test_doubtful_runs_are_said_to_be(report, tmp_path):
    done = trained(tmp_path / "done")
    with Run(tmp_path / "halted", "train", {}, {"objective": "val/loss"}) as run:
        run.note(environment={"git_commit": "0123456789abcdef-dirty"})
    page = (report(done, tmp_path / "halted") / "report.html").read_text()
    assert "halted is killed, not finished" in page
    assert "halted ran on changes that are in no commit (0123456789-dirty)" in page


def test_runs_of_different_objectives_have_no_best(report, tmp_path):
    other = trained(tmp_path / "other")
    record = json.loads((other / RECORD).read_text())
    record["settings"]["objective"] = "val/loss"
    (other / RECORD).write_text(json.dumps(record))
    page = (report(trained(tmp_path / "one"), other) / "report.html").read_text()
    assert "different objectives" in page and "is the best" not in page


def test_scores_of_other_rows_are_not_drawn_together(report, tmp_path):
    folders = [evaluated(tmp_path / "a", 3), evaluated(tmp_path / "b", 3, PAIRS[:9], digest="others")]
    made = report(*folders)
    assert (
        "these scores are not of the same data_sha256 and cannot be compared"
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


@pytest.mark.parametrize("content", [b'{"index": 0, "ques', b"[]\n", b"\xff\n"])
@pytest.mark.parametrize("damaged", ["predictions.jsonl", "errors.jsonl"])
def test_damaged_rows_are_named_and_passed_over(report, tmp_path, caplog, damaged, content):
    errors = {"wrong": 10, "patterns": {"often": SHARE}}
    folders = [evaluated(tmp_path / name, 3, errors=errors) for name in ("a", "b")]
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


def test_a_report_of_nothing_costs_no_plotting_library():
    code = """
import sys
import medsql.compare
print(*sorted({"matplotlib", "jinja2", "scipy", "torch"} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["s/lora.r=8,seed=1", "s/lora.r=16,seed=1"], ["lora.r=8", "lora.r=16"]),
        (["a/experiment=optimized", "b/experiment=optimized"], ["a", "b"]),
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
