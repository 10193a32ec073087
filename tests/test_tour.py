"""The tour runs from its first cell to its last, and as it is committed it has been run."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from execute_tour import TOUR, execute
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

SMALL = """
import os

PAIRS = 60
os.environ["DATA"] = "data.pairs=60 data.test_rows=2 decode.max_new_tokens=4 trainer.threads=1"
os.environ["TRAIN"] = "optim.max_steps=2 validation.every_steps=1 validation.generate_rows=2"
os.environ["OMP_NUM_THREADS"] = "1"
"""


def tour() -> NotebookNode:
    return nbformat.read(TOUR, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: NotebookNode) -> set[str]:
    """What a cell has put out: text, and pictures by their type."""
    return {kind for output in cell.outputs for kind in output.get("data", {output.get("name", "error"): ""})}


@pytest.mark.slow
def test_every_cell_runs_at_a_smaller_size_and_gives_what_it_is_committed_with(tmp_path: Path) -> None:
    notebook = tour()
    (size,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    size.source = SMALL
    execute(notebook, tmp_path)
    for cell, committed in zip(code_cells(notebook), code_cells(tour()), strict=True):
        assert kinds(cell) == kinds(committed), cell.source
    assert (tmp_path / "outputs" / "beside" / "report.html").exists()


def test_as_committed_it_was_run_from_top_to_bottom_without_an_error() -> None:
    cells = code_cells(tour())
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    assert {kind for cell in cells for kind in kinds(cell)} == {"stdout", "text/plain", "image/png"}


def test_as_committed_it_names_no_folder_of_a_machine() -> None:
    text = TOUR.read_text(encoding="utf-8")
    assert not re.findall(r"(?<![\w.])/(?:home|root|tmp|usr|opt|work|Users)/", text)


def test_a_command_that_fails_fails_the_tour(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError):
        execute(new_notebook(cells=[new_code_cell("%%bash\npython -c 'exit(1)'")]), tmp_path)
