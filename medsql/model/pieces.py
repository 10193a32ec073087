"""A tokenizer made to cut a word alike however it is written: `coronary`, `▁Coronary`, `CORONARY`.

Questions come in lower case and SQL in each column's own style, so what has to be copied is rarely
the same text twice. Here its pieces differ in their case only, and `similar_rows` makes the rows of
an embedding start out alike where pieces do.

It is a byte-pair encoding (Sennrich et al. 2016) in SentencePiece's manner, `▁` for a blank. Merges
are learned in lower case and repeated in the other two; a blank joins its word last.
"""

from __future__ import annotations

import json
import string
from collections import Counter
from collections.abc import Iterator

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from medsql.data.corpus.corruption import SENTINELS

SPECIAL = ("<pad>", "</s>", "<unk>")
"""T5's, at T5's places."""

BLANK = "▁"

ALPHABET = (*string.digits, *string.ascii_letters, *string.punctuation, BLANK, "\n", "\t")
"""All of printable ASCII but its rarer white space; a blank is written `▁`."""

Merge = tuple[str, str]

# Words with the blank before them, single digits, and whatever stands between two of these.
_PIECES = Regex(r"▁?[A-Za-z]+|▁?[0-9]|[^A-Za-z0-9]+?(?=▁?[A-Za-z0-9]|$)|[^A-Za-z0-9]+")
# The same for learning, of lower-cased text, with blanks apart.
_WORDS = Regex(r"[a-z]+|[0-9]|(?<=[a-z0-9])▁(?=[a-z0-9])|[^a-z0-9]+")


def train_tokenizer(texts: list[str], merges: int, seldom: int) -> PreTrainedTokenizerFast:
    """A tokenizer of about `merges` learned merges, each in every case, with a blank before it and without;
    left out, with all its variants, is what occurs fewer than `seldom` times in `texts` in any of them.

    Reads and writes back all of printable ASCII, a blank at the very front aside; other characters become
    `<unk>`.
    """
    everything = list(_in_every_case(_learned(texts, merges)))
    encodings = _tokenizer(everything).backend_tokenizer.encode_batch(texts)
    used = Counter(_plain(piece) for encoding in encodings for piece in encoding.tokens)
    common = {left + right for left, right in everything if used[_plain(left + right)] >= seldom}
    return _tokenizer(_needed_for(common, everything))


def similar_rows(tokenizer: PreTrainedTokenizerFast, rows: Tensor, likeness: float) -> Tensor:
    """`rows` (pieces × width) with those of a piece's variants made alike.

    Each becomes sqrt(likeness) of its plain (lower-case, blankless) piece's row and
    sqrt(1 - likeness) of its own, which keeps the variance of independent rows; plain ones stay.
    """
    ids = tokenizer.get_vocab()
    own = torch.arange(len(rows))
    plain = own.clone()
    for piece in ids.keys() - {*SPECIAL, *SENTINELS}:
        plain[ids[piece]] = ids.get(_plain(piece), ids[piece])
    mixed = likeness**0.5 * rows[plain] + (1 - likeness) ** 0.5 * rows
    return torch.where((plain == own)[:, None], rows, mixed)


def _plain(piece: str) -> str:
    """The variant in lower case with no blank before it."""
    return piece.removeprefix(BLANK).lower()


def _learned(texts: list[str], merges: int) -> list[Merge]:
    """Merges within lower-cased words, blanks left out, and within what stands between words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _cut(_WORDS)
    trainer = trainers.BpeTrainer(
        vocab_size=len(string.printable) + 1 + merges, min_frequency=2, show_progress=False
    )
    tokenizer.train_from_iterator((text.lower() for text in texts), trainer)
    return [(left, right) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]]


def _in_every_case(merges: list[Merge]) -> Iterator[Merge]:
    """Each merge of letters in lower case, upper case and capitalised, in the order of learning, and
    at the end a blank before each of them: so the same merges apply to a word however it is written."""
    words = [*string.ascii_lowercase]
    for left, right in merges:
        yield left, right
        if (left + right).isalpha():
            words.append(left + right)
            yield left.upper(), right.upper()
            yield left.capitalize(), right
    for word in [*words, *string.digits]:
        for written in dict.fromkeys((word, word.upper(), word.capitalize())):
            yield BLANK, written


def _needed_for(pieces: set[str], merges: list[Merge]) -> list[Merge]:
    """The merges that make one of the pieces, or a part of one; of several that make the same, the first."""
    parts = {left + right: (left, right) for left, right in reversed(merges)}
    needed, open_ends = set(pieces), list(pieces)
    while open_ends:
        new = set(parts.get(open_ends.pop(), ())) - needed
        needed |= new
        open_ends += new
    return [pair for pair in merges if "".join(pair) in needed and parts["".join(pair)] == pair]


def _tokenizer(merges: list[Merge]) -> PreTrainedTokenizerFast:
    pad, eos, unk = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=_byte_pairs(merges),
        pad_token=pad,
        eos_token=eos,
        unk_token=unk,
        additional_special_tokens=list(SENTINELS),
        clean_up_tokenization_spaces=False,
    )


def _byte_pairs(merges: list[Merge]) -> Tokenizer:
    pieces = dict.fromkeys([*SPECIAL, *ALPHABET, *(left + right for left, right in merges), *SENTINELS])
    numbered = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(numbered, merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = _cut(_PIECES)
    tokenizer.decoder = decoders.Metaspace(BLANK, prepend_scheme="always")
    end = ("</s>", numbered["</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[end])
    return tokenizer


def _cut(pattern: Regex) -> pre_tokenizers.PreTokenizer:
    """Blanks to `▁`, one at the front, then cut by the pattern."""
    blanks = pre_tokenizers.Metaspace(BLANK, prepend_scheme="always", split=False)
    return pre_tokenizers.Sequence([blanks, pre_tokenizers.Split(pattern, "isolated")])
