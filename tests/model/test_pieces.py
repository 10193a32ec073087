"""The bundled model's tokenizer: a word is cut alike in any case, and text comes back as it went in."""

from __future__ import annotations

import string

import pytest
import torch

from medsql.data.corpus import corpus_splits
from medsql.model.pieces import BLANK, _needed_for, similar_rows, train_tokenizer

PAIRS = corpus_splits(1500, seed=3)
TEXTS = [text for pair in PAIRS["train"] for text in (pair.question, pair.sql)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, merges=200, seldom=0)


def cut(tokenizer, text):
    return [piece.removeprefix(BLANK).lower() for piece in tokenizer.tokenize(text) if piece != BLANK]


@pytest.mark.parametrize("word", ["parcel", "station", "meningitis", "sheeporal", "ceaiouliode", "a"])
def test_a_word_is_cut_alike_however_it_is_written(tokenizer, word):
    cuts = {
        tuple(cut(tokenizer, written))
        for case in (word, word.upper(), word.capitalize())
        for written in (case, f"({case})", f'"{case}"')
    }
    assert len({tuple(piece for piece in pieces if piece.isalpha()) for pieces in cuts}) == 1


def test_pieces_are_shorter_than_words_and_longer_than_letters(tokenizer):
    text = "how many parcels were sent"
    assert len(text.split()) < len(tokenizer.tokenize(text)) < len(text) / 2


@pytest.mark.parametrize(
    "text",
    [
        "".join(character for character in string.printable if character.isprintable()).strip(),
        'SELECT COUNT ( DISTINCT A."B" ) FROM A WHERE A."C" < "1" AND A."D" = "x  y ,z .w"',
        "two  blanks   in a row, and a blank at the end ",
        "camelCase snake_case SCREAMING_CASE tEASING",
    ],
)
@pytest.mark.parametrize("seldom", [0, 20])
def test_text_survives_encoding_and_decoding(text, seldom):
    tokenizer = train_tokenizer(TEXTS[:400], merges=100, seldom=seldom)
    ids = tokenizer(text)["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_every_target_of_the_corpus_survives(tokenizer):
    targets = [pair.sql for pair in PAIRS["test"] if "<extra_id" not in pair.sql]
    decoded = tokenizer.batch_decode(tokenizer(targets)["input_ids"], skip_special_tokens=True)
    assert decoded == targets


def test_a_sentinel_is_one_piece(tokenizer):
    assert tokenizer.tokenize("a <extra_id_0> b").count("<extra_id_0>") == 1


def test_seldom_pieces_are_left_out_and_the_others_stay(tokenizer):
    smaller = train_tokenizer(TEXTS, merges=200, seldom=30)
    assert set(smaller.get_vocab()) < set(tokenizer.get_vocab())
    assert len(smaller.tokenize("how many parcels")) == len(tokenizer.tokenize("how many parcels"))


def test_of_a_piece_that_stays_every_variant_stays(tokenizer):
    pieces = set(train_tokenizer(TEXTS, merges=200, seldom=30).get_vocab())
    # Only what stays for its own sake has a blank before it; the rest are parts of that.
    words = {piece[1:].lower() for piece in pieces if piece.startswith(BLANK) and piece[1:].isalpha()}
    assert len(words) > 50
    for word in words:
        variants = {blank + case for blank in ("", BLANK) for case in (word, word.upper(), word.capitalize())}
        assert variants <= pieces


def test_of_two_merges_that_make_the_same_piece_the_first_is_kept():
    """Else the second, of which a part is missing, could not be built."""
    merges = [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")]
    assert _needed_for({"abc"}, merges) == [("a", "b"), ("ab", "c")]


def test_the_same_texts_give_the_same_tokenizer(tokenizer):
    again = train_tokenizer(TEXTS, merges=200, seldom=0)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_rows_of_a_piece_are_as_alike_as_asked_and_as_large_as_before(tokenizer):
    torch.manual_seed(0)
    rows = torch.randn(len(tokenizer), 4096)
    mixed = similar_rows(tokenizer, rows, likeness=0.8)
    plain, upper, other = (mixed[tokenizer.convert_tokens_to_ids(piece)] for piece in ("b", "▁B", "c"))
    likeness = torch.cosine_similarity(plain, upper, dim=0).item()
    assert likeness == pytest.approx(0.8**0.5, abs=0.05)
    assert abs(torch.cosine_similarity(plain, other, dim=0).item()) < 0.1
    assert upper.std().item() == pytest.approx(1, abs=0.05)
    b = tokenizer.convert_tokens_to_ids("b")
    assert torch.equal(mixed[b], rows[b]), "what the others are made similar to stays"
    assert torch.equal(similar_rows(tokenizer, rows, likeness=0), rows)
