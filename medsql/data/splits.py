"""Which rows train, which validate and which test, and a record of how that came about."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, combinations
from typing import Any

import numpy as np
from sklearn.model_selection import KFold, train_test_split

from medsql.config import FOLDS, SPLITS, DataSettings, SettingsError
from medsql.data.further import further_rows
from medsql.data.pairs import Pair, pairs_digest
from medsql.data.sources import Source, read_source
from medsql.data.stored import StoredPairs, in_memory
from medsql.wording import counted

log = logging.getLogger(__name__)

SHARE, SEED = 0.2, 42
"""Every cut takes a fifth, seeded 42 (the report, section 2.3), whatever `seed` a run has: runs with
other seeds stay comparable, for they see the same rows."""


@dataclass(frozen=True)
class Splits:
    """The rows a run sees, and a JSON-serialisable record of where each came from.

    The last `further` training rows are not the source's own, the last `hospital` of these the synthetic
    hospital's.
    """

    train: Sequence[Pair]
    validation: Sequence[Pair]
    test: Sequence[Pair]
    record: dict[str, Any]
    further: int = 0
    hospital: int = 0

    @property
    def own_training(self) -> Sequence[Pair]:
        """The training rows that are the source's own: what was added to them may hold invented values."""
        return self.train[: len(self.train) - self.further]


def load_splits(settings: DataSettings) -> Splits:
    """Reads the source and decides its splits.

    With `split=source` the source's own splits are used, less exact duplicates; one it lacks is cut
    from its training rows. With `split=report` one split of the source is the pool for all three,
    duplicates included, so that the rows are those of the published procedure; with a `fold`, that one
    of five tests, and the rest is cut as ever. Whatever else is trained on is added to the training rows
    last (`medsql.data.further`).

    Raises:
        SettingsError: the source cannot be read, or leaves nothing to train on or to validate with.
    """
    source = read_source(settings)
    report = settings.split == "report"
    distinct = {name: _distinct(pairs) for name, pairs in source.splits.items()}
    duplicates = {name: len(pairs) - len(distinct[name]) for name, pairs in source.splits.items()}
    for name in (name for name, count in duplicates.items() if count):
        fate = "kept, as data.split=report has it" if report else "dropped"
        log.warning("%s: %d exact duplicates %s", name, duplicates[name], fate)
    splits, how = _report_splits(source, settings) if report else _source_splits(source, distinct, settings)
    final, limits = _first_rows(splits, settings)
    trained = ("train", "validation") if settings.refit else ("train",)
    if settings.refit:
        rows = counted(len(final["validation"]), "validation row")
        log.warning("data.refit: %s trained on, too, so validation scores say nothing of new rows", rows)
        final["train"] += final["validation"]
    own_training = final["train"]
    held_out = chain.from_iterable(pairs for name, pairs in splits.items() if name not in trained)
    further = further_rows(own_training, held_out, settings)
    final["train"] = own_training + in_memory(further.rows)
    record = {
        "source": settings.source,
        "path": settings.path,
        "split": settings.split,
        **how,
        "dropped": source.dropped,
        "duplicates": duplicates,
        "duplicates_dropped": settings.split == "source",
        "limits": limits,
        "refit": settings.refit,
        "further": further.record,
        "rows": {name: len(pairs) for name, pairs in final.items()},
        "overlaps": _overlaps(final),
        "sha256": {name: pairs_digest(pairs) for name, pairs in final.items()},
    }
    if source.in_memory:
        record["in_memory"] = True
    log.info("data: %s", ", ".join(counted(len(pairs), f"{name} row") for name, pairs in final.items()))
    return Splits(**final, record=record, further=len(further.rows), hospital=further.hospital)


def _report_splits(source: Source, settings: DataSettings) -> tuple[dict[str, StoredPairs], dict[str, Any]]:
    """The report, section 2.3: a fifth of the pool tests, and a fifth of what is left validates."""
    if "train" not in source.splits and len(source.splits) > 1:
        cure = "data.split=report cuts a split called train, or the only one there is"
        raise _unfit(settings, source, "no telling which split to cut", cure)
    pool = "train" if "train" in source.splits else next(iter(source.splits), "train")
    pairs = source.splits.get(pool, in_memory([]))
    train_and_validation, test = (_cut if settings.fold is None else _fold)(pairs, settings, source)
    train, validation = _cut(train_and_validation, settings, source)
    unused = {name: len(rows) for name, rows in source.splits.items() if name != pool}
    rows = counted(len(pairs), "row")
    log.info("data.split=report cuts all splits from the source's %s split (%s)", pool, rows)
    _say_unused(unused)
    splits = {"train": train, "validation": validation, "test": test}
    return splits, {"pool": pool, "fold": settings.fold, "cut": list(SPLITS), "unused": unused}


def _source_splits(
    source: Source, distinct: Mapping[str, np.ndarray], settings: DataSettings
) -> tuple[dict[str, StoredPairs], dict[str, Any]]:
    splits = {name: pairs.select(distinct[name]) for name, pairs in source.splits.items()}
    if not splits.get("train"):
        cure = "add training rows with a question and SQL"
        if "train" not in splits and len(splits) == 1:
            cure = "data.split=report cuts all three splits from the one there is"
        raise _unfit(settings, source, "no training rows", cure)
    lacking = [name for name in ("test", "validation") if name not in splits]
    for name in lacking:  # test first, as the report cuts
        splits["train"], splits[name] = _cut(splits["train"], settings, source)
        rows = counted(len(splits[name]), "row")
        log.info("the source has no %s split: %s cut from train", name, rows)
    if not splits["validation"]:
        cure = "add some, or take the split away to have it cut from train"
        raise _unfit(settings, source, "no validation rows", cure)
    if not splits["test"]:
        log.warning("the test split is empty: nothing can be scored on it")
    unused = {name: len(rows) for name, rows in splits.items() if name not in SPLITS}
    _say_unused(unused)
    return {name: splits[name] for name in SPLITS}, {"pool": None, "cut": lacking, "unused": unused}


def _cut(pairs: StoredPairs, settings: DataSettings, source: Source) -> tuple[StoredPairs, StoredPairs]:
    if len(pairs) < 2:
        what = f"too little to cut a split from, {counted(len(pairs), 'row')}"
        raise _unfit(settings, source, what, "add rows with a question and SQL")
    rest, cut = train_test_split(np.arange(len(pairs)), test_size=SHARE, random_state=SEED)
    return pairs.select(rest), pairs.select(cut)


def _fold(pairs: StoredPairs, settings: DataSettings, source: Source) -> tuple[StoredPairs, StoredPairs]:
    """All rows but those of fold `settings.fold`, and those; over the folds each row is tested once."""
    if len(pairs) < FOLDS:
        raise _unfit(
            settings, source, f"too little for {FOLDS} folds, {counted(len(pairs), 'row')}", "add rows"
        )
    assert settings.fold is not None
    folds = KFold(FOLDS, shuffle=True, random_state=SEED).split(np.arange(len(pairs)))
    rest, tested = list(folds)[settings.fold]
    return pairs.select(rest), pairs.select(tested)


def _unfit(settings: DataSettings, source: Source, what: str, cure: str) -> SettingsError:
    where = f"data={settings.source}" + (f" data.path={settings.path}" if settings.path else "")
    return SettingsError(f"{where}: {what}; found {source}; {cure}")


def _say_unused(unused: dict[str, int]) -> None:
    if unused:
        log.warning(
            "not used: %s", ", ".join(f"{name} ({counted(rows, 'row')})" for name, rows in unused.items())
        )


def _first_rows(
    splits: dict[str, StoredPairs], settings: DataSettings
) -> tuple[dict[str, StoredPairs], dict[str, dict[str, int]]]:
    """Keeps the first `data.*_rows` of each split; also returns what was asked and there, where that cut."""
    limits: dict[str, dict[str, int]] = {}
    final: dict[str, StoredPairs] = {}
    for name, pairs in splits.items():
        limit: int | None = getattr(settings, f"{name}_rows")
        final[name] = pairs[:limit]
        if limit is not None:
            limits[name] = {"limit": limit, "of": len(pairs)}
            log.info("data.%s_rows=%d keeps %d of %d rows", name, limit, len(final[name]), len(pairs))
    return final, limits


def _overlaps(splits: dict[str, StoredPairs]) -> dict[str, dict[str, int]]:
    """For each two splits, how many distinct questions, and how many distinct queries, stand in both."""
    distinct = {name: [np.unique(texts) for texts in _digests(pairs).T] for name, pairs in splits.items()}
    overlaps: dict[str, dict[str, int]] = {}
    for one, other in combinations(splits, 2):
        questions, queries = (
            len(np.intersect1d(*both, assume_unique=True))
            for both in zip(distinct[one], distinct[other], strict=True)
        )
        overlaps[f"{one}/{other}"] = {"questions": questions, "sql": queries}
        if questions or queries:
            both = counted(questions, "question"), counted(queries, "query", "queries")
            log.warning("%s/%s: %s and %s in both", one, other, *both)
    return overlaps


def _distinct(pairs: Iterable[Pair]) -> np.ndarray:
    """The places of the pairs that no pair before them equals, in order."""
    _, first = np.unique(_digests(pairs).view("V32"), return_index=True)
    return np.sort(first)


def _digests(pairs: Iterable[Pair]) -> np.ndarray:
    """The digests of each pair's question and query, shape (pairs, 2)."""
    return text_digests(chain.from_iterable((pair.question, pair.sql) for pair in pairs)).reshape(-1, 2)


def text_digests(texts: Iterable[str]) -> np.ndarray:
    """BLAKE2b of each text, shape (texts,), 16 bytes each.

    They stand for the texts where all of these are compared: two texts that share 128 bits will not turn up.
    """
    digests = bytearray()
    for text in texts:
        digests += blake2b(text.encode(), digest_size=16).digest()
    return np.frombuffer(digests, "V16")
