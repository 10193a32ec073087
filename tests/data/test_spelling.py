"""Whatever a vocabulary lacks, SQL comes back from it as it was, and half a code breaks nothing."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path

import pytest
from tiny import T5_LACKS, t5_tokenizer, tiny_tokenizer
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerBase, T5Tokenizer

from medsql.assets import checkpoint_folder
from medsql.config import DataSettings
from medsql.data.spelling import BLANKS, Spelling, decoded, lost_characters, needed_spelling
from medsql.data.splits import load_splits

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "mimicsql_natural_v2"
SQL = 'SELECT A FROM B WHERE C < "60"'
SPELLING = Spelling({"<": "@l", "\\": "@b", "é": "@xe9;", BLANKS: "@s", "@": "@@"})


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> T5Tokenizer:
    return t5_tokenizer(tmp_path_factory.mktemp("t5"))


def there_and_back(tokenizer: PreTrainedTokenizerBase, spelling: Spelling, texts: list[str]) -> list[str]:
    ids = tokenizer(text_target=[spelling.spell(text) for text in texts])["input_ids"]
    return [spelling.unspell(text) for text in decoded(tokenizer, ids)]


def random_texts(alphabet: list[str], count: int, longest: int = 30) -> list[str]:
    rng = random.Random(0)
    texts = ("".join(rng.choices(alphabet, k=rng.randint(0, longest))) for _ in range(count))
    return [unicodedata.normalize("NFC", text).strip() for text in texts]  # as pairs are


# The spelling itself


def test_what_looks_spelled_already_comes_back_too() -> None:
    for text in (
        "@l",
        "@@l",
        "@xe9;",
        "<@",
        "@",
        "@@@",
        "a   b",
        "\\\\",
        "é;",
        *random_texts([*"@lbsxe9;<\\é "], 3000),
    ):
        assert SPELLING.unspell(SPELLING.spell(text)) == text


@pytest.mark.parametrize("text", ["A @", "A @x", "A @xe9", "@x;", "@xzz;", "@L", "@ l", "@xe 9;", "@5"])
def test_half_a_code_or_an_unknown_one_stays_as_it_is(text: str) -> None:
    assert SPELLING.unspell(text) == text


def test_an_output_cut_off_anywhere_is_a_beginning_of_the_sql_and_at_most_half_a_code() -> None:
    sql = "a < é  b@\\"
    spelled = SPELLING.spell(sql)
    for end in range(len(spelled) + 1):
        whole, at, rest = SPELLING.unspell(spelled[:end]).partition("@x")
        assert sql.startswith(whole.removesuffix("@")) and len(at + rest) < len("@xe9;")


def test_without_codes_texts_stay_as_they_are() -> None:
    assert Spelling().spell("a < @l") == Spelling().unspell("a < @l") == "a < @l"


# The one that a tokenizer needs


def test_t5_loses_its_gaps_and_runs_of_blanks_and_both_are_found_out(t5: T5Tokenizer) -> None:
    assert lost_characters(t5, {*T5_LACKS, *SQL}) == [*sorted(T5_LACKS), BLANKS]
    (back,) = there_and_back(t5, Spelling(), [SQL])
    assert back == 'SELECT A FROM B WHERE C  "60"'
    spelling = needed_spelling(t5, [SQL])
    assert {*spelling.codes} == {*T5_LACKS, BLANKS, "@"}
    assert there_and_back(t5, spelling, [SQL]) == [SQL]


def test_special_tokens_are_found_in_any_block_of_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medsql.data.spelling.BLOCK", 2)
    codes = needed_spelling(ByT5Tokenizer(), ["</s>", "a", "b", "c", "d"]).codes
    assert "<" in codes, "which these bytes can write, but for the token that begins with it"
    assert "<" not in needed_spelling(ByT5Tokenizer(), ["a", "b", "c", "d"]).codes


def test_any_text_comes_back_from_t5(t5: T5Tokenizer) -> None:
    ascii_text = [chr(code) for code in range(32, 127)]
    others = [
        *"é½ﬁ…µ”▁\n\t\xa0名😀",
        "e\u0301",
        "\u0301",
        "  ",
        "</s>",
        "<pad>",
        "<unk>",
        "<extra_id_0>",
        "@l",
        "@@",
    ]
    texts = random_texts(ascii_text + others * 3, 1500)
    spelling = needed_spelling(t5, texts)
    assert there_and_back(t5, spelling, texts) == texts


def test_a_gap_takes_few_tokens_more(t5: T5Tokenizer) -> None:
    spelling = needed_spelling(t5, [SQL])
    assert len(t5(spelling.spell(SQL))["input_ids"]) <= len(t5(SQL)["input_ids"]) + 1


def test_data_in_ascii_have_the_same_spelling_whatever_they_hold(t5: T5Tokenizer) -> None:
    assert needed_spelling(t5, []) == needed_spelling(t5, ["a ~ b"]) == needed_spelling(t5, ["@", "  "])


def test_the_text_of_a_special_token_is_text_in_sql(tmp_path: Path) -> None:
    complete = t5_tokenizer(tmp_path, lacks="")
    sql = ["SELECT <pad>", "A </s> B"]
    assert there_and_back(complete, Spelling(), sql) != sql
    assert there_and_back(complete, needed_spelling(complete, sql), sql) == sql


def test_codes_begin_with_a_character_that_the_vocabulary_has(tmp_path: Path) -> None:
    tokenizer = t5_tokenizer(tmp_path, lacks="@<#")
    spelling = needed_spelling(tokenizer, [])
    assert spelling.codes["<"] == "$l"
    texts = ["a < b", "@#", "$l", "$$"]
    assert there_and_back(tokenizer, spelling, texts) == texts


def test_a_vocabulary_that_loses_nothing_needs_no_spelling() -> None:
    targets = ['A < "x\\y  z" ~ `b` @l']
    for tokenizer in (
        AutoTokenizer.from_pretrained(checkpoint_folder("bundled:mini")),
        tiny_tokenizer(),
        ByT5Tokenizer(),
    ):
        assert needed_spelling(tokenizer, targets) == Spelling()
    bundled = AutoTokenizer.from_pretrained(checkpoint_folder("bundled:mini"))
    assert there_and_back(bundled, needed_spelling(bundled, ["é"]), ["é < @"]) == ["é < @"]


@pytest.mark.skipif(not REAL.exists(), reason=f"no real questions in {REAL}")
def test_every_real_target_comes_back_from_t5(t5: T5Tokenizer) -> None:
    splits = load_splits(DataSettings("mimicsql", "report", "question", str(REAL)))
    targets = [pair.sql for pair in (*splits.train, *splits.validation)]
    plain = there_and_back(t5, Spelling(), targets)
    assert sum(map(str.__ne__, plain, targets)) > len(targets) / 5, "a quarter cannot be written as it is"
    assert there_and_back(t5, needed_spelling(t5, targets), targets) == targets
