"""Compares two ways to write what a vocabulary lacks: `python docs/added_tokens.py FOLDER [SEEDS]`.

The recipe of `experiment=ladder/lossless`, changed by what follows SEEDS, is trained twice for each of them
(1): with codes spelled in pieces that the vocabulary has, as medsql does, and with each code a token of its
own, whose embedding is trained beside the adapters. FOLDER is in MIMICSQL's layout. The validation rows are
scored with the last weights, so that nothing is chosen by them; of the 200 rows that `data.split=report` sets
aside for testing one is loaded, because there has to be one, and not looked at.
"""

from __future__ import annotations

import copy
import logging
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from ladder import SHOWN, TESTED, Rung, print_table, scores, step
from peft import PeftModel, get_peft_model
from tokenizers import AddedToken, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.materials import Materials, load, train
from medsql.data.module import generation_loader
from medsql.data.pairs import Prediction
from medsql.data.tokenized import tokenize_splits
from medsql.errors import UserError
from medsql.metrics.execution import Execution
from medsql.metrics.scores import score_rows
from medsql.model.decoder import Decoder, output_bound
from medsql.model.generation import predict
from medsql.model.lora import count_parameters, merge_adapter, save_model

RECIPE = (
    "experiment=ladder/lossless",
    "data=mimicsql",
    "data.split=report",
    "data.test_rows=1",
    "trainer.threads=1",
    "validation.every_steps=800",
)
FACTS = ("lost", "longest", "tokens a target", "trained weights", "adapter, kB", "ms merged", "as merged")


class Side(NamedTuple):
    """A way to write: what it is trained on, and the ids of the tokens that were added for it."""

    name: str
    materials: Materials
    added: list[int]


def main(folder: str, seeds: str = "1", *overrides: str) -> None:
    """Print what each side's targets come to, its scores, and the test of their difference, seed by seed."""
    for seed in range(42, 42 + int(seeds)):
        materials = load(*RECIPE, f"data.path={folder}", f"seed={seed}", *overrides)
        found = [compared(side) for side in (Side("spelled", materials, []), with_tokens(materials))]
        spelled, added = (rung for rung, _ in found)
        print(f"seed {seed}\n", flush=True)
        print_table(["", *FACTS], [[rung.name, *facts] for rung, facts in found])
        print_table(["", *SHOWN, "ms a query"], [scores(spelled), scores(added)])
        tests = [heading for name in TESTED for heading in (f"{name}, points", "p")]
        print_table(["", *tests], [step(spelled, added)])


def with_tokens(spelled: Materials) -> Side:
    """The same with each code of the spelling one token, and a base with as many more embeddings."""
    codes = [*spelled.tokenized.spelling.codes.values()]
    tokenizer = add_tokens(spelled.tokenizer, codes)
    tokenized = tokenize_splits(spelled.splits, tokenizer, spelled.settings.data, spelled.tokenized.spelling)
    base = copy.deepcopy(spelled.base)
    torch.manual_seed(spelled.settings.seed)
    base.resize_token_embeddings(len(tokenizer))  # new ones next to the mean of the old, as is its default
    materials = replace(spelled, tokenizer=tokenizer, tokenized=tokenized, base=base)
    return Side("added", materials, tokenizer.convert_tokens_to_ids(codes))


def add_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> PreTrainedTokenizerBase:
    """A copy of a T5's fast tokenizer with `tokens` added, and the texts around them kept as they are.

    An added token cuts a text in two, and T5's tokenizer makes up a space at the beginning of the second part
    and forgets those at the end of the first. Here only the beginning of the whole text gets one.
    """
    tokenizer = copy.deepcopy(tokenizer)
    backend = tokenizer.backend_tokenizer
    parts = [part for part in backend.pre_tokenizer if not isinstance(part, pre_tokenizers.WhitespaceSplit)]
    for part in parts:
        if isinstance(part, pre_tokenizers.Metaspace):
            part.prepend_scheme = "first"
    backend.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in tokens])
    return tokenizer


def compared(side: Side) -> tuple[Rung, list[str]]:
    """Train one side; return the scores of its validation rows, and its `FACTS`."""
    materials = side.materials
    model = adapted(side)
    weights = count_parameters(model).trainable
    with TemporaryDirectory() as folder:
        train(materials, model, Path(folder))
        save_model(model, materials.tokenizer, Path(folder) / "adapter")
        size = (Path(folder) / "adapter" / "adapter_model.safetensors").stat().st_size
    predictions, milliseconds = written(materials, model)
    merged, milliseconds_merged = written(materials, merge_adapter(model))
    pairs = materials.splits.validation
    verdicts = score_rows(pairs, [prediction.sql for prediction in predictions], Execution())
    rows = [{"sql": pair.sql, **verdict} for pair, verdict in zip(pairs, verdicts, strict=True)]
    same = sum(one == other for one, other in zip(predictions, merged, strict=True))
    facts = [*lengths(materials), f"{weights:,}", f"{size / 1000:,.0f}", f"{milliseconds_merged:.0f}"]
    return Rung(side.name, rows, milliseconds), [*facts, f"{same} of {len(rows)}"]


def adapted(side: Side) -> PeftModel:
    """Adapters in a copy of the base, the same on both sides, and embeddings of the added tokens."""
    model = side.materials.model()
    if not side.added:
        return model
    config = replace(model.peft_config["default"], trainable_token_indices=side.added)
    torch.manual_seed(side.materials.settings.seed)
    return get_peft_model(copy.deepcopy(side.materials.base), config)


def lengths(materials: Materials) -> list[str]:
    """Targets of training and validation rows that do not come back, the longest of them, and their mean."""
    tokenized = materials.tokenized
    lost = tokenized.record["lost"]["targets"]["spelled"]
    sizes = [len(ids) for rows in (tokenized.train, tokenized.validation) for ids in rows["labels"]]
    return [
        f"{lost['train'] + lost['validation']} of {len(sizes)}",
        str(max(sizes)),
        f"{sum(sizes) / len(sizes):.1f}",
    ]


def written(materials: Materials, model: PreTrainedModel | PeftModel) -> tuple[list[Prediction], float]:
    """What a model writes for the validation rows, and the milliseconds of its thread that each took."""
    decode, tokenized = materials.settings.decode, materials.tokenized
    bound = output_bound(tokenized.longest_target, decode)
    decoder = Decoder(materials.tokenizer, decode, bound, tokenized.spelling)
    rows = tokenized.validation
    loader = generation_loader(rows, len(rows), decode.batch_size, materials.tokenizer.pad_token_id)
    started = time.process_time()
    predictions = predict(model, loader, decoder)
    return predictions, 1000 * (time.process_time() - started) / len(rows)


if __name__ == "__main__":
    logging.disable()
    warnings.simplefilter("ignore")  # of PEFT: an old name of transformers, and that it saves all embeddings
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"added_tokens: {error}")
