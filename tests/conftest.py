"""What several tests need: a cache of their own, and composing as Hydra does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from medsql.composition import SETTINGS, to_settings
from medsql.config import CONF

# PyTorch is not imported yet; workers share the cores.
os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or "1"

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


def pytest_configure(config: pytest.Config) -> None:
    """Say which file is missing: of several workers none would, and there would only be no tests."""
    for argument in config.args:
        path = argument.partition("::")[0]
        if not (config.invocation_params.dir / path).exists():
            raise pytest.UsageError(f"{path}: no such file or folder")


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or leaves anything in the user's cache, or is told what the `make` that runs it was."""
    os.environ["MEDSQL_CACHE"] = str(tmp_path_factory.getbasetemp().parent / "medsql-cache")
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in ("MAKEFLAGS", "ARGS"):  # what `make test ARGS=…` got is not for each `make` in a test
        os.environ.pop(name, None)


@pytest.fixture
def composed() -> Callable[..., DictConfig]:
    """Compose a door's configuration: `composed("train", "lora.r=8")`."""

    def compose_door(door: str, *overrides: str) -> DictConfig:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(door, list(overrides), return_hydra_config=True)

    return compose_door


@pytest.fixture
def settings(composed: Callable[..., DictConfig]) -> Callable[..., object]:
    """The typed settings of a door: `settings("train", "lora.r=8")`."""
    return lambda door, *overrides: to_settings(composed(door, *overrides), SETTINGS[door])
