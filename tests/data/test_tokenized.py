"""Token ids are what the tokenizer says, and the cache gives the same ones, or says that it could not."""

import multiprocessing
import resource
import string
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from tiny import t5_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from medsql.config import DataSettings
from medsql.data.pairs import Pair
from medsql.data.prompts import prompt_template, render
from medsql.data.spelling import Spelling, decoded
from medsql.data.splits import Splits
from medsql.data.tokenized import tokenize_splits, tokenizer_digest

PAIRS = [
    Pair(f"how many patients are older than {n}?", f'SELECT COUNT ( * ) WHERE AGE > "{n}"') for n in range(9)
]


def t5_like_tokenizer(**special):
    """A tokenizer of T5's make, SentencePiece-style pieces and an end token, trained in no time."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    texts = [prompt_template("report")] + [text for pair in PAIRS for text in (pair.question, pair.sql)]
    trainer = trainers.BpeTrainer(
        vocab_size=350,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=[*string.printable.strip()],  # so that nothing has to be spelled
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", **special}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


@pytest.fixture(scope="module")
def tokenizer():
    return t5_like_tokenizer()


@pytest.fixture
def settings(tmp_path):
    return DataSettings(
        source="synthetic", split="source", prompt="question", cache_dir=str(tmp_path / "cache")
    )


SPLITS = Splits(PAIRS[:5], PAIRS[5:7], PAIRS[7:], {})


def states(tokenized):
    return [tokenized.record["cache"][name]["state"] for name in ("train", "validation", "test")]


def rows(dataset):
    return [(row["input_ids"], row["labels"]) for row in dataset]


# What is stored


def test_inputs_are_prompts_and_labels_are_sql_with_an_end_token(tokenizer, settings):
    tokenized = tokenize_splits(SPLITS, tokenizer, settings)
    assert tokenized.train.column_names == ["input_ids", "labels"]
    row = tokenized.train[3]
    prompt = render(prompt_template("question"), PAIRS[3].question)
    assert tokenizer.decode(row["input_ids"], skip_special_tokens=True) == prompt
    assert tokenizer.decode(row["labels"], skip_special_tokens=True) == PAIRS[3].sql
    assert row["input_ids"][-1] == row["labels"][-1] == tokenizer.eos_token_id
    assert tokenized.record["rows"] == {"train": 5, "validation": 2, "test": 2}


@pytest.mark.parametrize("prompt", ["report", "schema", "question"])
def test_ids_are_those_of_the_whole_prompt(tokenizer, settings, prompt):
    tokenized = tokenize_splits(SPLITS, tokenizer, replace(settings, prompt=prompt))
    expected = tokenizer(render(prompt_template(prompt), PAIRS[7].question))["input_ids"]
    assert tokenized.test[0]["input_ids"] == expected


def test_a_pad_or_unknown_token_in_a_target_is_a_label_like_any_other(tokenizer, settings):
    splits = Splits([Pair("q", "SELECT <pad> \u00e9")], PAIRS[5:7], [], {})
    labels = tokenize_splits(splits, tokenizer, replace(settings, lossless=False)).train[0]["labels"]
    assert tokenizer.pad_token_id in labels and tokenizer.unk_token_id in labels
    assert -100 not in labels


def test_truncated_rows_keep_their_end_token_and_are_counted(tokenizer, settings, caplog):
    long = Pair("how " * 50, "SELECT " * 40)
    splits = Splits([PAIRS[0], long], [long], PAIRS[7:], {})
    shorter = replace(settings, max_input_tokens=40, max_target_tokens=30)
    for attempt in ("built", "cached"):
        caplog.clear()
        tokenized = tokenize_splits(splits, tokenizer, shorter)
        ids = tokenized.train[1]
        assert (len(ids["input_ids"]), len(ids["labels"])) == (40, 30), attempt
        assert ids["input_ids"][-1] == ids["labels"][-1] == tokenizer.eos_token_id
        assert tokenized.record["truncated_inputs"] == {"train": 1, "validation": 1, "test": 0}
        assert tokenized.record["truncated_targets"] == {"train": 1, "validation": 1, "test": 0}
        assert tokenized.longest_target == tokenized.record["longest_target"] == 30
        assert "train: 1 input truncated to 40 tokens" in caplog.text
        assert "validation: 1 target truncated to 30 tokens" in caplog.text


def test_the_longest_target_is_that_of_the_training_rows(tokenizer, settings):
    splits = Splits(PAIRS[:3], [Pair("q", "SELECT " * 40)], [Pair("q", "SELECT " * 50)], {})
    tokenized = tokenize_splits(splits, tokenizer, settings)
    assert tokenized.longest_target == max(len(row["labels"]) for row in tokenized.train) < 40


def test_more_rows_than_are_tokenised_at_once_stay_in_order(tokenizer, settings):
    many = [Pair(f"question {n}", f"SELECT {n}") for n in range(2345)]
    tokenized = tokenize_splits(Splits(many, PAIRS[5:7], [], {}), tokenizer, settings)
    decoded = [tokenizer.decode(ids, skip_special_tokens=True) for ids in tokenized.train["labels"]]
    assert decoded == [pair.sql for pair in many]
    assert len(tokenized.test) == 0


# What a vocabulary lacks

LOSSY = Splits(
    [Pair("up to 5?", 'A <= "5"'), Pair("which is a\\b?", 'B = "a\\b"'), Pair("all @ home?", "@")],
    [Pair("a", "A")],
    [Pair("é ~?", 'C < "é"')],
    {},
)


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return t5_tokenizer(tmp_path_factory.mktemp("t5"))


def test_targets_and_questions_are_spelled_and_the_prompt_around_them_is_not(t5, settings):
    tokenized = tokenize_splits(LOSSY, t5, replace(settings, prompt="report", max_input_tokens=2000))
    prompt = prompt_template("report")
    assert tokenized.train[0]["input_ids"] == t5(render(prompt, "up to 5?"))["input_ids"]
    assert tokenized.train[1]["input_ids"] == t5(render(prompt, "which is a@bb?"))["input_ids"]
    written = decoded(t5, list(tokenized.train["labels"]))
    assert written == ['A @l= "5"', 'B = "a@bb"', "@@"]
    assert [tokenized.spelling.unspell(text) for text in written] == [pair.sql for pair in LOSSY.train]


def test_what_is_lost_and_how_the_rest_is_spelled_is_counted_recorded_and_said(t5, settings, caplog):
    caplog.set_level("INFO")
    for attempt in ("built", "cached"):
        caplog.clear()
        record = tokenize_splits(LOSSY, t5, settings).record
        assert record["spelling"] == {
            **{"<": "@l", "\\": "@b", "^": "@h", "`": "@q", "{": "@o", "}": "@c", "~": "@t"},
            **{"  ": "@s", "@": "@@"},
        }
        assert record["lost"]["targets"] == {
            "characters": ["<", "\\", "é"],
            "unspelled": {"train": 2, "validation": 0, "test": 1},
            "spelled": {"train": 0, "validation": 0, "test": 1},  # é is in no training target
        }, attempt
        assert record["lost"]["questions"] == {
            "characters": ["\\", "~", "é"],
            "unspelled": {"train": 1, "validation": 0, "test": 1},
            "spelled": {"train": 0, "validation": 0, "test": 1},
        }
        assert "loses a part of 3 of 5 targets; spelled: '<' @l, '\\\\' @b\n" in caplog.text
        assert "1 of 5 targets cannot be written: the tokenizer loses 'é'\n" in caplog.text


def test_without_lossless_targets_stay_as_they_are_and_an_example_says_what_is_lost(t5, settings, caplog):
    published = replace(settings, lossless=False)
    for attempt in ("built", "cached"):
        caplog.clear()
        tokenized = tokenize_splits(LOSSY, t5, published)
        assert tokenized.train[0]["labels"] == t5('A <= "5"')["input_ids"]
        assert tokenized.spelling == Spelling() and tokenized.record["spelling"] == {}
        assert tokenized.record["lost"]["targets"]["spelled"] == {"train": 2, "validation": 0, "test": 1}
        assert 'which data.lossless=true spells; such as A <= "5"' in caplog.text, attempt


def test_where_nothing_is_lost_the_ids_are_those_of_the_texts_themselves(tokenizer, settings, caplog):
    caplog.set_level("INFO")
    tokenized = tokenize_splits(SPLITS, tokenizer, settings)
    assert rows(tokenized.train) == rows(
        tokenize_splits(SPLITS, tokenizer, replace(settings, lossless=False)).train
    )
    assert tokenized.record["spelling"] == {} and tokenized.record["lost"]["targets"]["characters"] == []
    assert "targets" not in caplog.text


def test_a_model_keeps_the_spelling_that_it_was_trained_in(t5, settings):
    own = Spelling({"<": "$l", "$": "$$"})
    tokenized = tokenize_splits(LOSSY, t5, settings, own)
    assert decoded(t5, list(tokenized.train["labels"]))[0] == 'A $l= "5"'
    assert tokenized.spelling == own
    assert tokenized.record["lost"]["targets"]["spelled"] == {"train": 1, "validation": 0, "test": 1}
    assert states(tokenize_splits(LOSSY, t5, settings)) == ["miss"] * 3


def test_a_target_that_is_truncated_is_not_lost(t5, settings):
    tokenized = tokenize_splits(LOSSY, t5, replace(settings, max_target_tokens=3))
    assert tokenized.record["truncated_targets"]["train"] > 0
    assert tokenized.record["lost"]["targets"]["spelled"]["train"] == 0


# The cache


def test_the_second_time_comes_from_disk_and_is_the_same(tokenizer, settings):
    first = tokenize_splits(SPLITS, tokenizer, settings)
    second = tokenize_splits(SPLITS, t5_like_tokenizer(), settings)
    assert states(first) == ["miss"] * 3
    assert states(second) == ["hit"] * 3
    assert rows(second.train) == rows(first.train)
    assert second.longest_target == first.longest_target
    assert second.train.cache_files, "not memory-mapped"


def test_a_split_that_did_not_change_is_not_built_again(tokenizer, settings):
    tokenize_splits(SPLITS, tokenizer, settings)
    assert states(tokenize_splits(replace(SPLITS, test=PAIRS[8:]), tokenizer, settings)) == [
        "hit",
        "hit",
        "miss",
    ]


@pytest.mark.parametrize(
    "change",
    [{"prompt": "schema"}, {"max_input_tokens": 40}, {"max_target_tokens": 10}],
    ids=lambda change: next(iter(change)),
)
def test_settings_that_change_the_ids_change_the_key(tokenizer, settings, change):
    tokenize_splits(SPLITS, tokenizer, settings)
    assert states(tokenize_splits(SPLITS, tokenizer, replace(settings, **change))) == ["miss"] * 3


def test_settings_that_do_not_change_the_ids_share_an_entry(tokenizer, settings):
    tokenize_splits(SPLITS, tokenizer, settings)
    elsewhere = replace(settings, source="jsonl", path="elsewhere.jsonl", train_rows=5, seed=7)
    assert states(tokenize_splits(SPLITS, tokenizer, elsewhere)) == ["hit"] * 3


def test_the_order_of_rows_is_part_of_the_key(tokenizer, settings):
    tokenize_splits(SPLITS, tokenizer, settings)
    assert states(tokenize_splits(replace(SPLITS, train=PAIRS[4::-1]), tokenizer, settings))[0] == "miss"


def test_a_tokenizer_is_known_by_what_it_does(tokenizer):
    digest = tokenizer_digest(tokenizer)
    assert tokenizer_digest(t5_like_tokenizer()) == digest
    grown = t5_like_tokenizer()
    grown.add_tokens([" <="])
    assert tokenizer_digest(grown) != digest
    assert tokenizer_digest(t5_like_tokenizer(pad_token="<unk>")) != digest
    assert tokenizer_digest(t5_like_tokenizer(truncation_side="left")) != digest


def test_using_a_tokenizer_does_not_change_its_digest(tokenizer):
    used = t5_like_tokenizer()
    used(["a", "a longer text"], truncation=True, max_length=3, padding="max_length")
    assert tokenizer_digest(used) == tokenizer_digest(tokenizer)


def test_a_tokenizer_without_a_fast_backend_is_cached_too(settings):
    tokenized = tokenize_splits(SPLITS, ByT5Tokenizer(), settings)
    assert ByT5Tokenizer().decode(tokenized.train[0]["labels"], skip_special_tokens=True) == PAIRS[0].sql
    assert states(tokenize_splits(SPLITS, ByT5Tokenizer(), settings)) == ["hit"] * 3
    assert states(tokenize_splits(SPLITS, ByT5Tokenizer(extra_ids=10), settings)) == ["miss"] * 3


# A cache in trouble


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def recount(path):
    """Digits are where a note can be wrong and still be read."""
    path.write_bytes(path.read_bytes().replace(b'_inputs": 0', b'_inputs": 5') + b" ")


@pytest.mark.parametrize("damage", [cut, flip, empty, recount], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("kind", ["arrow", "json"])
def test_a_damaged_entry_is_built_anew_and_said(tokenizer, settings, caplog, damage, kind):
    first = tokenize_splits(SPLITS, tokenizer, settings)
    damage(Path(settings.cache_dir, "tokenized", f"{first.record['cache']['train']['key']}.{kind}"))
    again = tokenize_splits(SPLITS, tokenizer, settings)
    assert states(again) == ["miss", "hit", "hit"]
    assert rows(again.train) == [(row["input_ids"], row["labels"]) for row in rebuilt(tokenizer)]
    assert "cannot be read" in caplog.text and "building it anew" in caplog.text
    assert states(tokenize_splits(SPLITS, tokenizer, settings)) == ["hit"] * 3


def rebuilt(tokenizer):
    return [
        {
            "input_ids": tokenizer(render(prompt_template("question"), pair.question))["input_ids"],
            "labels": tokenizer(pair.sql)["input_ids"],
        }
        for pair in SPLITS.train
    ]


def test_an_entry_without_its_note_is_one_that_was_never_finished(tokenizer, settings):
    first = tokenize_splits(SPLITS, tokenizer, settings)
    Path(settings.cache_dir, "tokenized", f"{first.record['cache']['test']['key']}.json").unlink()
    assert states(tokenize_splits(SPLITS, tokenizer, settings)) == ["hit", "hit", "miss"]


def test_a_cache_folder_that_cannot_be_made_costs_a_warning(tokenizer, settings, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    tokenized = tokenize_splits(
        SPLITS, tokenizer, replace(settings, cache_dir=str(tmp_path / "file" / "cache"))
    )
    assert states(tokenized) == ["unusable"] * 3
    assert tokenizer.decode(tokenized.test[1]["labels"], skip_special_tokens=True) == PAIRS[8].sql
    assert "cannot be used" in caplog.text and "Not a directory" in caplog.text


def test_a_full_disk_costs_a_warning_and_leaves_nothing_half_written(tokenizer, settings, caplog):
    """A limit on the size of files stands in for the disk: the writes fail half-way in the same manner."""
    many = [Pair(f"question {n}", "SELECT " * 50) for n in range(1000)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        tokenized = tokenize_splits(Splits(many, PAIRS[5:7], PAIRS[7:], {}), tokenizer, settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert states(tokenized) == ["unusable", "miss", "miss"]
    assert len(tokenized.train) == 1000
    key = tokenized.record["cache"]["train"]["key"]
    left = [path.name for path in Path(settings.cache_dir, "tokenized").glob(f"{key}*")]
    assert left in ([], [f"{key}.lock"])
    assert "cannot be used" in caplog.text


def build(settings, tokenizer, start, results):
    """Writes slowly, so that the other one comes while this one is at it."""

    def slowly(source, target, replace=Path.replace):
        time.sleep(0.5)
        return replace(source, target)

    start.wait()
    with patch.object(Path, "replace", slowly):
        tokenized = tokenize_splits(SPLITS, tokenizer, settings)
    results.put((states(tokenized), rows(tokenized.train)))


def test_processes_that_start_together_build_once(settings, tokenizer):
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(2), context.Queue()
    given = (settings, tokenizer, start, results)
    workers = [context.Process(target=build, args=given, daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    (one, rows_of_one), (other, rows_of_other) = results.get(timeout=120), results.get(timeout=120)
    for worker in workers:
        worker.join()
    assert rows_of_one == rows_of_other
    assert sorted([*one, *other]) == ["hit"] * 3 + ["miss"] * 3


def build_and_hang(settings, tokenizer, writing):
    """Stops for good in the middle of the first entry, its file written aside and its lock held."""

    def hang(source, target):
        writing.set()
        time.sleep(600)

    with patch.object(Path, "replace", hang):
        tokenize_splits(SPLITS, tokenizer, settings)


def test_a_process_killed_while_building_stands_in_nobodys_way(settings, tokenizer):
    context = multiprocessing.get_context("fork")
    writing = context.Event()
    worker = context.Process(target=build_and_hang, args=(settings, tokenizer, writing), daemon=True)
    worker.start()
    assert writing.wait(timeout=120)
    worker.kill()
    worker.join()
    tokenized = tokenize_splits(SPLITS, tokenizer, settings)
    assert states(tokenized) == ["miss"] * 3
    assert not list(Path(settings.cache_dir).rglob("*.tmp"))


def test_tokenising_many_rows_says_how_far_it_has_come(tokenizer, settings, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr("medsql.data.tokenized.CHUNK", 2)
    monkeypatch.setattr("medsql.data.tokenized.EVERY_SECONDS", 0)
    tokenize_splits(SPLITS, tokenizer, settings)
    assert f"tokenised 2 of {len(SPLITS.train)} rows" in caplog.text
