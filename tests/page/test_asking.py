"""Models that are loaded once, and asked by several people, in whatever way the page offers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import finished_run

from medsql.config import DecodeSettings
from medsql.errors import UserError
from medsql.page import asking
from medsql.page.asking import BASELINE, NO_RUN, TUNED, Asking, Models

GREEDY = DecodeSettings(num_beams=1, batch_size=1, max_new_tokens=4)
DECODINGS = {"greedy": GREEDY, "guided": replace(GREEDY, num_beams=2, guided=True)}
QUICK = ("trainer=cpu", "trainer.threads=1", "decode=greedy", "decode.max_new_tokens=4")


@pytest.fixture
def run(tmp_path: Path, settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return finished_run(tmp_path, settings)


@pytest.fixture
def models(run: Path, composed_demo: Callable[..., Models]) -> Models:
    return composed_demo()


@pytest.fixture
def composed_demo() -> Callable[..., Models]:
    """What the door makes of overrides."""
    from medsql.composition import composed, explicit_keys

    return lambda *typed: Models(composed("demo", *QUICK, *typed), explicit_keys([*QUICK, *typed]), DECODINGS)


def asked(models: Models, question: str = "how many?", reference: str = "", **chosen: Any) -> Asking:
    run = models.runs()[0][1]
    shared: dict[str, Any] = {"question": question, "reference": reference, "run": run}
    return Asking(**shared | {"decoding": "greedy", "beams": 1} | chosen)


def test_the_newest_finished_run_answers_beside_its_base(models: Models, run: Path) -> None:
    assert models.runs() == [("outputs/run", str(run))]
    turn = models.ask(asked(models))
    assert list(turn.answers) == [BASELINE, TUNED] and turn.best is turn.answers[TUNED]
    assert turn.answers[BASELINE]["sql"] != turn.answers[TUNED]["sql"]
    assert "outputs/run" in turn.asked_of and "1 beam" in turn.asked_of
    assert not turn.scores and turn.gold is None


def test_a_reference_scores_both(models: Models) -> None:
    turn = models.ask(asked(models, reference="SELECT AGE FROM DEMOGRAPHIC"))
    assert turn.gold is not None and turn.gold.ok
    assert [scores["exact_match"] for scores in turn.scores.values()] == [False, False]


def test_each_model_is_loaded_once_however_it_is_decoded(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.load()
    monkeypatch.setattr(asking, "TextToSql", None)
    models.ask(asked(models))
    turn = models.ask(asked(models, decoding="guided", beams=3))
    assert turn.answers[TUNED]["beams_tried"] >= 1 and "decode=guided, 3 beams" in turn.asked_of


def test_people_who_ask_at_once_are_each_answered_as_if_they_were_alone(models: Models) -> None:
    questions = [f"question {number}?" for number in range(4)]
    alone = [models.ask(asked(models, text)).answers[TUNED]["sql"] for text in questions]
    found: dict[str, str] = {}
    threads = [
        threading.Thread(
            target=lambda t=text: found.update({t: models.ask(asked(models, t)).answers[TUNED]["sql"]})
        )
        for text in questions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[text] for text in questions] == alone


def test_another_run_may_be_chosen_and_one_that_is_unknown_is_refused(
    models: Models, run: Path, settings: Callable[..., Any]
) -> None:
    other = finished_run(run.parent.parent, settings, "other")
    assert str(other) in [each for _, each in models.runs()]
    assert "outputs/other" in models.ask(asked(models, run=str(other))).asked_of
    with pytest.raises(UserError, match="not there any more"):
        models.ask(asked(models, run="/etc"))
    with pytest.raises(UserError, match="not there any more"):
        models.ask(asked(models, decoding="nucleus"))


def test_choices_that_contradict_are_answered_in_a_line(models: Models) -> None:
    with pytest.raises(UserError, match="with one beam there is no choice"):
        models.ask(asked(models, decoding="guided", beams=1))


def test_an_adapter_answers_beside_the_model_it_lies_on(
    run: Path, composed_demo: Callable[..., Models]
) -> None:
    base = f"model.checkpoint={run.parent.parent / 'base'}"
    models = composed_demo(f"adapter={run / 'adapter'}", base, "data.prompt=schema")
    assert models.runs() == [(str(run / "adapter"), NO_RUN)]
    assert list(models.ask(asked(models)).answers) == [BASELINE, TUNED]


def test_without_a_run_the_model_answers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, composed_demo: Callable[..., Models]
) -> None:
    monkeypatch.chdir(tmp_path)
    models = composed_demo("model=mini")
    assert models.runs() == [("none: the model as it is", NO_RUN)]
    assert list(models.ask(asked(models)).answers) == [BASELINE]
    untyped = composed_demo()
    assert untyped.settings.run is None and untyped.runs()[0][0].startswith("none yet")


def test_what_makes_an_answer_doubtful_is_said_with_it(models: Models) -> None:
    assert "English" in models.ask(asked(models, "сколько пациентов?")).notes[0]
