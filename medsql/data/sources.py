"""Reads question–SQL pairs from where they stand, and counts every row it cannot use by reason."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from medsql.config import SPLITS, DataSettings, SettingsError
from medsql.data.pairs import Pair, trimmed
from medsql.data.stored import StoredPairs, in_memory, on_disk
from medsql.wording import counted

log = logging.getLogger(__name__)

SHOWN = 3
"""Unusable rows logged one by one for each split; the others are only counted."""

MIMICSQL_FILES = {"train": "train.json", "validation": "dev.json", "test": "test.json"}
"""As Wang et al. publish each of their folders."""

T = TypeVar("T")

Rows = Iterable[tuple[str, Any]]
"""Raw rows, each with where it stands (`file:line`)."""


@dataclass(frozen=True)
class Source:
    """A source's own splits, and per split how many rows were dropped for which reason.

    Splits keep the source's names; `train`, `validation` and `test` are those with a meaning. Pairs are in
    files of `data.cache_dir`, or `in_memory`.
    """

    splits: dict[str, StoredPairs]
    dropped: dict[str, dict[str, int]]
    in_memory: bool = False

    def __str__(self) -> str:
        """What was found, in words for a message: `train (12 rows, 3 dropped: no_sql 3)`."""
        return ", ".join(self._describe(name) for name in self.splits) or "no split"

    def _describe(self, name: str) -> str:
        reasons = self.dropped.get(name, {})
        lost = f", {sum(reasons.values())} dropped: {_count(reasons)}" if reasons else ""
        return f"{name} ({counted(len(self.splits[name]), 'row')}{lost})"


def read_source(settings: DataSettings) -> Source:
    """All usable pairs of `settings.source`, in their order, in NFC and trimmed; duplicates stay.

    A row is dropped as `not_utf8`, `bad_json`, `not_an_object`, `wrong_type` (a question or SQL that is
    no text), `not_unicode` (half a surrogate pair), `null_character` (no SQL has one), `no_question` or
    `no_sql` (missing or blank).

    A folder `settings.cache_dir` that cannot be used costs a warning, a second reading, whose warnings come
    again, and memory.

    Raises:
        SettingsError: a file, folder or hub data set is missing or cannot be read.
    """
    folder = Path(settings.cache_dir).expanduser()
    try:
        return _read(settings, partial(on_disk, folder=folder))
    except OSError as error:
        why = error.strerror or error
        log.warning("rows cannot be kept in %s (%s): read again, into memory", folder, why)
        return replace(_read(settings, in_memory), in_memory=True)


def _read(settings: DataSettings, store: Callable[[Iterable[Pair]], StoredPairs]) -> Source:
    readers: dict[str, tuple[Callable[[DataSettings], dict[str, Rows]], Callable[[Any], Pair]]] = {
        "synthetic": (_synthetic, _from_pair),
        "corpus": (_corpus, _from_pair),
        "medical_text_to_sql": (_medical_text_to_sql, _from_messages),
        "mimicsql": (_mimicsql, partial(_from_line, question="question_refine", sql="sql")),
        "jsonl": (_jsonl, partial(_from_line, question="question", sql="sql")),
    }
    read, parse = readers[settings.source]
    source = Source({}, {})
    for name, rows in read(settings).items():
        reasons: Counter[str] = Counter()
        source.splits[name] = store(_usable(name, rows, parse, reasons))
        if reasons:
            source.dropped[name] = dict(reasons)
    return source


def check_files(settings: DataSettings) -> None:
    """Look whether the files are there that splits are made of; no row is read.

    Raises `SettingsError` where a folder has none, or none of training rows to cut the others from.
    """
    readers = {"mimicsql": _mimicsql, "jsonl": _jsonl}
    if settings.source not in readers:
        return
    found = readers[settings.source](settings)
    alone = len(found) == 1
    if "train" not in found and not (alone and settings.split == "report"):
        cure = "data.split=report cuts all splits from the one there is" if alone else "add one"
        raise SettingsError(
            f"data.path={settings.path}: no file of training rows, only of {' and '.join(found)}; {cure}"
        )


@dataclass(frozen=True)
class Templates:
    """The machine's questions of a MIMICSQL folder, and the keys that join them to the annotators'.

    `keys` are those of each pair of the source, `pairs` the template pairs of each key, and `dropped` counts
    unusable rows of each file by reason.
    """

    keys: dict[Pair, set[str]] = field(default_factory=dict)
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)


def read_templates(settings: DataSettings) -> Templates:
    """The templates in folder `data.templates`, whichever of MIMICSQL's files their rows are in.

    Rows are dropped as by `read_source`, and as `no_key`.

    Raises:
        SettingsError: the folder is missing, has none of the files, or they cannot be read.
    """
    templates = Templates()
    for rows in _mimicsql(settings).values():
        for _, line in rows:
            try:
                key, pair = _keyed(line)
            except _Unusable:
                continue  # counted where the source was read, or without a template
            templates.keys.setdefault(pair, set()).add(key)
    where = f"data.templates={settings.templates}"
    for name, rows in _folder(str(settings.templates), MIMICSQL_FILES, where).items():
        reasons: Counter[str] = Counter()
        for key, pair in _usable(f"templates, {name}", rows, _keyed, reasons):
            templates.pairs.setdefault(key, []).append(pair)
        if reasons:
            templates.dropped[name] = dict(reasons)
    return templates


class _Unusable(Exception):
    """A row that is no pair; its argument is the reason it is counted under."""


def _usable(name: str, rows: Rows, parse: Callable[[Any], T], reasons: Counter[str]) -> Iterator[T]:
    """What `parse` makes of each row. Those that it cannot use are counted in `reasons`, by the end all."""
    kept = 0
    for where, row in rows:
        try:
            yield parse(row)
            kept += 1
        except _Unusable as unusable:
            reasons[str(unusable)] += 1
            if reasons.total() <= SHOWN:
                log.warning("%s: row dropped, %s", where, unusable)
    if reasons:
        dropped = counted(reasons.total(), "row")
        log.warning("%s: %s dropped (%s), %d kept", name, dropped, _count(reasons), kept)


def _count(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.items())


# From a row to a pair


def _from_pair(pair: Pair) -> Pair:
    return _pair(pair.question, pair.sql)


def _pair(question: object, sql: object) -> Pair:
    return Pair(_text(question, "no_question"), _text(sql, "no_sql"))


def _text(value: object, missing: str) -> str:
    if value is None:
        raise _Unusable(missing)
    if not isinstance(value, str):
        raise _Unusable("wrong_type")
    try:
        text = trimmed(value)
    except UnicodeEncodeError:
        raise _Unusable("not_unicode") from None
    if not text:
        raise _Unusable(missing)
    if "\0" in text:
        raise _Unusable("null_character")
    return text


def _from_line(line: bytes, question: str, sql: str) -> Pair:
    row = _object(line)
    return _pair(row.get(question), row.get(sql))


def _keyed(line: bytes) -> tuple[str, Pair]:
    row = _object(line)
    return _text(row.get("key"), "no_key"), _pair(row.get("question_refine"), row.get("sql"))


def _object(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise _Unusable("not_utf8") from None
    except (ValueError, RecursionError):
        raise _Unusable("bad_json") from None
    if not isinstance(row, dict):
        raise _Unusable("not_an_object")
    return row


def _from_messages(messages: object) -> Pair:
    """The last user turn asks and the last assistant turn answers, as in the report, section 2.2."""
    if messages is None:
        raise _Unusable("no_question")
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        raise _Unusable("wrong_type")
    content = {str(turn.get("role")): turn.get("content") for turn in messages}
    return _pair(content.get("user"), content.get("assistant"))


# From a source to rows


def _synthetic(settings: DataSettings) -> dict[str, Rows]:
    """Generated pairs; they go the same way as all others, so that no source is cleaned less."""
    from medsql.data.hospital import synthetic_splits  # slow to import, and only this source needs it

    splits = synthetic_splits(settings.admissions, settings.pairs, settings.seed)
    return {name: _numbered(f"synthetic {name}", pairs) for name, pairs in splits.items()}


def _corpus(settings: DataSettings) -> dict[str, Rows]:
    from medsql.data.corpus import corpus_rows

    splits = corpus_rows(settings.pairs, settings.seed)
    return {name: _numbered(f"corpus {name}", pairs) for name, pairs in splits.items()}


def _numbered(where: str, rows: Iterable[Any]) -> Rows:
    return ((f"{where} row {number}", row) for number, row in enumerate(rows))


def _mimicsql(settings: DataSettings) -> dict[str, Rows]:
    """A folder as Wang et al. publish it: JSON lines, the natural question in `question_refine`."""
    return _folder(str(settings.path), MIMICSQL_FILES, f"data.path={settings.path}")


def _jsonl(settings: DataSettings) -> dict[str, Rows]:
    """The user's own pairs: a folder with a file for each split, or one file of training rows."""
    where = f"data.path={settings.path}"
    path = _existing(str(settings.path), where)
    if path.is_file():
        return {"train": _lines(path, where)}
    return _folder(str(settings.path), {split: f"{split}.jsonl" for split in SPLITS}, where)


def _existing(path: str, where: str) -> Path:
    found = Path(path).expanduser()
    if not found.exists():
        raise SettingsError(f"{where}: no such file or folder")
    return found


def _folder(path: str, names: dict[str, str], where: str) -> dict[str, Rows]:
    """The rows of each split's file in a folder; `where` is the setting that names it."""
    folder = _existing(path, where)
    found: dict[str, Rows] = {
        split: _lines(folder / name, where) for split, name in names.items() if (folder / name).exists()
    }
    if not found:
        kind = "holds none of" if folder.is_dir() else "is no folder; it should be one with any of"
        raise SettingsError(f"{where}: {kind} {', '.join(names.values())}")
    return found


def _lines(path: Path, where: str) -> Iterator[tuple[str, bytes]]:
    """Read as bytes: text mode would also break lines at characters that JSON allows inside a string."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}:{number}", line
    except OSError as error:
        raise SettingsError(f"{where}: cannot read {path}: {error.strerror}") from None


def _medical_text_to_sql(settings: DataSettings) -> dict[str, Rows]:
    """A hub data set, or a folder laid out like its repository, of rows with a list of `messages`."""
    import datasets  # takes a second to import, and only this source needs it

    path = str(settings.path)
    folder = Path(path).expanduser()
    if not folder.exists() and (path.startswith(("/", ".", "~")) or path.count("/") > 1):
        raise SettingsError(f"data.path={path}: no such folder")
    try:
        loaded = datasets.load_dataset(str(folder) if folder.exists() else path)
    except Exception as error:  # from OSError to pyarrow's own, whatever the hub or the files lead to
        raise SettingsError(f"data.path={path}: datasets cannot load it: {_root_cause(error)}") from None
    rows: dict[str, Rows] = {}
    for name, split in loaded.items():
        if "messages" not in split.column_names:
            columns = ", ".join(split.column_names)
            raise SettingsError(f"data.path={path}: {name} has no column messages; it has {columns}")
        rows[str(name)] = _numbered(f"{path} {name}", split["messages"])
    return rows


def _root_cause(error: BaseException) -> str:
    """One line; datasets itself says only that something failed, its cause says what."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
