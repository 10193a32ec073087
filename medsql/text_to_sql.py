"""A fine-tuned model that answers questions with SQL: what the predict door and a notebook both use."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch
from transformers import PreTrainedTokenizerBase

from medsql.composition import composed, quoted
from medsql.config import HOSPITAL, AskSettings, DecodeSettings
from medsql.data.pairs import Pair, Prediction, checked_question
from medsql.data.prompts import prompt_template, render
from medsql.data.spelling import Spelling, needed_spelling
from medsql.errors import UserError
from medsql.model.backbone import load_backbone
from medsql.model.decoder import Decoder, load_decoder
from medsql.model.generation import predict
from medsql.model.hardware import autocast, prepare_device
from medsql.model.lora import load_adapter, merge_adapter
from medsql.runs.collect import codes_of, longest_target_of
from medsql.sql.database import Limits, Result, Sandbox, Value
from medsql.sql.schema_file import schema_of
from medsql.wording import counted

log = logging.getLogger(__name__)

Tables = Mapping[str, Mapping[str, str]]
"""The columns of each table with their types."""


@dataclass(frozen=True)
class Answer:
    """A question and its query.

    `valid` is what became of it on the empty schema, as in the score of that name, and `result` on the
    database, where there is one. `input_truncated` says that the model did not see all of the question, and
    `milliseconds` is an equal share of the time that the question's batch took to generate.
    """

    question: str
    prediction: Prediction
    input_truncated: bool
    milliseconds: float
    on_schema: Result
    result: Result | None = None

    @property
    def sql(self) -> str:
        """The query, repaired where that was asked for; `prediction.written` is then what the model wrote."""
        return self.prediction.sql

    @property
    def valid(self) -> bool:
        """Whether the query parses and runs on the schema: MIMICSQL's tables, or those of `decode.schema`."""
        return self.on_schema.ok

    def row(self, shown: int | None = None) -> dict[str, Any]:
        """All of it, ready for JSON, with the first `shown` rows of the result; `None`: all of them."""
        return {
            "question": self.question,
            "sql": self.sql,
            "truncated": self.prediction.truncated,
            **self.prediction.guidance(),
            "input_truncated": self.input_truncated,
            "valid": self.valid,
            "verdict": self.on_schema.verdict,
            "reason": self.on_schema.reason,
            "milliseconds": round(self.milliseconds, 1),
            "result": self.result and _row_of_result(self.result, shown),
        }


def _row_of_result(result: Result, shown: int | None) -> dict[str, Any]:
    return {
        "verdict": result.verdict,
        "reason": result.reason,
        "milliseconds": round(1000 * result.seconds, 1),
        "columns": result.columns,
        "found": len(result.rows),
        "rows": [[_json_value(value) for value in row] for row in result.rows[:shown]],
    }


def _json_value(value: Value) -> str | int | float | None:
    """JSON has neither bytes nor infinity."""
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


class TextToSql:
    """A model, its prompt and its decoding. An adapter is merged into the model, and costs no time.

    >>> from medsql import TextToSql
    >>> model = TextToSql.from_run("latest")
    >>> model.predict(["how many female patients are older than 65?"])[0].sql

    Raises `UserError` where the model, the adapter or the database cannot be loaded.
    """

    def __init__(self, settings: AskSettings) -> None:
        self.settings = settings
        self._tables: Tables = schema_of(settings.decode.schema).tables
        self._open_database = _database(settings, self._tables)
        self._template = prompt_template(settings.data.prompt)
        self._device = prepare_device(settings.trainer)
        backbone = load_backbone(settings.model)
        self.tokenizer, self.model = backbone.tokenizer, backbone.model
        if settings.adapter is not None:
            self.model = merge_adapter(load_adapter(self.model, Path(settings.adapter)))
        self.model.to(self._device)  # type: ignore[arg-type]  # its decorator hides the signature
        # Without a run nobody knows how long targets were, but that they were cut at this.
        run, cut_at = settings.run, settings.data.max_target_tokens
        self._longest_target = cut_at if run is None else longest_target_of(run)
        self.spelling = _spelling(settings, self.tokenizer)
        self.decoder = self._decoder(settings.decode)
        log.info(
            "%s answers: %s, prompt %s, %s, at most %s",
            settings.run or settings.adapter or f"{settings.model.name}, zero-shot,",
            backbone.checkpoint,
            settings.data.prompt,
            counted(settings.decode.num_beams, "beam"),
            counted(self.decoder.max_new_tokens, "token"),
        )

    @classmethod
    def from_run(cls, run: str | Path = "latest", *overrides: str) -> Self:
        """The model of a run's folder, or of the newest finished run below the working folder.

        `overrides` are those of the command line, `"decode=greedy"` or `"database=hospital"`; the defaults
        are in `conf/predict.yaml`. Raises `UserError` where there is no such run, or for a mistake in them.
        """
        return cls(composed("predict", f"run={quoted(str(run))}", *overrides))

    @classmethod
    def from_adapter(cls, adapter: str | Path, *overrides: str) -> Self:
        """The adapter of a PEFT folder on top of `model=`, by default the bundled one; else as `from_run`.

        Such a folder does not say how it was trained: the prompt is `data.prompt=`, and with
        `data.lossless=false` nothing was spelled.
        """
        return cls(composed("predict", f"adapter={quoted(str(adapter))}", *overrides))

    def decoding(self, decode: DecodeSettings) -> Self:
        """The same model, which is not loaded again, decoded otherwise. Raises what `load_decoder` does."""
        other = copy.copy(self)
        other.settings = replace(self.settings, decode=decode)
        other._tables = schema_of(decode.schema).tables
        other.decoder = self._decoder(decode)
        return other

    def _decoder(self, decode: DecodeSettings) -> Decoder:
        training = self._training_rows() if decode.knows_training else None
        return load_decoder(decode, self.tokenizer, self._longest_target, self.spelling, training)[0]

    def _training_rows(self) -> Sequence[Pair] | None:
        """Those of the data, which is the run's unless another was typed; None where they are not at hand."""
        from medsql.materials import shared_splits  # it imports what only training needs

        try:
            return shared_splits(self.settings.data.without_further_rows()).own_training
        except (UserError, OSError) as error:
            log.warning("training rows: %s", error)
            return None

    def predict(self, questions: Sequence[str]) -> list[Answer]:
        """The answers, in order. Raises `UserError` for an empty question or one that is no Unicode."""
        if isinstance(questions, str):
            raise TypeError("predict takes a list of questions")
        return list(self.answers(checked_question(text, n) for n, text in enumerate(questions, start=1)))

    def answers(self, questions: Iterable[str]) -> Iterator[Answer]:
        """One answer after the other, as questions come, `decode.batch_size` of which are answered together.

        They are taken as they stand. Raises `UserError` where the GPU's memory does not suffice.
        """
        with closing(Sandbox.empty(self._tables)) as schema, self._opened() as database:
            remaining = iter(questions)
            while batch := list(islice(remaining, self.settings.decode.batch_size)):
                started = time.perf_counter()
                predictions, cut = self._generate(batch)
                milliseconds = 1000 * (time.perf_counter() - started) / len(batch)
                for question, prediction, too_long in zip(batch, predictions, cut, strict=True):
                    on_schema = schema.run(prediction.sql)
                    result = None if database is None else database.run(prediction.sql)
                    yield Answer(question, prediction, too_long, milliseconds, on_schema, result)

    def _opened(self) -> AbstractContextManager[Sandbox | None]:
        return nullcontext() if self._open_database is None else closing(self._open_database(self._tables))

    def _generate(self, questions: list[str]) -> tuple[list[Prediction], list[bool]]:
        """Predictions, and which of the prompts were too long and lost their end."""
        prompts = [render(self._template, self.spelling.spell(question)) for question in questions]
        longest = self.settings.data.max_input_tokens
        batch = self.tokenizer(
            prompts, truncation=True, max_length=longest, padding=True, return_tensors="pt"
        )
        # A truncated encoding does not say that it is one: only what fills the limit is encoded again.
        full = (batch["attention_mask"].sum(dim=1) == longest).tolist()
        cut = [fills and self._tokens(text) > longest for fills, text in zip(full, prompts, strict=True)]
        numbered = {**batch, "index": torch.arange(len(prompts))}
        with autocast(self.settings.trainer, self._device):
            predictions = predict(self.model, [numbered], self.decoder, questions)
        return predictions, cut

    def _tokens(self, prompt: str) -> int:
        return len(self.tokenizer(prompt, verbose=False)["input_ids"])


def _spelling(settings: AskSettings, tokenizer: PreTrainedTokenizerBase) -> Spelling:
    """The run's own; without one, what the tokenizer loses of ASCII, as any data in ASCII were spelled."""
    if not settings.data.lossless:
        return Spelling()
    return needed_spelling(tokenizer, []) if settings.run is None else Spelling(codes_of(settings.run))


def _database(settings: AskSettings, tables: Tables) -> Callable[[Tables], Sandbox] | None:
    """How to open the database for queries over some tables; anew each time, for SQLite's connections
    belong to a thread. Raises `UserError` where it cannot be opened."""
    if settings.database is None:
        return None
    limits = Limits(seconds=settings.seconds, steps=10**12)  # a real table has millions of rows
    if settings.database == HOSPITAL:
        from medsql.data.hospital.cohort import generate_tables, in_memory

        hospital = generate_tables(settings.data.admissions, settings.data.seed)
        return lambda asked: Sandbox(in_memory(hospital), asked, limits)
    path = settings.database
    Sandbox(path, tables, limits).close()  # a mistake is answered before a model is loaded
    return lambda asked: Sandbox(path, asked, limits)
