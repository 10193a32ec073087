"""`python -m medsql.pretrain`: the same seed gives the same corpus and weights, stopped or not."""

from __future__ import annotations

import pytest
from end_to_end_tools import kill_when_training, record, run_command
from safetensors.torch import load_file

from medsql.config import ModelSettings
from medsql.model.backbone import load_backbone

SMALL = [
    "data.pairs=600",
    "optim.batch_size=4",
    "optim.epochs=2",
    "optim.lr=5e-3",
    "base.d_model=32",
    "base.d_kv=8",
    "base.d_ff=32",
    "base.num_heads=2",
    "base.num_layers=1",
    "base.merges=50",
    "base.tokenizer_pairs=500",
    "data.validation_rows=20",
    "data.test_rows=4",
    "validation.every_steps=50",
    "validation.generate_rows=2",
    "decode.max_new_tokens=6",
    "trainer=cpu",
    "trainer.threads=1",
]


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of three hundred steps, undisturbed."""
    folder = tmp_path_factory.mktemp("pretrain")
    result = run_command("pretrain", *SMALL, "name=base", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder / "outputs" / "base"


def test_a_killed_run_goes_on_and_ends_with_the_weights_of_an_undisturbed_one(
    finished, command, start, tmp_path
):
    folder = tmp_path / "outputs" / "again"
    kill_when_training(start("pretrain", *SMALL, "name=again"), folder)
    assert command("pretrain", *SMALL, "name=again").returncode == 0
    one, other = record(finished), record(folder)
    assert one["steps"] == other["steps"] == 300
    assert other["resumed"] == 1
    assert one["data"]["sha256"] == other["data"]["sha256"]
    first, second = weights(finished), weights(folder)
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)


def test_what_a_kill_leaves_before_training_and_behind_it_is_made_good(finished, command, tmp_path):
    """Killed while the fresh model, and later while the bundle, was being written."""
    folder = tmp_path / "outputs" / "base"
    (folder / "fresh.tmp").mkdir(parents=True)
    (folder / "fresh.tmp" / "config.json").write_text("{")
    assert command("pretrain", *SMALL, "optim.max_steps=1", "name=base").returncode == 0
    assert not (folder / "fresh.tmp").exists()
    whole = (folder / "bundle" / "model.safetensors").read_bytes()
    (folder / "bundle").rename(folder / "bundle.tmp")
    (folder / "bundle.tmp" / "model.safetensors").write_bytes(b"half")
    assert command("pretrain", *SMALL, "optim.max_steps=1", "name=base").returncode == 0
    assert (folder / "bundle" / "model.safetensors").read_bytes() == whole
    assert not (folder / "bundle.tmp").exists()


def test_another_seed_gives_another_corpus(finished, command, tmp_path):
    result = command("pretrain", *SMALL, "data.seed=43", "optim.max_steps=1", "name=other")
    assert result.returncode == 0, result.stderr
    other = record(tmp_path / "outputs" / "other")
    assert other["data"]["sha256"]["train"] != record(finished)["data"]["sha256"]["train"]


def test_the_bundle_loads_as_a_checkpoint_and_can_be_fine_tuned(finished, command, training, tmp_path):
    bundle = finished / "bundle"
    assert load_backbone(ModelSettings("mini", str(bundle))).failures == {}
    result = command("train", *training, f"model.checkpoint={bundle}", "name=tuned", "optim.max_steps=5")
    assert result.returncode == 0, result.stderr


def test_it_learns(finished):
    rows = (finished / "metrics.csv").read_text().splitlines()
    columns = rows[0].split(",")
    losses = [row.split(",")[columns.index("val/loss")] for row in rows[1:]]
    losses = [float(loss) for loss in losses if loss]
    assert losses[-1] < 0.9 * losses[0]


def test_other_data_is_refused_in_one_line(command):
    result = command("pretrain", "data=synthetic")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines() == [
        "medsql: data=synthetic: a base is pretrained on data=corpus"
    ]
