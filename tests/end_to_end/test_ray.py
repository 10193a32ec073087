"""`hydra/launcher=ray`, on a Ray that the command starts for itself."""

import os
import signal
from pathlib import Path

import pytest
from end_to_end_tools import record, wait_for

pytest.importorskip("ray", reason="Ray is not installed")
pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="Hydra's Ray launcher is not installed")

pytestmark = pytest.mark.slow

JOBS = ["-m", "hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2", "lora.r=2,4", "name=ranks"]


@pytest.fixture
def slowly(training: list[str]) -> list[str]:
    return [*training, "optim.max_steps=100", "validation.every_steps=10"]


def ranks(tmp_path: Path) -> tuple[Path, Path]:
    first, second = (tmp_path / "multirun" / "ranks" / f"lora.r={r}" for r in (2, 4))
    return first, second


def test_a_job_that_loses_its_process_goes_on_and_the_others_hear_nothing_of_it(start, slowly, tmp_path):
    first, second = ranks(tmp_path)
    process = start("train", *JOBS, *slowly)
    wait_for(lambda: list(second.glob("checkpoints/*.ckpt")), process)
    os.kill(record(second)["environment"]["pid"], signal.SIGKILL)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    for folder, resumed in ((first, 0), (second, 1)):
        assert (record(folder)["state"], record(folder)["resumed"]) == ("finished", resumed)


def test_a_killed_command_typed_again_goes_on(start, command, slowly, tmp_path):
    folders = ranks(tmp_path)
    process = start("train", *JOBS, *slowly)
    wait_for(lambda: all(any(folder.glob("checkpoints/*.ckpt")) for folder in folders), process)
    process.kill()
    process.communicate(timeout=60)
    result = command("train", *JOBS, *slowly)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [record(folder)["state"] for folder in folders] == ["finished"] * 2
    assert [record(folder)["resumed"] for folder in folders] == [1, 1]
