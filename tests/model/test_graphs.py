"""Steps replayed from CUDA graphs: the same losses and weights as steps launched one by one."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

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
@pytest.mark.parametrize("limit", ["MOST", "MOST_TOKENS"])
def test_beyond_a_limit_batches_are_computed_without_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(f"medsql.model.graphs.{limit}", 0)
    run = TinyRun(tmp_path, accelerator="gpu", accumulate=1, steps=3).fit()
    assert run.module.cuda_graphs_used == {"captured": 0, "batches_without": 3}


@needs_gpu
def test_dropout_follows_the_seed_in_a_graph_captured_before_and_in_a_new_one(tmp_path: Path) -> None:
    """As a resumed run needs it, which captures its graphs at other steps than an undisturbed one."""
    run = TinyRun(tmp_path, accelerator="gpu")
    torch.set_float32_matmul_precision("highest")
    module = run.module.cuda()
    ((batch, *_), *_) = run.data.train_dataloader()
    on_gpu = {name: tensor.cuda() for name, tensor in batch.items()}

    def drawn(loss: GraphedLoss, seed: int) -> float:
        torch.manual_seed(seed)
        return loss(on_gpu).item()

    captured, new = (GraphedLoss(module.loss, module.model) for _ in range(2))
    first = drawn(captured, 1)
    assert drawn(captured, 2) != pytest.approx(first, rel=1e-4)
    assert drawn(captured, 1) == pytest.approx(first, rel=1e-5)
    assert drawn(new, 1) == pytest.approx(first, rel=1e-5)
