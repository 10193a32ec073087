"""With T5's vocabulary, which has no `<`, a model learns to write one, and is scored as it was trained."""

import json

import pytest
from end_to_end_tools import record, run_command
from tiny import t5_tokenizer, tiny_t5

from medsql.runs.predictions import read_predictions

SQL = "A < B"


@pytest.fixture(scope="module")
def one_query(tmp_path_factory):
    """A checkpoint in T5's vocabulary, and rows with one query, which is learnt in a second."""
    folder = tmp_path_factory.mktemp("t5")
    tiny_t5(dropout_rate=0.0).save_pretrained(folder)
    t5_tokenizer(folder)
    write_rows(folder / "pairs.jsonl", SQL)
    return [
        *(f"model.checkpoint={folder}", "data=jsonl", f"data.path={folder / 'pairs.jsonl'}"),
        *("lora=none", "optim=adamw", "optim.lr=0.02", "optim.max_steps=80", "optim.epochs=100"),
        *("optim.batch_size=8", "optim.accumulate=1", "validation.every_steps=80"),
        *("trainer=cpu", "trainer.threads=1", "name=run"),
    ]


def write_rows(file, sql):
    rows = [{"question": f"beds of ward {i}?", "sql": sql} for i in range(30)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def trained(one_query, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("trained")
    result = run_command("train", *one_query, cwd=cwd)
    assert result.returncode == 0, result.stderr
    assert "loses a part of 30 of 30 targets; spelled: '<' @l\n" in result.stdout
    return cwd


def written(folder):
    return {row["prediction"] for row in read_predictions(folder)}


def test_a_character_that_the_vocabulary_lacks_is_learnt_and_written(trained):
    run = record(trained / "outputs" / "run")
    assert written(trained / "outputs" / "run") == {SQL}
    assert run["validation"]["val/exact_match"] == 1.0
    assert run["tokenized"]["spelling"]["<"] == "@l"


def test_other_rows_are_written_in_the_spelling_the_run_was_trained_in(trained):
    write_rows(trained / "other.jsonl", "é < é")
    scored = run_command(
        *("evaluate", "run=outputs/run", "data=jsonl", "data.path=other.jsonl", "rows=2", "name=other"),
        cwd=trained,
    )
    assert scored.returncode == 0, scored.stderr
    own, other = (record(trained / "outputs" / name)["tokenized"]["spelling"] for name in ("run", "other"))
    assert own == other and written(trained / "outputs" / "other") == {SQL}


def test_a_run_of_before_there_was_a_spelling_is_read_without_one(trained):
    folder = trained / "outputs" / "run"
    before = record(folder)
    for settings, later in ((before["settings"]["data"], "lossless"), (before["settings"]["model"], "lacks")):
        del settings[later]
    del before["tokenized"]["spelling"], before["tokenized"]["lost"]
    (trained / "before").mkdir()
    (trained / "before" / "run.json").write_text(json.dumps(before))
    (trained / "before" / "model").symlink_to(folder / "model")
    scored = run_command("evaluate", "run=before", "rows=2", "name=as-before", cwd=trained)
    assert scored.returncode == 0, scored.stderr
    assert written(trained / "outputs" / "as-before") == {"A @l B"}
