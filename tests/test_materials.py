"""What the jobs of one process share is loaded once, and no job finds it changed by another."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import t5_tokenizer, tiny_t5, tiny_tokenizer
from torch import nn
from transformers import AutoModelForSeq2SeqLM

from medsql import cache
from medsql.config import DataSettings, LoraSettings, ModelSettings, SettingsError
from medsql.data.spelling import Spelling
from medsql.data.tokenized import _Task
from medsql.materials import shared_backbone, shared_splits, shared_tokens
from medsql.model.lora import add_lora

LORA = LoraSettings(targets=["q", "v"], r=2, alpha=4, dropout=0.1)
OTHERS = [
    replace(LORA, r=4, targets=["q", "k", "v", "o"]),
    replace(LORA, targets=["wi", "wo"]),
    replace(LORA, use_dora=True),
    replace(LORA, use_rslora=True),
]


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process whose first job this is."""
    monkeypatch.setattr(cache, "_kept", {})


@pytest.fixture
def model(tmp_path: Path) -> ModelSettings:
    tiny_t5(dropout_rate=0.0).save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    return ModelSettings("tiny", str(tmp_path / "base"))


@pytest.fixture
def data(tmp_path: Path) -> DataSettings:
    write_rows(tmp_path / "rows.jsonl", 30)
    path, cache = str(tmp_path / "rows.jsonl"), str(tmp_path / "cache")
    return DataSettings(source="jsonl", split="source", prompt="question", path=path, cache_dir=cache)


def write_rows(file: Path, count: int) -> None:
    rows = [{"question": f"beds of ward {i}?", "sql": f"SELECT B FROM W WHERE N = {i}"} for i in range(count)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is loaded and tokenised in the test, a word each."""
    done: list[str] = []
    load, build = AutoModelForSeq2SeqLM.from_pretrained, _Task.build

    def counted_load(*arguments: Any, **options: Any) -> Any:
        done.append("model")
        return load(*arguments, **options)

    def counted_build(*arguments: Any) -> Any:
        done.append("tokens")
        return build(*arguments)

    monkeypatch.setattr(AutoModelForSeq2SeqLM, "from_pretrained", counted_load)
    monkeypatch.setattr(_Task, "build", counted_build)
    return done


def digest(model: nn.Module) -> str:
    """Of every weight's name and bytes."""
    hashed = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        hashed.update(name.encode() + tensor.detach().float().numpy().tobytes())
    return hashed.hexdigest()


def train_a_little(model: nn.Module) -> None:
    model.train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.1, weight_decay=0.1)
    ids = torch.tensor([[5, 6, 7, 1]])
    for _ in range(2):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()


def test_jobs_that_start_from_the_same_load_it_once(
    model: ModelSettings, data: DataSettings, loads: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    reused = []
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            splits, backbone = shared_splits(data), shared_backbone(model)
            tokens = shared_tokens(splits, backbone, data)
            reused.append([each["reused"] for each in (splits.record, tokens.record, backbone.record())])
    assert sorted(loads) == ["model", "tokens", "tokens", "tokens"]  # a call for each of three splits
    assert reused == [[False] * 3, [True] * 3, [True] * 3]
    for kind in ("rows", "base model", "tokens"):
        assert caplog.text.count(f"{kind}: as loaded before") == 2


def test_a_file_that_changed_in_between_is_read_again(model: ModelSettings, data: DataSettings) -> None:
    before = shared_splits(data)
    shared_tokens(before, shared_backbone(model), data)
    write_rows(Path(str(data.path)), 40)
    after = shared_splits(data)
    tokens = shared_tokens(after, shared_backbone(model), data)
    assert len(before.train) < len(after.train) == len(tokens.train)
    assert not after.record["reused"] and not tokens.record["reused"]


def test_templates_that_changed_in_between_are_read_again(tmp_path: Path) -> None:
    def write(folder: str, words: str) -> None:
        rows = [
            {"key": f"{i}", "sql": f"SELECT {i}", "question_refine": f"{words} drug {i}?"} for i in range(10)
        ]
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "train.json").write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("natural", "how many are")
    write("templates", "number of")
    path, templates = (str(tmp_path / folder) for folder in ("natural", "templates"))
    data = DataSettings("mimicsql", "report", "question", path=path, templates=templates)
    before = shared_splits(data)
    write("templates", "count of")
    after = shared_splits(data)
    assert not after.record["reused"]
    assert [pair.question.split()[0] for pair in (before.train[-1], after.train[-1])] == ["number", "count"]


def test_a_checkpoint_that_changed_in_between_is_read_again(model: ModelSettings) -> None:
    before = digest(shared_backbone(model).model)
    other = tiny_t5()
    nn.init.ones_(other.shared.weight)
    other.save_pretrained(model.checkpoint)
    after = shared_backbone(model)
    assert digest(after.model) != before and not after.reused


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "schema"},
        {"max_input_tokens": 5},
        {"max_target_tokens": 5},
        {"lossless": False},
        {"cache_dir": "other"},
    ],
)
def test_another_prompt_or_length_takes_the_same_rows_and_makes_other_tokens(
    model: ModelSettings, data: DataSettings, tmp_path: Path, change: dict[str, Any]
) -> None:
    backbone = shared_backbone(model)
    shared_tokens(shared_splits(data), backbone, data)
    if "cache_dir" in change:
        change = {"cache_dir": str(tmp_path / "other")}
    other = replace(data, **change)
    splits = shared_splits(other)
    assert splits.record["reused"]
    assert not shared_tokens(splits, backbone, other).record["reused"]


def test_a_tokenizer_made_to_lack_characters_is_another_base_and_makes_other_tokens(
    data: DataSettings, tmp_path: Path
) -> None:
    tiny_t5().save_pretrained(tmp_path / "t5")  # not where the cache lies, which grows
    t5_tokenizer(tmp_path / "t5")
    splits, whole = shared_splits(data), ModelSettings("t5", str(tmp_path / "t5"))
    plain = shared_tokens(splits, shared_backbone(whole), data)
    lacking = shared_backbone(replace(whole, lacks="="))
    tokens = shared_tokens(splits, lacking, data)
    assert not lacking.reused and not tokens.record["reused"]
    assert "=" in tokens.spelling.codes.keys() - plain.spelling.codes.keys()
    assert not shared_tokens(splits, lacking, data, Spelling()).record["reused"]


@pytest.mark.parametrize("change", [{"train_rows": 5}, {"split": "report"}])
def test_other_rows_are_not_taken_for_the_same(data: DataSettings, change: dict[str, Any]) -> None:
    shared_splits(data)
    assert not shared_splits(replace(data, **change)).record["reused"]


def test_another_precision_is_another_model(model: ModelSettings) -> None:
    shared_backbone(model)
    halved = shared_backbone(replace(model, dtype="bfloat16"))
    assert halved.model.dtype == torch.bfloat16 and not halved.reused


def test_every_job_finds_the_base_as_it_was_loaded(model: ModelSettings, loads: list[str]) -> None:
    """Whatever was put into it and trained, in whatever mode it was left, and whether or not that failed."""
    first = shared_backbone(model).model
    loaded, names = digest(first), [name for name, _ in first.named_parameters()]
    for lora in (LORA, *OTHERS, LORA):
        base = shared_backbone(model).model
        assert digest(base) == loaded
        assert [name for name, _ in base.named_parameters()] == names
        assert not base.training and all(weight.requires_grad for weight in base.parameters())
        adapted = add_lora(base, lora)
        before = [weight.clone() for weight in adapted.parameters() if weight.requires_grad]
        train_a_little(adapted)
        after = [weight for weight in adapted.parameters() if weight.requires_grad]
        assert not all(map(torch.equal, before, after))
        with pytest.raises(IndexError):  # a batch no embedding fits: the job ends in the middle of a step
            adapted(input_ids=torch.tensor([[9999]]), labels=torch.tensor([[1]]))
        adapted.bfloat16()
    assert digest(shared_backbone(model).model) == loaded
    assert loads == ["model"]


def test_a_base_whose_own_weights_are_trained_is_handed_over_and_loaded_again(
    model: ModelSettings, loads: list[str]
) -> None:
    loaded = digest(shared_backbone(model).model)
    taken = shared_backbone(model, trained=True)
    assert taken.reused
    train_a_little(add_lora(taken.model, replace(LORA, targets=None)))
    assert digest(taken.model) != loaded
    assert digest(shared_backbone(model).model) == loaded
    assert loads == ["model", "model"]


def test_sharing_takes_no_memory_for_weights(model: ModelSettings) -> None:
    one, other = (shared_backbone(model).model for _ in range(2))
    places = [[weight.data_ptr() for weight in base.parameters()] for base in (one, other)]
    assert places[0] == places[1]
    assert len({id(weight) for base in (one, other) for weight in base.parameters()}) == 2 * len(places[0])


def test_a_tokenizer_is_left_as_it_was_loaded(model: ModelSettings) -> None:
    def state(tokenizer: Any) -> str:
        return str(tokenizer.backend_tokenizer.to_str())

    first = shared_backbone(model).tokenizer
    loaded = state(first)
    first("a long question", truncation=True, max_length=3)
    first.add_tokens(["ward"])
    assert state(first) != loaded
    assert state(shared_backbone(model).tokenizer) == loaded


def test_what_does_not_load_is_not_kept(model: ModelSettings) -> None:
    missing = replace(model, checkpoint=f"{model.checkpoint}-elsewhere")
    with pytest.raises(SettingsError):
        shared_backbone(missing)
    Path(model.checkpoint).rename(missing.checkpoint)
    assert not shared_backbone(missing).reused
