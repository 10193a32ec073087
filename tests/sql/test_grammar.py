"""The grammar of constrained decoding: all of the dialect, and nothing that does not run."""

from __future__ import annotations

import random
from pathlib import Path

import llguidance
import pytest

from medsql.data.hospital import synthetic_splits
from medsql.errors import UserError
from medsql.metrics.execution import verdict
from medsql.sql.database import Sandbox
from medsql.sql.grammar import LONGEST_LITERAL, MOST_CONDITIONS, Grammar
from medsql.sql.parsing import parse_query
from medsql.sql.schema import MIMICSQL
from medsql.sql.schema_file import read_schema

JOIN = "FROM DEMOGRAPHIC INNER JOIN LAB on DEMOGRAPHIC.HADM_ID = LAB.HADM_ID"

CLINIC = """
CREATE TABLE WARD (ID INTEGER PRIMARY KEY, NAME TEXT);
CREATE TABLE BED (WARD_ID INTEGER, COLOR TEXT, FOREIGN KEY (WARD_ID) REFERENCES WARD (ID));
CREATE TABLE STAY (ID INTEGER, WARD_ID INTEGER REFERENCES WARD (ID), PATIENT TEXT);
CREATE TABLE BILL (STAY_ID INTEGER REFERENCES STAY (ID), AMOUNT REAL);
"""


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    path = tmp_path / "clinic.sql"
    path.write_text(CLINIC)
    return path


class Language:
    """Asks the engine whether a text belongs to a grammar."""

    def __init__(self, grammar: Grammar) -> None:
        self.matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), grammar.rules())
        assert not self.matcher.is_error(), self.matcher.get_error()

    def __contains__(self, text: str) -> bool:
        tokens = list(text.encode())
        self.matcher.reset()
        return self.matcher.try_consume_tokens(tokens) == len(tokens) and self.matcher.is_accepting()


@pytest.fixture(scope="module")
def mimicsql() -> Language:
    return Language(Grammar(MIMICSQL))


def derive(grammar: Grammar, rng: random.Random) -> str:
    """Any query of the grammar."""
    written, node = "", grammar.start
    while grammar.edges(node) and not (grammar.is_end(node) and rng.random() < 0.3):
        texts, node = rng.choice(grammar.edges(node))
        anything = "".join(rng.choices("a'%\\;-/*. ()", k=rng.randrange(9))) + '"'
        written += rng.choice(texts) if texts else anything
    return written


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_grammar_has_parses_and_runs_on_the_schema(seed: int, mimicsql: Language) -> None:
    rng, grammar = random.Random(seed), Grammar(MIMICSQL)
    for query in {derive(grammar, rng) for _ in range(60)}:
        assert verdict(query) == "ok", query
        assert parse_query(query) is not None, query
        assert query in mimicsql, "the rules say what the graph says"


def test_every_query_of_the_synthetic_hospital_is_in_the_grammar(mimicsql: Language) -> None:
    splits = synthetic_splits(admissions=50, pairs=400, seed=7)
    queries = {pair.sql for pairs in splits.values() for pair in pairs}
    assert len(queries) > 300
    assert [query for query in queries if query not in mimicsql] == []


@pytest.mark.parametrize(
    "query",
    [
        'SELECT LAB."FLUID" FROM LAB',
        'SELECT LAB."FLUID",LAB."FLAG" FROM LAB WHERE LAB."LABEL" = ""',
        f'SELECT COUNT ( DISTINCT LAB."FLUID" ) {JOIN} WHERE LAB."LABEL" = "it\'s > 5%; \\ -- or"',
        'SELECT MAX ( LAB."FLUID" ) FROM LAB INNER JOIN DEMOGRAPHIC on DEMOGRAPHIC.HADM_ID = LAB.HADM_ID',
        'SELECT LAB."FLUID" FROM PROCEDURES INNER JOIN LAB on PROCEDURES.HADM_ID = LAB.HADM_ID',
        f'SELECT LAB."FLUID" FROM LAB WHERE LAB."LABEL" = "{"x" * LONGEST_LITERAL}"',
    ],
)
def test_the_dialect_is_in_the_grammar(query: str, mimicsql: Language) -> None:
    assert query in mimicsql
    assert f" {query}" in mimicsql, "as a vocabulary writes it that begins its words with a blank"


@pytest.mark.parametrize(
    "query",
    [
        'SELECT LAB."AGE" FROM LAB',
        'SELECT LAB."FLUID" FROM DEMOGRAPHIC',
        'SELECT LAB."FLUID",DEMOGRAPHIC."AGE" FROM LAB',
        'SELECT LAB."FLUID" FROM LAB WHERE DEMOGRAPHIC."AGE" = "4"',
        f'SELECT LAB."FLUID" {JOIN} WHERE DEMOGRAPHIC."AGES" = "4"',
        f'SELECT LAB."FLUID" {JOIN} INNER JOIN LAB on DEMOGRAPHIC.HADM_ID = LAB.HADM_ID',
        'SELECT WARD."ID" FROM WARD',
        'SELECT LAB."FLUID" FROM LAB INNER JOIN DEMOGRAPHIC on DEMOGRAPHIC.NAME = LAB.LABEL',
        'SELECT LAB."FLUID" FROM LAB INNER JOIN DEMOGRAPHIC on PROCEDURES.HADM_ID = DEMOGRAPHIC.HADM_ID',
        'SELECT LAB."FLUID" FROM LAB WHERE',
        'SELECT LAB."FLUID" FROM LAB WHERE LAB."LABEL" = "x',
        'SELECT LAB."FLUID" FROM LAB WHERE LAB."LABEL" = "x"" AND',
        f'SELECT LAB."FLUID" FROM LAB WHERE LAB."LABEL" = "{"x" * (LONGEST_LITERAL + 1)}"',
        'SELECT LAB."FLUID" FROM LAB WHERE ' + " AND ".join(['LAB."FLAG" = "x"'] * (MOST_CONDITIONS + 1)),
        "DROP TABLE LAB",
        "",
    ],
)
def test_nothing_else_is_in_the_grammar(query: str, mimicsql: Language) -> None:
    assert query not in mimicsql


def test_another_schema_is_another_file(clinic: Path) -> None:
    schema = read_schema(clinic)
    language = Language(Grammar(schema))
    assert 'SELECT BED."COLOR" FROM BED INNER JOIN WARD on BED.WARD_ID = WARD.ID' in language
    assert 'SELECT BED."COLOR" FROM BED INNER JOIN STAY on STAY.WARD_ID = BED.WARD_ID' in language
    assert 'SELECT BED."COLOR" FROM BED INNER JOIN BILL on BED.WARD_ID = BILL.STAY_ID' not in language
    assert 'SELECT LAB."FLUID" FROM LAB' not in language
    rng, sandbox = random.Random(1), Sandbox.empty(schema.tables)
    for query in (derive(Grammar(schema), rng) for _ in range(100)):
        assert sandbox.run(query).ok, query


def test_keys_may_be_declared_in_other_capitals(tmp_path: Path) -> None:
    path = tmp_path / "wards.sql"
    path.write_text("CREATE TABLE WARD (ID TEXT); CREATE TABLE BED (WARD_ID TEXT REFERENCES ward (id));")
    assert read_schema(path).keys == ((("BED", "WARD_ID"), ("WARD", "ID")),)


def test_tables_are_selected_from_together_only_where_a_query_can_join_them(clinic: Path) -> None:
    language = Language(Grammar(read_schema(clinic)))
    both = 'SELECT WARD."NAME",BILL."AMOUNT" FROM WARD INNER JOIN STAY on WARD.ID = STAY.WARD_ID'
    assert f"{both} INNER JOIN BILL on BILL.STAY_ID = STAY.ID" in language
    assert both not in language, "BILL is missing"


def test_what_sqlite_keeps_for_itself_is_no_part_of_a_schema(tmp_path: Path) -> None:
    path = tmp_path / "schema.sql"
    path.write_text(
        "CREATE TABLE sqlite_sequence(name,seq); CREATE TABLE A (B INTEGER PRIMARY KEY AUTOINCREMENT)"
    )
    assert read_schema(path).tables == {"A": {"B": "INTEGER"}}


def test_columns_need_no_type(tmp_path: Path) -> None:
    path = tmp_path / "schema.sql"
    path.write_text("CREATE TABLE A (B, C TEXT, D UNIQUE, PRIMARY KEY (B, C))")
    assert read_schema(path).tables == {"A": {"B": "", "C": "TEXT", "D": ""}}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("no SQL at all (", "no SQL"),
        ("SELECT 1", "CREATE TABLE"),
        ("CREATE TABLE A (B TEXT REFERENCES C (D))", "A.B refers to C.D"),
        ("CREATE TABLE A (B TEXT REFERENCES A)", "a foreign key"),
        ('CREATE TABLE "my table" (B TEXT)', "my table"),
        ('CREATE TABLE "ORDER" (B TEXT)', "ORDER: a word of SQL"),
        ('CREATE TABLE A ("GROUP" TEXT)', "GROUP: a word of SQL"),
        ('CREATE TABLE A ("index" TEXT)', "index: a word of SQL"),
        ("CREATE TABLE A (B TEXT); CREATE TABLE a (C TEXT)", "a: no table .* already exists"),
        ("CREATE TABLE A (B TEXT); CREATE TABLE IF NOT EXISTS A (C TEXT)", "A: no table .* already exists"),
        ("CREATE TABLE A (B TEXT, b TEXT)", "A: no table .* duplicate column"),
        ("CREATE TABLE A (B TEXT, KEY k (B))", "A: no table"),
        ("CREATE TABLE A (B TEXT); CREATE VIRTUAL TABLE F USING fts5(a, b)", "F: a table with columns"),
        (f"CREATE TABLE A (B TEXT CHECK ({'(' * 3_000}1{')' * 3_000}))", "no SQL"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "schema.sql"
    path.write_text(text)
    with pytest.raises(UserError, match=complaint):
        read_schema(path)


def test_a_column_with_listed_values_has_no_other_literal() -> None:
    language = Language(Grammar(MIMICSQL, {"LAB.FLUID": ["Blood", "Blood gas"]}))
    query = 'SELECT LAB."FLUID" FROM LAB WHERE LAB."{}" = "{}"'
    assert query.format("FLUID", "Blood") in language
    assert query.format("FLUID", "Blood gas") in language
    assert query.format("FLUID", "blood") not in language
    assert query.format("FLUID", "") not in language
    assert query.format("FLAG", "blood") in language


def test_terminals_are_written_in_the_spelling_of_a_vocabulary() -> None:
    language = Language(Grammar(MIMICSQL, spell=lambda text: text.replace("<", "@l")))
    assert 'SELECT LAB."FLAG" FROM LAB WHERE LAB."LABEL" @l= "x"' in language
    assert 'SELECT LAB."FLAG" FROM LAB WHERE LAB."LABEL" <= "x"' not in language
