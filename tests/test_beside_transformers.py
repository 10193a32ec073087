"""What makes training fast changes no result: beside transformers' own trainer, losses end up the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from peft import PeftModel
from transformers import PreTrainedModel

from benchmarks.materials import Materials
from benchmarks.training import Side, prepared, published, reported, same_loss

STEPS = 4


def rows(prompt: str, *overrides: str) -> Materials:
    """Few of the hospital's rows, in steps of two batches that medsql computes at once."""
    few = ("data.admissions=40", "data.pairs=60", "trainer.threads=1", "optim.warmup_ratio=0")
    return prepared(prompt, STEPS, *few, *overrides)


def twice_as_fast(materials: Materials) -> tuple[float, PreTrainedModel | PeftModel]:
    """Another training: twice the learning rate."""
    settings = materials.settings
    optim = replace(settings.optim, lr=2 * settings.optim.lr)
    return reported(replace(materials, settings=replace(settings, optim=optim)))


@pytest.mark.parametrize(
    ("prompt", "other", "verdict"),
    [("question", reported, "agree"), ("report", published, "agree"), ("question", twice_as_fast, "DIFFER")],
)
def test_some_steps_of_either_trainer_end_at_the_same_loss(prompt: str, other: Side, verdict: str) -> None:
    assert f" {verdict}: " in same_loss(lambda *overrides: rows(prompt, *overrides), other)
