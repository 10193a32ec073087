"""A report as files: a page that needs no network, the same in Markdown, plots, and tables as CSV.

A report is derived from run folders, so writing it again replaces it, file by file.
"""

from __future__ import annotations

import csv
import io
import os
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsql.errors import UserError
from medsql.files import write_bytes, write_text
from medsql.runs.folder import RECORD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "report.html"
OURS = '<meta name="generator" content="medsql.compare">'
"""What the page of a report holds, and so what tells a report's folder from any other."""


Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Columns, the first `words` of them of words and the others of numbers, and how they came about."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    method: str = ""
    words: int = 1


@dataclass(frozen=True)
class Plot:
    """A drawn figure; `caption` says what is seen, and what was left out."""

    name: str
    figure: Figure
    caption: str


@dataclass(frozen=True)
class Examples:
    """Some wrong predictions, by the pattern that they show."""

    title: str
    patterns: Mapping[str, Sequence[Row]]


@dataclass
class Section:
    """A heading and what stands below it, in this order."""

    title: str
    texts: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    examples: list[Examples] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """All that is written: the page's sections, and rows of numbers for each CSV file."""

    title: str
    command: str
    warnings: Sequence[str]
    sections: Sequence[Section]
    numbers: Mapping[str, Sequence[Row]]


def left_out(count: int, where: str = "") -> str:
    """That so many are not in a plot, in a sentence that follows others; nothing for none."""
    if not count:
        return ""
    return f" {count} more {'is' if count == 1 else 'are'} left out here{'; ' * bool(where)}{where}."


def check_place(folder: Path) -> None:
    """Raises `UserError` where a report may not be written: in what holds anything but a report."""
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir():
        raise UserError(f"{folder} cannot hold the report, {above} is a file: choose another name=")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: no report can be written into {above}, which is read-only")
    if not folder.exists() or not any(folder.iterdir()):
        return
    page = folder / PAGE
    ours = page.is_file() and OURS in page.read_text(encoding="utf-8", errors="replace")
    if not ours or (folder / RECORD).exists():
        raise UserError(f"{folder} holds something else than a report: choose another name=, or report=false")


def write_report(folder: Path, report: Report) -> None:
    """Write the page, the same in Markdown, its plots and its tables; what an earlier report left is removed.

    Everything is drawn before anything is written. Raises `UserError` where `folder`, which passed
    `check_place`, cannot be written.
    """
    from medsql.runs.plots import as_png, as_svg  # imports matplotlib

    drawn = [plot for section in report.sections for plot in section.plots]
    vector = {plot.name: as_svg(plot.figure) for plot in drawn}
    # The page comes first: by it an unfinished report is known for one.
    texts = {name: _render(f"{name}.jinja", report, vector) for name in (PAGE, "report.md")}
    texts |= {f"{name}.csv": as_csv(rows) for name, rows in report.numbers.items() if rows}
    texts |= {f"plots/{name}.svg": svg for name, svg in vector.items()}
    pictures = {f"plots/{plot.name}.png": as_png(plot.figure) for plot in drawn}
    tables = [folder / f"{name}.csv" for name in report.numbers]
    try:
        for name, text in texts.items():
            write_text(folder / name, text)
        for name, picture in pictures.items():
            write_bytes(folder / name, picture)
        for left in {*folder.glob("plots/*.svg"), *folder.glob("plots/*.png"), *tables}:
            if left.relative_to(folder).as_posix() not in texts | pictures:
                left.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: the report cannot be written: {error.strerror or error}") from error


def _render(template: str, report: Report, vector: Mapping[str, str]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
    from markupsafe import Markup, escape

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(("html.jinja",), default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    # Names of folders are long, and have no spaces to break a line at.
    joints = re.compile(r"(?<=[=_,/])(?=\S)|(?<=[a-z]\.)(?=\w)")
    environment.filters |= {
        "in_markdown": in_markdown,
        "breakable": lambda text: Markup(joints.sub("<wbr>", str(escape(text)))),
    }
    pictures = {
        name: f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}" for name, svg in vector.items()
    }
    return environment.get_template(template).render(report=report, pictures=pictures, generator=Markup(OURS))


def as_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV with all of their keys as columns; a value that a row lacks is empty."""
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def in_markdown(text: str) -> str:
    """A cell or name that Markdown takes as it stands."""
    return re.sub(r"([\\`*_<>|\[\]#])", r"\\\1", " ".join(text.split()))
