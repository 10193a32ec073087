"""A report as files: a page that needs no network, the same in Markdown, plots, and tables as CSV.

A report is derived from run folders, so writing it again replaces it, file by file.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from medsql.errors import UserError
from medsql.files import write_bytes, write_text
from medsql.runs import plots
from medsql.runs.folder import RECORD
from medsql.runs.plots import Estimate
from medsql.runs.report import Cell, Plot, Report, Row, in_percent

PAGE = "report.html"
OURS = '<meta name="generator" content="medsql.compare">'
"""What the page of a report holds, and so what tells a report's folder from any other."""

TABLES = ("runs", "scores", "differences", "errors")


def check_place(folder: Path) -> None:
    """Raises `UserError` where a report may not be written: in what holds anything but a report."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} cannot hold the report, it is a file: choose another name=")
    if not folder.exists() or not any(folder.iterdir()):
        return
    page = folder / PAGE
    ours = page.is_file() and OURS in page.read_text(encoding="utf-8", errors="replace")
    if not ours or (folder / RECORD).exists():
        raise UserError(f"{folder} holds something else than a report: choose another name=, or report=false")


def write_report(folder: Path, report: Report) -> None:
    """Write the page, the same in Markdown, its plots and its tables; what an earlier report left is removed.

    Everything is drawn before anything is written. Raises `UserError` where `folder` holds anything
    else, or cannot be written.
    """
    check_place(folder)
    drawn = [plot for section in report.sections for plot in section.plots]
    vector = {plot.name: plots.as_svg(plot.figure) for plot in drawn}
    # The page comes first: by it an unfinished report is known for one.
    texts = {
        PAGE: _render("report.html.jinja", report, vector),
        "report.md": _render("report.md.jinja", report, {}),
    }
    texts |= {f"{name}.csv": as_csv(rows) for name, rows in report.numbers.items() if rows}
    texts |= {f"plots/{name}.svg": svg for name, svg in vector.items()}
    pictures = {f"plots/{plot.name}.png": plots.as_png(plot.figure) for plot in drawn}
    try:
        for name, text in texts.items():
            write_text(folder / name, text)
        for name, picture in pictures.items():
            write_bytes(folder / name, picture)
        for left in {*folder.glob("plots/*.svg"), *folder.glob("plots/*.png"), *_tables(folder)}:
            if left.relative_to(folder).as_posix() not in texts | pictures:
                left.unlink()
    except OSError as error:
        raise UserError(f"{folder}: the report cannot be written: {error.strerror or error}") from error


def _tables(folder: Path) -> list[Path]:
    return [path for name in TABLES if (path := folder / f"{name}.csv").exists()]


def _render(template: str, report: Report, vector: Mapping[str, str]) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(("html.jinja",), default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.tests["estimate"] = lambda cell: isinstance(cell, Estimate)
    environment.filters |= {"in_markdown": in_markdown, "in_percent": in_percent}

    def inline(plot: Plot) -> Markup:
        return Markup(plots.inline_svg(vector[plot.name], plot.name, str(escape(plot.caption))))

    return environment.get_template(template).render(report=report, inline=inline, generator=Markup(OURS))


def as_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV with all of their keys as columns; a value that a row lacks is empty."""
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def in_markdown(cell: Cell) -> str:
    """A cell or name that Markdown takes as it stands."""
    text = in_percent(cell) if isinstance(cell, Estimate) else cell
    return re.sub(r"([\\`*_<>|\[\]#])", r"\\\1", " ".join(text.split()))
