"""The corpus of pretraining: invented databases, questions that hold their values, SQL that runs."""

from __future__ import annotations

import random
import re
import sqlite3
from collections import Counter

import pytest

from medsql.data.corpus import HELD_OUT_DOMAINS, corpus_rows, corpus_splits
from medsql.data.corpus.corruption import SENTINELS, corrupt
from medsql.data.corpus.databases import KEYWORDS, Domain, make_database, read_domains
from medsql.data.corpus.examples import make_query, say, write_sql
from medsql.data.corpus.values import KINDS, make_value, words
from medsql.sql.dialect import to_sqlite
from medsql.sql.schema import TABLES

MIMICSQL = {name for table, columns in TABLES.items() for name in (table, *columns)}


@pytest.fixture(scope="module")
def pairs():
    return corpus_splits(3000, seed=1)["train"]


def queries(count, spelled_out):
    """Databases with a query each."""
    rng = random.Random(7)
    for _ in range(count):
        database = make_database(rng, rng.choice(read_domains()), spelled_out=spelled_out)
        yield rng, make_query(rng, database)


def test_a_seed_is_a_corpus_and_a_longer_one_begins_with_the_shorter():
    assert corpus_splits(50, seed=1) == corpus_splits(50, seed=1)
    assert corpus_splits(50, seed=1)["train"] == corpus_splits(80, seed=1)["train"][:50]
    assert corpus_splits(50, seed=1)["train"] != corpus_splits(50, seed=2)["train"]


def test_a_corpus_is_made_row_by_row_as_it_is_asked_for():
    rows = corpus_rows(10**12, seed=1)["train"]
    assert [next(rows), next(rows)] == corpus_splits(2, seed=1)["train"]


def test_what_is_validated_on_is_of_domains_that_training_never_sees(pairs):
    unseen = {entity.upper() for domain in read_domains()[-HELD_OUT_DOMAINS:] for entity in domain.entities}
    known = {entity.upper() for domain in read_domains()[:-HELD_OUT_DOMAINS] for entity in domain.entities}
    assert unseen.isdisjoint(word.upper() for word in words("words"))
    main_tables = {domain.entities[0].upper() for domain in read_domains()[-HELD_OUT_DOMAINS:]}
    assert unseen.isdisjoint(known)
    keys = re.compile(rf"\b({'|'.join(main_tables)})_ID\b")
    assert not [pair for pair in pairs if keys.search(pair.sql)]
    for name in ("validation", "test"):
        held_out = corpus_splits(1, seed=1)[name]
        assert sum(bool(keys.search(pair.sql)) for pair in held_out) > len(held_out) / 6


@pytest.mark.parametrize("spelled_out", [True, False])
def test_no_table_or_column_is_called_as_in_mimicsql(spelled_out):
    for _, query in queries(500, spelled_out):
        names = {
            name for table in query.database.tables for name in (table.name, *(c.name for c in table.columns))
        }
        assert names.isdisjoint(MIMICSQL)
        assert not [name for name in names if name.endswith("_X")]
        keys = {query.database.identity, query.database.link}
        assert keys.isdisjoint(MIMICSQL)
        assert keys.isdisjoint(c.name for table in query.database.tables for c in table.columns)
        assert len({table.name for table in query.database.tables}) == len(query.database.tables)


def test_no_table_or_column_is_called_by_a_word_of_sql():
    attributes = (
        ("group", "word"),
        ("order", "word"),
        ("limit", "word"),
        ("gate", "word"),
        ("hall", "word"),
        ("view", "word"),
    )
    domain = Domain(("set", "case", "table", "drop"), attributes)
    rng = random.Random(1)
    for _ in range(200):
        database = make_database(rng, domain, spelled_out=True)
        names = {name for table in database.tables for name in (table.name, *(c.name for c in table.columns))}
        assert names.isdisjoint(KEYWORDS)


def test_a_key_that_would_be_called_as_in_mimicsql_is_drawn_anew():
    domain = Domain(("subject", "visit", "ward"), read_domains()[0].attributes)
    rng = random.Random(1)
    assert all(make_database(rng, domain, spelled_out=True).identity != "SUBJECT_ID" for _ in range(50))


def test_half_of_the_tables_are_of_no_domain():
    """Names then have to be copied, and cannot be learnt by heart."""
    entities = {entity for domain in read_domains() for entity in domain.entities}
    tables = [table for _, query in queries(500, True) for table in query.database.tables]
    new = [table for table in tables if table.noun.split()[-1] not in entities]
    assert 0.4 < len(new) / len(tables) < 0.6


@pytest.mark.parametrize("spelled_out", [True, False])
def test_what_would_be_called_as_in_mimicsql_is_drawn_anew(spelled_out):
    rng = random.Random(1)
    attributes = tuple((name.lower().replace("_", " "), "word") for name in ("ROUTE", "LABEL", "FLAG", "AGE"))
    domain = Domain(("visitor", "lab", "diagnoses"), (*attributes, ("gate", "word"), ("hall", "word")))
    for _ in range(200):
        database = make_database(rng, domain, spelled_out=spelled_out)
        names = {name for table in database.tables for name in (table.name, *(c.name for c in table.columns))}
        assert names.isdisjoint(MIMICSQL)


@pytest.mark.parametrize("spelled_out", [True, False])
@pytest.mark.parametrize("dialect", ["SQL", "SQLite", "ANSI SQL"])
def test_every_query_runs_on_its_database(dialect, spelled_out):
    for _, query in queries(300, spelled_out):
        sql = write_sql(query, dialect)
        database = sqlite3.connect(":memory:")
        for table in query.database.tables:
            keys = [query.database.link]
            if table is query.database.tables[0]:
                keys.append(query.database.identity)
            columns = dict.fromkeys([*keys, *(column.name for column in table.columns)])
            database.execute(f'CREATE TABLE "{table.name}" ({", ".join(map(_quoted, columns))})')
        database.execute(to_sqlite(sql) if dialect == "SQL" else sql)
        database.close()


def _quoted(name):
    return f'"{name}"'


def test_a_question_holds_every_value_of_its_query_in_lower_case():
    for rng, query in queries(500, True):
        question = say(rng, query).lower()
        for condition in query.conditions:
            assert condition.value.said in question
            assert condition.value.said == condition.value.said.lower()


def test_a_value_is_said_as_it_is_stored_but_for_case_and_some_punctuation():
    rng = random.Random(3)
    plain = Counter()
    for kind in KINDS:
        for _ in range(300):
            value = make_value(rng, kind)
            stored = value.stored.lower()
            if kind == "year":  # a real number is not said as one
                stored = stored.removesuffix(".0")
            plain[value.said == stored] += 1
            assert re.sub(r"[,()\[\]]", "", value.said) == re.sub(r"[,()\[\]]", "", stored)
    assert plain[True] / plain.total() > 0.95


def test_columns_hold_values_in_styles_of_their_own():
    rng = random.Random(3)
    assert make_value(rng, "label").stored.isupper()
    assert all(part[0].isupper() for part in make_value(rng, "person").stored.split())
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", make_value(rng, "time").stored)
    sqlite3.connect(":memory:").execute("SELECT datetime(?) NOT NULL", [make_value(rng, "time").stored])
    with pytest.raises(KeyError):
        make_value(rng, "no kind")


def test_the_shares_of_tasks_and_styles_are_those_stated(pairs):
    corrupted = [pair for pair in pairs if not pair.question.startswith("translate to ")]
    assert 0.07 < len(corrupted) / len(pairs) < 0.13
    asked = [pair for pair in pairs if pair.question.startswith("translate to ")]
    styles = Counter(pair.question.partition(":")[0].removeprefix("translate to ") for pair in asked)
    assert styles["SQL"] > styles["SQLite"] > styles["ANSI SQL"] > 100
    with_schema = sum(" | question: " in pair.question for pair in asked)
    assert 0.07 < with_schema / len(asked) < 0.13
    assert len({pair.question for pair in asked}) > 0.99 * len(asked)


def test_a_prompt_with_a_schema_names_every_identifier_of_its_query(pairs):
    for pair in pairs:
        schema, found, _ = pair.question.partition(" | question: ")
        if found and pair.question.startswith("translate to SQL:"):
            names = re.findall(r'(\w+)\."', pair.sql) + re.findall(r'\."(\w+)"', pair.sql)
            assert not [name for name in names if not re.search(rf"\b{name}\b", schema)]


def test_sql_names_conditions_table_by_table_the_main_one_first():
    orders = set()
    for _, query in queries(500, True):
        sql = write_sql(query, "SQL")
        tables = re.findall(r'(\w+)\."\w+" [<>=]', sql)
        joined = re.findall(r"(?:FROM|JOIN) (\w+)", sql)
        assert tables == sorted(tables, key=joined.index)
        orders.add(tables == [condition.table.name for condition in query.conditions])
    assert orders == {True, False}, "some questions name another table's condition first"


def test_what_is_missing_from_a_corrupted_text_fills_its_holes():
    rng = random.Random(5)
    for text in ("one", "how many parcels were sent?", " ".join(f"word{number}" for number in range(60))):
        for _ in range(50):
            holed, missing = corrupt(rng, text)
            used = re.findall(r"<extra_id_\d+>", missing)
            assert used == list(SENTINELS[: len(used)]) == re.findall(r"<extra_id_\d+>", holed)
            parts = re.split(r"<extra_id_\d+> ?", missing)[1:]
            for sentinel, part in zip(SENTINELS, parts, strict=False):
                holed = holed.replace(sentinel, part.strip(), 1)
            assert holed == text
            assert missing.startswith(SENTINELS[0])
