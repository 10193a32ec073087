"""Which rows train, validate and test, and whether the record says how that came about."""

import json
from pathlib import Path

import pytest

from medsql.config import DataSettings, SettingsError
from medsql.data.splits import load_splits

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "mimicsql_natural_v2"


def settings(path, split="source", **more):
    source = more.pop("source", "jsonl")
    return DataSettings(source=source, split=split, prompt="question", path=str(path), **more)


def write(path, rows):
    """Rows given by a number stand for a question and SQL of that number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"question": f"q{row}", "sql": f"s{row}"} if isinstance(row, int) else row for row in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def numbers(pairs):
    return [int(pair.question.removeprefix("q")) for pair in pairs]


@pytest.fixture
def folder(tmp_path):
    """Ten training rows, three for validation and two for test, none twice."""
    write(tmp_path / "train.jsonl", range(10))
    write(tmp_path / "validation.jsonl", range(10, 13))
    write(tmp_path / "test.jsonl", range(13, 15))
    return tmp_path


# split=source


def test_the_sources_own_splits_are_used_as_they_stand(folder):
    splits = load_splits(settings(folder))
    assert numbers(splits.train) == list(range(10))
    assert numbers(splits.validation) == [10, 11, 12]
    assert numbers(splits.test) == [13, 14]
    assert splits.record["rows"] == {"train": 10, "validation": 3, "test": 2}
    assert splits.record["cut"] == []


def test_a_missing_validation_split_is_cut_from_train_alone(folder):
    (folder / "validation.jsonl").unlink()
    splits = load_splits(settings(folder))
    # scikit-learn's train_test_split(range(10), test_size=0.2, random_state=42)
    assert numbers(splits.train) == [5, 0, 7, 2, 9, 4, 3, 6]
    assert numbers(splits.validation) == [8, 1]
    assert numbers(splits.test) == [13, 14]
    assert splits.record["cut"] == ["validation"]


def test_one_file_is_cut_in_three_test_first(tmp_path, caplog):
    caplog.set_level("INFO")
    splits = load_splits(settings(write(tmp_path / "mine.jsonl", range(10))))
    assert numbers(splits.test) == [8, 1]
    assert numbers(splits.validation) == [0, 4]
    assert numbers(splits.train) == [5, 6, 7, 9, 2, 3]
    assert splits.record["cut"] == ["test", "validation"]
    assert "the source has no test split: 2 rows cut from train" in caplog.text


def test_exact_duplicates_are_dropped_and_counted(tmp_path, folder, caplog):
    same_question = {"question": "q0", "sql": "another"}
    write(folder / "train.jsonl", [0, 1, 0, same_question, 1, 0, 2])
    splits = load_splits(settings(folder))
    assert [pair.sql for pair in splits.train] == ["s0", "s1", "another", "s2"]
    assert splits.record["duplicates"] == {"train": 3, "validation": 0, "test": 0}
    assert splits.record["duplicates_dropped"] is True
    assert "train: 3 exact duplicates dropped" in caplog.text


# split=report


def test_the_report_split_gives_the_rows_of_scikit_learns_two_calls(tmp_path):
    splits = load_splits(settings(write(tmp_path / "mine.jsonl", range(10)), split="report"))
    # train_test_split(range(10), test_size=0.2, random_state=42), then the same of its first part
    assert numbers(splits.test) == [8, 1]
    assert numbers(splits.train) == [5, 6, 7, 9, 2, 3]
    assert numbers(splits.validation) == [0, 4]
    assert splits.record["pool"] == "train"


def test_the_report_split_uses_the_training_rows_and_says_what_it_leaves(folder, caplog):
    splits = load_splits(settings(folder, split="report"))
    assert sorted(numbers(splits.train + splits.validation + splits.test)) == list(range(10))
    assert splits.record["pool"] == "train"
    assert splits.record["unused"] == {"validation": 3, "test": 2}
    assert "not used: validation (3 rows), test (2 rows)" in caplog.text


def test_the_report_split_takes_the_only_split_there_is(tmp_path):
    write(tmp_path / "test.jsonl", range(10))
    splits = load_splits(settings(tmp_path, split="report"))
    assert numbers(splits.test) == [8, 1]
    assert splits.record["pool"] == "test"
    assert splits.record["unused"] == {}


def test_the_report_split_keeps_duplicates_for_each_moves_the_rows_after_it(tmp_path, caplog):
    path = write(tmp_path / "mine.jsonl", [0, 1, 2, 3, 4, 5, 6, 7, 8, 8])
    splits = load_splits(settings(path, split="report"))
    assert numbers(splits.train) == [5, 6, 7, 8, 2, 3]
    assert splits.record["rows"] == {"train": 6, "validation": 2, "test": 2}
    assert splits.record["duplicates"] == {"train": 1}
    assert splits.record["duplicates_dropped"] is False
    assert splits.record["overlaps"]["train/test"] == {"questions": 1, "sql": 1}
    assert "train: 1 exact duplicates kept" in caplog.text


def test_over_the_folds_each_row_is_tested_once(tmp_path):
    path = write(tmp_path / "mine.jsonl", range(10))
    folds = [load_splits(settings(path, split="report", fold=fold)) for fold in range(5)]
    assert sorted(row for splits in folds for row in numbers(splits.test)) == list(range(10))
    for splits in folds:
        assert splits.record["rows"] == {"train": 6, "validation": 2, "test": 2}
        assert sorted(numbers(splits.train + splits.validation + splits.test)) == list(range(10))


def test_too_few_rows_for_five_folds_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="too little for 5 folds, 4 rows"):
        load_splits(settings(write(tmp_path / "mine.jsonl", range(4)), split="report", fold=0))


@pytest.mark.skipif(not REAL.exists(), reason=f"the real questions are not at {REAL}")
def test_the_report_split_of_the_real_questions():
    splits = load_splits(settings(REAL, split="report", source="mimicsql"))
    assert splits.record["rows"] == {"train": 640, "validation": 160, "test": 200}
    assert splits.record["pool"] == "validation"
    assert splits.record["dropped"] == {}


# The record


def test_texts_that_stand_in_two_splits_are_counted_once_for_each_two(folder, caplog):
    write(
        folder / "validation.jsonl", [{"question": "q0", "sql": "new"}, {"question": "new", "sql": "s1"}, 2]
    )
    write(folder / "test.jsonl", [{"question": "q0", "sql": "s20"}, {"question": "q0", "sql": "s21"}])
    assert load_splits(settings(folder)).record["overlaps"] == {
        "train/validation": {"questions": 2, "sql": 2},
        "train/test": {"questions": 1, "sql": 0},
        "validation/test": {"questions": 1, "sql": 0},
    }
    assert "train/validation: 2 questions and 2 queries in both" in caplog.text


def test_validation_rows_are_trained_on_too_where_that_is_asked(folder, caplog):
    splits = load_splits(settings(folder, refit=True, validation_rows=2))
    assert numbers(splits.train) == [*range(10), 10, 11] == numbers(splits.own_training)
    assert numbers(splits.validation) == [10, 11] and numbers(splits.test) == [13, 14]
    assert splits.record["refit"] and splits.record["rows"]["train"] == 12
    assert "data.refit: 2 validation rows trained on, too" in caplog.text


def test_row_limits_keep_the_first_rows_and_are_recorded(folder, caplog):
    caplog.set_level("INFO")
    splits = load_splits(settings(folder, train_rows=4, validation_rows=1, test_rows=50))
    assert numbers(splits.train) == [0, 1, 2, 3]
    assert numbers(splits.validation) == [10]
    assert numbers(splits.test) == [13, 14]
    assert splits.record["limits"] == {
        "train": {"limit": 4, "of": 10},
        "validation": {"limit": 1, "of": 3},
        "test": {"limit": 50, "of": 2},
    }
    assert "data.train_rows=4 keeps 4 of 10 rows" in caplog.text


def test_row_limits_do_not_move_rows_between_splits(tmp_path):
    path = write(tmp_path / "mine.jsonl", range(10))
    whole = load_splits(settings(path, split="report"))
    limited = load_splits(settings(path, split="report", train_rows=2))
    assert limited.train == whole.train[:2]
    assert (limited.validation, limited.test) == (whole.validation, whole.test)


def test_the_record_is_json_and_its_digests_follow_the_rows(folder):
    record = load_splits(settings(folder)).record
    assert json.loads(json.dumps(record)) == record
    assert record["source"] == "jsonl" and record["path"] == str(folder) and record["split"] == "source"
    digests = record["sha256"]
    assert load_splits(settings(folder)).record["sha256"] == digests
    write(folder / "validation.jsonl", [10, 12, 11])
    changed = load_splits(settings(folder)).record["sha256"]
    assert changed["validation"] != digests["validation"]
    assert (changed["train"], changed["test"]) == (digests["train"], digests["test"])


def test_dropped_rows_reach_the_record(folder):
    write(folder / "test.jsonl", [13, {"question": "no sql"}])
    assert load_splits(settings(folder)).record["dropped"] == {"test": {"no_sql": 1}}


# Nothing to work with


def refusal(path, **more):
    with pytest.raises(SettingsError) as error:
        load_splits(settings(path, **more))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_only_a_development_file_suggests_the_report_split(tmp_path):
    (tmp_path / "dev.json").write_text(json.dumps({"question_refine": "q", "sql": "s"}) + "\n")
    message = refusal(tmp_path, source="mimicsql")
    assert f"data=mimicsql data.path={tmp_path}: no training rows; found validation (1 row)" in message
    assert "data.split=report" in message


def test_training_rows_that_are_all_unusable_say_why(folder):
    write(folder / "train.jsonl", [{"question": "q"}, {"sql": "s"}, {"question": "r"}])
    message = refusal(folder)
    assert "no training rows; found train (0 rows, 3 dropped: no_sql 2, no_question 1)" in message
    assert "data.split=report" not in message


def test_no_validation_rows_are_refused(folder):
    write(folder / "validation.jsonl", [])
    message = refusal(folder)
    assert "no validation rows; found train (10 rows), validation (0 rows), test (2 rows)" in message


def test_no_test_rows_are_allowed_and_said(folder, caplog):
    write(folder / "test.jsonl", [])
    assert load_splits(settings(folder)).test == []
    assert "the test split is empty" in caplog.text


def test_the_report_split_refuses_to_choose_between_two_splits(folder):
    (folder / "train.jsonl").unlink()
    assert "no telling which split to cut; found validation (3 rows), test (2 rows)" in refusal(
        folder, split="report"
    )


@pytest.mark.parametrize("split", ["source", "report"])
@pytest.mark.parametrize(("rows", "found"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows")])
def test_too_few_rows_to_cut_are_refused(tmp_path, split, rows, found):
    path = write(tmp_path / "mine.jsonl", range(rows))
    assert f"found train ({found})" in refusal(path, split=split)


@pytest.mark.parametrize("split", ["source", "report"])
def test_three_rows_are_enough_for_three_splits(tmp_path, split):
    record = load_splits(settings(write(tmp_path / "mine.jsonl", range(3)), split=split)).record
    assert record["rows"] == {"train": 1, "validation": 1, "test": 1}
