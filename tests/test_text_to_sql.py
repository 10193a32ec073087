"""A trained model, asked from Python: its folder says how it was trained, and is all it needs."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from tiny import finished_run, t5_tokenizer, tiny_t5, tiny_tokenizer

from medsql import TextToSql, text_to_sql
from medsql.config import DecodeSettings
from medsql.data.pairs import Prediction
from medsql.data.prompts import prompt_template, render
from medsql.data.spelling import needed_spelling
from medsql.errors import UserError
from medsql.files import write_json
from medsql.model import hardware
from medsql.model.decoder import Decoder
from medsql.model.generation import generate_sql
from medsql.model.lora import load_adapter
from medsql.sql.choice import Choice
from medsql.sql.repair import Repair
from medsql.sql.schema import TABLES

QUESTIONS = [
    "how many?",
    "which drugs were given to patient 12?",
    "who is the oldest of them all?",
    "a",
    "b c",
]
QUICK = ("trainer=cpu", "trainer.threads=1", "decode.max_new_tokens=6")


@pytest.fixture
def run(tmp_path: Path, settings: Callable[..., Any]) -> Path:
    """The folder of a finished run whose adapter changes what is written, and whose rows are gone."""
    return finished_run(tmp_path, settings)


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put queries into the mouth of whatever model is asked."""

    def say(*predictions: Prediction | str) -> None:
        spoken = [Prediction(text) if isinstance(text, str) else text for text in predictions]
        monkeypatch.setattr(text_to_sql, "predict", lambda *_: spoken)

    return say


def sql(model: TextToSql, questions: list[str] = QUESTIONS) -> list[str]:
    return [answer.sql for answer in model.predict(questions)]


def test_the_package_is_imported_without_pytorch_and_the_model_without_what_only_training_needs() -> None:
    code = """
import sys, medsql
assert "torch" not in sys.modules
medsql.TextToSql
print(*{"lightning", "datasets", "sklearn", "wandb", "optuna"} & sys.modules.keys())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.returncode) == ("\n", 0), result.stderr


def test_answers_are_those_of_the_adapter_beside_its_base_with_the_prompt_of_the_run(run: Path) -> None:
    model = TextToSql.from_run(run, *QUICK, "decode=greedy")
    base = tiny_t5()
    prompts = [render(prompt_template("schema"), question) for question in QUESTIONS]
    batch = tiny_tokenizer()(prompts, padding=True, truncation=True, max_length=1024, return_tensors="pt")
    decoder = Decoder(tiny_tokenizer(), DecodeSettings(num_beams=1, batch_size=1), 6)
    without = generate_sql(base, batch, decoder)
    beside = generate_sql(load_adapter(base, run / "adapter"), batch, decoder)
    assert sql(model) == [prediction.sql for prediction in beside]
    assert sql(model) != [prediction.sql for prediction in without]
    assert not any("lora" in name for name, _ in model.model.named_modules()), "it is merged"


def test_the_newest_run_answers_and_an_adapter_alone_answers_like_its_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    newest = TextToSql.from_run("latest", *QUICK)
    alone = TextToSql.from_adapter(
        run / "adapter", *QUICK, f"model.checkpoint={tmp_path / 'base'}", "data.prompt=schema"
    )
    assert sql(newest) == sql(alone) != sql(TextToSql.from_run(run, *QUICK, "data.prompt=question"))


FLUID = 'SELECT LAB."LABEL" FROM LAB WHERE LAB."FLUID" = "{}"'


def test_it_knows_the_values_of_the_runs_training_rows_where_these_are_at_hand(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def known() -> bool:
        model = TextToSql.from_run(run, *QUICK, "decode=repaired", "decode.known_values=[train]")
        assert model.decoder.guidance and model.decoder.guidance.repairer
        return model.decoder.guidance.repairer.repair(FLUID.format("zorblic"))[0] == FLUID.format("Zorblic")

    assert not known() and "repair without the values of training rows, which are not at hand" in caplog.text
    rows = [{"question": f"what is in tube {n}?", "sql": FLUID.format("Zorblic")} for n in range(20)]
    (tmp_path / "gone.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert known()


def test_a_run_that_was_moved_answers_as_before(run: Path, tmp_path: Path) -> None:
    before = sql(TextToSql.from_run(run, *QUICK))
    moved = shutil.move(run, tmp_path / r"it's \ there, $x=1")
    assert sql(TextToSql.from_run(moved, *QUICK)) == before


def test_an_output_is_bounded_by_the_targets_the_run_was_trained_on(run: Path) -> None:
    model = TextToSql.from_run(run, "trainer=cpu", "decode.margin_tokens=3")
    assert model.decoder.max_new_tokens == 4 + 3


@pytest.mark.parametrize("size", [1, 2, 32])
def test_answers_come_in_the_order_of_the_questions_however_they_are_batched(run: Path, size: int) -> None:
    model = TextToSql.from_run(run, *QUICK, "data.prompt=question", f"decode.batch_size={size}")
    answers = model.predict(QUESTIONS)
    assert [answer.question for answer in answers] == QUESTIONS
    alone = [model.predict([question])[0].sql for question in QUESTIONS]
    assert [answer.sql for answer in answers] == alone and len(set(alone)) > 1


def test_a_batch_is_answered_before_the_next_question_is_read(run: Path) -> None:
    read = []
    questions = (read.append(text) or text for text in QUESTIONS)  # type: ignore[func-returns-value]
    answers = TextToSql.from_run(run, *QUICK, "decode.batch_size=2").answers(questions)
    assert next(answers).question == QUESTIONS[0] and read == QUESTIONS[:2]


def test_what_was_cut_is_said_of_each_question(run: Path) -> None:
    model = TextToSql.from_run(run, *QUICK, "data.prompt=none", "data.max_input_tokens=5")
    short, long = model.predict(["a?", "a long question"])
    assert (short.input_truncated, long.input_truncated) == (False, True)
    assert long.sql == model.predict(["a lo"])[0].sql, "a piece is a byte here, and one is the end's"
    assert long.row()["truncated"] == long.prediction.truncated


def test_a_query_is_judged_on_the_schema_and_run_on_the_hospital(
    run: Path, says: Callable[..., None]
) -> None:
    model = TextToSql.from_run(run, *QUICK, "database=hospital")
    says('SELECT DEMOGRAPHIC."AGE" FROM DEMOGRAPHIC', "SELECT X FROM LAB", "DROP TABLE LAB", "SELECT")
    ages, unknown, forbidden, broken = model.predict(["1", "2", "3", "4"])
    assert ages.valid and not (unknown.valid or forbidden.valid or broken.valid)
    assert [each.row()["verdict"] for each in (unknown, forbidden)] == ["unknown column X", "forbidden: DROP"]
    assert broken.row()["verdict"] == "syntax error" and broken.row()["reason"]
    result = ages.row(3)["result"]
    assert result["columns"] == ("AGE",) and len(result["rows"]) == 3 and result["found"] == 200
    assert len(ages.row()["result"]["rows"]) == 200
    assert forbidden.row()["result"]["verdict"] == "forbidden: DROP"


def test_without_a_database_there_is_a_verdict_and_no_result(run: Path, says: Callable[..., None]) -> None:
    says("SELECT AGE FROM DEMOGRAPHIC")
    (answer,) = TextToSql.from_run(run, *QUICK).predict(["?"])
    assert answer.valid and answer.row()["result"] is None


def test_with_a_schema_of_ones_own_queries_are_judged_and_run_on_its_tables(
    run: Path, tmp_path: Path, says: Callable[..., None]
) -> None:
    schema, database = tmp_path / "schema.sql", tmp_path / "own.db"
    schema.write_text("CREATE TABLE wards (name TEXT, beds INTEGER);")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executescript(schema.read_text() + "CREATE TABLE staff (name TEXT);")
        connection.execute("INSERT INTO wards VALUES ('north', 12)")
    own = ["decode=constrained", f"decode.schema='{schema}'", f"database='{database}'"]
    model = TextToSql.from_run(run, *QUICK[:2], "decode.max_new_tokens=400", *own)
    says("SELECT beds FROM wards", "SELECT AGE FROM DEMOGRAPHIC", "SELECT name FROM staff")
    beds, mimicsql, undeclared = model.predict(["1", "2", "3"])
    assert beds.valid and beds.result is not None and beds.result.rows == ((12,),)
    assert not (mimicsql.valid or undeclared.valid)
    assert undeclared.result is not None and undeclared.result.verdict.startswith("forbidden")
    other = model.decoding(DecodeSettings(num_beams=1, batch_size=4, max_new_tokens=6))
    beds, mimicsql, _ = other.predict(["1", "2", "3"])
    assert mimicsql.valid and not beds.valid, "by MIMICSQL's tables again"


def test_a_row_is_json_whatever_the_database_holds(
    run: Path, tmp_path: Path, says: Callable[..., None]
) -> None:
    file = tmp_path / "my own, é.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(f"CREATE TABLE LAB ({', '.join(TABLES['LAB'])})")
        connection.execute("INSERT INTO LAB (FLUID, LABEL, FLAG) VALUES (x'00ff', 9e999, 'é')")
    model = TextToSql.from_run(run, *QUICK, f"database='{file}'")
    says("SELECT FLUID, LABEL, FLAG, ITEMID FROM LAB")
    row = model.predict(["?"])[0].row()
    assert json.loads(json.dumps(row, allow_nan=False))["result"]["rows"] == [["00ff", "inf", "é", None]]


def test_how_a_query_was_chosen_and_repaired_is_in_its_row_by_the_names_of_predictions_jsonl(
    run: Path, says: Callable[..., None]
) -> None:
    choice = Choice(1, True, ("syntax error", "ok"))
    repair = Repair("report's column", "DEMOGRAPHIC.DOB", "BIRTH", "DOB")
    says(Prediction("SELECT DOB", False, choice, "SELECT BIRTH", (repair,)))
    (answer,) = TextToSql.from_run(run, *QUICK).predict(["?"])
    row = json.loads(json.dumps(answer.row()))
    assert (answer.sql, row["sql"], row["written"]) == ("SELECT DOB", "SELECT DOB", "SELECT BIRTH")
    assert (row["beam"], row["beams_tried"], row["beam_verdicts"]) == (1, 2, ["syntax error", "ok"])
    assert row["repairs"] == [repair._asdict()] and "choice" not in row


# Spelling

SPELLED = {"<": "@l", "@": "@@"}


@pytest.fixture
def spelled(run: Path) -> Path:
    """The run, trained in a spelling."""
    record = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", record | {"tokenized": {"longest_target": 4, "spelling": SPELLED}})
    return run


def asked_and_written(model: TextToSql, question: str, written: str) -> tuple[str, str]:
    """The prompt that the model is given for a question, and what is made of what it writes."""
    prompts: list[str] = []

    def generate(input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        prompts.extend(model.tokenizer.batch_decode(input_ids, skip_special_tokens=True))
        return torch.tensor(model.tokenizer([written])["input_ids"])

    model.model.generate = generate  # type: ignore[assignment]
    return model.predict([question])[0].sql, prompts[0]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["data.prompt=none"], ("AGE < 5", "age @l 5?")),
        (["data.prompt=none", "data.lossless=false"], ("AGE @l 5", "age < 5?")),
        (["data=jsonl", "data.path=gone", "data.prompt=none"], ("AGE < 5", "age @l 5?")),
    ],
)
def test_a_question_is_spelled_as_the_run_was_trained_and_what_is_written_is_read_back(
    spelled: Path, typed: list[str], expected: tuple[str, str]
) -> None:
    model = TextToSql.from_run(spelled, *QUICK, *typed)
    assert asked_and_written(model, "age < 5?", "AGE @l 5") == expected


def test_without_a_run_it_is_spelled_as_an_evaluation_of_rows_in_ascii_spells(
    run: Path, tmp_path: Path
) -> None:
    base = tmp_path / "t5"
    tiny_t5().save_pretrained(base)
    tokenizer = t5_tokenizer(base)
    options = [*QUICK, f"model.checkpoint={base}", "data.prompt=none"]
    model = TextToSql.from_adapter(run / "adapter", *options)
    assert model.spelling == needed_spelling(tokenizer, ["SELECT A FROM B WHERE C < 5"])
    assert asked_and_written(model, "age < 5?", "AGE @l 5") == ("AGE < 5", "age @l 5?")
    unspelled = TextToSql.from_adapter(run / "adapter", *options, "data.lossless=false")
    assert asked_and_written(unspelled, "age > 5?", "AGE @l 5")[0] == "AGE @l 5"


def test_a_batch_is_encoded_once_and_the_device_is_prepared_once(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TextToSql.from_run(run, *QUICK)
    tokenizer, encoded = model.tokenizer, []

    def counted(*arguments: Any, **options: Any) -> Any:
        encoded.append(arguments)
        return tokenizer(*arguments, **options)

    monkeypatch.setattr(model, "tokenizer", counted)
    for module in (hardware, text_to_sql):
        monkeypatch.setattr(module, "prepare_device", None)
    assert len(model.predict(QUESTIONS)) == len(QUESTIONS)
    assert len(encoded) == 1


@pytest.mark.parametrize("decode", ["beam", "guided", "repaired", "constrained"])
def test_it_may_be_loaded_in_one_thread_and_asked_in_others(run: Path, decode: str) -> None:
    room = "decode.max_new_tokens=" + ("80" if decode == "constrained" else "6")
    model = TextToSql.from_run(run, *QUICK, f"decode={decode}", room, "database=hospital")
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.extend(sql(model)))
    thread.start()
    thread.join()
    assert found == sql(model)


def test_decoding_otherwise_loads_nothing_again_and_leaves_the_model_as_it_was(run: Path) -> None:
    beams = TextToSql.from_run(run, *QUICK)
    greedy = beams.decoding(DecodeSettings(num_beams=1, batch_size=2, max_new_tokens=3))
    assert greedy.model is beams.model and greedy.tokenizer is beams.tokenizer
    assert sql(greedy) == sql(TextToSql.from_run(run, *QUICK[:2], "decode=greedy", "decode.max_new_tokens=3"))
    assert (beams.settings.decode.num_beams, beams.decoder.max_new_tokens) == (4, 6)


def test_a_program_that_uses_hydra_for_itself_finds_it_as_it_was(run: Path, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):
        outer = GlobalHydra.instance().hydra
        TextToSql.from_run(run, *QUICK)
        assert GlobalHydra.instance().hydra is outer
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "run=nowhere: nowhere is not the folder of a training run"),
        (["latest"], "no finished run"),
        (["run", "decode.beams=2"], "there is no setting decode.beams; did you mean decode.num_beams"),
        (["run", "adapter=x"], "adapter= contradicts run="),
        (["run", "database=x.db"], "database=x.db: no such file or folder"),
        (["run", "rows=-1"], "rows=-1: must be at least 0"),
        (["run", "seconds=0"], "seconds=0: must be greater than 0"),
        (["run", "database=base/config.json"], "no SQLite database that can be read"),
    ],
)
def test_mistakes_are_one_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(run.parent.parent if arguments[0] == "run" else run)
    first, *others = arguments
    with pytest.raises(UserError) as error:
        TextToSql.from_run(run if first == "run" else first, *others)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_question_is_refused_with_its_number(run: Path) -> None:
    model = TextToSql.from_run(run, *QUICK)
    with pytest.raises(UserError, match="question 2 is empty"):
        model.predict(["how many?", " \n"])
    with pytest.raises(UserError, match="question 1 is no Unicode text"):
        model.predict(["\ud800"])
    with pytest.raises(TypeError, match="a list of questions"):
        model.predict("how many?")
    assert model.predict([]) == []
