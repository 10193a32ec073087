"""Turns pairs into token ids once, and keeps them on disk for every later run that needs the same.

A cache entry is an Arrow file, memory-mapped when read, and a JSON file with its counts and checksum.
Its name is a digest of everything that determines it, so an entry is never stale, only unused.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from medsql.config import SPLITS, DataSettings
from medsql.data.lost import log_lost, lost_record
from medsql.data.pairs import Pair, pairs_digest
from medsql.data.prompts import prompt_template, render
from medsql.data.spelling import Spelling, decoded, needed_spelling
from medsql.data.splits import Splits
from medsql.files import write_json
from medsql.wording import counted

if TYPE_CHECKING:  # each takes a second or more to import
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

FORMAT = 2
"""Part of every cache key: raise it when what an entry means changes."""

EVERY_SECONDS = 15.0
"""Between two lines of a log that say how far tokenising has come."""

CHUNK = 1000
"""Rows tokenised at once: enough for the tokenizer's threads, and few Python integers alive at a time."""


@dataclass(frozen=True)
class TokenizedSplits:
    """Token ids, unpadded: each split has the int32 list columns `input_ids` and `labels`.

    `longest_target` is the longest training target in tokens, the end token included, after truncation.
    `spelling` is how targets and questions were written, and so how outputs are to be read.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    longest_target: int
    record: dict[str, Any]
    spelling: Spelling = field(default_factory=Spelling)


def tokenize_splits(
    splits: Splits,
    tokenizer: PreTrainedTokenizerBase,
    settings: DataSettings,
    spelling: Spelling | None = None,
) -> TokenizedSplits:
    """Renders and tokenises all splits, or finds them in the cache under `settings.cache_dir`.

    With `settings.lossless`, targets are written so that they come back from the tokenizer as they were, in
    the `spelling` given (of a model that was trained with it) or the one that the training targets need.
    Questions are written alike, so that what is to be copied from them looks the same; the prompt around them
    stays as it is. How many targets do not come back, with and without it, is counted and logged.

    Inputs and targets longer than `settings.max_input_tokens` and `settings.max_target_tokens` are
    truncated, counted and logged. A damaged entry is built anew. A cache that cannot be used
    costs a warning and memory, not the run.
    """
    if not settings.lossless:
        spelling = Spelling()
    elif spelling is None:
        spelling = needed_spelling(tokenizer, (pair.sql for pair in splits.train))
    template = prompt_template(settings.prompt)
    task = _Task(tokenizer, template, spelling, settings.max_input_tokens, settings.max_target_tokens)
    cache = Path(settings.cache_dir).expanduser() / "tokenized"
    recipe = task.digest()
    datasets: dict[str, Dataset] = {}
    counts: dict[str, dict[str, int]] = {}
    states: dict[str, dict[str, str]] = {}
    for name in SPLITS:
        pairs: Sequence[Pair] = getattr(splits, name)
        key = hashlib.sha256(f"{recipe} {pairs_digest(pairs)}".encode()).hexdigest()[:32]
        datasets[name], counts[name], state = _cached(cache / key, pairs, task)
        states[name] = {"state": state, "key": key}
        log.info("%s: %s tokenised (cache: %s)", name, counted(len(pairs), "row"), state)
        _warn_truncated(name, counts[name], settings)
    record = {
        "tokenizer": tokenizer_digest(tokenizer)[:16],
        "rows": {name: len(datasets[name]) for name in SPLITS},
        "truncated_inputs": {name: counts[name]["truncated_inputs"] for name in SPLITS},
        "truncated_targets": {name: counts[name]["truncated_targets"] for name in SPLITS},
        "longest_target": counts["train"]["longest_target"],
        "spelling": dict(spelling.codes),
        "lost": lost_record(splits, tokenizer, spelling, counts),
        "cache": states,
        "cache_dir": str(cache),
    }
    first = counts["train"]["first_lost"]
    log_lost(record, settings, None if first < 0 else splits.train[first])
    longest = counts["train"]["longest_target"]
    return TokenizedSplits(**datasets, longest_target=longest, record=record, spelling=spelling)


def _warn_truncated(name: str, counts: dict[str, int], settings: DataSettings) -> None:
    for what, limit in (("input", settings.max_input_tokens), ("target", settings.max_target_tokens)):
        if count := counts[f"truncated_{what}s"]:
            log.warning("%s: %s truncated to %d tokens", name, counted(count, what), limit)


@dataclass(frozen=True)
class _Task:
    """How text becomes ids: everything but the pairs that determines a cache entry."""

    tokenizer: PreTrainedTokenizerBase
    template: str
    spelling: Spelling
    max_input: int
    max_target: int

    def digest(self) -> str:
        import tokenizers
        import transformers

        parts = [FORMAT, transformers.__version__, tokenizers.__version__, tokenizer_digest(self.tokenizer)]
        parts += [self.template, sorted(self.spelling.codes.items()), self.max_input, self.max_target]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def build(self, pairs: Sequence[Pair], write: Callable[[pa.RecordBatch], object]) -> dict[str, int]:
        """Has the ids of `pairs` written, `CHUNK` rows at a time.

        Returns how many inputs and targets were truncated, and how many targets are lost.

        Whole prompts go through the tokenizer, their constant head included: a tokenizer may merge
        across any border, so ids of a head and a tail need not be the ids of both together.
        """
        import pyarrow as pa

        schema = _schema()
        counts = dict.fromkeys(("truncated_inputs", "truncated_targets", "longest_target"), 0)
        counts |= {"lost_unspelled": 0, "lost": 0, "first_lost": -1}  # a row's number, -1: none
        said = time.monotonic()
        for start in range(0, len(pairs), CHUNK):
            if time.monotonic() - said >= EVERY_SECONDS:
                log.info("tokenised %s of %s", f"{start:,}", counted(len(pairs), "row"))
                said = time.monotonic()
            chunk = pairs[start : start + CHUNK]
            prompts = [render(self.template, self.spelling.spell(pair.question)) for pair in chunk]
            targets = [pair.sql for pair in chunk]
            spelled = [self.spelling.spell(sql) for sql in targets]
            inputs = _encode(self.tokenizer, "text", prompts)
            labels = _encode(self.tokenizer, "text_target", spelled)
            lost = lost_unspelled = self._lost(labels, targets, self.spelling)
            if self.spelling.codes:
                as_they_are = _encode(self.tokenizer, "text_target", targets)
                lost_unspelled = self._lost(as_they_are, targets, Spelling())
            if lost and counts["first_lost"] < 0:
                counts["first_lost"] = start + lost[0]
            counts["lost"] += len(lost)
            counts["lost_unspelled"] += len(lost_unspelled)
            long_inputs = _truncate(self.tokenizer, "text", prompts, inputs, self.max_input)
            long_targets = _truncate(self.tokenizer, "text_target", spelled, labels, self.max_target)
            write(pa.record_batch([inputs, labels], schema=schema))
            counts["truncated_inputs"] += long_inputs
            counts["truncated_targets"] += long_targets
            counts["longest_target"] = max(counts["longest_target"], *(len(ids) for ids in labels))
        return counts

    def _lost(self, ids: list[list[int]], targets: list[str], spelling: Spelling) -> list[int]:
        """The places of the targets that come back from their `ids` as something else."""
        texts = decoded(self.tokenizer, ids)
        return [i for i, sql in enumerate(targets) if spelling.unspell(texts[i]) != sql]


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema({"input_ids": pa.list_(pa.int32()), "labels": pa.list_(pa.int32())})


def _encode(tokenizer: PreTrainedTokenizerBase, side: str, texts: list[str]) -> list[list[int]]:
    """Token ids of `texts`, however long.

    `side` is the tokenizer's argument for them, `text` for inputs and `text_target` for targets.
    """
    ids: list[list[int]] = tokenizer(**{side: texts}, verbose=False)["input_ids"]
    return ids


def _truncate(
    tokenizer: PreTrainedTokenizerBase, side: str, texts: list[str], ids: list[list[int]], limit: int
) -> int:
    """Puts a shorter encoding in the place of each longer than `limit`, and says of how many.

    Behind `_encode`, for a truncated encoding does not say that it is one.
    """
    too_long = [i for i, tokens in enumerate(ids) if len(tokens) > limit]
    if too_long:
        long_texts = {side: [texts[i] for i in too_long]}
        shortened = tokenizer(**long_texts, truncation=True, max_length=limit)["input_ids"]
        for i, tokens in zip(too_long, shortened, strict=True):
            ids[i] = tokens
    return len(too_long)


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of what a tokenizer does, special tokens included, wherever it was loaded from."""
    if tokenizer.is_fast:
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        # What the last call left set; every call here sets its own.
        content = {name: part for name, part in content.items() if name not in ("truncation", "padding")}
    else:
        with TemporaryDirectory() as folder:
            saved = (Path(file) for file in tokenizer.save_pretrained(folder))
            content = {file.name: file.read_bytes().hex() for file in saved if file.is_file()}
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    sides = [tokenizer.truncation_side, tokenizer.split_special_tokens]
    parts = [type(tokenizer).__name__, content, special, sides]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _cached(entry: Path, pairs: Sequence[Pair], task: _Task) -> tuple[Dataset, dict[str, int], str]:
    """The data set of `entry`, its counts, and "hit", "miss" (now cached) or "unusable" (in memory)."""
    import pyarrow as pa
    from datasets import Dataset
    from filelock import FileLock

    if found := _read(entry, len(pairs)):
        return *found, "hit"
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        # The trials of a parallel sweep start together and want the same entry: one builds, the others wait.
        # The lock ends with its process, however that ends.
        with FileLock(_file(entry, "lock")):
            if found := _read(entry, len(pairs)):
                return *found, "hit"
            _write(entry, pairs, task)
            if found := _read(entry, len(pairs)):
                return *found, "miss"
            raise OSError("what was written does not read back")
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        log.warning("the cache in %s cannot be used (%s): tokenised in memory instead", entry.parent, error)
        batches: list[pa.RecordBatch] = []
        counts = task.build(pairs, batches.append)
        return Dataset(pa.Table.from_batches(batches, _schema())), counts, "unusable"


def _file(entry: Path, kind: str) -> Path:
    return entry.with_name(f"{entry.name}.{kind}")


def _read(entry: Path, rows: int) -> tuple[Dataset, dict[str, int]] | None:
    """The entry, or None where there is none yet or it is damaged, which is logged."""
    from datasets import Dataset

    try:
        note = json.loads(_file(entry, "json").read_bytes())
        if _checksum(_file(entry, "arrow"), note["counts"]) != note["sha256"]:
            raise ValueError("its checksum differs")
        dataset = Dataset.from_file(str(_file(entry, "arrow")))
        if len(dataset) != rows:
            raise ValueError(f"it has {len(dataset)} rows, not {rows}")
        return dataset, note["counts"]
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever the damage makes JSON, Arrow or datasets raise
        log.warning("cache entry %s cannot be read (%s): building it anew", entry, error)
        return None


def _write(entry: Path, pairs: Sequence[Pair], task: _Task) -> None:
    """Writes both files aside and moves them into place, the note last: without it there is no entry.

    The table's name aside is fixed, for only the holder of the lock writes: what a killed process left
    there, the next one overwrites.
    """
    import pyarrow as pa

    aside = _file(entry, "tmp")
    try:
        with pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_stream(sink, _schema()) as writer:
            counts = task.build(pairs, writer.write_batch)
        checksum = _checksum(aside, counts)
        aside.replace(_file(entry, "arrow"))
        write_json(_file(entry, "json"), {"sha256": checksum, "counts": counts})
    finally:
        aside.unlink(missing_ok=True)  # on a full disk, the part that was written


def _checksum(path: Path, counts: dict[str, int]) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps(counts, sort_keys=True).encode())
    return digest.hexdigest()
