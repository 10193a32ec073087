"""Steps replayed from CUDA graphs: the same losses and weights as steps launched one by one."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from tiny import TinyRun
from torch import nn

from medsql.model.graphs import MULTIPLES, GraphedLoss, pad

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need an NVIDIA GPU")


def test_padding_changes_no_loss(tmp_path: Path) -> None:
    run = TinyRun(tmp_path, label_smoothing=0.1)
    run.module.eval()
    (batch, *_) = next(iter(run.data.train_dataloader()))
    padded = {name: pad(name, batch[name]) for name in MULTIPLES}
    for name, multiple in MULTIPLES.items():
        assert batch[name].shape[1] < padded[name].shape[1] < batch[name].shape[1] + multiple
        assert padded[name].shape[1] % multiple == 0
    torch.testing.assert_close(run.module.loss(padded), run.module.loss(batch))


def without_dropout(run: TinyRun) -> TinyRun:
    for module in run.module.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    return run


@needs_gpu
def test_replayed_losses_and_accumulated_gradients_are_those_of_the_model(tmp_path: Path) -> None:
    run = without_dropout(TinyRun(tmp_path, accelerator="gpu"))
    torch.set_float32_matmul_precision("highest")  # TF32 would round each shape in its own way
    module = run.module.cuda()
    batches = chain.from_iterable(run.data.train_dataloader())
    on_gpu = [{name: tensor.cuda() for name, tensor in batch.items()} for batch in batches]
    found = {}
    for name, loss in {"replayed": GraphedLoss(module.loss, module.model), "launched": module.loss}.items():
        module.zero_grad(set_to_none=False)
        losses = []
        for batch in on_gpu[:6]:
            losses.append(loss(batch).item())
            loss(batch).backward()
        gradients = {key: p.grad.clone() for key, p in module.named_parameters() if p.grad is not None}
        found[name] = losses, gradients
    torch.testing.assert_close(found["replayed"], found["launched"], rtol=1e-4, atol=1e-6)
    assert any(gradient.abs().max() > 1e-3 for gradient in found["launched"][1].values())


@needs_gpu
def test_beyond_the_graphs_that_are_kept_batches_are_computed_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medsql.model.graphs.MOST", 0)
    run = TinyRun(tmp_path, accelerator="gpu", accumulate=1, steps=3).fit()
    assert isinstance(run.module.training_loss, GraphedLoss)
    assert run.module.training_loss.ungraphed == 3


@needs_gpu
def test_a_resumed_run_draws_the_same_dropout(tmp_path: Path) -> None:
    class Crash(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 4:
                raise RuntimeError("the node is gone")

    whole = TinyRun(tmp_path / "whole", accelerator="gpu", lr=1e-3).fit()
    with pytest.raises(RuntimeError, match="the node is gone"):
        TinyRun(tmp_path / "parts", Crash(), accelerator="gpu", lr=1e-3).fit()
    resumed = TinyRun(tmp_path / "parts", accelerator="gpu", lr=1e-3).fit()
    torch.testing.assert_close(resumed.weights(), whole.weights())
