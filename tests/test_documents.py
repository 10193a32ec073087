"""What the documents say to type is what the doors take, and what they point to is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from tiny import finished_run

from medsql import text_to_sql
from medsql.composition import SETTINGS, to_settings
from medsql.config import CONF
from medsql.data.hospital.cohort import generate_tables, in_memory
from medsql.data.pairs import Prediction
from medsql.door import check_options, name_runs, quote_paths
from medsql.model.generation import predict
from medsql.predict import told_apart
from medsql.sql.database import Sandbox

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "notebooks" / "tour.ipynb"
DOCUMENTS = [
    ROOT / "README.md",
    TOUR,
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("multirun/*.md")),
]

SHELL = r"""
MAKE=$(type -P make)
PATH=  # nothing else is run
python() { printf '%s\0' "$@" $'\n'; }
make() { eval "$("$MAKE" -n RUN_PY=python -o .venv/.installed -o .venv/.demo "$@")"; }
for block; do eval "$block"; done
"""
"""Commands of Python are printed, those of make are what it would run."""


FEMALE_OVER_65 = (
    'SELECT COUNT ( DISTINCT DEMOGRAPHIC."SUBJECT_ID" ) FROM DEMOGRAPHIC '
    'WHERE DEMOGRAPHIC."GENDER" = "F" AND DEMOGRAPHIC."AGE" > "65"'
)
"""The answer to what the README asks."""


def text_of(document: Path) -> str:
    """A document as Markdown, a notebook's shell cells as blocks of it."""
    if document != TOUR:
        return document.read_text(encoding="utf-8")
    cells = nbformat.read(document, as_version=4).cells
    shell = "\n".join(f"export {key}={value!r}" for key, value in SIZE.items())
    shells = [cell.source.partition("\n")[2] for cell in cells if cell.source.startswith("%%bash")]
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    return "\n".join([*(f"```\n{shell}\n{each}\n```" for each in shells), *prose])


SIZE = {"DATA": "data.pairs=2000", "TRAIN": "validation.every_steps=100"}
"""Stands for what the tour's first cell sets."""


def blocks(document: Path, language: str = "") -> list[str]:
    """The fenced blocks of a language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(document), re.MULTILINE | re.DOTALL)
    return [text for of, text in fenced if of == language]


def commands(document: Path) -> list[list[str]]:
    """What follows `python` in the blocks of a document, `make`'s targets included, as the shell reads it."""
    shell = subprocess.run(
        ["bash", "-c", SHELL, "bash", *blocks(document)], cwd=ROOT, capture_output=True, text=True
    )
    assert "*** " not in shell.stderr, shell.stderr  # make's word for a target that there is not
    found = [each.split("\0") for each in shell.stdout.split("\0\n\0")]
    return [each for each in found if each[:1] == ["-m"] and each[1].startswith("medsql.")]


def jobs(overrides: list[str]) -> Iterator[list[str]]:
    """Jobs of a sweep in which every value comes up once; of an interval, its lower end."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    values = [list(_values(override)) for override in parsed]
    for job in zip_longest(*values):
        yield [value or ours[0] for value, ours in zip(job, values)]


def _values(override: Override) -> Iterator[str]:
    if not override.is_sweep_override():
        yield str(override.input_line)
    elif override.is_interval_sweep():
        yield f"{override.get_key_element()}={override.value().start}"  # type: ignore[union-attr]
    else:
        yield from (f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_is_one_that_its_door_takes(document: Path) -> None:
    found = commands(document)
    assert len(found) >= sum(len(re.findall("^python -m medsql", each, re.M)) for each in blocks(document))
    for _, module, *arguments in found:
        door = module.removeprefix("medsql.")
        if door == "predict":
            _, arguments = told_apart(arguments)
        if door == "compare":
            arguments = name_runs(arguments)
        check_options(arguments)
        overrides = [each for each in quote_paths(arguments) if not each.startswith("-")]
        if "hydra/launcher=ray" in overrides and find_spec("hydra_plugins.hydra_ray_launcher") is None:
            continue
        for job in jobs(overrides):
            with initialize_config_dir(str(CONF), version_base="1.3"):
                to_settings(compose(door, job, return_hydra_config=True), SETTINGS[door])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        path, _, anchor = target.partition("#")
        if path.startswith("https:"):
            continue
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings]


def test_the_readmes_python_runs_as_it_stands(
    tmp_path: Path,
    settings: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = blocks(ROOT / "README.md", "python")
    finished_run(tmp_path / "outputs", settings)
    monkeypatch.chdir(tmp_path)
    asked = []

    def generate(*arguments: Any) -> list[Prediction]:
        """What the newest run writes, which is nonsense; the right query takes its place."""
        assert isinstance(predict(*arguments)[0].sql, str)
        asked.extend(arguments[-1])
        return [Prediction(FEMALE_OVER_65)]

    monkeypatch.setattr(text_to_sql, "predict", generate)
    exec(code, {})
    assert asked == ["how many female patients are older than 65?"]
    data = settings("predict").data
    patients = generate_tables(data.admissions, data.seed)
    with closing(Sandbox(in_memory(patients))) as hospital:
        (row,) = hospital.run(FEMALE_OVER_65).rows
    assert row != (0,) and capsys.readouterr().out == f"{FEMALE_OVER_65} True ({row},)\n"


def test_make_help_lists_every_target() -> None:
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets and re.findall(r"^  make (\S+) ", listed, re.MULTILINE) == targets[1].split()


def test_a_missing_file_of_tests_is_named_however_many_workers_there_are() -> None:
    command = [sys.executable, "-m", "pytest", "-n", "2", "tests/missing.py"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0 and result.stderr == "ERROR: tests/missing.py: no such file or folder\n\n"
