"""What constrained decoding costs: the same model and rows, decoded with the grammar and without."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.scoring import DECODE, taught
from benchmarks.timing import Comparison, alternate
from medsql.config import DecodeSettings
from medsql.data.module import generation_loader
from medsql.data.pairs import Prediction
from medsql.data.tokenized import TokenizedSplits
from medsql.metrics.execution import verdict
from medsql.model.decoder import load_decoder
from medsql.model.generation import predict

ROWS = 200
"""As many as the ladder of docs/results.md is scored on; the grammar is made once for all of them."""


def measure() -> list[Comparison]:
    return [Contest(*taught(), decode).hold() for decode in DECODE]


@dataclass
class Contest:
    """One way of decoding, and what each side predicted last for the first test rows."""

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    data: TokenizedSplits
    decode: DecodeSettings
    constrained: list[Prediction] = field(default_factory=list)
    free: list[Prediction] = field(default_factory=list)

    def hold(self) -> Comparison:
        beams = "greedy" if self.decode.num_beams == 1 else f"{self.decode.num_beams} beams"
        what = f"constrained decoding, {beams}"
        figures = alternate(what, self._constrained, self._free, times=3)
        return Comparison(what, "without the constraint", "s", figures, self._changes())

    def _constrained(self) -> float:
        seconds, self.constrained = self._decode(replace(self.decode, constrained=True))
        return seconds

    def _free(self) -> float:
        seconds, self.free = self._decode(self.decode)
        return seconds

    def _decode(self, decode: DecodeSettings) -> tuple[float, list[Prediction]]:
        """With the grammar made anew each time, as each evaluation does."""
        started = time.perf_counter()
        longest, spelling = self.data.longest_target, self.data.spelling
        decoder, _ = load_decoder(decode, self.tokenizer, longest, spelling, training=None)
        loader = generation_loader(self.data.test, ROWS, decode.batch_size, self.tokenizer.pad_token_id)
        predictions = predict(self.model, loader, decoder)
        return time.perf_counter() - started, predictions

    def _changes(self) -> str:
        both = list(zip(self.free, self.constrained, strict=True))
        valid = [(free, held) for free, held in both if verdict(free.sql) == "ok"]
        kept = sum(free == held for free, held in valid)
        held_valid = sum(verdict(held.sql) == "ok" for held in self.constrained)
        changed = sum(free != held for free, held in both)
        return (
            f"{len(valid)} of {ROWS} valid without and {held_valid} with it; of the {len(valid)}, {kept} are "
            f"unchanged; {changed} of {ROWS} changed in all"
        )
