"""From prompts to SQL: batched generation with a key-value cache."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from medsql.config import DecodeSettings
from medsql.data.pairs import Pair, Prediction
from medsql.errors import UserError
from medsql.model.constraint import Constraint

log = logging.getLogger(__name__)


def output_bound(longest_target: int, decode: DecodeSettings) -> int:
    """The most tokens an output may have: as set, or the longest *training* target plus a margin.

    `longest_target` counts tokens, end of sequence included. The reference of the row at hand
    never has a say: its length would tell the model something about the answer.
    """
    return decode.max_new_tokens or longest_target + decode.margin_tokens


def generate_sql(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: Mapping[str, Tensor],
    decode: DecodeSettings,
    max_new_tokens: int,
    constraint: Constraint | None = None,
) -> list[Prediction]:
    """Decode one padded batch (`input_ids` and `attention_mask`, rows × tokens): one query a row.

    Greedy with one beam; with more, beam search that ends once as many beams are complete.
    With a `constraint` only its queries can be written. Spaces come back as the model wrote them.
    """
    beams = {} if decode.num_beams == 1 else {"early_stopping": True, "length_penalty": decode.length_penalty}
    with _evaluating(model), torch.no_grad():
        tokens = model.generate(  # type: ignore[operator]  # PEFT hides its type
            input_ids=batch["input_ids"].to(model.device),
            attention_mask=batch["attention_mask"].to(model.device),
            max_new_tokens=max_new_tokens,
            num_beams=decode.num_beams,
            do_sample=False,
            use_cache=True,
            logits_processor=None if constraint is None else [constraint.processor(max_new_tokens)],
            **beams,
        )
    queries = tokenizer.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    ended = (tokens == tokenizer.eos_token_id).any(dim=1).tolist()
    return [Prediction(sql, truncated=not end) for sql, end in zip(queries, ended, strict=True)]


def predict(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    batches: Iterable[Mapping[str, Tensor]],
    decode: DecodeSettings,
    max_new_tokens: int,
    constraint: Constraint | None = None,
) -> list[Prediction]:
    """Decode all batches; the queries come back ordered by `index`, however rows were batched.

    Raises `UserError` where the GPU's memory does not suffice.
    """
    outputs: dict[int, Prediction] = {}
    try:
        for batch in batches:
            queries = generate_sql(model, tokenizer, batch, decode, max_new_tokens, constraint)
            outputs |= dict(zip(batch["index"].tolist(), queries, strict=True))
    except torch.OutOfMemoryError as error:
        raise UserError("out of GPU memory while generating: lower decode.batch_size") from error
    return [outputs[row] for row in sorted(outputs)]


def log_prediction(pair: Pair, prediction: str, longest: int = 300) -> None:
    """Log a prediction for a person to read; a model that has learnt little writes to its bound."""
    if len(prediction) > longest:
        prediction = f"{prediction[:longest]}… ({len(prediction)} characters)"
    log.info("question:  %s\n  gold:      %s\n  predicted: %s", pair.question, pair.sql, prediction)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout off inside, and the mode of before restored."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
