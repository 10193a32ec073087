"""A tokenizer that cuts a word alike however it is written: `coronary`, `▁Coronary`, `CORONARY`.

Questions come in lower case and SQL in each column's own style, so that what has to be copied is
rarely the same text twice. Here its pieces differ in their case mark only, and `similar_rows` says
which rows of an embedding may therefore start out alike.

It is a byte-pair encoding (Sennrich et al. 2016) in SentencePiece's manner, `▁` for a blank. Merges
are learned in lower case, then repeated in the other two, and blanks join their word last.
"""

from __future__ import annotations

import json
import string
from collections import Counter
from collections.abc import Iterable, Iterator

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from medsql.data.corpus.corruption import SENTINELS

SPECIAL = ("<pad>", "</s>", "<unk>")
"""T5's, at T5's places."""

BLANK = "▁"

_PIECES = Regex(r"▁?[A-Za-z]+|▁?[0-9]|[^A-Za-z0-9]+?(?=▁?[A-Za-z0-9]|$)|[^A-Za-z0-9]+")
"""Words with their blank, single digits, and whatever stands between two of them."""


def train_tokenizer(texts: list[str], merges: int, seldom: int = 0) -> PreTrainedTokenizerFast:
    """A tokenizer of up to `merges` learned merges, that writes and reads back all printable ASCII."""
    expanded = list(_in_every_case(_learned(texts, merges)))
    if seldom:
        used = Counter(
            p for t in _tokenizer(expanded).backend_tokenizer.encode_batch(texts) for p in t.tokens
        )
        needed = {p for p, c in used.items() if c >= seldom}
        parts = {l + r: (l, r) for l, r in reversed(expanded)}
        todo = list(needed)
        while todo:
            for part in parts.get(todo.pop(), ()):
                if part not in needed:
                    needed.add(part)
                    todo.append(part)
        expanded = [pair for pair in expanded if "".join(pair) in needed]
    return _tokenizer(expanded)


def _tokenizer(expanded):
    alphabet = [*string.printable.split(" ")[0], BLANK, *"\n\t"]
    pieces = dict.fromkeys([*SPECIAL, *alphabet, *(left + right for left, right in expanded), *SENTINELS])
    model = models.BPE({piece: number for number, piece in enumerate(pieces)}, expanded, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(BLANK, prepend_scheme="always", split=False),
            pre_tokenizers.Split(_PIECES, "isolated"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(BLANK, prepend_scheme="always")
    end = SPECIAL.index("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    pad, eos, unk = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        eos_token=eos,
        unk_token=unk,
        additional_special_tokens=list(SENTINELS),
        clean_up_tokenization_spaces=False,
    )


def _learned(texts: Iterable[str], merges: int) -> list[tuple[str, str]]:
    """Merges within lower-cased words without their blanks, and within what stands between words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(BLANK, prepend_scheme="always", split=False),
            pre_tokenizers.Split(Regex(r"[a-z]+|[0-9]|(?<=[a-z0-9])▁(?=[a-z0-9])|[^a-z0-9]+"), "isolated"),
        ]
    )
    trainer = trainers.BpeTrainer(vocab_size=10**6, show_progress=False, min_frequency=2)
    alphabet = len({letter for letter in string.printable}) + 1
    trainer = trainers.BpeTrainer(vocab_size=alphabet + merges, show_progress=False, min_frequency=2)
    tokenizer.train_from_iterator((text.lower() for text in texts), trainer)
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def _in_every_case(merges: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    pieces = list(string.ascii_lowercase)
    for left, right in merges:
        yield left, right
        if (left + right).isalpha():
            pieces.append(left + right)
            yield left.upper(), right.upper()
            yield left.capitalize(), right
    for piece in [*pieces, *string.digits]:
        for written in dict.fromkeys((piece, piece.upper(), piece.capitalize())):
            yield BLANK, written


def similar_rows(tokenizer: PreTrainedTokenizerFast, rows: Tensor, likeness: float) -> Tensor:
    """`rows` (vocabulary × width) with those of a piece's variants made alike.

    Each becomes sqrt(likeness) of its lower-case, blankless piece's row and sqrt(1 - likeness) of its
    own, so that variances stay.
    """
    ids = tokenizer.get_vocab()
    plain = torch.arange(len(rows))
    for piece, number in ids.items():
        if piece not in SPECIAL and piece not in SENTINELS:
            plain[number] = ids.get(piece.removeprefix(BLANK).lower(), number)
    mixed = likeness**0.5 * rows[plain] + (1 - likeness) ** 0.5 * rows
    return torch.where((plain == torch.arange(len(rows)))[:, None], rows, mixed)
