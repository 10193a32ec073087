"""The ready-made sweeps: each says what it answers and costs, and each of its jobs composes."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from medsql.composition import to_settings
from medsql.config import CONF, TrainSettings

NEEDS = {"ladder": ["data.path=somewhere"]}
SWEEPS = sorted((CONF.parent / "sweeps").glob("*.yaml"))


def jobs(file: Path) -> list[list[str]]:
    """Overrides of jobs: a grid's, of the one key that it varies, or those that a study asks for first."""
    sweeper = OmegaConf.load(file).hydra.sweeper
    if "n_trials" in sweeper:
        ends = [[f"lora={lora}"] for lora in ("attention", "self_attention", "qv", "all_linear")]
        return [
            [f"{key}={value}" for key, value in each.items()] for each in sweeper.get("enqueue", [])
        ] or ends
    ((key, values),) = sweeper.params.items()
    override = OverridesParser.create().parse_override(f"{key}={values}")
    return [[f"{key}={value}"] for value in override.sweep_string_iterator()]


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_every_job_of_a_sweep_composes_and_is_another_run(file: Path) -> None:
    settings = []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for overrides in jobs(file):
            config = compose("train", [f"+sweeps={file.stem}", *NEEDS.get(file.stem, []), *overrides])
            settings.append(to_settings(config, TrainSettings))
    assert len(settings) >= 3
    assert all(one.name == file.stem for one in settings)
    assert len({str(one) for one in settings}) == len(settings)


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_a_sweeps_first_lines_say_what_it_answers_and_what_it_costs(file: Path) -> None:
    comment = "".join(line for line in file.read_text().splitlines() if line.startswith("# "))
    assert comment.startswith("# @package _global_")
    assert "?" in comment and "Costs" in comment
