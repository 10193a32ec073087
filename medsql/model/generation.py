"""From prompts to SQL: batched generation with a key-value cache."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from medsql.data.pairs import Pair, Prediction
from medsql.data.spelling import decoded
from medsql.errors import UserError
from medsql.model.decoder import Decoder
from medsql.model.key_values import KeyValues
from medsql.wording import counted

log = logging.getLogger(__name__)

EVERY_SECONDS = 15.0
"""Between two lines of a log that say how far something has come."""


def generate_sql(
    model: PreTrainedModel | PeftModel,
    batch: Mapping[str, Tensor],
    decoder: Decoder,
    questions: Sequence[str] = (),
) -> list[Prediction]:
    """Decode one padded batch (`input_ids` and `attention_mask`, rows × tokens): one query a row.

    Greedy with one beam; with more, beam search that ends once as many beams are complete.
    Spaces come back as the model wrote them. Grounded decoding looks into the rows' `questions`.
    """
    decode, constraint, guidance = decoder.settings, decoder.constraint, decoder.guidance
    returned = decode.num_beams if guidance and guidance.chooser else 1
    beams = {} if decode.num_beams == 1 else {"early_stopping": True, "length_penalty": decode.length_penalty}
    with _evaluating(model), torch.no_grad():
        tokens = model.generate(  # type: ignore[operator]  # PEFT hides its type
            input_ids=batch["input_ids"].to(model.device),
            attention_mask=batch["attention_mask"].to(model.device),
            max_new_tokens=decoder.max_new_tokens,
            num_beams=decode.num_beams,
            num_return_sequences=returned,  # a row's beams lie side by side, the best first
            do_sample=False,
            past_key_values=KeyValues(),
            use_cache=True,  # some checkpoints say no: all tokens would come again, besides those kept
            logits_processor=None if constraint is None else [constraint.processor(decoder.max_new_tokens)],
            **beams,
        )
    queries = map(decoder.spelling.unspell, decoded(decoder.tokenizer, tokens))
    ended = (tokens == decoder.tokenizer.eos_token_id).any(dim=1).tolist()
    beams_of_rows = [Prediction(sql, truncated=not end) for sql, end in zip(queries, ended, strict=True)]
    if guidance is None:
        return beams_of_rows
    rows = range(0, len(beams_of_rows), returned)
    asked = questions or [""] * len(rows)
    return [
        guidance(beams_of_rows[row : row + returned], each) for row, each in zip(rows, asked, strict=True)
    ]


def predict(
    model: PreTrainedModel | PeftModel,
    batches: Iterable[Mapping[str, Tensor]],
    decoder: Decoder,
    questions: Sequence[str] = (),
) -> list[Prediction]:
    """Decode all batches; the queries come back ordered by `index`, however rows were batched.

    Given the `questions` of all rows, by `index`, logs every `EVERY_SECONDS` how far it has come.
    Raises `UserError` where the GPU's memory does not suffice.
    """
    outputs: dict[int, Prediction] = {}
    said = time.monotonic()
    try:
        for batch in batches:
            rows = batch["index"].tolist()
            asked = [questions[row] for row in rows] if questions else ()
            outputs |= dict(zip(rows, generate_sql(model, batch, decoder, asked), strict=True))
            if questions and time.monotonic() - said >= EVERY_SECONDS:
                log.info(
                    "generated %s of %s", f"{len(outputs):,}", counted(len(questions), "query", "queries")
                )
                said = time.monotonic()
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
