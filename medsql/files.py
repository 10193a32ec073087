"""Files that are whole or absent: everything is written beside its place and moved there."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` so that a reader, or a crash, sees the old file or the new one, nothing between.

    Raises `OSError` (disk full, no permission); the old file is then still there.
    """
    with _aside(path, content) as temporary:
        temporary.replace(path)


def create_json(path: Path, value: Any) -> None:
    """As `write_json`, but a file that is there already stays: of several writers the first one's counts."""
    content = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with _aside(path, content.encode("utf-8")) as temporary, suppress(FileExistsError):
        path.hardlink_to(temporary)


@contextmanager
def _aside(path: Path, content: bytes) -> Iterator[Path]:
    """A file beside `path` that holds `content`, and is gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp's own mode lets nobody else read
        yield Path(temporary)
    finally:
        Path(temporary).unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_json_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def content_digest(path: Path) -> str:
    """Hash of a file's bytes, or of the names and bytes of all files below a folder.

    Hidden files are left out, and Markdown, which is there to be read: a better model card is no
    other model.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        relative = file.relative_to(path).as_posix()
        hidden = any(part.startswith(".") for part in relative.split("/") if part != ".")
        if not hidden and (file == path or file.suffix != ".md"):
            stat = file.stat()
            digest.update(f"{relative}\0{_file_digest(file, stat.st_mtime_ns, stat.st_size)}\n".encode())
    return digest.hexdigest()


@cache  # a sweep asks for the same files once a job
def _file_digest(file: Path, mtime_ns: int, size: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
