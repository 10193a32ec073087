"""Whoever asks, and what they are answered: models that are loaded once and shared by all."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from medsql.config import HOSPITAL, AskSettings, DecodeSettings, DemoSettings
from medsql.errors import UserError
from medsql.metrics.execution import Execution
from medsql.metrics.scores import Score, row_scores
from medsql.page.questions import checked, checked_reference, doubts
from medsql.runs.collect import base_of, of_run, read_all
from medsql.runs.labels import short
from medsql.sql.database import Result, Sandbox
from medsql.sql.schema_file import schema_of
from medsql.text_to_sql import TextToSql
from medsql.wording import counted

log = logging.getLogger(__name__)

BASELINE, TUNED = "baseline, zero-shot", "fine-tuned"

MOST_LOADED = 4
"""Models in memory; of more runs than that, those asked longest ago are loaded again."""

NO_RUN = ""
"""The run of what is fine-tuned by none: an adapter from elsewhere, or nothing."""


class Asking(NamedTuple):
    """What somebody typed and chose on the page."""

    question: str
    reference: str
    run: str
    decoding: str
    beams: int


@dataclass(frozen=True)
class Turn:
    """A question and what became of it.

    `answers` hold a model's each, as `medsql.text_to_sql.Answer.row` gives it, and `scores` those against
    the reference, where there is one; `gold` is then how the reference itself ends on the schema.
    `corrects` is the number of the turn whose question this one puts otherwise.
    """

    number: int
    question: str
    asked_of: str
    answers: Mapping[str, dict[str, Any]]
    reference: str = ""
    gold: Result | None = None
    scores: Mapping[str, dict[str, Score]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    corrects: int | None = None

    @property
    def best(self) -> dict[str, Any]:
        """The answer of the fine-tuned model, or where there is none of the model as it is."""
        return self.answers.get(TUNED) or self.answers[BASELINE]


class Models:
    """The baseline and the fine-tuned models, each loaded once and shared.

    All of it happens in one thread, whoever asks and however many: generating is not made for several, and
    what scores a query keeps SQLite connections, which belong to a thread.

    `explicit` are the keys that were typed, which a run's own settings do not replace, and `decodings` the
    ways to decode that can be chosen.
    """

    def __init__(
        self, settings: DemoSettings, explicit: set[str], decodings: Mapping[str, DecodeSettings]
    ) -> None:
        run = settings.run and str(Path(settings.run).absolute())
        self.settings, self.decodings = replace(settings, run=run), decodings
        self._explicit = explicit
        self._loaded: dict[str, TextToSql] = {}
        self._execution: Execution | None = None
        self._thread = ThreadPoolExecutor(1, "medsql-page")

    def runs(self) -> list[tuple[str, str]]:
        """What can be asked beside the baseline, as labels and runs, the newest run first."""
        settings = self.settings
        if settings.run is None and (settings.adapter or {"model", "adapter"} & self._typed()):
            return [(settings.adapter or "none: the model as it is", NO_RUN)]
        found = [
            str(run.folder.absolute()) for run in read_all() if (run.kind, run.state) == ("train", "finished")
        ]
        named = [settings.run] if settings.run else []
        runs = list(dict.fromkeys([*named, *reversed(found)]))
        return [(short(Path(run)), run) for run in runs] or [("none yet: the model as it is", NO_RUN)]

    def load(self) -> None:
        """Load what the page opens with. Raises `UserError` where that cannot be."""
        self._thread.submit(self._answering, self.settings.run or NO_RUN, self.settings.decode).result()

    def ask(self, asking: Asking, number: int = 1, corrects: int | None = None) -> Turn:
        """Ask all models. Raises `UserError`, which people can read, for what cannot be answered."""
        question, reference = checked(asking.question), checked_reference(asking.reference)
        if asking.run not in [run for _, run in self.runs()] or asking.decoding not in self.decodings:
            raise UserError("That run or decoding is not there any more: load the page again.")
        # A contradiction between the two, as of one beam to choose from, is said by the settings.
        decode = replace(self.decodings[asking.decoding], num_beams=int(asking.beams))
        cleaned = asking._replace(question=question, reference=reference)
        turn = self._thread.submit(self._turn, cleaned, decode).result()
        return replace(turn, number=number, corrects=corrects)

    def _turn(self, asking: Asking, decode: DecodeSettings) -> Turn:
        question, reference = asking.question, asking.reference
        models = self._answering(asking.run, decode)
        answers = {name: model.predict([question])[0] for name, model in models.items()}
        scores: dict[str, dict[str, Score]] = {}
        gold = None
        if reference:
            own = self.settings.database
            if self._execution is None:
                file = None if own in (None, HOSPITAL) else own
                self._execution = Execution(file, self.settings.seconds)
            scores = {
                name: row_scores(each.sql, reference, self._execution) for name, each in answers.items()
            }
            with closing(Sandbox.empty(schema_of(decode.schema).tables)) as schema:
                gold = schema.run(reference)
        return Turn(
            number=1,
            question=question,
            asked_of=f"{short(Path(asking.run))}, " * bool(asking.run)
            + f"decode={asking.decoding}, {counted(decode.num_beams, 'beam')}",
            answers={name: each.row(self.settings.rows) for name, each in answers.items()},
            reference=reference,
            gold=gold,
            scores=scores,
            notes=tuple(doubts(question)),
        )

    def _answering(self, run: str, decode: DecodeSettings) -> dict[str, TextToSql]:
        """Who answers, by name. The baseline may write as much as the model fine-tuned from it."""
        settings = self._settings_of(run)
        if settings.run is None and settings.adapter is None:
            return {BASELINE: self._model(settings).decoding(decode)}
        tuned = self._model(settings).decoding(decode)
        base = settings.model
        if settings.run is not None:
            base = replace(base, checkpoint=str(base_of(settings.run)), fallbacks=[])
        baseline = self._model(replace(settings, run=None, adapter=None, model=base))
        bounded = replace(decode, max_new_tokens=tuned.decoder.max_new_tokens)
        return {BASELINE: baseline.decoding(bounded), TUNED: tuned}

    def _settings_of(self, run: str) -> AskSettings:
        if run == (self.settings.run or NO_RUN):
            return self.settings
        return of_run(replace(self.settings, run=run, adapter=None), self._explicit)

    def _model(self, settings: AskSettings) -> TextToSql:
        key = str(settings)
        model = self._loaded.pop(key, None) or TextToSql(settings)
        self._loaded[key] = model  # at the end: who was asked last
        for oldest in list(self._loaded)[:-MOST_LOADED]:
            del self._loaded[oldest]
        return model

    def _typed(self) -> set[str]:
        return {key.split(".")[0] for key in self._explicit}
