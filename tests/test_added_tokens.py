"""Tokens added for what a vocabulary lacks, as docs/added_tokens.py does, and what PEFT trains of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from added_tokens import Side, adapted, add_tokens, with_tokens
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tiny import T5_LACKS, t5_tokenizer, tiny_t5
from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerBase, T5ForConditionalGeneration

from benchmarks.materials import load
from medsql.config import ModelSettings
from medsql.data.spelling import Spelling, decoded, needed_spelling
from medsql.model.backbone import load_backbone
from medsql.model.lora import merge_adapter

TOKENS = torch.tensor([[5, 100, 101, 1]])


@pytest.fixture(params=["mini_t5", "T5"])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> PreTrainedTokenizerBase:
    if request.param == "T5":
        return t5_tokenizer(tmp_path)
    return load_backbone(ModelSettings("mini_t5", "bundled:mini", lacks=T5_LACKS)).tokenizer


@pytest.fixture(scope="module")
def side() -> Side:
    return with_tokens(load("model=mini_t5", "data.pairs=50", "trainer.threads=1"))


def come_back(tokenizer: PreTrainedTokenizerBase, spelling: Spelling, texts: list[str]) -> list[bool]:
    ids = tokenizer(text_target=[spelling.spell(text) for text in texts])["input_ids"]
    return [spelling.unspell(back) == text for back, text in zip(decoded(tokenizer, ids), texts, strict=True)]


def test_any_text_comes_back_and_a_code_is_one_token(tokenizer: PreTrainedTokenizerBase) -> None:
    spelling = needed_spelling(tokenizer, [])
    added = add_tokens(tokenizer, [*spelling.codes.values()])
    rng = random.Random(0)
    texts = ["".join(rng.choices([*T5_LACKS, *'A b="5@l '], k=rng.randint(0, 30))) for _ in range(500)]
    texts = [f"SELECT {text}".strip() for text in ["A < 5", "A<=5", "<5", "A <", *texts]]
    assert all(come_back(added, spelling, texts))
    assert spelling.codes["<"] in added.tokenize(spelling.spell("A <= 5"))


def test_tokens_that_are_just_added_make_up_spaces(tokenizer: PreTrainedTokenizerBase) -> None:
    spelling = needed_spelling(tokenizer, [])
    tokenizer.add_tokens([*spelling.codes.values()])
    assert not any(come_back(tokenizer, spelling, ["A <= 5", "A<b"]))


def test_the_added_rows_are_trained_as_inputs_and_as_outputs_and_no_other_row_is(side: Side) -> None:
    model = adapted(side).eval()
    batch = {"input_ids": TOKENS, "labels": TOKENS}
    before = model(**batch).logits.detach()
    (rows,) = (weight for name, weight in model.named_parameters() if "tokens_delta" in name)
    assert rows.requires_grad and len(rows) == len(side.added)
    with torch.no_grad():
        rows.normal_()
    after = model(**batch).logits.detach()
    changed = (before != after).any(dim=(0, 1)).nonzero().flatten().tolist()
    assert changed == side.added, "of the inputs, none was an added token"
    asked = model(input_ids=torch.tensor([[*side.added, 1]]), labels=TOKENS).logits.detach()
    merged = merge_adapter(model)
    again = merged(input_ids=torch.tensor([[*side.added, 1]]), labels=TOKENS).logits
    torch.testing.assert_close(again, asked)


def test_but_for_them_both_sides_start_alike(side: Side) -> None:
    plain = dict(side._replace(added=[]).materials.model().named_parameters())
    for name, weight in adapted(side).named_parameters():
        if "lora" in name:
            assert torch.equal(weight, plain[name]), name


# A T5 whose output layer is its own, as FLAN-T5's, in transformers 5.23 and PEFT 0.21


@pytest.fixture
def untied(tmp_path: Path) -> T5ForConditionalGeneration:
    model = tiny_t5(vocab_size=102, tie_word_embeddings=False)
    weights = {name: weight.clone() for name, weight in model.state_dict().items() if "embed" not in name}
    weights["lm_head.weight"] = torch.randn(102, 16)
    model.save_pretrained(tmp_path)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    return AutoModelForSeq2SeqLM.from_pretrained(tmp_path)


def test_more_embeddings_replace_an_output_layer_of_its_own(untied: T5ForConditionalGeneration) -> None:
    before = untied.lm_head.weight.clone()
    assert untied.lm_head.weight is not untied.shared.weight
    untied.resize_token_embeddings(104)
    assert untied.lm_head.weight is untied.shared.weight
    assert not torch.equal(untied.lm_head.weight[:102], before)


def test_a_token_has_one_trained_row_for_both_layers_though_they_are_not_tied(
    untied: T5ForConditionalGeneration,
) -> None:
    own = untied.eval()(input_ids=TOKENS, labels=TOKENS).logits
    config = LoraConfig(target_modules=["q"], trainable_token_indices=[100, 101])
    model = get_peft_model(untied, config).eval()
    logits = model(input_ids=TOKENS, labels=TOKENS).logits
    changed = (own - logits).abs().amax(dim=(0, 1)) > 1e-3
    assert changed.nonzero().flatten().tolist() == [100, 101], "the output layer's own rows are gone"
