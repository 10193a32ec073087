"""What a model was trained on besides the source's own rows is in its weights alone, and is not scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from tiny import tiny_t5, tiny_tokenizer

from medsql.composition import checked_settings
from medsql.config import CONF
from medsql.data.pairs import Pair
from medsql.evaluate import evaluate, score_baseline
from medsql.model import decoder
from medsql.runs.fingerprint import identity
from medsql.runs.folder import Run, read_record
from medsql.runs.predictions import read_predictions
from medsql.runs.trained_on import TRAINED_ON
from medsql.train import train

FLUIDS = {"train": ["Blood", "Urine", "Ascites"], "validation": ["Pleural"], "test": ["Stool", "Bone"]}
AUGMENTED = "data.augment=3"
QUICK = ("trainer=cpu", "trainer.threads=1", "decode=greedy")
BOUND = "decode.max_new_tokens=2"


def fluid(name: str) -> Pair:
    sql = f'SELECT LAB."LABEL" FROM LAB WHERE LAB."FLUID" = "{name}"'
    return Pair(f"which tests of {name.lower()}?", sql)


OWN = [fluid(name) for name in FLUIDS["train"]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A base and rows whose values have others to take their place, longer ones among them."""
    folder = tmp_path_factory.mktemp("source")
    tiny_t5().save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    for split, names in FLUIDS.items():
        rows = [json.dumps(asdict(fluid(name))) + "\n" for name in names]
        (folder / f"{split}.jsonl").write_text("".join(rows))
    return [f"model.checkpoint={folder / 'base'}", "data=jsonl", f"data.path={folder}", *QUICK]


def checked(door: str, *overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(door, list(overrides), return_hydra_config=True)
    return checked_settings(config, config.hydra)


def trained_in(folder: Path, source: list[str]) -> dict[str, Any]:
    """The record of a run of one step with further rows."""
    settings = checked("train", *source, AUGMENTED, BOUND, "optim.max_steps=1", "objective=val/loss")
    with Run(folder, "train", identity(settings), asdict(settings)) as run:
        train(settings, run)
    return run.record


def scored(folder: Path, *overrides: str) -> dict[str, Any]:
    """The record of an evaluation."""
    settings = checked("evaluate", *overrides, "eval.mutated=0")
    with Run(folder, "evaluate", identity(settings), asdict(settings)) as run:
        evaluate(settings, run)
    return run.record


class Stopped(Exception):
    """Enough was seen."""


@pytest.mark.parametrize("door", ["train", "evaluate"])
def test_decoding_may_know_the_sources_own_training_rows_alone(
    source: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    told: list[Any] = []

    def stopped(*arguments: Any) -> None:
        told.extend(arguments)
        raise Stopped

    monkeypatch.setattr(decoder, "load_decoder", stopped)
    settings = checked(door, *source, AUGMENTED)
    run = Run(tmp_path / "run", door, identity(settings), asdict(settings))
    doors: dict[str, Callable[..., None]] = {"train": train, "evaluate": evaluate}
    with pytest.raises(Stopped), run:
        doors[door](settings, run)
    assert told[-1] == OWN


def test_a_run_is_scored_without_its_further_rows_and_bounded_as_it_was_trained(
    source: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = trained_in(tmp_path / "run", source)
    longest = trained["tokenized"]["longest_target"]
    assert longest > max(len(pair.sql) for pair in OWN) + 1, "a piece is a byte here, and one is the end's"

    own = scored(tmp_path / "own", f"run={tmp_path / 'run'}", *QUICK, "split=train", "decode.margin_tokens=3")
    assert (own["data"]["further"], own["max_new_tokens"]) == ({}, longest + 3)
    assert [row["sql"] for row in read_predictions(tmp_path / "own")] == [pair.sql for pair in OWN]
    assert own["scores"]["trained_on"] == len(OWN)
    assert f"the model was trained on {len(OWN)} of the {len(OWN)} queries" in caplog.text

    (tmp_path / "other.jsonl").write_text(
        "".join(f'{{"question": "{i}?", "sql": "{i}"}}\n' for i in range(9))
    )
    typed = ("data=jsonl", f"data.path={tmp_path / 'other.jsonl'}", "decode.margin_tokens=3")
    other = scored(tmp_path / "others", f"run={tmp_path / 'run'}", *QUICK, *typed)
    assert other["tokenized"]["longest_target"] == 2 and other["max_new_tokens"] == longest + 3


def test_a_score_says_which_queries_were_trained_on(source: list[str], tmp_path: Path) -> None:
    trained = trained_in(tmp_path / "run", source)
    assert trained["test"]["trained_on"] == 0
    assert [row["trained_on"] for row in read_predictions(tmp_path / "run")] == [False] * 2
    again = tmp_path / "again.jsonl"
    further = trained["data"]["further"]["augmented"]["rows"]
    assert further and (tmp_path / "run" / TRAINED_ON).stat().st_size > 16 * len(OWN), "these count, too"
    again.write_text("".join(json.dumps(asdict(pair)) + "\n" for pair in [*OWN * 3, fluid("Stool")]))
    options = ("data=jsonl", f"data.path={again}", "data.split=report", BOUND, *QUICK)
    tuned = scored(tmp_path / "tuned", f"run={tmp_path / 'run'}", *options)
    rows = read_predictions(tmp_path / "tuned")
    assert [row["trained_on"] for row in rows] == [row["sql"] in {pair.sql for pair in OWN} for row in rows]
    assert tuned["scores"]["trained_on"] == sum(row["trained_on"] for row in rows) > 0
    zero_shot = scored(tmp_path / "zero-shot", *source, BOUND)
    assert zero_shot["scores"]["trained_on"] == 0
    adapter = f"adapter={tmp_path / 'run' / 'adapter'}"
    assert scored(tmp_path / "adapter", *source, adapter, BOUND)["scores"]["trained_on"] is None


def test_invented_rows_are_not_scored_as_the_sources(source: list[str], tmp_path: Path) -> None:
    record = scored(tmp_path / "scored", *source, AUGMENTED, BOUND, "split=train")
    assert (record["scores"]["n"], record["scores"]["rows_in_split"]) == (len(OWN), len(OWN))


def test_whatever_else_is_trained_on_there_is_one_baseline(source: list[str], tmp_path: Path) -> None:
    for rate in (0, 1, 3):
        score_baseline(checked("train", *source, f"data.augment={rate}", BOUND), tmp_path)
    refit = ("data.refit=true", "checkpoint.monitor=last")
    score_baseline(checked("train", *source, *refit, BOUND), tmp_path)
    (folder,) = tmp_path.iterdir()
    record = read_record(folder)
    assert record is not None and record["state"] == "finished" and record["data"]["further"] == {}
