"""Scoring speed: medsql's batched generation beside the report's loop of one question at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.materials import load, train
from benchmarks.timing import Comparison, alternate, say
from medsql.config import DecodeSettings
from medsql.data.module import generation_loader
from medsql.data.pairs import Prediction
from medsql.data.tokenized import TokenizedSplits
from medsql.model.decoder import Decoder, output_bound
from medsql.model.generation import predict

ROWS = 32
DECODE = (DecodeSettings(num_beams=1, batch_size=64), DecodeSettings(num_beams=4, batch_size=32))
"""As in `conf/decode/`."""

# Zero-shot, outputs now and then run to the bound, which flatters batches: all rows end together. So
# all weights are trained until outputs are shaped like queries, and short and long ones mix as in use.
LESSON_STEPS = 160
LESSON = (
    "lora=none",
    "optim.lr=1e-3",
    "optim.batch_size=16",
    "optim.epochs=2",
    f"optim.max_steps={LESSON_STEPS}",
    "data.validation_rows=16",
)


def measure() -> list[Comparison]:
    return [Contest(*taught(), decode).hold() for decode in DECODE]


@cache
def taught() -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase, TokenizedSplits]:
    """A model that has learnt a little, with its tokenizer and rows; trained once for all contests."""
    say("training the model that is scored")
    materials = load(*LESSON)
    model = materials.model()
    with TemporaryDirectory() as folder:
        train(materials, model, Path(folder))
    return model.eval(), materials.tokenizer, materials.tokenized


def how(decode: DecodeSettings) -> str:
    return "greedy" if decode.num_beams == 1 else f"{decode.num_beams} beams"


@dataclass
class Contest:
    """One way of decoding, and what each side predicted last for the first test rows."""

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    data: TokenizedSplits
    decode: DecodeSettings
    rows: int = ROWS
    one_by_one_rows: int = ROWS
    batched: list[Prediction] = field(default_factory=list)
    one_by_one: list[str] = field(default_factory=list)

    def hold(self, where: str = "") -> Comparison:
        what = f"scoring{where and ' '}{where}, {how(self.decode)}"
        figures = alternate(what, self.medsql, self._report, times=3)
        return Comparison(what, "one at a time", "queries/s", figures, self._agreement())

    @property
    def bound(self) -> int:
        return output_bound(self.data.longest_target, self.decode)

    @property
    def decoder(self) -> Decoder:
        return Decoder(self.tokenizer, self.decode, self.bound, self.data.spelling)

    def medsql(self) -> float:
        started = time.perf_counter()
        size, pad_id = self.decode.batch_size, self.tokenizer.pad_token_id
        loader = generation_loader(self.data.test, self.rows, size, pad_id)
        self.batched = predict(self.model, loader, self.decoder)
        return self.rows / (time.perf_counter() - started)

    def _report(self) -> float:
        """The report's section 8.2, with this bound in place of its 512."""
        started = time.perf_counter()
        beams = {"early_stopping": True} if self.decode.num_beams > 1 else {}
        self.one_by_one = []
        for prompt in self.data.test["input_ids"][: self.one_by_one_rows]:
            input_ids = torch.tensor([prompt], device=self.model.device)
            with torch.no_grad():
                output = self.model.generate(  # type: ignore[operator]  # PEFT hides its type
                    input_ids=input_ids,
                    attention_mask=torch.ones_like(input_ids),
                    max_length=self.bound + 1,  # counts the start token
                    num_beams=self.decode.num_beams,
                    **beams,
                )
            self.one_by_one += self.tokenizer.batch_decode(output, skip_special_tokens=True)
        return self.one_by_one_rows / (time.perf_counter() - started)

    def _agreement(self) -> str:
        one_by_one = map(self.data.spelling.unspell, self.one_by_one)
        same = sum(one.sql == other for one, other in zip(self.batched, one_by_one, strict=False))
        lengths = [len(ids) for ids in self.tokenizer(self.one_by_one)["input_ids"]]
        cut = sum(length >= self.bound for length in lengths)
        spread = (
            f"{min(lengths)} to {max(lengths)} tokens (median {median(lengths):g}), {cut} cut at the bound"
        )
        return f"{same} of {self.one_by_one_rows} predictions identical; outputs of {spread}"
