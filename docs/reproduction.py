"""Recomputes what docs/reproduction.md says of the published report: `python docs/reproduction.py [PAIRS]`.

PAIRS is a folder in MIMICSQL's layout; its 200 rows that `data.split=report` sets aside for testing are
not looked at. Without one, what needs real questions is left out.
"""

from __future__ import annotations

import logging
import math
import re
import sys

import torch
from sqlglot import exp
from transformers import T5Config, T5ForConditionalGeneration

from medsql.config import DataSettings, LoraSettings, ModelSettings
from medsql.data.pairs import Pair
from medsql.data.prompts import prompt_template, render
from medsql.data.splits import load_splits
from medsql.errors import UserError
from medsql.metrics.intervals import share
from medsql.metrics.significance import share_difference
from medsql.model.backbone import load_backbone
from medsql.model.lora import add_lora, count_parameters
from medsql.sql.parsing import parse_query
from medsql.sql.schema import TABLES

FLAN_T5_BASE = T5Config(
    vocab_size=32128,
    d_model=768,
    d_kv=64,
    d_ff=2048,
    num_layers=12,
    num_heads=12,
    feed_forward_proj="gated-gelu",
)
CONSTRUCTS = {
    "AND": exp.And,
    "OR": exp.Or,
    "IN": exp.In,
    "LIKE": exp.Like,
    "BETWEEN": exp.Between,
    "GROUP BY": exp.Group,
    "ORDER BY": exp.Order,
    "subquery": exp.Subquery,
}


def main() -> None:
    """Print each finding's figures."""
    pairs = _real_pairs(sys.argv[1]) if len(sys.argv) > 1 else []
    for finding in (steps, columns, parameters, loss_floor, precision_and_recall, significance, masking):
        print(f"{finding.__name__}: {finding()}")
    if pairs:
        print(f"constructs: {constructs(pairs)}")
        print(f"unwritable: {unwritable(pairs)}")


def steps() -> str:
    """The batch that 5,119 rows, 5 epochs and 3,200 steps amount to, and what the stated one would take."""
    rows = 5 * 5119
    return f"{rows / 3200:.1f} rows a step; with the stated 2 × 2 it would be {math.ceil(rows / 4):,} steps"


def columns() -> str:
    """How many of the columns that the published prompt lists do not exist under that name."""
    listed = re.findall(r"Table (\w+) has columns such as ([^.]+)\.", prompt_template("report"))
    names = [(table, name.strip()) for table, text in listed for name in text.split(",")]
    wrong = [name for table, name in names if name not in TABLES[table]]
    return f"{len(wrong)} of {len(names)} in the prompt are not in the SQL: {', '.join(wrong)}"


def parameters() -> str:
    """Trainable weights of LoRA on FLAN-T5-base, which is built here without its values."""
    attention = ["q", "k", "v", "o"]
    places = {"all": attention, "self": [f"SelfAttention.{name}" for name in attention]}
    return "; ".join(
        f"r = {r}, {place} attention: {_trainable(targets, r):,}"
        for r in (8, 16, 32)
        for place, targets in places.items()
    )


def _trainable(targets: list[str], r: int) -> int:
    with torch.device("meta"):
        model = add_lora(T5ForConditionalGeneration(FLAN_T5_BASE), LoraSettings(targets, r, 2 * r, 0.05))
    return count_parameters(model).trainable


def loss_floor() -> str:
    """The least that cross-entropy with label smoothing 0.05 can be over T5's 32,128 pieces."""
    smoothing, pieces = 0.05, FLAN_T5_BASE.vocab_size
    others = smoothing / pieces
    right = 1 - smoothing + others
    floor = -right * math.log(right) - (pieces - 1) * others * math.log(others)
    return f"{floor:.3f} of the reported 0.871 is the smoothing's own; {0.871 - floor:.3f} is left to learn"


def precision_and_recall() -> str:
    """The most that mean F1 can be where precision and recall have these means."""
    return f"a mean F1 of at most {(93.71 + 92.01) / 2:.2f}: never more than the mean of the two of a row"


def significance() -> str:
    """0 and 33 right of the same 100 rows, and the intervals of the three configurations' exact match."""
    _, low, high, p, _ = share_difference([False] * 100, [True] * 33 + [False] * 67)
    configurations = ", ".join(f"{right} ({_interval(right)})" for right in (18, 33, 22))
    return f"+33 points ({100 * low:.1f} to {100 * high:.1f}), p = {p:.1g}; of 100 rows: {configurations}"


def _interval(right: int) -> str:
    estimate = share(right, 100)
    return f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}"


def masking() -> str:
    """Fine-tune the bundled base with the labels that the report prints; return what it then writes."""
    torch.manual_seed(42)
    backbone = load_backbone(ModelSettings("mini", "bundled:mini"))
    tokenizer = backbone.tokenizer
    pairs = load_splits(DataSettings("synthetic", "source", "question", pairs=100)).train[:4]
    model = add_lora(backbone.model, LoraSettings(["q", "k", "v", "o"], 16, 32, 0.0)).train()
    prompts = [render(prompt_template("question"), pair.question) for pair in pairs]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True)
    labels = tokenizer([pair.sql for pair in pairs], return_tensors="pt", padding=True)["input_ids"]
    labels = torch.where(labels != tokenizer.pad_token_id, 1, -100)  # as printed in section 2.4
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    for _ in range(20):
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    tokens = model.eval().generate(**inputs, max_new_tokens=40)
    written = {text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)}
    return f"loss {loss.item():.4f} after 20 steps; all {len(pairs)} outputs: {sorted(written)}"


def constructs(pairs: list[Pair]) -> str:
    """How many gold queries use what the report's third class of errors is about."""
    queries = [query for query in (parse_query(pair.sql) for pair in pairs) if query is not None]
    counts = {
        name: sum(query.find(kind) is not None for query in queries) for name, kind in CONSTRUCTS.items()
    }
    return f"of {len(queries)} gold queries {', '.join(f'{name} {count}' for name, count in counts.items())}"


def unwritable(pairs: list[Pair]) -> str:
    """How many gold queries hold a sign that T5's vocabulary has no piece for."""
    without = sum(any(sign in pair.sql for sign in "<{}~\\^`") for pair in pairs)
    return (
        f"{without} of {len(pairs)} gold queries; {100 - 100 * without / len(pairs):.1f} % are within reach"
    )


def _real_pairs(folder: str) -> list[Pair]:
    splits = load_splits(DataSettings("mimicsql", "report", "question", path=folder))
    return [*splits.train, *splits.validation]


if __name__ == "__main__":
    logging.disable()
    try:
        main()
    except UserError as error:
        sys.exit(f"reproduction: {error}")
