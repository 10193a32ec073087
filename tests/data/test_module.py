"""What Lightning is fed: padding, order, shares of several processes, and going on after an interruption."""

from collections import Counter
from dataclasses import replace
from itertools import chain
from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from medsql.config import OptimSettings, ValidationSettings
from medsql.data.module import PairsModule, collate, collate_step, generation_loader
from medsql.data.order import NOTHING_MIXED, Mixture
from medsql.data.tokenized import TokenizedSplits

PAD = 0


def split(lengths):
    """Rows with inputs of these lengths; the row's number is its first token and its only label."""
    ids = [[row] + [9] * (length - 1) for row, length in enumerate(lengths)]
    columns = {"input_ids": ids, "labels": [[row] for row in range(len(lengths))]}
    kind = pa.list_(pa.int32())  # of no row, too
    return Dataset(pa.table({name: pa.array(values, kind) for name, values in columns.items()}))


ADAMW = OptimSettings(
    name="adamw",
    lr=1e-3,
    weight_decay=0.0,
    schedule="constant",
    warmup_ratio=0.0,
    max_grad_norm=None,
    label_smoothing=0.0,
    epochs=3,
    batch_size=2,
    accumulate=2,
)


def pairs_module(
    train=10,
    validation=(3, 5, 2, 5, 4),
    test=(2, 6, 4),
    seed=42,
    generate_rows=None,
    decode_batch_size=2,
    mixture=NOTHING_MIXED,
    **optim,
):
    data = TokenizedSplits(split([4] * train), split(validation), split(test), longest_target=1, record={})
    return PairsModule(
        data,
        pad_id=PAD,
        optim=replace(ADAMW, **optim),
        validation=ValidationSettings(every_steps=1, batch_size=2, generate_rows=generate_rows),
        decode_batch_size=decode_batch_size,
        seed=seed,
        mixture=mixture,
    )


def at(module, step=0):
    """The module as a trainer at this step, in this process, would hold it."""
    module.trainer = SimpleNamespace(global_step=step)
    return module


def indices(loader):
    return [batch["index"].tolist() for batch in loader]


def micro_batches(loader):
    """The rows of each micro-batch of a train loader whose steps are computed one by one."""
    return indices(chain.from_iterable(loader))


# Batches


def test_a_run_of_hardly_any_steps_says_what_makes_it_longer(caplog):
    pairs_module(train=10)  # 3 times 10 rows, 4 a step
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("this run takes only 8 steps, with 10 training rows: more with a higher optim.")
    assert "optim.epochs=3 or a lower optim.batch_size=2 or optim.accumulate=2" in said
    caplog.clear()
    pairs_module(train=10, max_steps=3), pairs_module(train=12, epochs=4)
    assert caplog.text == "", "what was asked for, and what is enough"


def test_a_batch_is_padded_and_nothing_else_is_changed():
    rows = [
        {"input_ids": [5, PAD, 7], "labels": [PAD, 1], "index": 4},
        {"input_ids": [6], "labels": [2, PAD, 3], "index": 0},
    ]
    batch = collate(rows, pad_id=8)
    assert batch["input_ids"].tolist() == [[5, PAD, 7], [6, 8, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[PAD, 1, -100], [2, PAD, 3]]
    assert batch["index"].tolist() == [4, 0]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_a_row_keeps_its_number_in_every_loader():
    module = pairs_module()
    steps = chain.from_iterable(module.train_dataloader())
    for loader in (steps, *module.val_dataloader(), module.test_dataloader()):
        for batch in loader:
            assert (
                batch["input_ids"][:, 0].tolist() == batch["labels"][:, 0].tolist() == batch["index"].tolist()
            )


def test_micro_batches_share_a_batch_while_their_padded_tokens_fit():
    """Inputs of 4 and 6 tokens, targets of 1: three rows of the latter are 21 tokens, four are 28."""
    rows = [{"input_ids": [7] * length, "labels": [1], "index": i} for i, length in enumerate([4, 4, 4, 6])]

    def parts(at_once, batch_size=1):
        return indices(collate_step(rows, PAD, batch_size, at_once))

    assert parts(28) == [[0, 1, 2, 3]]
    assert parts(27) == [[0, 1, 2], [3]]
    assert parts(14) == [[0, 1], [2, 3]]
    assert parts(13) == [[0, 1], [2], [3]]
    assert parts(0) == [[0], [1], [2], [3]]
    assert parts(0, batch_size=2) == [[0, 1], [2, 3]], "a micro-batch is never cut"


# How long a run is


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"train": 10, "epochs": 3, "batch_size": 2, "accumulate": 2}, 8),  # 30 rows, 4 a step
        ({"train": 8, "epochs": 3, "batch_size": 2, "accumulate": 2}, 6),
        ({"train": 1, "epochs": 1, "batch_size": 8, "accumulate": 4}, 1),
        ({"train": 10, "epochs": 3, "max_steps": 5}, 5),
        ({"train": 10, "epochs": 3, "max_steps": 500}, 8),
        ({"train": 5119, "epochs": 5, "batch_size": 4, "accumulate": 2}, 3200),  # the report's steps
    ],
)
def test_steps_reach_the_epochs_asked_for(settings, steps):
    module = pairs_module(**settings)
    assert module.total_steps == steps == len(module.train_dataloader())
    assert module.total_batches == steps * module.optim.accumulate


def test_every_row_is_trained_on_once_an_epoch():
    seen = [
        row for batch in micro_batches(pairs_module(train=10, epochs=3).train_dataloader()) for row in batch
    ]
    assert all(sorted(seen[epoch * 10 : epoch * 10 + 10]) == list(range(10)) for epoch in range(3))
    assert len(seen) == 32


@pytest.mark.parametrize("group_by_length", [False, True])
def test_another_sources_rows_come_first_and_then_as_often_as_they_weigh(group_by_length):
    """Rows 0 to 9 are the data's, 10 to 15 the other source's: 2.5 passes through these are 15 rows."""
    mixture = Mixture(rows=6, epochs=2.5, weight=0.5)
    module = pairs_module(train=16, epochs=3, mixture=mixture, group_by_length=group_by_length)
    assert (module.first_steps, module.total_steps) == (4, 4 + 10)  # of four rows: 15; 3 times 10 and 3
    batches = micro_batches(module.train_dataloader())
    first, rest = Counter(chain(*batches[:8])), Counter(chain(*batches[8:]))
    assert sorted(first) == list(range(10, 16)) and set(first.values()) == {2, 3}
    assert sorted(rest) == list(range(16)) and rest.total() == 40
    assert all(rest[row] in ((3, 4) if row < 10 else (1, 2)) for row in rest)
    for step in range(14):
        assert micro_batches(at(module, step).train_dataloader()) == batches[2 * step :]


def test_a_run_cut_short_ends_among_the_first_rows():
    module = pairs_module(train=16, mixture=Mixture(rows=6, epochs=2.5), max_steps=3)
    assert (module.first_steps, module.total_steps) == (3, 3)
    assert min(chain(*micro_batches(module.train_dataloader()))) == 10


def test_by_length_a_batch_holds_rows_of_like_input_in_steps_of_32_and_like_target():
    module = pairs_module(train=40, group_by_length=True, epochs=1)
    inputs = [[9] * (8 if row % 2 else 70) for row in range(40)]
    targets = [[9] * (1 + row // 4) for row in range(40)]
    rows = Dataset.from_dict({"input_ids": inputs, "labels": targets})
    at(module).data = replace(module.data, train=rows)
    batches = [sorted(batch) for batch in micro_batches(module.train_dataloader())]
    # Of each four rows with one length of target, two inputs are short and two are long.
    assert sorted(batches) == sorted([four + at, four + at + 2] for four in range(0, 40, 4) for at in (0, 1))
    assert not any(len(set(batch)) < 2 for batch in batches)


def test_the_seed_decides_the_order():
    def order(seed):
        return micro_batches(pairs_module(seed=seed).train_dataloader())

    assert order(1) == order(1)
    assert order(1) != order(2)


# Validation and test


def test_validation_gives_all_rows_for_the_loss_and_the_first_for_generation_longest_first():
    loss, generation = pairs_module(validation=(3, 5, 2, 5, 4), generate_rows=3).val_dataloader()
    assert indices(loss) == [[0, 1], [2, 3], [4]]
    assert indices(generation) == [[1, 0], [2]]


def test_generating_for_all_rows_or_none():
    module = pairs_module(validation=(3, 5, 2, 5, 4), generate_rows=None, decode_batch_size=3)
    assert indices(module.val_dataloader()[1]) == [[1, 3, 4], [0, 2]]
    assert len(pairs_module(generate_rows=0).val_dataloader()) == 1
    assert len(pairs_module(generate_rows=100).val_dataloader()[1]) == 3


def test_the_test_loader_gives_all_rows_longest_first():
    assert indices(pairs_module(test=(2, 6, 4)).test_dataloader()) == [[1, 2], [0]]
    assert indices(pairs_module(test=()).test_dataloader()) == []


def test_a_generation_loader_needs_no_module():
    loader = generation_loader(split((3, 5, 2, 5)), first=3, batch_size=2, pad_id=PAD)
    assert indices(loader) == [[1, 0], [2]]
    assert indices(generation_loader(split((3, 5)), first=9, batch_size=4, pad_id=PAD)) == [[1, 0]]


# Several processes


# Under Lightning's trainer


class Witness(LightningModule):
    """Learns nothing, and notes which rows it was shown at which step."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.trained, self.scored = [], []

    def training_step(self, batch, batch_idx):
        self.trained += [(self.global_step, rows) for rows in indices(batch)]
        return self.weight.sum()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.scored.append((dataloader_idx, batch["index"].tolist()))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(tmp_path, module, *callbacks):
    return Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=1,
        val_check_interval=2,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        enable_checkpointing=bool(callbacks),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@pytest.fixture
def uninterrupted(tmp_path):
    witness, module = Witness(), pairs_module()
    trainer(tmp_path, module).fit(witness, module)
    return witness


def test_a_run_takes_all_steps_in_one_lightning_epoch_and_ends_with_a_full_one(uninterrupted):
    module = pairs_module()
    assert uninterrupted.trainer.global_step == module.total_steps == 8
    assert [step for step, _ in uninterrupted.trained] == [step for step in range(8) for _ in range(2)]
    assert [rows for _, rows in uninterrupted.trained] == micro_batches(module.train_dataloader())
    assert len(uninterrupted.scored) == 4 * (3 + 3)


class Interrupted(Exception):
    """What ends a run in its middle."""


class Fuse(Callback):
    """Ends a run after some steps, when the checkpoint of that step is written."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            raise Interrupted


@pytest.mark.parametrize("stop", range(1, 8))
def test_an_interrupted_run_goes_on_with_the_very_next_row(tmp_path, uninterrupted, stop):
    first, module = Witness(), pairs_module()
    checkpoint = ModelCheckpoint(
        tmp_path, filename="last", every_n_train_steps=1, enable_version_counter=False
    )
    with pytest.raises(Interrupted):
        trainer(tmp_path, module, Fuse(stop), checkpoint).fit(first, module)

    second, module = Witness(), pairs_module()
    resumed = trainer(tmp_path, module)
    resumed.fit(second, module, ckpt_path=tmp_path / "last.ckpt")
    assert first.trained + second.trained == uninterrupted.trained
    assert resumed.global_step == 8
