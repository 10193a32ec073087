"""Invented databases: a main table and others that hang on it, composed anew for every question."""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from medsql.data.corpus.values import HEADS, abbreviated, any_word, invented_word, words
from medsql.sql.schema import TABLES

SHARE_NEW_NOUNS = 0.5
"""Tables called by an invented word or any of the list, so that names are copied, not learnt by heart."""

SHARE_NEW_COLUMNS = 0.35
"""Columns called by any word and one that says what they hold: the domain's own or one of `HEADS`."""

KEYWORDS = words("keywords")
"""What SQLite does not take as a name unless it stands in quotes."""

RESERVED = {*KEYWORDS, *(name for table, columns in TABLES.items() for name in (table, *columns))}
"""SQL's words and MIMICSQL's identifiers: no invented table or column is called like one of them."""


@dataclass(frozen=True)
class Column:
    """`words` say it in a question, `name` is its identifier, `kind` what it holds."""

    words: str
    name: str
    kind: str


@dataclass(frozen=True)
class Table:
    """`noun` and `plural` say it in a question, `name` is its identifier."""

    noun: str
    plural: str
    name: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Database:
    """The first table is the main one; `identity` is its key, and `link` the key that all tables share."""

    tables: tuple[Table, ...]
    identity: str
    link: str


@dataclass(frozen=True)
class Domain:
    """What a database of this domain may be about; an attribute is its words and its kind."""

    entities: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]


@cache
def read_domains() -> tuple[Domain, ...]:
    """The project's list of domains."""
    text = files("medsql.data.corpus").joinpath("vocabulary/domains.tsv").read_text("utf-8")
    return tuple(
        Domain(
            tuple(row["entities"].split("|")),
            tuple(tuple(item.split(":")) for item in row["attributes"].split("|")),
        )
        for row in csv.DictReader(text.splitlines(), delimiter="\t")
    )


def make_database(rng: random.Random, domain: Domain, *, spelled_out: bool) -> Database:
    """A database of the domain: its first entity is the main table, unless any word takes its place.

    Drawn anew where a key would be called like a reserved name or a column.
    `spelled_out` makes identifiers follow from the words (`payment method` is `PAYMENT_METHOD`, the
    key of `shipper` is `SHIPPER_ID`), as they must where a question is asked without its schema.
    Otherwise they may be abbreviated, and keys called anything.
    """
    main, *others = domain.entities
    tables: dict[str, Table] = {}
    for entity in (main, *rng.sample(others, rng.choice((1, 1, 2)))):
        table = _table(rng, entity, domain, spelled_out)
        tables.setdefault(table.name, table)
    noun = next(iter(tables.values())).noun
    if spelled_out:
        identity = link = _identifier(rng, f"{noun} id", True)
    else:
        identity, link = (
            _identifier(rng, f"{rng.choice((noun, invented_word(rng)))} {rng.choice(_KEYS)}", False)
            for _ in range(2)
        )
    taken = RESERVED | {column.name for table in tables.values() for column in table.columns}
    if taken & {identity, link}:
        return make_database(rng, domain, spelled_out=spelled_out)
    return Database(tuple(tables.values()), identity, link)


_KEYS = ("id", "number", "ref", "key")


def _table(rng: random.Random, entity: str, domain: Domain, spelled_out: bool) -> Table:
    """A table of the entity or of any word in its place, drawn anew where its name is reserved."""
    noun = any_word(rng) if rng.random() < SHARE_NEW_NOUNS else entity
    if rng.random() < 0.15:
        noun = f"{any_word(rng)} {noun}"
    plural = _plural(noun)
    name = _identifier(rng, noun if spelled_out or rng.random() < 0.5 else plural, spelled_out)
    if name in RESERVED:
        return _table(rng, entity, domain, spelled_out)
    columns: dict[str, Column] = {}
    for attribute in rng.sample(domain.attributes, rng.randint(3, 6)):
        column = _column(rng, attribute, spelled_out)
        columns.setdefault(column.name, column)
    return Table(noun, plural, name, tuple(columns.values()))


def _column(rng: random.Random, attribute: tuple[str, str], spelled_out: bool) -> Column:
    """A column about the attribute, drawn anew where its name is reserved."""
    said, kind = attribute
    if rng.random() < SHARE_NEW_COLUMNS:
        said = f"{any_word(rng)} {rng.choice((said.split()[-1], *HEADS[kind]))}"
    elif rng.random() < 0.3:
        said = f"{rng.choice(words('modifiers'))} {said}"
    column = Column(said, _identifier(rng, said, spelled_out), kind)
    return column if column.name not in RESERVED else _column(rng, attribute, spelled_out)


def _identifier(rng: random.Random, said: str, spelled_out: bool) -> str:
    parts = said.split()
    if not spelled_out and rng.random() < 0.5:
        parts = [abbreviated(rng, part) for part in parts]
    if not spelled_out and len(parts) > 1 and rng.random() < 0.15:
        parts = parts[1:]
    return "_".join(parts).upper()


def _plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun if noun in ("species",) else f"{noun}es"
    return {"crew": "crew", "aircraft": "aircraft"}.get(noun, f"{noun}s")
