"""What is trained on besides the training rows comes behind them, and touches no other row."""

import json
from dataclasses import replace

import pytest

from medsql.config import DataSettings, SettingsError
from medsql.data.hospital import synthetic_splits
from medsql.data.splits import load_splits

DRUG = 'SELECT COUNT ( * ) FROM PRESCRIPTIONS WHERE PRESCRIPTIONS."DRUG" = "Drug {}"'


def row(number, question="how many took drug {}?", key="key {}"):
    return {
        "key": key.format(number),
        "question_refine": question.format(number),
        "sql": DRUG.format(number),
    }


def template(number, **more):
    return row(number, question="what is the number of patients with drug name = drug {}?", **more)


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))


def numbers(pairs):
    return sorted(int(pair.sql.split()[-1].strip('"')) for pair in pairs)


@pytest.fixture
def settings(tmp_path):
    """Ten training rows, cut as the report does into six, two and two, and templates of them all."""
    write(tmp_path / "natural" / "train.json", map(row, range(10)))
    write(tmp_path / "templates" / "train.json", map(template, range(7)))
    write(tmp_path / "templates" / "dev.json", map(template, range(7, 12)))
    return DataSettings("mimicsql", "report", "question", path=str(tmp_path / "natural"))


@pytest.fixture
def templates(tmp_path):
    return {"templates": str(tmp_path / "templates")}


EVERYTHING = {"augment": 2, "hospital_epochs": 1, "pairs": 50}


def test_all_of_it_comes_behind_the_training_rows_and_no_other_row_changes(settings, templates):
    plain, further = load_splits(settings), load_splits(replace(settings, **EVERYTHING, **templates))
    assert further.train[:6] == plain.train
    assert (further.validation, further.test) == (plain.validation, plain.test)
    record = further.record["further"]
    assert record["templates"]["rows"] == 6
    assert record["augmented"]["rows"] == 2 * 12  # two versions of each question, templates included
    assert record["hospital"]["rows"] == further.hospital == 40
    assert len(further.train) == further.record["rows"]["train"] == 6 + 6 + 24 + 40
    assert further.train[-40:] == synthetic_splits(settings.admissions, 50, settings.seed)["train"]
    assert plain.record["further"] == {} and plain.hospital == 0


def test_no_held_out_row_has_a_say_in_training_rows(settings, templates, tmp_path):
    wanted = replace(settings, **EVERYTHING, **templates, split="source")
    trained = []
    for held_out in ("one", "another"):
        write(
            tmp_path / "natural" / "dev.json", [row(0, question=f"{held_out} {{}}", key=f"{held_out} {{}}")]
        )
        rows = [row(f"{held_out} {i}", key=f"{held_out} {{}}") for i in range(5)]
        write(tmp_path / "natural" / "test.json", rows)
        trained.append(load_splits(wanted).train)
    assert trained[0] == trained[1]


def test_train_rows_cuts_before_anything_is_added(settings, templates):
    splits = load_splits(replace(settings, **EVERYTHING, **templates, train_rows=2))
    further = splits.record["further"]
    assert (further["templates"]["rows"], further["augmented"]["rows"], splits.hospital) == (2, 8, 40)


# Templates


def test_templates_are_those_of_training_rows_alone(settings, templates):
    plain, splits = load_splits(settings), load_splits(replace(settings, **templates))
    assert numbers(splits.train[6:]) == numbers(plain.train)
    assert all(pair.question.startswith("what is the number") for pair in splits.train[6:])
    record = splits.record["further"]["templates"]
    assert record == {"rows": 6, "missed": {"no_template": 0, "held_out": 0}, "dropped": {}}


def test_a_key_that_a_held_out_row_has_too_joins_nothing(settings, templates, tmp_path):
    held_out, trained = (
        numbers(rows)[0] for rows in (load_splits(settings).test, load_splits(settings).train)
    )
    rows = [row(number, key=f"key {trained if number == held_out else number}") for number in range(10)]
    write(tmp_path / "natural" / "train.json", rows)
    splits = load_splits(replace(settings, **templates))
    assert trained in numbers(splits.train[:6]) and trained not in numbers(splits.train[6:])
    assert splits.record["further"]["templates"]["missed"] == {"no_template": 0, "held_out": 1}


def test_a_held_out_row_beyond_test_rows_keeps_its_key_to_itself_too(settings, templates, tmp_path):
    plain = load_splits(settings)
    beyond, trained = numbers(plain.test[1:])[0], numbers(plain.train)[0]
    rows = [row(number, key=f"key {trained if number == beyond else number}") for number in range(10)]
    write(tmp_path / "natural" / "train.json", rows)
    splits = load_splits(replace(settings, **templates, test_rows=1))
    assert beyond not in numbers(splits.test) and trained in numbers(splits.train[:6])
    assert trained not in numbers(splits.train[6:])


def test_what_has_no_template_and_what_cannot_be_used_is_counted(settings, templates, tmp_path, caplog):
    (tmp_path / "templates" / "dev.json").unlink()
    write(tmp_path / "templates" / "train.json", [template(5), template(6, key=""), {"key": "key 7"}])
    record = load_splits(replace(settings, **templates)).record["further"]["templates"]
    assert record["rows"] == 1
    assert record["missed"] == {"no_template": 5, "held_out": 0}
    assert record["dropped"] == {"train": {"no_key": 1, "no_question": 1}}
    assert "templates, train: 2 rows dropped" in caplog.text


def test_a_folder_without_templates_is_refused_in_one_line(settings, tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "others" / "test.json", [template(5, key="elsewhere")])
    for folder, says in (
        ("missing", "missing: no such file or folder"),
        ("empty", "empty: holds none of train.json, dev.json, test.json"),
        ("others", "others: none of its rows has the `key` of a training row"),
    ):
        with pytest.raises(SettingsError, match=says) as refusal:
            load_splits(replace(settings, templates=str(tmp_path / folder)))
        assert str(refusal.value).startswith("data.templates=") and "\n" not in str(refusal.value)


def test_rows_without_a_key_are_joined_to_nothing(settings, templates, tmp_path):
    rows = [{name: value for name, value in row(i).items() if name != "key"} for i in range(10)]
    write(tmp_path / "natural" / "train.json", rows)
    with pytest.raises(SettingsError, match="none of its rows has the `key` of a training row"):
        load_splits(replace(settings, **templates))


# Values


def test_versions_take_values_from_no_held_out_row(settings):
    splits = load_splits(replace(settings, augment=90))
    held_out = {pair.sql for pair in [*splits.validation, *splits.test]}
    assert not held_out & {pair.sql for pair in splits.train}
