"""Every source gives clean pairs, and says of every row it cannot use where it stands and why."""

import json
import sys
from types import SimpleNamespace

import pytest

from medsql.config import DataSettings, SettingsError
from medsql.data.corpus import corpus_splits
from medsql.data.pairs import Pair
from medsql.data.sources import read_source


def settings(source, path=None, prompt="question", **more):
    return DataSettings(source=source, split="source", prompt=prompt, path=path and str(path), **more)


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(r if isinstance(r, bytes) else json.dumps(r).encode() for r in rows) + b"\n")
    return path


def conversation(question, sql):
    turns = [("system", "You write SQL."), ("user", question), ("assistant", sql)]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.fixture(autouse=True)
def private_datasets_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))


# What each source reads


def test_mimicsql_reads_the_published_files_by_their_names(tmp_path):
    for name, question in (("train", "t?"), ("dev", "d?"), ("test", "e?")):
        row = {"key": "x", "question_refine": question, "sql": "SELECT 1", "format": {"table": [0]}}
        write_lines(tmp_path / f"{name}.json", [row])
    source = read_source(settings("mimicsql", tmp_path))
    assert source.splits == {
        "train": [Pair("t?", "SELECT 1")],
        "validation": [Pair("d?", "SELECT 1")],
        "test": [Pair("e?", "SELECT 1")],
    }
    assert source.dropped == {}


def test_a_mimicsql_folder_with_one_file_has_one_split(tmp_path):
    write_lines(tmp_path / "dev.json", [{"question_refine": "q", "sql": "s"}])
    assert list(read_source(settings("mimicsql", tmp_path)).splits) == ["validation"]


def test_one_jsonl_file_is_training_rows(tmp_path):
    path = write_lines(tmp_path / "mine.txt", [{"question": "q", "sql": "s", "note": 1}])
    assert read_source(settings("jsonl", path)).splits == {"train": [Pair("q", "s")]}


def test_a_jsonl_folder_has_a_file_for_each_split(tmp_path):
    for name in ("train", "test"):
        write_lines(tmp_path / f"{name}.jsonl", [{"question": name, "sql": "s"}])
    assert read_source(settings("jsonl", tmp_path)).splits == {
        "train": [Pair("train", "s")],
        "test": [Pair("test", "s")],
    }


def test_conversations_become_pairs_of_their_last_turns(tmp_path):
    folder = tmp_path / "repository" / "mimicsql_natural_v2"
    retried = conversation("first try", "SELECT 1")
    retried["messages"] += conversation("second try", "SELECT 2")["messages"]
    write_lines(folder / "train.json", [conversation(" how many? ", "SELECT 3"), retried])
    write_lines(folder / "test.json", [conversation("t", "SELECT 4")])
    assert read_source(settings("medical_text_to_sql", folder.parent)).splits == {
        "train": [Pair("how many?", "SELECT 3"), Pair("second try", "SELECT 2")],
        "test": [Pair("t", "SELECT 4")],
    }


def test_the_corpus_is_generated_as_configured():
    source = read_source(settings("corpus", prompt="none", lossless=False, pairs=12, seed=7))
    assert source.dropped == {}
    assert source.splits["train"] == corpus_splits(12, seed=7)["train"]
    assert source.splits.keys() == {"train", "validation", "test"}


def test_the_synthetic_source_is_generated_as_configured(monkeypatch):
    def synthetic_splits(admissions, pairs, seed):
        return {"train": [Pair(f"{admissions} {pairs} {seed}", "s")], "validation": [], "test": []}

    monkeypatch.setitem(
        sys.modules, "medsql.data.hospital", SimpleNamespace(synthetic_splits=synthetic_splits)
    )
    source = read_source(settings("synthetic", admissions=30, pairs=40, seed=7))
    assert source.splits == {"train": [Pair("30 40 7", "s")], "validation": [], "test": []}


# Clean text


def test_text_is_trimmed_and_composed_and_otherwise_kept(tmp_path):
    rows = [{"question": "  Rene\u0301  has {braces}\n", "sql": "\tSELECT  \u2028 'x' \u00a0"}]
    path = write_lines(tmp_path / "a.jsonl", rows)
    (pair,) = read_source(settings("jsonl", path)).splits["train"]
    assert pair == Pair("Ren\u00e9  has {braces}", "SELECT  \u2028 'x'")


def test_a_byte_order_mark_and_blank_lines_are_no_rows(tmp_path):
    lines = [b'\xef\xbb\xbf{"question": "q", "sql": "s"}', b"", b"   ", b'{"question": "r", "sql": "s"}\r']
    path = write_lines(tmp_path / "a.jsonl", lines)
    source = read_source(settings("jsonl", path))
    assert source.splits["train"] == [Pair("q", "s"), Pair("r", "s")]
    assert source.dropped == {}


def test_exact_duplicates_are_all_read(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [{"question": "q", "sql": "s"}] * 3)
    assert len(read_source(settings("jsonl", path)).splits["train"]) == 3


# Rows that cannot be used


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"{oops", "bad_json"),
        (b'{"question": "cut off', "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b'{"question": "\xff", "sql": "s"}', "not_utf8"),
        (["q", "s"], "not_an_object"),
        ("q", "not_an_object"),
        ({"question": 3, "sql": "s"}, "wrong_type"),
        ({"question": "q", "sql": ["s"]}, "wrong_type"),
        (b'{"question": "half \\ud83d", "sql": "s"}', "not_unicode"),
        (b'{"question": "q", "sql": "s \\u0000 s"}', "null_character"),
        ({"sql": "s"}, "no_question"),
        ({"question": None, "sql": "s"}, "no_question"),
        ({"question": " \u00a0 ", "sql": "s"}, "no_question"),
        ({"question": "q"}, "no_sql"),
        ({"question": "q", "sql": ""}, "no_sql"),
        ({"Question": "q", "SQL": "s"}, "no_question"),
    ],
)
def test_an_unusable_line_is_dropped_and_counted_by_its_reason(tmp_path, caplog, row, reason):
    good = {"question": "good", "sql": "s"}
    path = write_lines(tmp_path / "a.jsonl", [good, row, good])
    source = read_source(settings("jsonl", path))
    assert source.splits["train"] == [Pair("good", "s")] * 2
    assert source.dropped == {"train": {reason: 1}}
    assert f"{path}:2: row dropped, {reason}" in caplog.text


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (None, "no_question"),
        ([], "no_question"),
        ([{"role": "assistant", "content": "s"}], "no_question"),
        ([{"role": "user", "content": "q"}], "no_sql"),
        ([{"role": "user", "content": 3}, {"role": "assistant", "content": "s"}], "wrong_type"),
        ("q", "wrong_type"),
        (["q", "s"], "wrong_type"),
    ],
)
def test_an_unusable_conversation_is_dropped_and_counted(tmp_path, caplog, messages, reason):
    write_lines(tmp_path / "hub" / "train.json", [conversation("good", "s"), {"messages": messages}])
    source = read_source(settings("medical_text_to_sql", tmp_path / "hub"))
    assert source.splits["train"] == [Pair("good", "s")]
    assert source.dropped == {"train": {reason: 1}}
    assert f"train row 1: row dropped, {reason}" in caplog.text


def test_reasons_are_counted_for_each_split_and_only_the_first_rows_are_listed(tmp_path, caplog):
    write_lines(
        tmp_path / "train.jsonl", [b"{oops"] * 50 + [{"question": "q", "sql": "s"}, {"question": "q"}]
    )
    write_lines(tmp_path / "test.jsonl", [[]])
    source = read_source(settings("jsonl", tmp_path))
    assert source.dropped == {"train": {"bad_json": 50, "no_sql": 1}, "test": {"not_an_object": 1}}
    assert "train: 51 rows dropped (bad_json 50, no_sql 1), 1 kept" in caplog.text
    assert caplog.text.count("train.jsonl:") == 3


# Sources that cannot be read


@pytest.mark.parametrize("source", ["mimicsql", "jsonl", "medical_text_to_sql"])
def test_a_missing_path_is_named(tmp_path, source):
    with pytest.raises(SettingsError, match=f"^data.path={tmp_path}/gone: no such") as error:
        read_source(settings(source, tmp_path / "gone"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("source", "wanted"), [("mimicsql", "dev.json"), ("jsonl", "validation.jsonl")])
def test_a_folder_without_the_files_says_which_it_wants(tmp_path, source, wanted):
    with pytest.raises(SettingsError, match=f"holds none of .*{wanted}"):
        read_source(settings(source, tmp_path))


def test_mimicsql_wants_the_folder_not_a_file_in_it(tmp_path):
    path = write_lines(tmp_path / "dev.json", [{"question_refine": "q", "sql": "s"}])
    with pytest.raises(SettingsError, match=r"is no folder; .*train\.json, dev\.json, test\.json"):
        read_source(settings("mimicsql", path))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "train.jsonl").mkdir()
    with pytest.raises(SettingsError, match=r"cannot read .*train\.jsonl: Is a directory"):
        read_source(settings("jsonl", tmp_path))


def test_a_hub_folder_that_datasets_cannot_load_says_why_in_one_line(tmp_path):
    write_lines(tmp_path / "hub" / "train.json", [conversation("q", "s"), b"{oops"])
    with pytest.raises(SettingsError, match=r"datasets cannot load it: .*JSON parse error") as error:
        read_source(settings("medical_text_to_sql", tmp_path / "hub"))
    assert "\n" not in str(error.value)


def test_a_hub_folder_without_conversations_says_what_it_has(tmp_path):
    write_lines(tmp_path / "hub" / "train.json", [{"question": "q", "sql": "s"}])
    with pytest.raises(SettingsError, match="train has no column messages; it has question, sql"):
        read_source(settings("medical_text_to_sql", tmp_path / "hub"))
