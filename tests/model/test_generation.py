"""Generation: bounded, batched, and true to what the model wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny import LORA, tiny_t5, tiny_tokenizer

from medsql.config import DecodeSettings
from medsql.data.pairs import Prediction
from medsql.data.spelling import Spelling
from medsql.model import generation
from medsql.model.decoder import Decoder
from medsql.model.generation import generate_sql, predict
from medsql.model.guidance import Guidance
from medsql.model.lora import add_lora
from medsql.sql.choice import Choice, Chooser
from medsql.sql.parts import Column
from medsql.sql.repair import Repairer

GREEDY = DecodeSettings(num_beams=1, batch_size=2)
BEAMS = DecodeSettings(num_beams=3, batch_size=2)


def decoder(settings: DecodeSettings, bound: int, **more: Any) -> Decoder:
    return Decoder(tiny_tokenizer(), settings, bound, **more)


def batch_of(*prompts: str, index: list[int] | None = None) -> dict[str, torch.Tensor]:
    encoded = tiny_tokenizer()(list(prompts), padding=True, return_tensors="pt")
    return {**encoded, "index": torch.tensor(index or list(range(len(prompts))))}


class Speaks:
    """Stands in for a model that writes one given text for every row."""

    device = torch.device("cpu")
    training = True

    def __init__(self, text: str) -> None:
        self.tokens = tiny_tokenizer()(text, return_tensors="pt")["input_ids"]

    def eval(self) -> None: ...

    def train(self, mode: bool) -> None: ...

    def generate(self, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return self.tokens.expand(len(input_ids), -1)


@pytest.mark.parametrize(
    "sql",
    ['SELECT  A."B"  FROM A', 'WHERE T . "X" < "o ,p ." AND Y != "don \'t"', "\\ ^ ~ ` { } Ä"],
)
def test_spaces_and_signs_come_back_as_written(sql: str) -> None:
    model: Any = Speaks(sql)
    assert generate_sql(model, batch_of("a", "b"), decoder(GREEDY, 9)) == [Prediction(sql)] * 2


def test_what_the_model_spelled_is_read_back_and_half_a_code_stays() -> None:
    spelling = Spelling({"<": "@l", "é": "@xe9;", "@": "@@"})
    for written, sql in (('A @l "@xe9;@@l"', 'A < "é@l"'), ("A @l @xe", "A < @xe"), ("A @", "A @")):
        model: Any = Speaks(written)
        batch = batch_of("a")
        spelled = decoder(GREEDY, 9, spelling=spelling)
        assert generate_sql(model, batch, spelled) == [Prediction(sql)]
        assert predict(model, [batch], spelled) == [Prediction(sql)]


@pytest.mark.parametrize("decode", [GREEDY, BEAMS])
def test_outputs_end_at_the_bound_and_do_not_depend_on_the_batch(decode: DecodeSettings) -> None:
    model = add_lora(tiny_t5(), LORA)
    prompts = ["short", "a much longer prompt than the other"]
    together = generate_sql(model, batch_of(*prompts), decoder(decode, 6))
    alone = [generate_sql(model, batch_of(prompt), decoder(decode, 6))[0] for prompt in prompts]
    assert together == alone
    assert all(len(prediction.sql) <= 6 for prediction in together), "a token is a byte here"


def test_an_output_that_does_not_end_within_its_bound_is_said_to_be_truncated() -> None:
    class Halts(Speaks):
        def generate(self, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            ended = torch.cat([self.tokens, torch.zeros(1, 1, dtype=torch.long)], dim=1)  # and padding
            return torch.cat([ended, self.tokens[:, :1].expand(1, ended.shape[1])])

    model: Any = Halts("ab")
    first, second = generate_sql(model, batch_of("x", "y"), decoder(GREEDY, 4))
    assert first == Prediction("ab") and second == Prediction("aaaa", truncated=True)


def test_dropout_is_off_while_generating_and_back_on_after() -> None:
    model = tiny_t5(dropout_rate=0.5).train()
    first, second = (generate_sql(model, batch_of("x"), decoder(BEAMS, 8)) for _ in range(2))
    assert first == second
    assert all(module.training for module in model.modules())


def test_beams_reach_the_model() -> None:
    seen: dict[str, Any] = {}

    class Records(Speaks):
        def generate(self, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            seen.update(kwargs)
            return super().generate(input_ids)

    model: Any = Records("a")
    decode = DecodeSettings(num_beams=4, batch_size=2, length_penalty=0.5)
    generate_sql(model, batch_of("x"), decoder(decode, 8))
    assert seen["num_beams"] == 4
    assert seen["early_stopping"] is True
    assert seen["length_penalty"] == 0.5
    assert seen["max_new_tokens"] == 8


class WritesBeams(Speaks):
    """Gives back as many of these beams of each row as it is asked for, padded to one length."""

    def __init__(self, *rows: list[str]) -> None:
        self.rows = rows

    def generate(self, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        beams = [beam for row in self.rows for beam in row[: kwargs["num_return_sequences"]]]
        return tiny_tokenizer()(beams, padding=True, return_tensors="pt")["input_ids"]


FLUID = Column("LAB", "FLUID")
BROKEN, BLOOD = "SELECT LAB.WARD FROM LAB", 'SELECT LAB.FLUID FROM LAB WHERE LAB.FLUID = "blood"'
ROWS = ([BROKEN, "SELECT", BLOOD], [BLOOD, BROKEN, BROKEN], [BROKEN, "SELECT", ""])


def test_each_row_gets_the_first_of_its_own_beams_that_runs() -> None:
    model: Any = WritesBeams(*ROWS)
    guided = decoder(BEAMS, 99, guidance=Guidance(Chooser()))
    found = generate_sql(model, batch_of("x", "y", "z"), guided)
    assert [prediction.sql for prediction in found] == [BLOOD, BLOOD, BROKEN]
    assert [prediction.choice and prediction.choice.beam for prediction in found] == [2, 0, 0]
    assert [len(prediction.choice.verdicts) for prediction in found if prediction.choice] == [3, 1, 3]
    unguided = generate_sql(model, batch_of("x", "y", "z"), decoder(BEAMS, 99))
    assert [prediction.sql for prediction in unguided] == [BROKEN, BLOOD, BROKEN]


def test_what_is_chosen_is_repaired_and_what_was_written_is_kept() -> None:
    model: Any = WritesBeams(*ROWS)
    guidance = Guidance(Chooser(), Repairer({FLUID: ["Blood"]}, {}, 85))
    first, _, third = generate_sql(model, batch_of("x", "y", "z"), decoder(BEAMS, 99, guidance=guidance))
    assert (first.sql, first.written) == (BLOOD.replace("blood", "Blood"), BLOOD)
    assert [repair.repaired for repair in first.repairs] == ["Blood"]
    assert (third.sql, third.written, third.repairs) == (BROKEN, BROKEN, ())
    greedy = decoder(GREEDY, 99, guidance=Guidance(repairer=guidance.repairer))
    one_row: Any = WritesBeams([BLOOD])
    (alone,) = generate_sql(one_row, batch_of("x"), greedy)
    assert (alone.sql, alone.choice) == (first.sql, None)


def test_grounded_beams_come_first_each_by_its_own_question() -> None:
    unknown, asked, known = (BLOOD.replace("blood", value) for value in ("Ink", "Joint fluid", "ascitis"))
    model: Any = WritesBeams([unknown, asked, known], [unknown, asked, known], [unknown, asked, asked])
    guidance = Guidance(Chooser(), Repairer({FLUID: ["Ascites"]}, {}, 80), grounded=True)
    questions = ["how many tests of joint-fluid?", "how many?", "how many are drinking?"]
    grounded = decoder(BEAMS, 99, guidance=guidance)
    first, second, third = generate_sql(model, batch_of("x", "y", "z"), grounded, questions)
    assert (first.written, first.choice and first.choice.verdicts) == (asked, ("ungrounded", "ok"))
    assert (second.written, second.sql) == (known, BLOOD.replace("blood", "Ascites"))
    assert (third.written, third.choice and third.choice.runs) == (unknown, True)


def test_the_first_of_all_beams_is_the_one_that_is_taken_without_guidance() -> None:
    class Nothing(Chooser):
        def __call__(self, beams: Sequence[str], is_grounded: Any = None) -> Choice:
            seen.append(list(beams))
            return Choice(0, False, ())

    seen: list[list[str]] = []
    model, batch = tiny_t5(), batch_of("short", "a much longer prompt")
    alone = generate_sql(model, batch, decoder(BEAMS, 6))
    all_beams = generate_sql(model, batch, decoder(BEAMS, 6, guidance=Guidance(Nothing())))
    assert [prediction.sql for prediction in all_beams] == [prediction.sql for prediction in alone]
    assert [len(set(beams)) for beams in seen] == [3, 3], "each row's beams are different texts"


def test_predictions_come_back_in_the_order_of_the_rows() -> None:
    class Echoes(Speaks):
        def generate(self, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            return input_ids

    model: Any = Echoes("")
    batches = [batch_of("two", "zero", index=[2, 0]), batch_of("one", index=[1])]
    predictions = predict(model, batches, decoder(GREEDY, 8))
    assert [prediction.sql for prediction in predictions] == ["zero", "one", "two"]


def test_how_far_it_has_come_is_said_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Echoes(Speaks):
        def generate(self, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            return input_ids

    model: Any = Echoes("")
    batches = [batch_of("a", "b", index=[0, 1]), batch_of("c", index=[2])]
    with caplog.at_level("INFO"):
        predict(model, batches, decoder(GREEDY, 8), ["a?", "b?", "c?"])
        assert "generated" not in caplog.text, "it was over at once"
        monkeypatch.setattr(generation, "EVERY_SECONDS", 0.0)
        predict(model, batches, decoder(GREEDY, 8), ["a?", "b?", "c?"])
    assert "generated 2 of 3 queries" in caplog.text
