"""What is typed reaches Hydra as it is meant; what a failed job leaves behind is an error, and no memory."""

from __future__ import annotations

import weakref

import pytest

from medsql.config import SettingsError
from medsql.door import PATHS, check_options, forget_frames, quote_paths


class Model:
    """Stands for what fills the memory."""


def failing(models: list[weakref.ref[Model]]) -> None:
    model = Model()
    models.append(weakref.ref(model))
    try:
        raise MemoryError("too large")
    except MemoryError as error:
        raise RuntimeError("out of memory") from error


def test_an_error_that_is_kept_does_not_keep_what_the_job_had_loaded():
    models: list[weakref.ref[Model]] = []
    kept = None
    try:
        failing(models)
    except RuntimeError as error:
        kept = error
    assert models[0]() is not None
    forget_frames(kept)
    assert models[0]() is None
    assert str(kept) == "out of memory" and str(kept.__cause__) == "too large"


@pytest.mark.parametrize("prefix", ["", "+", "++"])
@pytest.mark.parametrize("key", PATHS)
def test_a_path_may_hold_what_means_something_to_hydra(key: str, prefix: str) -> None:
    assert quote_paths([f"{prefix}{key}=a/lora.r=8,seed=1"]) == [f"{prefix}{key}='a/lora.r=8,seed=1'"]
    assert quote_paths([f"{prefix}{key}=a/plain.path"]) == [f"{prefix}{key}=a/plain.path"]


def test_what_is_no_path_is_left_to_hydra() -> None:
    others = ["lora.targets=[q,v]", "rundown=a,b", "data.pathology=a,b", "a.database=a,b", "~run=a,b"]
    assert quote_paths(others) == others


@pytest.mark.parametrize("typed", [["3", "--epochs"], ["--cfg", "jop"], ["lora.r=8", "-x"]])
def test_an_option_that_there_is_not_is_answered_in_one_line_that_says_how_settings_look(
    typed: list[str],
) -> None:
    with pytest.raises(SettingsError, match="a setting is KEY=VALUE without dashes") as refusal:
        check_options(typed)
    assert "\n" not in str(refusal.value) and typed[-1] in str(refusal.value)
    check_options(["-m", "lora.r=8,16", "--cfg", "job"])
    with pytest.raises(SettingsError, match="options such as -m stand before the settings"):
        check_options(["lora.r=8", "-m", "optim.lr=1,2"])
