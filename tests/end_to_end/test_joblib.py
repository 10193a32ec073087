"""`hydra/launcher=joblib`: several jobs at once, of which each is on its own when it dies."""

import os
import signal
import time
from pathlib import Path

import pytest
from end_to_end_tools import Process, adapter_difference, record, wait_for

from hydra_plugins.medsql_joblib_launcher import SHARED, _shown, divided
from medsql.runs.folder import is_locked, read_record

JOBS = ["-m", "hydra/launcher=joblib", "name=ranks"]


def kill_runs(process: Process, folder: Path, signum: int = signal.SIGKILL, times: int = 1) -> None:
    """Kill the process of the run in `folder`, once it trains, and the next one that takes it up."""
    killed: list[int] = []
    for _ in range(times):
        wait_for(lambda: _training(folder) and record(folder)["environment"]["pid"] not in killed, process)
        killed.append(record(folder)["environment"]["pid"])
        os.kill(killed[-1], signum)


def _training(folder: Path) -> bool:
    found = read_record(folder)
    return found is not None and found["state"] == "running" and any(folder.glob("checkpoints/*.ckpt"))


def ranks(tmp_path: Path) -> tuple[Path, Path]:
    first, second = (tmp_path / "multirun" / "ranks" / f"lora.r={r}" for r in (2, 4))
    return first, second


@pytest.fixture
def slowly(training: list[str]) -> list[str]:
    """Trainings long enough that both run when one is hit."""
    return [*training, "optim.max_steps=100", "validation.every_steps=10"]


def test_a_job_that_loses_its_process_goes_on_and_the_others_hear_nothing_of_it(
    start, command, slowly, tmp_path
):
    first, second = ranks(tmp_path)
    process = start("train", *JOBS, "lora.r=2,4", *slowly)
    kill_runs(process, second)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert "its process was lost (SIGKILL(-9)), the job is started again" in output
    assert [record(folder)["resumed"] for folder in (first, second)] == [0, 1]
    assert "lora.r=2  " in output and "lora.r=4  " in output  # whose each line is
    assert record(first)["environment"]["pid"] != record(second)["environment"]["pid"]

    assert command("train", "lora.r=4", "name=alone", *slowly).returncode == 0
    assert adapter_difference(second, tmp_path / "outputs" / "alone") < 1e-6


@pytest.mark.slow
def test_a_job_that_kills_its_process_each_time_is_given_up(start, slowly, tmp_path):
    first, second = ranks(tmp_path)
    process = start("train", *JOBS, "lora.r=2,4", *slowly)
    kill_runs(process, second, signal.SIGSEGV, times=2)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert output.splitlines()[-1].startswith(
        "medsql: 1 of 2 jobs failed: lora.r=4 (its process was lost 2 times (SIGSEGV(-11)): out of memory"
    )
    assert record(first)["state"] == "finished"


def test_a_killed_command_takes_its_jobs_along_and_typed_again_goes_on(start, command, slowly, tmp_path):
    first, second = ranks(tmp_path)
    process = start("train", *JOBS, "lora.r=2,4", *slowly)
    wait_for(lambda: _training(first) and _training(second), process)
    process.kill()
    process.wait()
    end = time.monotonic() + 30
    while (is_locked(first) or is_locked(second)) and time.monotonic() < end:
        time.sleep(0.1)
    assert [record(folder)["state"] for folder in (first, second)] == ["interrupted"] * 2

    result = command("train", *JOBS, "lora.r=2,4", *slowly)
    assert result.returncode == 0, result.stdout + result.stderr
    for folder in (first, second):
        assert (record(folder)["state"], record(folder)["resumed"]) == ("finished", 1)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_sweep_waits_until_its_jobs_have_saved(start, slowly, tmp_path, signum):
    first, second = ranks(tmp_path)
    process = start("train", *JOBS, "lora.r=2,4,8", *slowly, start_new_session=True)
    wait_for(lambda: _training(first) and _training(second), process)
    if signum == signal.SIGINT:
        os.killpg(process.pid, signum)  # as a terminal does
    else:
        process.send_signal(signum)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signum
    assert "Traceback" not in output
    for folder in (first, second):
        assert record(folder)["state"] == "interrupted"
        assert "after step" in record(folder)["error"]
        assert not is_locked(folder)
    assert not (first.parent / "lora.r=8").exists()


@pytest.mark.slow
def test_a_job_that_fails_is_no_lost_process(start, training, tmp_path):
    wild = [*training, "optim.max_grad_norm=null", "optim.max_steps=10"]
    process = start("train", *JOBS, "optim.lr=1e38,1e-3", *wild)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert output.splitlines()[-1].startswith("medsql: 1 of 2 jobs failed: optim.lr=1e+38")
    assert "was lost" not in output
    failed, finished = (tmp_path / "multirun" / "ranks" / f"optim.lr={lr}" for lr in ("1e+38", "0.001"))
    assert "Traceback" in (failed / "train.log").read_text()
    assert record(finished)["state"] == "finished"


@pytest.mark.slow
def test_threads_are_divided_unless_the_user_says_how_many(start, training, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")  # as the tests have it
    quick = [override for override in training if not override.startswith("trainer.threads")]
    quick += ["optim.max_steps=1", "hydra.launcher.n_jobs=2"]
    process = start("train", *JOBS, "trainer.threads=null,3", *quick)
    assert process.wait(120) == 0
    share, asked = (tmp_path / "multirun" / "ranks" / f"trainer.threads={n}" for n in ("null", "3"))
    assert record(share)["hardware"]["threads"] == max(1, len(os.sched_getaffinity(0)) // 2)
    assert record(asked)["hardware"]["threads"] == 3


def test_each_worker_has_its_share_of_the_threads_and_a_gpu_in_turn(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    workers = divided(3, cpus=8, devices=["4", "GPU-5a"])
    assert [worker["OMP_NUM_THREADS"] for worker in workers] == ["2", "2", "2"]
    assert [worker["CUDA_VISIBLE_DEVICES"] for worker in workers] == ["4", "GPU-5a", "4"]
    assert divided(4, cpus=2, devices=[])[3]["OMP_NUM_THREADS"] == "1"
    assert all("CUDA_VISIBLE_DEVICES" not in worker for worker in divided(2, cpus=2, devices=[]))
    assert SHARED in workers[0] and SHARED not in divided(1, cpus=8, devices=[])[0]
    for said, threads in {"5": "5", "4,2": "4,2", "": "1"}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        worker = divided(2, cpus=2, devices=["0"])[0]
        assert worker["OMP_NUM_THREADS"] == threads
        assert _shown(worker) == f", each with OMP_NUM_THREADS={threads} and a GPU"


@pytest.mark.parametrize("key", ["n_jobs", "attempts"])
def test_a_number_that_means_nothing_is_refused(command, tmp_path, key):
    result = command("train", *JOBS, f"hydra.launcher.{key}=0")
    assert result.returncode == 1
    assert result.stderr == f"medsql: hydra.launcher.{key}=0: must be at least 1\n"
    assert list(tmp_path.iterdir()) == []
