"""What a named run brings along, also one from before there were the settings of today."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from medsql.config import SettingsError
from medsql.files import write_json
from medsql.runs.collect import of_run


@pytest.fixture
def write(tmp_path: Path, settings: Callable[..., Any]) -> Callable[..., str]:
    """A finished run with these data settings: `write(lossless=False)`."""

    def write_run(**changed: Any) -> str:
        trained = asdict(settings("train"))
        trained["data"] = {name: value for name, value in (trained["data"] | changed).items() if value != ()}
        record = {"kind": "train", "state": "finished", "settings": trained, "saved": "adapter"}
        write_json(tmp_path / "run.json", record | {"model": {"checkpoint": "base"}})
        return str(tmp_path)

    return write_run


@pytest.mark.parametrize(
    ("objectives", "changed", "says"),
    [
        (
            (0.5, 0.25),
            "",
            "run=latest is multirun/s/1, with val/exact_match 0.2500; the best of its sweep is ",
        ),
        ((0.25, 0.25), "", ""),
        ((0.25, 0.5), "", ""),
        ((0.5, 0.25), "validation.generate_rows=7", ""),  # of other rows: they do not compare
    ],
)
def test_the_newest_run_of_a_sweep_is_not_taken_for_its_best_silently(
    settings: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    objectives: tuple[float, ...],
    changed: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")
    for place, objective in enumerate(objectives):
        record = {"kind": "train", "state": "finished", "started": str(place), "objective": objective}
        own = settings("train", *[changed] * (changed != "" and place == 1))
        record |= {"settings": asdict(own), "saved": "adapter", "model": {"checkpoint": "base"}}
        write_json(tmp_path / "multirun" / "s" / str(place) / "run.json", record)
    asked = settings("evaluate", "run=latest")
    assert of_run(asked, {"run"}).run == "multirun/s/1" and caplog.text == "", "no sweep's folder"
    (tmp_path / "multirun" / "s" / "multirun.yaml").touch()
    assert of_run(asked, {"run"}).run == "multirun/s/1"
    assert [record.getMessage().startswith(says) for record in caplog.records] == [True] * bool(says)
    caplog.clear()
    of_run(settings("evaluate", "run=multirun/s/1"), {"run"})
    assert caplog.text == "", "which was asked for"


WITHOUT = ()
"""Of a setting that there was not yet."""


@pytest.mark.parametrize(("recorded", "used"), [(WITHOUT, False), (False, False), (True, True)])
@pytest.mark.parametrize("door", ["evaluate", "predict"])
def test_other_data_are_spelled_as_the_runs_own_were(
    settings: Callable[..., Any], write: Callable[..., str], door: str, recorded: Any, used: bool
) -> None:
    run = write(lossless=recorded)
    asked = settings(door, "data=jsonl", "data.path=x", f"run={run}")
    assert asked.data.lossless, "as nobody typed"
    completed = of_run(asked, {"data", "data.path", "run"})
    assert (completed.data.lossless, completed.data.path) == (used, "x")


@pytest.mark.parametrize("door", ["evaluate", "predict"])
def test_a_spelling_is_left_out_where_that_is_typed_and_refused_where_there_is_none(
    settings: Callable[..., Any], write: Callable[..., str], door: str
) -> None:
    run = write(lossless=True)
    without = settings(door, "data.lossless=false", f"run={run}")
    assert not of_run(without, {"data.lossless", "run"}).data.lossless
    write(lossless=False)
    typed = settings(door, "data.lossless=true", f"run={run}")
    with pytest.raises(SettingsError, match=r"data\.lossless=true contradicts run=.*, which was trained wi"):
        of_run(typed, {"data.lossless", "run"})
