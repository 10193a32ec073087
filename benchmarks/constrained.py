"""What constrained decoding costs: the same model and rows, decoded with the grammar and without."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import datasets
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.scoring import DECODE, how, taught
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
    """One way of decoding the first test rows with the grammar and without."""

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    data: TokenizedSplits
    decode: DecodeSettings

    def hold(self) -> Comparison:
        """Timed are rows that are valid without it, too: an output that is not may run on to the bound."""
        rows = datasets.Dataset.from_dict(self.data.test[:ROWS])
        free, held = self._predictions(rows, constrained=False), self._predictions(rows, constrained=True)
        valid = [place for place, prediction in enumerate(free) if verdict(prediction.sql) == "ok"]
        timed = datasets.Dataset.from_dict(rows[valid])
        what = f"constrained decoding, {how(self.decode)}"
        figures = alternate(
            what,
            lambda: self._seconds(timed, constrained=True),
            lambda: self._seconds(timed, constrained=False),
            times=5,
        )
        return Comparison(what, "without the constraint", "s", figures, _changes(free, held, valid))

    def _seconds(self, rows: datasets.Dataset, constrained: bool) -> float:
        started = time.perf_counter()
        self._predictions(rows, constrained)
        return time.perf_counter() - started

    def _predictions(self, rows: datasets.Dataset, constrained: bool) -> list[Prediction]:
        """With the grammar made anew each time, as each evaluation does."""
        decode = replace(self.decode, constrained=constrained)
        longest, spelling = self.data.longest_target, self.data.spelling
        decoder, _ = load_decoder(decode, self.tokenizer, longest, spelling, training=None)
        loader = generation_loader(rows, len(rows), decode.batch_size, self.tokenizer.pad_token_id)
        return predict(self.model, loader, decoder)


def _changes(free: list[Prediction], held: list[Prediction], valid: list[int]) -> str:
    held_valid = sum(verdict(prediction.sql) == "ok" for prediction in held)
    kept = sum(free[place] == held[place] for place in valid)
    changed = sum(one != other for one, other in zip(free, held, strict=True))
    return (
        f"{len(valid)} of {ROWS} valid without and {held_valid} with it; of the {len(valid)}, those timed, "
        f"{kept} are unchanged; {changed} of {ROWS} changed in all"
    )
