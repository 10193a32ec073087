"""`python -m medsql.evaluate` and `compare`: zero-shot and fine-tuned, on the same rows, side by side."""

import json
import shutil
import sqlite3
from dataclasses import asdict

import pytest
from end_to_end_tools import record, run_command

from medsql.data.hospital.cohort import write_cohort
from medsql.evaluate import evaluate
from medsql.runs.folder import Run
from medsql.runs.predictions import read_predictions


@pytest.fixture(scope="module")
def finished(training, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("finished")
    strong = ["optim.max_steps=20", "optim.lr=0.1"]  # enough to change what is generated
    result = run_command("train", *training, *strong, "data.prompt=schema", "name=run", cwd=cwd)
    assert result.returncode == 0, result.stderr
    return cwd


@pytest.fixture
def trained(finished, tmp_path):
    """A finished run, alone in a working folder of the test's own."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path / "outputs" / "run"


def evaluations(tmp_path):
    found = (path for path in (tmp_path / "outputs").iterdir() if record(path)["kind"] == "evaluate")
    return sorted(found, key=lambda folder: record(folder)["started"])


def test_baseline_and_fine_tuned_are_scored_and_compared(command, trained, small, tmp_path):
    without_either = command("compare")
    assert without_either.returncode == 1 and "make finetuned" in without_either.stderr
    tuned = command("evaluate", "run=latest", "trainer=cpu", "decode.max_new_tokens=6")
    assert tuned.returncode == 0, tuned.stderr
    without_baseline = command("compare")
    assert without_baseline.returncode == 1 and "make baseline" in without_baseline.stderr
    baseline = command("evaluate", *small, "data.prompt=schema", "rows=100")
    assert baseline.returncode == 0, baseline.stderr
    steps = [
        "rows=100: the test split has 12 rows, all are scored",
        "loading /",
        "generating SQL for 12 test rows",
    ]
    places = [baseline.stdout.find(step) for step in [*steps, ", 4 beams\n", "scoring 12 queries\n"]]
    assert places == sorted(places) and places[0] > 0, baseline.stdout

    (run,) = [f for f in evaluations(tmp_path) if record(f)["tuned"]]
    (zero_shot,) = [f for f in evaluations(tmp_path) if not record(f)["tuned"]]
    for folder in (run, zero_shot):
        scores = json.loads((folder / "metrics.json").read_text())
        assert scores["n"] == 12 and scores["split"] == "test" and scores["decode"]["num_beams"] == 4
        assert len((folder / "predictions.jsonl").read_text().splitlines()) == 12
    assert record(run)["settings"]["data"]["path"] == record(zero_shot)["settings"]["data"]["path"]

    compared = command("compare")
    assert compared.returncode == 0, compared.stderr
    assert "zero-shot" in compared.stdout and "\nrun  " in compared.stdout
    assert "cannot be compared" not in compared.stdout
    assert "zero-shot on the same 12 rows:" in compared.stdout
    *_, last = compared.stdout.splitlines()
    report = tmp_path / last.removeprefix("report in ")
    assert report.parent.name == f"compare-{zero_shot.name},{run.name}" and (report.parent / "plots").is_dir()
    assert "zero-shot" in report.read_text()
    listed = command("compare", "outputs/run", str(run))
    assert listed.returncode == 0, listed.stderr
    assert "1 run in outputs" in listed.stdout

    again = command("evaluate", "run=latest", "trainer=cpu", "decode.max_new_tokens=6")
    assert again.returncode == 0 and "finished already" in again.stdout


def test_a_run_scores_as_it_did_when_it_ended(command, trained, tmp_path):
    result = command("evaluate", "run=latest", "decode=greedy", "decode.max_new_tokens=6", "name=again")
    assert result.returncode == 0, result.stderr
    again = tmp_path / "outputs" / "again" / "predictions.jsonl"
    assert again.read_text() == (trained / "predictions.jsonl").read_text()


def test_an_adapter_scores_like_the_run_it_comes_from(command, trained, small, tmp_path):
    rows = ["split=validation", "rows=3", "decode=greedy", "decode.max_new_tokens=6", "trainer=cpu"]
    assert command("evaluate", "run=outputs/run", *rows).returncode == 0
    by_adapter = command("evaluate", *small, "data.prompt=schema", f"adapter={trained / 'adapter'}", *rows)
    assert by_adapter.returncode == 0, by_adapter.stderr
    zero_shot = command("evaluate", *small, "data.prompt=schema", *rows)
    assert zero_shot.returncode == 0, zero_shot.stderr
    one, other, without = evaluations(tmp_path)
    by_run, alone, untuned = (
        [row["prediction"] for row in read_predictions(each)] for each in (one, other, without)
    )
    assert by_run == alone != untuned
    assert record(one)["scores"]["n"] == 3
    assert record(one)["scores"]["rows_in_split"] == 10


def test_with_the_constraint_every_prediction_is_valid(command, small, tmp_path):
    result = command("evaluate", *small, "decode.constrained=true", "decode.max_new_tokens=150")
    assert result.returncode == 0, result.stderr
    (folder,) = evaluations(tmp_path)
    predictions = read_predictions(folder)
    assert predictions and {row["verdict"] for row in predictions} == {"ok"}
    assert record(folder)["constraint"]["engine"].startswith("llguidance")

    bound = command("evaluate", *small, "decode.constrained=true", "decode.max_new_tokens=3")
    assert bound.returncode == 1
    assert "decode.max_new_tokens=3: the shortest query has" in bound.stderr


def test_other_rows_keep_the_prompt_the_run_was_trained_with(command, trained, pairs, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text("".join(pairs.read_text().splitlines(keepends=True)[:20]))
    options = ["trainer=cpu", "decode.max_new_tokens=2", "rows=1", "run=latest"]
    for typed in (["data=jsonl", f"data.path={other}"], [f"data.path={other}"]):
        assert command("evaluate", *options, *typed).returncode == 0
    assert {record(f)["settings"]["data"]["prompt"] for f in evaluations(tmp_path)} == {"schema"}
    assert command("evaluate", *options, "data.prompt=question").returncode == 0
    assert record(evaluations(tmp_path)[-1])["settings"]["data"]["prompt"] == "question"


def write_rows(file, *queries):
    rows = [{"question": f"beds of ward {i}?", "sql": sql} for i, sql in enumerate(queries)]
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


LONG = ["decode.margin_tokens=150"]
DECODED = {
    "beam": ["decode=beam"],
    "constrained": ["decode=constrained", *LONG, "decode.values=train"],
    "guided": ["decode=guided", "decode.constrained=true", *LONG],
    "grounded": ["decode=grounded", "decode.constrained=true", *LONG],
    "database": ["decode=grounded", "decode.constrained=true", *LONG, "decode.database=own.db"],
}


@pytest.mark.parametrize("decode", DECODED)
def test_predictions_do_not_change_when_gold_does(command, trained, tmp_path, decode):
    """The same questions with other gold queries: some run, and some are longer than any trained on."""
    short = [f'SELECT "A" FROM B WHERE C = "{i}"' for i in range(6)]
    long = [f'SELECT COUNT ( * ) FROM LAB WHERE LAB."FLUID" = "{"fluid " * 20}{i}"' for i in range(6)]
    write_cohort(tmp_path / "own.db", admissions=20, seed=1)
    predictions, known = [], []
    for name, queries in (("short", short), ("long", long)):
        write_rows(tmp_path / name / "train.jsonl", *(f"SELECT {i}" for i in range(10, 20)))
        write_rows(tmp_path / name / "test.jsonl", *queries)
        scored = command(
            "evaluate",
            "run=latest",
            "data=jsonl",
            f"data.path={tmp_path / name}",
            f"name={name}",
            *DECODED[decode],
        )
        assert scored.returncode == 0, scored.stderr
        rows = read_predictions(tmp_path / "outputs" / name)
        assert [row["sql"] for row in rows] == queries
        predictions.append([row["prediction"] for row in rows])
        run = record(tmp_path / "outputs" / name)
        known.append((run["known_values"], run["constraint"]))
    assert predictions[0] == predictions[1] and any(predictions[0])
    assert known[0] == known[1], "what fluids the long ones ask for is not known"


@pytest.mark.parametrize("decode", ["repaired", "grounded"])
def test_a_value_that_gold_alone_knows_is_repaired_all_the_same(
    small, settings, tmp_path, monkeypatch, decode
):
    """What the model writes is given here: one beam that does not run, and three with a misspelt value."""

    def asking_for(fluid):
        return f'SELECT COUNT ( * ) FROM LAB WHERE LAB."FLUID" = "{fluid}"'

    written = ["SELECT", *[asking_for("Ascitez")] * 3]
    monkeypatch.setattr("medsql.model.generation.decoded", lambda _, tokens: written * (len(tokens) // 4))
    outcomes = []
    for name, gold in (("right", "Ascites"), ("misspelt", "Ascitez")):
        write_rows(tmp_path / name / "train.jsonl", *[asking_for("Ascites")] * 9)
        write_rows(tmp_path / name / "test.jsonl", *[asking_for(gold)] * 2)
        asked = settings("evaluate", *small, f"data.path={tmp_path / name}", f"decode={decode}", "show=0")
        with Run(tmp_path / "outputs" / name, "evaluate", {}, asdict(asked)) as run:
            evaluate(asked, run)
        rows = read_predictions(tmp_path / "outputs" / name)
        outcomes.append([(row["prediction"], row["written"], row["beam"], row["repairs"]) for row in rows])
        assert {row["exact_match"] for row in rows} == {name == "right"}
    assert outcomes[0] == outcomes[1]
    assert {(prediction, beam) for prediction, _, beam, _ in outcomes[0]} == {(asking_for("Ascites"), 1)}
    assert all(repairs for *_, repairs in outcomes[0])


def test_guidance_and_repair_are_recorded_with_every_row(command, trained, tmp_path):
    result = command("evaluate", "run=latest", "decode=repaired", "decode.max_new_tokens=6", "name=repaired")
    assert result.returncode == 0, result.stderr
    rows = read_predictions(tmp_path / "outputs" / "repaired")
    # Six tokens are six bytes here, and no query: every beam of every row is tried, and the best one stays.
    assert {row["beams_tried"] for row in rows} == {4} and {row["beam"] for row in rows} == {0}
    assert all(row["written"] == row["prediction"] and row["repairs"] == [] for row in rows)
    assert "12 of 12 rows have no beam that runs on the schema" in result.stdout
    run = record(tmp_path / "outputs" / "repaired")
    assert run["scores"]["guided"]["none_runs"] == 12 and run["scores"]["repaired"]["rows"] == 0
    assert run["known_values"]["values"]["lists"] > 1_000


def test_a_database_of_ones_own_takes_the_place_of_the_made_ones(command, small, tmp_path):
    write_rows(
        tmp_path / "lab.jsonl", *(f'SELECT FLUID FROM LAB WHERE LAB."FLUID" = "{i}"' for i in range(9))
    )
    with sqlite3.connect(tmp_path / "a,b.db") as connection:
        connection.execute("CREATE TABLE LAB (FLUID TEXT)")
    options = [*small, f"data.path={tmp_path / 'lab.jsonl'}", "split=train", "rows=2"]
    result = command("evaluate", *options, "eval.database=a,b.db", "name=own")
    assert result.returncode == 0, result.stderr
    scores = record(tmp_path / "outputs" / "own")["scores"]
    assert scores["database"] == str(tmp_path / "a,b.db") and scores["mutants"] is None
    assert scores["gold"] == {"empty": 2} and "execution" not in scores
    (tmp_path / "c.db").write_text("no database")
    for name, says in (("b.db", "no such file or folder"), ("c.db", "no SQLite database that can be read")):
        refused = command("evaluate", *options, f"eval.database={name}")
        assert refused.returncode == 1 and says in refused.stderr.splitlines()[-1]
        assert "generating SQL for 2 train rows" not in refused.stdout, "said before anything is generated"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run=latest"], "no finished run"),
        (["run=/nowhere"], "not the folder of a training run"),
        (["split=tset"], "choose one of train"),
        (["adapter=/nowhere"], "adapter=/nowhere: no such file or folder"),
        (["run=latest", "model=mini"], "model= contradicts run=latest"),
        (["decode=guided", "decode.database=my,own.db"], "decode.database=my,own.db: no such file or folder"),
        (["run=latest", "adapter=x"], "adapter= contradicts run=latest"),
    ],
)
def test_what_cannot_be_scored_is_said_in_one_line(command, tmp_path, arguments, says):
    result = command("evaluate", *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("medsql: ") and result.stderr.count("\n") == 1 and says in result.stderr


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated"])
def test_a_damaged_adapter_is_said_in_one_line(command, trained, small, damage):
    weights = trained / "adapter" / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    if damage == "missing":
        weights.unlink()
    result = command("evaluate", *small, f"adapter={trained / 'adapter'}", "rows=1")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("medsql: cannot load the adapter")
    assert "Traceback" not in result.stderr


def test_comparing_a_folder_without_runs_is_a_mistake(command, tmp_path):
    result = command("compare", "nowhere")
    assert result.returncode == 1
    assert result.stderr == "medsql: nowhere: no run, evaluation or sweep lies there\n"
