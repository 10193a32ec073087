"""Constrained decoding: whatever a model wants to write, it writes a query that runs, and in time."""

from __future__ import annotations

import json
import math
import random
import threading
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import T5_LACKS, t5_tokenizer, tiny_t5, tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from medsql.assets import BUNDLED, checkpoint_folder
from medsql.config import DecodeSettings, ModelSettings, SettingsError
from medsql.data.pairs import Pair, Prediction
from medsql.data.spelling import Spelling, needed_spelling
from medsql.errors import UserError
from medsql.metrics.execution import verdict
from medsql.model.backbone import load_backbone
from medsql.model.constraint import BEFORE_OPENING, NEVER, Constraint, load_constraint
from medsql.model.decoder import Decoder
from medsql.model.generation import generate_sql
from medsql.sql.grammar import LONGEST_LITERAL, Grammar
from medsql.sql.parsing import parse_query
from medsql.sql.schema import MIMICSQL

GOLD = [
    'SELECT COUNT ( DISTINCT DEMOGRAPHIC."SUBJECT_ID" ) FROM DEMOGRAPHIC INNER JOIN LAB on '
    'DEMOGRAPHIC.HADM_ID = LAB.HADM_ID WHERE DEMOGRAPHIC."AGE" < "50" AND LAB."FLUID" = "Blood"',
    'SELECT DEMOGRAPHIC."NAME",DEMOGRAPHIC."RELIGION" FROM DEMOGRAPHIC WHERE DEMOGRAPHIC."SUBJECT_ID" = "17"',
    'SELECT MAX ( DEMOGRAPHIC."AGE" ) FROM DEMOGRAPHIC WHERE DEMOGRAPHIC."DIAGNOSIS" = "T1-T2 FX;\\PAIN (X)"',
]


@cache
def vocabulary(kind: str) -> PreTrainedTokenizerBase:
    """One of single bytes, one of T5's kind, that with T5's gaps, T5's own kind of those, and CodeT5's."""
    if kind == "bytes":
        return tiny_tokenizer()
    if kind == "t5 with gaps":
        mini = ModelSettings("mini", f"{BUNDLED}mini", lacks=T5_LACKS)
        return load_backbone(mini).tokenizer
    if kind == "sentencepiece":
        with TemporaryDirectory() as folder:
            return t5_tokenizer(Path(folder))
    if kind == "t5":
        return AutoTokenizer.from_pretrained(checkpoint_folder(f"{BUNDLED}mini"))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<extra_id_0>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(GOLD * 3, trainer)
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<extra_id_0>"],
    )


@cache
def constraint(kind: str) -> Constraint:
    return Constraint(Grammar(MIMICSQL), vocabulary(kind))


class Wants(torch.nn.Module):
    """In place of a model's last layer: noise of a seed, or one text after another, token by token.

    Every third number of the noise may be another, such as what half precision overflows to.
    """

    def __init__(self, kind: str, seed: int = 0, text: str | None = None, third: float | None = None) -> None:
        super().__init__()
        self.third = third
        self.size = len(vocabulary(kind)) + 3  # checkpoints pad their vocabularies
        self.noise = torch.Generator().manual_seed(seed)
        self.tokens = None if text is None else target(kind, text)
        self.step = 0

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = 5 * torch.randn(len(hidden), 1, self.size, generator=self.noise)
        if self.third is not None:
            logits[:, :, ::3] = self.third
        if self.tokens is not None:
            logits[:, :, self.tokens[self.step]] = 100.0
            self.step += 1
        return logits


def target(kind: str, text: str) -> list[int]:
    """The tokens a model is trained to write; those of CodeT5's kind begin with `<s>`."""
    return vocabulary(kind)(text)["input_ids"]


@pytest.mark.parametrize("kind", ["bytes", "t5", "codet5"])
def test_the_engine_lets_follow_just_what_leads_on_in_the_graph(kind: str) -> None:
    """Between literals, in which almost anything does."""
    held, choice, checked = constraint(kind), random.Random(1), 0
    for _ in range(3):
        place = held.start
        tokens: list[int] = []
        while place and len(tokens) < 200:
            may = (held.needed(place, tokens) < NEVER).nonzero()[0].tolist()
            if not any(isinstance(partial, int) for _, partial in place) and place != BEFORE_OPENING:
                leading = {token for token in range(len(vocabulary(kind))) if held.advance(place, token)}
                assert {*may} - {vocabulary(kind).eos_token_id} == leading
                checked += 1
            tokens.append(choice.choice(may))
            place = held.advance(place, tokens[-1])
    assert checked > 100


GAPS = ["t5 with gaps", "sentencepiece"]


@cache
def spelled(kind: str) -> tuple[Constraint, Spelling]:
    """The grammar in the spelling of a vocabulary with gaps."""
    spelling = needed_spelling(vocabulary(kind), GOLD)
    return Constraint(Grammar(MIMICSQL, spell=spelling.spell), vocabulary(kind)), spelling


def write(
    kind: str,
    wants: Wants,
    bound: int,
    rows: int = 1,
    beams: int = 1,
    within: Constraint | None = None,
    spelling: Spelling = Spelling(),  # noqa: B008  # as `Decoder` has it
) -> list[Prediction]:
    tokenizer: Any = vocabulary(kind)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = tiny_t5(vocab_size=wants.size, decoder_start_token_id=tokenizer.pad_token_id, **ids)
    model.lm_head = wants
    batch = {name: torch.ones(rows, 4, dtype=torch.long) for name in ("input_ids", "attention_mask")}
    decode = DecodeSettings(num_beams=beams, batch_size=rows)
    decoder = Decoder(tokenizer, decode, bound, spelling, within or constraint(kind))
    return generate_sql(model, batch, decoder)


WORDS = [None, " JOIN", "(", "--", "'"]
"""What a model wants to write over and over; where it may not, and for None, it is noise."""


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("kind", ["bytes", "t5", "codet5"])
@pytest.mark.parametrize("room", [0, 1, 40, 200])
@settings(max_examples=3, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**32), word=st.sampled_from(WORDS))
def test_whatever_the_logits_the_output_is_valid_and_ends(
    kind: str, beams: int, room: int, seed: int, word: str | None
) -> None:
    wants = Wants(kind, seed, word and word * 400)
    for sql, truncated, *_ in write(kind, wants, constraint(kind).shortest + room, rows=3, beams=beams):
        assert verdict(sql) == "ok", sql
        assert parse_query(sql) is not None, sql
        assert not truncated


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("third", [math.nan, math.inf, -math.inf, 1e30, -1e30])
@pytest.mark.parametrize("kind", ["bytes", "t5"])
def test_logits_beyond_all_bounds_change_nothing_of_it(kind: str, third: float, beams: int) -> None:
    rows = write(kind, Wants(kind, third=third), constraint(kind).shortest + 40, rows=3, beams=beams)
    assert {verdict(sql) for sql, *_ in rows} == {"ok"} and not any(row.truncated for row in rows)


def test_a_bound_beyond_all_distances_bars_as_much() -> None:
    start, scores = torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, len(vocabulary("bytes")))
    near, far = (constraint("bytes").processor(bound)(start, scores) for bound in (10_000, 10**6))
    assert torch.equal(near, far) and near.isinf().any()


def test_it_is_so_where_little_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = constraint("bytes").shortest + 40
    expected = write("bytes", Wants("bytes", seed=1), bound, 2)
    monkeypatch.setattr("medsql.model.constraint.MOST_KEPT", 3)
    monkeypatch.setattr("medsql.model.constraint.MOST_ANSWERS", 3)
    little = Constraint(Grammar(MIMICSQL), vocabulary("bytes"))
    assert write("bytes", Wants("bytes", seed=1), bound, 2, within=little) == expected


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("kind", GAPS)
def test_it_is_so_where_the_vocabulary_has_gaps_too(kind: str, beams: int) -> None:
    within, spelling = spelled(kind)
    assert "<" in spelling.codes
    for how in (spelling, None):
        held = within if how else constraint(kind)
        for seed in range(2):
            noise = Wants(kind, seed)
            bound = held.shortest + 40
            rows = write(kind, noise, bound, 3, beams, held, how or Spelling())
            assert {verdict(sql) for sql, *_ in rows} == {"ok"} and not any(row.truncated for row in rows)


@pytest.mark.parametrize("kind", GAPS)
def test_what_a_vocabulary_with_gaps_spells_is_unchanged(kind: str) -> None:
    within, spelling = spelled(kind)
    for text in GOLD:
        target_text = spelling.spell(text)
        bound = len(target(kind, target_text)) + 50
        wants = Wants(kind, text=target_text)
        assert write(kind, wants, bound, within=within, spelling=spelling) == [Prediction(text)]


def test_noise_is_no_query_without_the_constraint() -> None:
    tokenizer: Any = vocabulary("t5")
    model = tiny_t5(vocab_size=len(tokenizer) + 3)
    model.lm_head = Wants("t5")
    batch = {name: torch.ones(2, 4, dtype=torch.long) for name in ("input_ids", "attention_mask")}
    free = Decoder(tokenizer, DecodeSettings(num_beams=1, batch_size=2), 40)
    assert {verdict(prediction.sql) for prediction in generate_sql(model, batch, free)}.isdisjoint({"ok"})


@pytest.mark.parametrize("kind", ["bytes", "t5", "codet5"])
@pytest.mark.parametrize("text", GOLD)
def test_an_output_that_is_valid_is_unchanged_even_where_it_just_fits(kind: str, text: str) -> None:
    for room in (0, 50):
        bound = len(target(kind, text)) + room
        assert write(kind, Wants(kind, text=text), bound) == [Prediction(text)]


def test_an_output_that_is_none_keeps_what_can_be_kept() -> None:
    text = 'SELECT LAB."FLUID" FROM LAB WHERE LAB."FLUIDS" = "Blood"'
    ((sql, *_),) = write("bytes", Wants("bytes", text=text + " " * 300), 300)
    assert sql.startswith('SELECT LAB."FLUID" FROM LAB WHERE LAB."FLUID"')
    assert verdict(sql) == "ok"


def test_a_literal_ends_at_its_longest() -> None:
    text = f'SELECT LAB."FLUID" FROM LAB WHERE LAB."FLUID" = "{"x" * 400}'
    ((sql, truncated, *_),) = write("bytes", Wants("bytes", text=text), 400)
    assert sql.count("x") == LONGEST_LITERAL
    assert verdict(sql) == "ok" and not truncated


def test_with_listed_values_literals_are_from_the_list() -> None:
    listed = {f"LAB.{column}": ["Blood", "delta", "<50 %"] for column in MIMICSQL.tables["LAB"]}
    within = Constraint(Grammar(MIMICSQL, listed), vocabulary("t5"))
    text = 'SELECT LAB."FLUID" FROM LAB WHERE LAB."FLUID" = "'
    for value in ("Blood", "delta", "<50 %"):
        wanted = f'{text}{value}"'
        assert write("t5", Wants("t5", text=wanted), 60, within=within) == [Prediction(wanted)]
    steered = Wants("t5", text=f'{text}Plasma"' + " x" * 60)
    ((sql, *_),) = write("t5", steered, 60, within=within)
    assert sql.startswith(text) and sql.removeprefix(text).split('"')[0] in ("Blood", "delta", "<50 %")


def test_training_rows_give_the_values() -> None:
    tokenizer = vocabulary("t5")
    training = [Pair("?", sql) for sql in GOLD]
    decode = DecodeSettings(num_beams=1, batch_size=1, constrained=True, values="train")
    loaded = load_constraint(decode, tokenizer, training, 100)
    assert loaded is not None
    listed = ("LAB.FLUID", "DEMOGRAPHIC.SUBJECT_ID", "DEMOGRAPHIC.DIAGNOSIS")
    assert loaded.record["values"] == dict.fromkeys(listed, 1)
    assert "DEMOGRAPHIC.AGE" in loaded.record["any_value"]
    assert loaded.record["engine"].startswith("llguidance ")
    assert json.dumps(loaded.record)


def test_what_is_left_out_of_the_values_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    schema = tmp_path / "schema.sql"
    schema.write_text("CREATE TABLE lab (fluid text, label text)")
    query = 'SELECT lab."label" FROM lab WHERE lab."{}" = {}'
    queries = [query.format("fluid", '"Blood"'), query.format("label", "'a \"b\"'"), "no query"]
    queries += [query.format("fluid", '"a < b"')]
    decode = DecodeSettings(1, 1, constrained=True, values="train", schema=str(schema))
    kind = "t5 with gaps"
    loaded = load_constraint(decode, vocabulary(kind), [Pair("?", sql) for sql in queries], 100)
    assert loaded is not None
    assert loaded.record["values"] == {"lab.fluid": 2}, "in whatever capitals"
    assert loaded.record["unread_training_queries"] == 1
    assert loaded.record["values_that_are_no_literals"] == 1
    assert loaded.record["values_the_vocabulary_lacks"] == 1
    assert "leaves out 1 values the vocabulary lacks" in caplog.text


def test_several_threads_may_decode_at_once() -> None:
    shared = Constraint(Grammar(MIMICSQL), vocabulary("bytes"))
    found: list[str] = []

    def decode(seed: int) -> None:
        found.extend(sql for sql, *_ in write("bytes", Wants("bytes", seed), 150, within=shared))

    threads = [threading.Thread(target=decode, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [verdict(sql) for sql in found] == ["ok"] * 4


def test_a_tokenizer_without_a_vocabulary_of_texts_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"decode\.constrained=true: ByT5Tokenizer has no vocabulary"):
        Constraint(Grammar(MIMICSQL), ByT5Tokenizer())


def test_mistakes_are_one_line_before_anything_is_generated() -> None:
    settings: dict[str, Any] = {"num_beams": 1, "batch_size": 1, "constrained": True}
    tokenizer = vocabulary("t5")
    with pytest.raises(SettingsError, match=r"decode\.max_new_tokens=3: the shortest query has \d+ tokens"):
        load_constraint(DecodeSettings(**settings), tokenizer, [], 3)
    for key in ("schema", "values"):
        with pytest.raises(UserError, match=r"nowhere"):
            load_constraint(DecodeSettings(**settings | {key: "nowhere"}), tokenizer, [], 99)
        with pytest.raises(SettingsError, match=f"decode.{key}=x contradicts decode.constrained=false"):
            DecodeSettings(**settings | {"constrained": False, key: "x"})
    assert load_constraint(DecodeSettings(num_beams=1, batch_size=1), tokenizer, [], 3) is None
