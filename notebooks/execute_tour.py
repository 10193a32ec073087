"""Executes the tour in a folder of its own and keeps its outputs: `python notebooks/execute_tour.py`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

from medsql.files import write_text

TOUR = Path(__file__).with_name("tour.ipynb")


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run all cells with `folder` as their working folder, and put their outputs into the notebook.

    Raises `nbclient.exceptions.CellExecutionError` at the first cell that fails.
    """
    client = NotebookClient(
        notebook,
        coalesce_streams=True,  # what a command writes comes in pieces
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()


def main() -> None:
    """Execute the tour; one that fails half-way is left as it was."""
    notebook = nbformat.read(TOUR, as_version=4)
    with TemporaryDirectory() as folder:  # or runs of before would be found finished
        execute(notebook, Path(folder))
    write_text(TOUR, nbformat.writes(notebook))


if __name__ == "__main__":
    main()
