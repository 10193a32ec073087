"""What a training step and a validation compute, against the formulas they claim to follow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from tiny import FULL, LORA, PAIRS, TinyRun
from transformers.trainer_pt_utils import LabelSmoother

from medsql.config import LoraSettings
from medsql.data.pairs import Prediction
from medsql.model.module import TrainingError
from medsql.model.training import fit


def test_the_loss_is_that_of_the_hugging_face_trainer(tmp_path: Path) -> None:
    run = TinyRun(tmp_path, label_smoothing=0.1)
    run.module.eval()
    batch = next(iter(run.data.train_dataloader()))[0]
    batch["labels"][0, -3:] = -100
    logits = run.module.model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]
    ).logits
    expected = LabelSmoother(epsilon=0.1)({"logits": logits}, batch["labels"])
    torch.testing.assert_close(run.module.loss(batch), expected)


def test_validation_loss_weighs_batches_by_their_rows(tmp_path: Path) -> None:
    run = TinyRun(tmp_path, steps=1, lr=1e-12).fit()
    run.module.eval()
    with torch.no_grad():
        batches = list(run.data.val_dataloader()[0])
        losses = [run.module.loss(batch).item() * len(batch["labels"]) for batch in batches]
    assert [len(batch["labels"]) for batch in batches] == [4, 4, 1]
    assert run.checkpoints.validations[1]["val/loss"] == pytest.approx(sum(losses) / 9, rel=1e-5)


@pytest.mark.parametrize("name", ["adamw", "muon", "adafactor"])
def test_lr_scale_multiplies_the_learning_rate(tmp_path: Path, name: str) -> None:
    def rates(folder: str, **changes: float) -> list[float]:
        module = TinyRun(tmp_path / folder, name=name, warmup_ratio=0.0, **changes).module
        return [group["lr"] for group in module.configure_optimizers()["optimizer"].param_groups]

    assert rates("scaled", lr=1e-3, lr_scale=5) == rates("plain", lr=5e-3)


def test_by_size_each_tensor_has_the_rate_of_its_first_weights(tmp_path: Path) -> None:
    module = TinyRun(tmp_path, lora=FULL, lr=1e-2, warmup_ratio=0.0, scale_by_size=True, beta2=0.98).module
    optimizer = module.configure_optimizers()["optimizer"]
    trained = [p for p in module.parameters() if p.requires_grad]
    assert len(optimizer.param_groups) == len(trained)
    for group in optimizer.param_groups:
        (weights,) = group["params"]
        size = max(1e-3, (weights.detach() ** 2).mean().item() ** 0.5)
        assert group["lr"] == pytest.approx(1e-2 * size)
        assert group["weight_decay"] == (0.01 if weights.ndim == 2 else 0)
        assert group["betas"] == (0.9, 0.98)


def test_generated_sql_is_scored_against_the_gold_query_of_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows 3, 2 and 1 are generated for; row 2 is answered wrongly, with two of five tokens right."""

    def generated(model: Any, batch: Any, decoder: Any, questions: Any) -> list[Prediction]:
        rows = batch["index"].tolist()
        return [Prediction("SELECT FROM x y z" if i == 2 else PAIRS[i].sql.lower()) for i in rows]

    monkeypatch.setattr("medsql.model.module.generate_sql", generated)
    with caplog.at_level("INFO"):
        run = TinyRun(tmp_path, steps=1).fit()
    scores = run.checkpoints.validations[1]
    gold = len(set(PAIRS[2].sql.lower().split()))
    assert scores["val/exact_match"] == pytest.approx(2 / 3)
    assert scores["val/token_precision"] == pytest.approx((2 + 2 / 5) / 3)
    assert scores["val/token_recall"] == pytest.approx((2 + 2 / gold) / 3)
    assert scores["val/logical_form"] == pytest.approx(2 / 3)
    assert not {"val/execution", "val/valid"} & scores.keys(), (
        "those gold queries run on no table of MIMICSQL"
    )
    shown = caplog.text
    assert shown.index(PAIRS[1].question) < shown.index(PAIRS[2].question) < shown.index(PAIRS[3].question)
    assert "predicted: SELECT FROM x y z" in shown


def test_training_learns(tmp_path: Path) -> None:
    run = TinyRun(tmp_path, steps=40, every_steps=20, lora=FULL, lr=1e-2, accumulate=1).fit()
    assert run.checkpoints.validations[40]["val/loss"] < 4, "from 6.1"


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("linear", [0.5, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_the_learning_rate_warms_up_and_follows_its_schedule(
    schedule: str, rates: list[float], tmp_path: Path
) -> None:
    seen: list[float] = []

    class Rates(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, i: int) -> None:
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    TinyRun(tmp_path, Rates(), steps=10, every_steps=10, schedule=schedule, warmup_ratio=0.2, lr=1.0).fit()
    assert seen == pytest.approx(rates)


def test_weight_decay_spares_vectors(tmp_path: Path) -> None:
    run = TinyRun(tmp_path, lora=FULL, weight_decay=0.3)
    groups = run.module.configure_optimizers()["optimizer"].param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in run.module.model.named_parameters():
        assert decay[id(parameter)] == (0.0 if "layer_norm" in name else 0.3), name


def test_gradients_are_clipped(tmp_path: Path) -> None:
    norms: list[float] = []

    class Norms(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            def note(*args: Any) -> None:
                grads = [p.grad for p in pl_module.parameters() if p.grad is not None]
                norms.append(torch.nn.utils.get_total_norm(grads).item())

            trainer.optimizers[0].register_step_post_hook(note)

    TinyRun(tmp_path, Norms(), steps=3, lora=FULL, max_grad_norm=0.01).fit()
    assert norms == pytest.approx([0.01] * 3, rel=1e-3)


@pytest.mark.parametrize("lora", [LORA, FULL], ids=["lora", "full"])
def test_a_step_computed_at_once_is_the_step_of_accumulated_micro_batches(
    tmp_path: Path, lora: LoraSettings
) -> None:
    """Without dropout, which is drawn for all rows at once then; targets of a step differ in length."""
    settings: dict[str, Any] = {"lora": replace(lora, dropout=0.0), "t5": {"dropout_rate": 0.0}, "steps": 6}
    apart = TinyRun(tmp_path / "apart", **settings).fit()
    whole = TinyRun(tmp_path / "whole", whole_steps=True, **settings).fit()
    assert (apart.module.passes, whole.module.passes) == (12, 6)
    for step, scores in apart.checkpoints.validations.items():
        assert whole.checkpoints.validations[step]["val/loss"] == pytest.approx(scores["val/loss"], rel=1e-5)
    torch.testing.assert_close(whole.weights(), apart.weights(), rtol=0, atol=1e-4)


def test_a_step_is_the_mean_over_micro_batches_not_over_tokens(tmp_path: Path) -> None:
    run = TinyRun(tmp_path, whole_steps=True)
    run.module.eval()
    (batch,) = next(iter(run.data.train_dataloader()))
    batch["labels"][0, 3:] = batch["labels"][1, 3:] = -100
    halves = [{name: rows[i : i + 2] for name, rows in batch.items()} for i in (0, 2)]
    first, second = (run.module.loss(half) for half in halves)
    torch.testing.assert_close(run.module.loss(batch, 2), (first + second) / 2)
    assert not torch.isclose(run.module.loss(batch), (first + second) / 2, atol=1e-4)


def test_a_loss_that_is_not_finite_ends_the_run_with_its_step(tmp_path: Path) -> None:
    class Poison(pl.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                next(p for p in pl_module.parameters() if p.requires_grad).data.fill_(float("nan"))

    with pytest.raises(TrainingError, match=r"loss became nan at step 3: lower optim.lr") as error:
        TinyRun(tmp_path, Poison()).fit()
    assert "\n" not in str(error.value)


def test_a_validation_loss_that_is_not_finite_ends_the_run_too(tmp_path: Path) -> None:
    run = TinyRun(tmp_path)
    run.module.validation_loss.compute = lambda: torch.tensor(float("inf"))
    with pytest.raises(TrainingError, match=r"validation loss became inf after step 3"):
        run.fit()


def test_running_out_of_gpu_memory_says_what_to_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TinyRun(tmp_path)

    def too_much(*args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate …")

    monkeypatch.setattr(run.module, "training_step", too_much)
    with pytest.raises(TrainingError, match=r"out of GPU memory after step 0.*optim.batch_size") as error:
        fit(run.trainer, run.module, run.data, run.checkpoints)
    assert "\n" not in str(error.value)
