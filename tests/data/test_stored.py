"""Pairs on disk are as good as a list of them, and take next to no memory."""

import json
import resource
import tracemalloc
from contextlib import contextmanager
from random import Random

import numpy as np
import pyarrow as pa
import pytest

from medsql.config import DataSettings
from medsql.data import stored
from medsql.data.pairs import Pair, pairs_digest
from medsql.data.splits import load_splits
from medsql.data.stored import in_memory, on_disk

PAIRS = [Pair(f"how old is {n}? é", f"SELECT {n}") for n in range(50)]


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """The 50, in batches of 7 that are gone through 9 at a time."""
    monkeypatch.setattr(stored, "BATCH", 7)
    monkeypatch.setattr(stored, "BLOCK", 9)
    return on_disk(iter(PAIRS), tmp_path / "cache")


# A sequence as any other


def test_they_come_back_as_they_were_in_their_order(pairs):
    assert list(pairs) == PAIRS and len(pairs) == 50
    assert pairs == PAIRS and pairs != PAIRS[:-1] and pairs != PAIRS[::-1]


@pytest.mark.parametrize("place", [0, 6, 7, 49, -1, -50])
def test_a_place_holds_what_it_holds_in_a_list(pairs, place):
    assert pairs[place] == PAIRS[place]


@pytest.mark.parametrize("place", [50, -51])
def test_there_is_nothing_behind_the_end(pairs, place):
    with pytest.raises(IndexError):
        pairs[place]


@pytest.mark.parametrize(
    "places", [slice(3), slice(5, 40), slice(-4, None), slice(None, None, -3), slice(60, 70)], ids=str
)
def test_a_slice_is_that_of_a_list_and_a_slice_of_it_too(pairs, places):
    assert list(pairs[places]) == PAIRS[places]
    assert list(pairs[places][1:]) == PAIRS[places][1:]


def test_any_rows_can_be_selected_in_any_order_and_again_from_those(pairs):
    rows = np.random.default_rng(1).permutation(50)[:30]
    selected = pairs.select(rows)
    assert list(selected) == [PAIRS[row] for row in rows]
    assert list(selected.select(np.array([4, 4, 0]))) == [PAIRS[rows[place]] for place in (4, 4, 0)]


def test_parts_are_put_together_wherever_they_lie(pairs):
    parts = (pairs[40:], in_memory(PAIRS[:3]), pairs[::-7], in_memory([]))
    together = parts[0] + parts[1] + parts[2] + parts[3]
    assert together == PAIRS[40:] + PAIRS[:3] + PAIRS[::-7]
    assert together[10:14] == [*PAIRS[:3], PAIRS[49]]


def test_no_pairs_are_none(tmp_path):
    for nothing in (on_disk([], tmp_path), in_memory([])):
        assert not nothing and list(nothing) == [] and nothing == []


def test_the_digest_is_that_of_a_list(pairs):
    assert pairs_digest(pairs) == pairs_digest(PAIRS)


# Where they are


def test_the_file_has_no_name_and_the_rows_are_in_no_memory_of_arrows(tmp_path):
    before = pa.total_allocated_bytes()
    pairs = on_disk(PAIRS, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert pa.total_allocated_bytes() == before
    assert pairs == PAIRS


def write(path, rows):
    path.write_text("".join(json.dumps({"question": q, "sql": sql}) + "\n" for q, sql in rows))


def settings(path, cache, split="source"):
    return DataSettings("jsonl", split, "question", path=str(path), cache_dir=str(cache))


def test_a_source_of_many_rows_keeps_no_python_object_a_row(tmp_path, monkeypatch):
    """A pair alone, as Python has it, takes 300 bytes; its number takes 8."""
    rows = 20_000
    write(tmp_path / "rows.jsonl", ((f"how many took drug {n}?", f"SELECT {n} FROM D") for n in range(rows)))
    monkeypatch.setattr(stored, "BATCH", 1000)
    load_splits(settings(tmp_path / "rows.jsonl", tmp_path))  # what is imported is no row
    tracemalloc.start()
    try:
        splits = load_splits(settings(tmp_path / "rows.jsonl", tmp_path))
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(splits.record["rows"].values()) == rows
    assert kept < 24 * rows
    assert most < 200 * rows


@contextmanager
def full_disk(size):
    """A limit on the size of files stands in for it: writes fail half-way in the same manner."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_costs_a_warning_and_memory(tmp_path, caplog):
    write(tmp_path / "rows.jsonl", ((f"question {n}", "SELECT " * 30) for n in range(500)))
    wanted = settings(tmp_path / "rows.jsonl", tmp_path / "cache")
    stored_rows = load_splits(wanted)
    with full_disk(50_000):
        splits = load_splits(wanted)
    assert splits.record == stored_rows.record | {"in_memory": True}
    assert (splits.train, splits.test) == (stored_rows.train, stored_rows.test)
    assert caplog.text.count(f"rows cannot be kept in {tmp_path}/cache (") == 1
    assert "File too large" in caplog.text


def test_a_folder_that_cannot_be_made_costs_a_warning_and_memory(tmp_path, caplog):
    write(tmp_path / "rows.jsonl", [(f"q{n}", "s") for n in range(5)] + [("", "s")])
    splits = load_splits(settings(tmp_path / "rows.jsonl", tmp_path / "rows.jsonl" / "cache"))
    assert splits.record["in_memory"] and splits.record["dropped"] == {"train": {"no_question": 1}}
    everything = (*splits.train, *splits.validation, *splits.test)
    assert sorted(pair.question for pair in everything) == ["q0", "q1", "q2", "q3", "q4"]
    assert "Not a directory): read again, into memory" in caplog.text


# What is found out about them


def drawn(seed, count):
    """Rows of few different questions and queries, so that many come twice."""
    rng = Random(seed)
    return [Pair(f"q{rng.randrange(60)}", f"s{rng.randrange(6)}") for _ in range(count)]


def test_duplicates_overlaps_and_digests_are_those_of_lists_and_sets(tmp_path):
    rows = {"train": drawn(1, 300), "validation": drawn(2, 80), "test": drawn(3, 50)}
    for name, split in rows.items():
        write(tmp_path / f"{name}.jsonl", [(pair.question, pair.sql) for pair in split])
    splits = load_splits(settings(tmp_path, tmp_path / "cache"))
    kept = {name: list(dict.fromkeys(split)) for name, split in rows.items()}
    assert (splits.train, splits.validation, splits.test) == tuple(kept.values())
    record = splits.record
    assert record["duplicates"] == {name: len(rows[name]) - len(kept[name]) for name in rows}
    assert record["sha256"] == {name: pairs_digest(split) for name, split in kept.items()}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert record["overlaps"][f"{one}/{other}"] == {
            "questions": len({p.question for p in rows[one]} & {p.question for p in rows[other]}),
            "sql": len({p.sql for p in rows[one]} & {p.sql for p in rows[other]}),
        }
