"""Several workers on one study, in a real PostgreSQL: no trial twice, none lost."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from end_to_end_tools import record, wait_for

from medsql.runs.folder import RECORD
from medsql.runs.study import Address

TRIALS = 3
SEARCH = [
    "hydra/sweeper=study",
    f"hydra.sweeper.n_trials={TRIALS}",
    "hydra.sweeper.sampler.seed=1",
    "hydra.sweeper.grace=4",
    "lora.r=1,2,4",
    "optim.lr=tag(log,interval(1e-4,1e-1))",
    "name=shared",
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL of its own; its address."""
    psycopg2 = pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    debian = [str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    initdb = shutil.which("initdb", path=os.pathsep.join([*debian, os.environ["PATH"]]))
    if initdb is None:
        pytest.skip("PostgreSQL is not installed")
    # It refuses to run as root.
    user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        if user:
            Path(name).chmod(0o777)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        postgres = Path(initdb).resolve().with_name("postgres")
        options: dict[str, Any] = {
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            "cwd": name,
            **user,
        }
        subprocess.run([initdb, "-D", data, "-U", "medsql", "-A", "trust"], check=True, **options)
        process = subprocess.Popen([postgres, "-D", data, "-p", str(port), "-k", name], **options)
        try:
            address = f"postgresql://medsql@127.0.0.1:{port}"
            end = time.monotonic() + 60
            while not _answers(psycopg2, address):
                assert time.monotonic() < end, "PostgreSQL does not start"
                time.sleep(0.1)
            yield address
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _answers(psycopg2: Any, address: str) -> bool:
    try:
        psycopg2.connect(f"{address}/postgres").close()
    except psycopg2.OperationalError:  # its port is open before it is ready
        return False
    return True


@pytest.fixture
def storage(server: str, request: pytest.FixtureRequest) -> str:
    """A new database there, as a URL."""
    import psycopg2

    name = f"d{abs(hash(request.node.name)) % 10**8}"
    connection = psycopg2.connect(f"{server}/postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    return f"{server}/{name}"


def trials(storage: str) -> list:
    return Address(storage, "shared").load().trials


def finished_folders(*folders: Path) -> Counter:
    """How often each trial was run to its end, whoever did."""
    files = [file for folder in folders for file in folder.glob(f"multirun/shared/trial-*/{RECORD}")]
    return Counter(file.parent.name for file in files if record(file.parent)["state"] == "finished")


def names(count: int) -> dict[str, int]:
    return {f"trial-{number:04d}": 1 for number in range(count)}


def test_a_killed_workers_trial_is_taken_over_by_one_with_another_folder(storage, start, training, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    typed = ["-m", *SEARCH, *training, f"hydra.sweeper.storage={storage}"]
    killed, survivor = start("train", *typed, cwd=here), start("train", *typed, cwd=there)
    wait_for(lambda: list(here.glob("multirun/shared/trial-*/checkpoints/*.ckpt")), killed)
    killed.kill()
    output = survivor.communicate(timeout=300)[0]
    assert survivor.returncode == 0, output
    lost = [
        file.parent.name
        for file in here.glob(f"multirun/shared/trial-*/{RECORD}")
        if record(file.parent)["state"] == "running"
    ]
    assert len(lost) == 1
    assert f"trial {int(lost[0][-4:])} of {TRIALS}" in output and "interrupted" in output
    assert record(there / "multirun" / "shared" / lost[0])["resumed"] == 0, "from the start: another folder"
    assert finished_folders(here, there) == names(TRIALS)
    assert [trial.state.name for trial in trials(storage)] == ["COMPLETE"] * TRIALS


def test_where_the_folder_is_shared_a_killed_workers_trial_goes_on_from_its_checkpoint(
    storage, start, training, tmp_path
):
    typed = ["-m", *SEARCH, *training, "optim.max_steps=60", f"hydra.sweeper.storage={storage}"]
    killed, survivor = start("train", *typed), start("train", *typed)
    sweep = tmp_path / "multirun" / "shared"
    wait_for(lambda: len({file.parent for file in sweep.glob("trial-*/checkpoints/*.ckpt")}) >= 2, killed)
    killed.kill()
    output = survivor.communicate(timeout=300)[0]
    assert survivor.returncode == 0, output
    assert finished_folders(tmp_path) == names(TRIALS)
    resumed = {file.parent.name: record(file.parent)["resumed"] for file in sweep.glob(f"trial-*/{RECORD}")}
    assert sum(resumed.values()) == 1
    assert "going on from" in output and "step-" in output
    assert [trial.state.name for trial in trials(storage)] == ["COMPLETE"] * TRIALS


def test_two_workers_begin_a_study_at_once(storage, start, training, tmp_path):
    enqueue = "hydra.sweeper.enqueue=[{lora.r:1},{lora.r:2}]"
    typed = ["-m", *SEARCH, *training, f"hydra.sweeper.storage={storage}", enqueue]
    workers = [start("train", *typed) for _ in range(2)]
    outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert [trial.params["lora.r"] for trial in trials(storage)[:2]] == [1, 2]
    assert finished_folders(tmp_path) == names(TRIALS)
    ran = [output.count(f"of {TRIALS}: lora") for output in outputs]
    assert sum(ran) == TRIALS and min(ran) > 0, "both did some"


def test_a_database_that_is_not_there_is_one_line_without_the_password(server, command):
    url = server.replace("medsql@", "medsql:secret@") + "/nothing"
    result = command("train", "-m", *SEARCH, f"hydra.sweeper.storage={url}")
    assert result.returncode == 1
    assert result.stderr.startswith("medsql: hydra.sweeper.storage=") and "secret" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
