"""Constrained decoding: whatever the logits, what is written is a query of a grammar, and ends in time.

An engine, llguidance, says which tokens may follow. It knows nothing of length, so each place in the
grammar also has its distance from the end, in tokens: a token may be written only where the shortest way
on from behind it fits into what is left. What may follow depends on the place alone, which many rows and
beams pass, so the engine is asked once for each.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any, NamedTuple

import llguidance
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from medsql.config import DecodeSettings, SettingsError
from medsql.data.pairs import Pair
from medsql.data.spelling import Spelling, decoded
from medsql.sql.grammar import LONGEST_LITERAL, Grammar, Node
from medsql.sql.known_values import LITERAL, read_values, text_columns, values_in_queries
from medsql.sql.parts import Column
from medsql.sql.schema import Schema
from medsql.sql.schema_file import schema_of
from medsql.wording import counted

NEVER = 2**15 - 1
"""Tokens to the end from where no end can be reached."""

MOST_KEPT = 4096
"""Places whose tokens are kept: at two bytes a token, 263 MB with T5's vocabulary."""

MOST_ANSWERS = 2**16
"""Of each question about the grammar, such as which place is behind a token, so many answers are kept."""

MOST_SCORE = 1e6
"""Of an allowed token, to either side of 0. Hundreds of these stay ahead of the -1e9 that transformers'
beam search gives to beams that are not there; no score of a sound model is near it."""

LONGEST_PIECE = 32
"""Bytes; distances leave longer pieces out, rules of dashes or blanks, and so err on the safe side."""

log = logging.getLogger(__name__)

Place = frozenset[tuple[Node, bytes | int]]
"""Where a text may stand in the grammar: at a node, with what has been written since of the terminal behind
it, or in a literal with so many characters left. There is rarely more than one; none behind the end."""


BEFORE_OPENING: Place = frozenset({((), b"")})
"""Where targets begin with a special token, as CodeT5's do with `<s>`."""


class Constraint:
    """A grammar in a tokenizer's pieces.

    Takes SentencePiece vocabularies (T5) and byte-level ones (CodeT5). `record` is what a run's record shall
    say of it besides the engine. Several threads may decode at once. Raises `SettingsError` where the engine
    does not take the grammar, or the tokenizer is of another kind (ByT5's).
    """

    def __init__(
        self, grammar: Grammar, tokenizer: PreTrainedTokenizerBase, record: dict[str, Any] | None = None
    ) -> None:
        self.record = {"engine": f"llguidance {importlib.metadata.version('llguidance')}", **(record or {})}
        self._grammar = grammar
        self._eos = tokenizer.eos_token_id
        self._pieces = _pieces(tokenizer)
        self._short = {piece for piece in self._pieces if 0 < len(piece) <= LONGEST_PIECE}
        self._longest_short = max(map(len, self._short))
        self._longest = max(map(len, self._pieces))
        self._quoting = np.array([b'"' in piece for piece in self._pieces])
        self._engine = llguidance.LLMatcher(_engine_tokenizer(tokenizer, self._pieces), grammar.rules())
        _check_engine(self._engine)
        self._lock = Lock()  # of what is kept
        self._kept: dict[Place, np.ndarray] = {}
        self._anything = np.zeros(len(self._pieces), np.int16)
        self._spelled: dict[bytes, int] = {b"": 0}
        # Caches of this object's own.
        for name in ("advance", "_asked", "_edges", "_in_bytes", "_to_end", "_ending"):
            setattr(self, name, lru_cache(MOST_ANSWERS)(getattr(self, name)))
        self._begin: Place = frozenset(self._enter(grammar.start, b""))
        first, *_ = tokenizer("")["input_ids"]
        self._opening = None if first == self._eos else first
        self.start = self._begin if self._opening is None else BEFORE_OPENING

    @property
    def shortest(self) -> int:
        """Tokens of the shortest query, its end included."""
        return self._distance(self._begin) + (self._opening is not None)

    def processor(self, max_new_tokens: int) -> LogitsProcessor:
        """What keeps one call of `generate` to the grammar and to `max_new_tokens`."""
        return _Processor(self, max_new_tokens)

    def advance(self, place: Place, token: int) -> Place:
        """The place behind a token."""
        if place == BEFORE_OPENING:
            return self._begin
        piece = self._pieces[token]
        if token == self._eos or not piece:
            return frozenset()
        return frozenset(found for node, partial in place for found in self._read(node, partial, piece))

    def needed(self, place: Place, tokens: Sequence[int]) -> np.ndarray:
        """For each piece of the vocabulary, how many more tokens a query needs behind it; int16.

        `NEVER` for those that may not follow. `tokens` are any that lead to `place`. At no place, behind the
        end or where beam search has only hopeless rows left, all may follow.
        """
        if not place:
            return self._anything
        place = self._asked(place)
        with self._lock:
            if place not in self._kept:
                if len(self._kept) >= MOST_KEPT:
                    self._kept.clear()
                self._kept[place] = self._needed(place, tokens)
            return self._kept[place]

    def can_write(self, text: str) -> bool:
        """Whether there are pieces that spell a text."""
        return self._fewest(text.encode()) < NEVER - 1

    def _asked(self, place: Place) -> Place:
        """The place, as one of those that no piece tells apart: in a literal, far from its bound."""
        return frozenset(
            (node, min(part, self._longest) if isinstance(part, int) else part) for node, part in place
        )

    def _allowed(self, tokens: Sequence[int]) -> np.ndarray:
        """Which pieces the engine lets follow."""
        # A copy of one that has read nothing: after thousands of resets, llguidance 1.9 once in a while
        # answers for another place.
        engine = self._engine.deep_copy()
        engine.consume_tokens([int(token) for token in tokens if token != self._opening])
        mask = np.frombuffer(engine.compute_bitmask(), np.uint8)
        _check_engine(engine)
        return np.unpackbits(mask, bitorder="little")[: len(self._pieces)].astype(bool)

    def _needed(self, place: Place, tokens: Sequence[int]) -> np.ndarray:
        needed = np.full(len(self._pieces), NEVER, np.int16)
        if place == BEFORE_OPENING:
            needed[self._opening] = self._distance(self._begin)
            return needed
        allowed = self._allowed(tokens)
        if all(isinstance(partial, int) for _, partial in place):  # almost all pieces go on with a literal
            going_on = allowed & ~self._quoting
            needed[going_on] = self._distance(place)
            allowed = allowed & ~going_on
        for token in np.flatnonzero(allowed).tolist():
            needed[token] = 0 if token == self._eos else self._distance(self.advance(place, token))
        return needed

    # ---- places in the grammar --------------------------------------------------------------

    def _enter(self, node: Node, text: bytes) -> Iterator[tuple[Node, bytes | int]]:
        """Where one stands behind `text` that begins at `node`."""
        in_literal = any(texts is None for texts, _ in self._edges(node))
        return self._read(node, LONGEST_LITERAL if in_literal else b"", text)

    def _read(self, node: Node, partial: bytes | int, text: bytes) -> Iterator[tuple[Node, bytes | int]]:
        if not text:
            yield node, partial
            return
        for texts, after in self._edges(node):
            if isinstance(partial, int):
                content, quote, rest = text.partition(b'"')
                left = partial - len(content)
                if left >= 0:
                    yield from self._enter(after, rest) if quote else [(node, left)]
            elif texts is not None:
                written = partial + text
                for end in range(len(partial) + 1, len(written) + 1):
                    if written[:end] in texts.all:
                        yield from self._enter(after, written[end:])
                if any(True for _ in texts.longer_than(written)):
                    yield node, written

    def _edges(self, node: Node) -> list[tuple[_Texts | None, Node]]:
        return [
            (None if texts is None else self._in_bytes(texts), after)
            for texts, after in self._grammar.edges(node)
        ]

    def _in_bytes(self, texts: tuple[str, ...]) -> _Texts:
        encoded = [text.encode() for text in texts]
        return _Texts(sorted(encoded), set(encoded))

    # ---- distances from the end -------------------------------------------------------------

    def _distance(self, place: Place) -> int:
        """Tokens of the shortest way to the end that is known, `</s>` included.

        It is one text in the fewest pieces. Behind the first of them it is shorter by one, so there is always
        a way to keep within it.
        """
        return min((self._to_end(node, partial) for node, partial in place), default=NEVER)

    def _to_end(self, node: Node, partial: bytes | int) -> int:
        if partial == b"" and self._grammar.is_end(node):
            return 1
        ways = [
            self._fewest(rest + self._ending(after)[1]) + 1
            for texts, after in self._edges(node)
            for rest in _rests(texts, partial)
        ]
        return min(ways, default=NEVER)

    def _ending(self, node: Node) -> tuple[int, bytes]:
        """A shortest text from a node to the end, and the pieces it takes, counted terminal by terminal."""
        if self._grammar.is_end(node):
            return 0, b""
        ways = []
        for texts, after in self._edges(node):
            least, rest = min((self._fewest(rest), rest) for rest in _rests(texts, b""))
            behind, ending = self._ending(after)
            ways.append((min(least + behind, NEVER), rest + ending))
        return min(ways, default=(NEVER, b""))

    def _fewest(self, text: bytes) -> int:
        """The fewest pieces that spell a text, from those of its endings, which many texts share."""
        begin = 0
        while text[begin:] not in self._spelled:
            begin += 1
        while begin > 0:
            begin -= 1
            ends = range(begin + 1, min(begin + self._longest_short, len(text)) + 1)
            ways = [self._spelled[text[end:]] for end in ends if text[begin:end] in self._short]
            self._spelled[text[begin:]] = min(1 + min(ways, default=NEVER), NEVER - 1)
        return self._spelled[text]


def _check_engine(engine: llguidance.LLMatcher) -> None:
    if engine.is_error():
        raise SettingsError(f"decode.constrained: {engine.get_error().splitlines()[0]}")


def _allowed_values(
    source: str | None, schema: Schema, training: Sequence[Pair]
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """The only values that columns may be compared with, by TABLE.COLUMN, and what was left out of them."""
    if source is None:
        return {}, {}
    if source != "train":
        return {".".join(column): [*texts] for column, texts in read_values(Path(source), schema).items()}, {}
    columns = {Column(*map(str.upper, column)): column for column in text_columns(schema)}
    known, unread = values_in_queries((pair.sql for pair in training), columns)
    literals = {
        ".".join(columns[column]): list(filter(LITERAL.fullmatch, texts)) for column, texts in known.items()
    }
    no_literals = sum(map(len, known.values())) - sum(map(len, literals.values()))
    left_out = {"unread_training_queries": unread, "values_that_are_no_literals": no_literals}
    return {column: texts for column, texts in literals.items() if texts}, left_out


def load_constraint(
    decode: DecodeSettings,
    tokenizer: PreTrainedTokenizerBase,
    training: Sequence[Pair],
    max_new_tokens: int,
    spelling: Spelling = Spelling(),  # noqa: B008  # frozen, and the one that changes nothing
) -> Constraint | None:
    """What `decode` constrains outputs to; None where it does not.

    Raises `SettingsError` or `UserError` where a file cannot be used, or not even the shortest query fits
    into `max_new_tokens`.
    """
    if not decode.constrained:
        return None
    schema = schema_of(decode.schema)
    values, left_out = _allowed_values(decode.values, schema, training)
    free = [f"{t}.{c}" for t, names in schema.tables.items() for c in names if f"{t}.{c}" not in values]
    record = {"values": {column: len(listed) for column, listed in values.items()}, "any_value": free}
    constraint = Constraint(Grammar(schema, values, spelling.spell), tokenizer, record)
    texts = [text for listed in values.values() for text in listed]
    left_out["values_the_vocabulary_lacks"] = sum(not constraint.can_write(spelling.spell(t)) for t in texts)
    constraint.record |= left_out
    for what, count in left_out.items():
        if count:
            log.warning("constrained decoding leaves out %d %s", count, what.replace("_", " "))
    listed = counted(len(values), "column")
    log.info("constrained decoding: %s with listed values, %d with any", listed, len(free))
    if constraint.shortest > max_new_tokens:
        shortest = counted(constraint.shortest, "token")
        raise SettingsError(f"decode.max_new_tokens={max_new_tokens}: the shortest query has {shortest}")
    return constraint


class _Texts(NamedTuple):
    """A terminal's texts, as a sorted list and as a set."""

    sorted: list[bytes]
    all: set[bytes]

    def longer_than(self, beginning: bytes) -> Iterator[bytes]:
        """Those that begin so and go on."""
        for number in range(bisect_right(self.sorted, beginning), len(self.sorted)):
            if not self.sorted[number].startswith(beginning):
                return
            yield self.sorted[number]


def _rests(texts: _Texts | None, partial: bytes | int) -> list[bytes]:
    """What is left of each text that begins with `partial`; of a literal, the quote is enough."""
    if texts is None or isinstance(partial, int):
        return [b'"']
    return [text[len(partial) :] for text in texts.longer_than(partial)]


class _Processor(LogitsProcessor):
    """Follows the rows of one call of `generate`, wherever beam search moves them, by what they hold."""

    def __init__(self, constraint: Constraint, max_new_tokens: int) -> None:
        self._constraint = constraint
        self._max_new_tokens = max_new_tokens
        self._places: dict[bytes, Place] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows × vocabulary, float32), -inf for what may not follow `input_ids` (rows × tokens)."""
        before, self._places = self._places, {}
        needed = []
        for row in input_ids.cpu().numpy():
            key = row.tobytes()
            place = self._places.get(key)
            if place is None:
                if len(row) == 1:  # the decoder's start, which is no part of the output
                    place = self._constraint.start
                else:
                    place = self._constraint.advance(before[row[:-1].tobytes()], int(row[-1]))
                self._places[key] = place
            needed.append(self._constraint.needed(place, row[1:]))
        left = self._max_new_tokens - input_ids.shape[1]  # one token is the start, and one is chosen now
        # NumPy compares these faster than PyTorch.
        barred = torch.from_numpy(np.stack(needed) > min(left, NEVER - 1))
        padding = scores.shape[1] - barred.shape[1]  # T5's vocabulary has some
        barred = F.pad(barred, (0, padding), value=True).to(scores.device)
        # Whatever the scores are, what is allowed stays ahead of what is barred, in the sums of beams, too.
        finite = torch.nan_to_num(scores, nan=-MOST_SCORE).clamp(-MOST_SCORE, MOST_SCORE)
        return torch.where(barred, -torch.inf, finite)


def _pieces(tokenizer: PreTrainedTokenizerBase) -> list[bytes]:
    """What each token writes; nothing, for special ones and for those that are decoded to something else."""
    if not tokenizer.is_fast:
        raise SettingsError(
            f"decode.constrained=true: {type(tokenizer).__name__} has no vocabulary that the grammar can use"
        )
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    decoder = json.dumps(json.loads(tokenizer.backend_tokenizer.to_str())["decoder"])
    if '"ByteLevel"' in decoder:
        byte = {character: number for number, character in bytes_to_unicode().items()}
        pieces = [bytes(byte.get(character, ord("?")) for character in token) for token in tokens]
    else:
        pieces = [token.replace("▁", " ").encode() for token in tokens]
    for number, token in tokenizer.added_tokens_decoder.items():  # which stand for what they are
        pieces[number] = token.content.encode()
    for number in tokenizer.all_special_ids:
        pieces[number] = b""
    return [
        piece if text is None or text.encode() == piece else b""
        for piece, text in zip(pieces, _texts_behind_another(tokenizer), strict=True)
    ]


def _texts_behind_another(tokenizer: PreTrainedTokenizerBase) -> list[str | None]:
    """What each token is decoded to behind another one; None for half a character.

    A first one would lose its blank.
    """
    first = tokenizer("a", add_special_tokens=False)["input_ids"]
    (before,) = decoded(tokenizer, [first])
    texts = decoded(tokenizer, [[*first, number] for number in range(len(tokenizer))])
    return [None if "\ufffd" in text else text.removeprefix(before) for text in texts]


def _engine_tokenizer(tokenizer: PreTrainedTokenizerBase, pieces: list[bytes]) -> llguidance.LLTokenizer:
    """The vocabulary as the engine wants to be told; it never has to cut a text itself."""
    return llguidance.LLTokenizer(
        llguidance.TokenizerWrapper(
            SimpleNamespace(
                eos_token_id=tokenizer.eos_token_id,
                bos_token_id=None,
                tokens=pieces,
                special_token_ids=tokenizer.all_special_ids,
            )
        )
    )
