"""`hydra/launcher=slurm`, without a cluster: submitit's local executor, and a make-believe `sbatch`."""

import os
import signal
from pathlib import Path

import pytest
from end_to_end_tools import Process, adapter_difference, record, wait_for

pytest.importorskip("submitit", reason="the slurm extra is not installed")

SBATCH = """#!/bin/bash
# Keeps the script, says the job's number, and behind the command's back runs the array's two jobs.
script="${@: -1}"
cp "$script" "$FAKE_SLURM/script"
(
    sleep 1
    for task in 0 1; do
        SLURM_JOB_ID=70$task SLURM_ARRAY_JOB_ID=700 SLURM_ARRAY_TASK_ID=$task bash "$script" ||
            echo "700_$task|FAILED|here" >> "$FAKE_SLURM/ended"
    done
) > "$FAKE_SLURM/output" 2>&1 &
echo "Submitted batch job 700"
"""
SACCT = """#!/bin/bash
echo "JobID|State|NodeList"
cat "$FAKE_SLURM/ended"
"""
SRUN = """#!/bin/bash
# srun --unbuffered --output FILE COMMAND
shift 3
exec "$@"
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment in which Slurm's commands are there."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, script in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT}.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    (folder / "ended").touch()
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "FAKE_SLURM": str(folder)}


def kill_run(process: Process, folder: Path) -> None:
    """Kill the process that runs in the folder, once it has saved its first checkpoint."""
    wait_for(lambda: list(folder.glob("checkpoints/*.ckpt")), process)
    os.kill(record(folder)["environment"]["pid"], signal.SIGKILL)


def test_a_preempted_job_is_requeued_and_goes_on_from_its_checkpoint(start, command, training, tmp_path):
    long = [*training, "optim.max_steps=100", "validation.every_steps=10"]
    process = start("train", "-m", "hydra/launcher=submitit_local", "lora.r=4", "name=cluster", *long)
    wait_for(lambda: list(tmp_path.glob("multirun/cluster/*/checkpoints/*.ckpt")), process)
    (folder,) = tmp_path.glob("multirun/cluster/lora*")
    os.kill(record(folder)["environment"]["pid"], signal.SIGUSR2)  # as Slurm does
    wait_for(lambda: record(folder)["state"] == "interrupted", process)
    assert "stopped by SIGUSR2 after step" in record(folder)["error"]
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert (record(folder)["state"], record(folder)["resumed"]) == ("finished", 1)

    assert command("train", "lora.r=4", "name=alone", *long).returncode == 0
    assert adapter_difference(folder, tmp_path / "outputs" / "alone") < 1e-6


def test_a_sweep_is_one_array_and_a_job_that_slurm_ends_is_a_failed_one_beside_the_others(
    start, training, tmp_path, slurm
):
    asked = ["hydra.launcher.timeout_min=30", "hydra.launcher.partition=gpu", "hydra.launcher.mem_gb=8"]
    quick = [*training, "optim.max_steps=30", "hydra/launcher=slurm", "name=cluster", *asked]
    process = start("train", "-m", "lora.r=2,4", *quick, env=slurm)
    killed, other = (tmp_path / "multirun" / "cluster" / f"lora.r={r}" for r in (2, 4))
    kill_run(process, killed)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert record(other)["state"] == "finished", output
    last = output.splitlines()[-1]
    assert last.startswith(
        "medsql: 1 of 2 jobs failed: lora.r=2 (Slurm's job 700_0 ended without a result (FAILED), see "
    )
    assert len([line for line in output.splitlines() if line.startswith("lora.r=4 ")]) == 1, "in the table"

    # It may be requeued, and is warned before its time is up.
    lines = (tmp_path / "slurm" / "script").read_text().splitlines()
    options = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines if "SBATCH" in line)
    assert options["array"] == "0-1%2"
    assert options["signal"] == "USR2@120"
    assert "requeue" in options
    assert (options["time"], options["partition"], options["mem"]) == ("30", "gpu", "8GB")
    assert (options["gpus-per-node"], options["cpus-per-task"], options["nodes"]) == ("1", "4", "1")
    assert "account" not in options


def test_where_there_is_no_slurm_one_line_says_so(command, training):
    result = command("train", "-m", "lora.r=2", "hydra/launcher=slurm", *training)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "medsql: hydra/launcher=slurm: there is no Slurm here (no srun)"
