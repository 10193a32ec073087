"""The bundled base: its size, its tokenizer, how it loads, and that it is a base and no more."""

from __future__ import annotations

import shutil
import string

import pytest
from safetensors import safe_open

from medsql.assets import checkpoint_folder
from medsql.composition import to_settings, with_paths
from medsql.config import ModelSettings, SettingsError, TrainSettings
from medsql.data.corpus import corpus_splits
from medsql.data.hospital import synthetic_splits
from medsql.data.prompts import prompt_template, render
from medsql.model.backbone import load_backbone
from medsql.runs.fingerprint import by_content

FOLDER = checkpoint_folder("bundled:mini")


@pytest.fixture(scope="module")
def mini():
    return load_backbone(ModelSettings("mini", "bundled:mini"))


def test_it_is_small(mini):
    assert sum(weights.numel() for weights in mini.model.parameters()) <= 12_000_000
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 25_000_000
    with safe_open(FOLDER / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118


def test_its_identity_is_its_content_wherever_it_lies(tmp_path):
    copied = shutil.copytree(FOLDER, tmp_path / "elsewhere")
    assert by_content("bundled:mini") == by_content(str(copied))
    (copied / "config.json").write_text("{}")
    assert by_content("bundled:mini") != by_content(str(copied))


def test_what_is_not_bundled_is_refused_before_anything_is_loaded(composed):
    config = composed("train", "model.checkpoint=bundled:maxi")
    with pytest.raises(SettingsError, match="bundled:maxi: no such checkpoint"):
        with_paths(to_settings(config, TrainSettings))


def test_every_printable_character_survives(mini):
    printable = "".join(c for c in string.printable if c.isprintable()).strip()
    texts = [printable, printable[::-1], *(f'x = "{c}{c} {c}y"' for c in printable)]
    ids = mini.tokenizer(texts)["input_ids"]
    assert mini.tokenizer.batch_decode(ids, skip_special_tokens=True) == texts


def test_every_target_of_the_synthetic_hospital_survives(mini):
    targets = [pair.sql for pair in synthetic_splits(100, 500, seed=7)["train"]]
    ids = mini.tokenizer(targets)["input_ids"]
    assert mini.tokenizer.batch_decode(ids, skip_special_tokens=True) == targets


def test_its_card_says_what_it_is():
    card = (FOLDER / "README.md").read_text()
    for part in ("medsql.pretrain", "schemas it never saw", "What was tried", "bfloat16"):
        assert part in card


def answers(mini, pairs, template):
    prompts = [render(template, pair.question) for pair in pairs]
    batch = mini.tokenizer(prompts, padding=True, return_tensors="pt")
    ids = mini.model.generate(**batch, max_new_tokens=160, num_beams=1, do_sample=False)
    return mini.tokenizer.batch_decode(ids, skip_special_tokens=True)


def test_it_copies_values_and_names_of_databases_it_never_saw(mini):
    unseen = corpus_splits(10, seed=5)["validation"]
    pairs = [pair for pair in unseen if pair.question.startswith("translate")][:40]
    written = answers(mini, pairs, "{question}")
    assert sum(sql.upper() == pair.sql.upper() for sql, pair in zip(written, pairs, strict=True)) >= 10


def test_of_clinical_data_it_knows_nothing_yet(mini):
    pairs = synthetic_splits(100, 500, seed=7)["train"][:24]
    written = answers(mini, pairs, prompt_template("question"))
    assert not [sql for sql, pair in zip(written, pairs, strict=True) if sql.upper() == pair.sql.upper()]
