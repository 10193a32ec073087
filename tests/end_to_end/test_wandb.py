"""One W&B run a job, tested on the files that its offline mode writes."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from end_to_end_tools import kill_when_training, record

from medsql import loggers
from medsql.config import LoggerSettings, WandbSettings
from medsql.errors import UserError
from medsql.loggers import log_report, open_loggers
from medsql.runs.folder import Run

OFFLINE = ["logger=[csv,wandb]", "logger.wandb.mode=offline"]


def log_records(content):
    """The records of a LevelDB log, which W&B's offline files are, behind a header of seven bytes.

    Blocks of 32 KiB hold chunks: checksum (4 bytes), length (2), type (1: whole; 2, 3, 4: first,
    middle, last part of a record), data. A killed process leaves the last record incomplete.
    """
    position, record = 7, b""
    while position + 7 <= len(content):
        left_in_block = 32768 - position % 32768
        if left_in_block < 7:
            position += left_in_block
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def offline_runs(folder):
    """Every W&B offline file below the folder, read as W&B's own sync reads it."""
    from wandb.proto import wandb_internal_pb2

    runs = []
    for file in sorted(folder.rglob("run-*.wandb")):
        run = {
            "id": file.stem.removeprefix("run-"),
            "config": {},
            "summary": {},
            "history": [],
            "artifacts": {},
        }
        for data in log_records(file.read_bytes()):
            part = wandb_internal_pb2.Record()
            part.ParseFromString(data)
            kind = part.WhichOneof("record_type")
            if kind == "run":
                run |= {"group": part.run.run_group, "name": part.run.display_name, "type": part.run.job_type}
                run["config"] |= {item.key: json.loads(item.value_json) for item in part.run.config.update}
            elif kind == "summary":
                run["summary"] |= values(part.summary.update)
            elif kind == "history":
                run["history"].append(values(part.history.item))
            elif kind == "artifact":
                files = {entry.path: entry.local_path for entry in part.artifact.manifest.contents}
                run["artifacts"][part.artifact.type] = files
            elif kind == "exit":
                run["exit_code"] = part.exit.exit_code
        runs.append(run)
    return runs


def values(items):
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")


def test_each_job_of_a_sweep_is_a_run_of_its_group(command, training, tmp_path):
    options = [*training, *OFFLINE, "optim.max_steps=10", "optim.max_grad_norm=null"]
    result = command("train", "-m", "optim.lr=1e38,1e-3", "name=sweep", *options)
    assert result.returncode == 1
    assert "anonymous" not in result.stdout + result.stderr
    finished, failed, report = sorted(offline_runs(tmp_path), key=lambda run: run["name"])
    assert failed["exit_code"] == 1
    assert finished["exit_code"] == 0
    assert {failed["group"], finished["group"], report["group"]} == {"sweep"}
    assert [each["type"] for each in (failed, finished, report)] == ["train", "train", "report"]
    assert (failed["summary"]["state"], finished["summary"]["state"]) == ("failed", "finished")
    assert failed["id"] != finished["id"]
    assert finished["name"] == "optim.lr=0.001"
    assert {key: value for key, value in finished["config"].items() if key.startswith("swept/")} == {
        "swept/optim.lr": 1e-3
    }
    assert finished["config"]["optim.lr"] == 1e-3 and finished["config"]["lora.alpha"] == 32
    folder = tmp_path / "multirun" / "sweep" / "optim.lr=0.001"
    assert finished["summary"]["val/loss"] == pytest.approx(record(folder)["validation"]["val/loss"])
    assert finished["summary"]["test/exact_match"] == record(folder)["test"]["exact_match"]["value"]
    assert any("val/exact_match" in row for row in finished["history"])
    assert any("predictions.path" in row for row in finished["history"])
    assert (folder / "metrics.csv").exists()
    assert finished["summary"]["parameters/trainable"] == record(folder)["parameters"]["trainable"]


def test_what_was_trained_and_the_sweeps_report_are_artifacts_that_a_sync_finds(command, training, tmp_path):
    options = [*training, *OFFLINE, "optim.max_steps=4", "optim.lr=1e-3,1e-2", "name=sweep"]
    result = command("train", "-m", *options)
    assert result.returncode == 0, result.stderr
    runs = {run["name"]: run for run in offline_runs(tmp_path)}
    adapter = runs["optim.lr=0.001"]["artifacts"]["model"]
    assert "adapter_model.safetensors" in adapter and not any("ckpt" in path for path in adapter)
    report = runs["report of sweep"]
    assert {"report.html", "runs.csv"} <= report["artifacts"]["report"].keys()
    assert any("report.path" in row for row in report["history"]), "the page itself"
    for run in runs.values():
        assert all(Path(file).exists() for files in run["artifacts"].values() for file in files.values())


def test_models_stay_at_home_where_that_is_wanted(command, training, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_SILENT")
    result = command("train", *training, *OFFLINE, "optim.max_steps=2", "logger.wandb.log_model=false")
    assert result.returncode == 0, result.stderr
    (said,) = [line for line in (result.stdout + result.stderr).splitlines() if "wandb" in line]
    assert "W&B offline, to upload it: wandb sync outputs/" in said, "one line, and nothing of W&B's own"
    assert list((tmp_path / said.rpartition(" ")[2]).glob("run-*.wandb"))
    (run,) = offline_runs(tmp_path)
    assert "model" not in run["artifacts"]


def test_a_run_that_goes_on_is_the_same_run(start, command, training, tmp_path):
    folder = tmp_path / "outputs" / "run"
    kill_when_training(start("train", *training, *OFFLINE, "name=run"), folder)
    assert command("train", *training, *OFFLINE, "name=run").returncode == 0
    killed, resumed = offline_runs(tmp_path)
    assert killed["id"] == resumed["id"] == record(folder)["wandb"]["id"]
    assert resumed["exit_code"] == 0


def test_a_pruned_run_has_all_columns_of_a_sweep_and_is_no_failure(command, training, tmp_path):
    # What is asked for learns, and what this seed samples hardly.
    search = ["-m", "hydra/sweeper=study", "hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_trials=2"]
    search += ["hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=1"]
    search += ["hydra.sweeper.enqueue=[{optim.lr:0.05}]", "optim.lr=tag(log,interval(1e-8,0.05))"]
    result = command("train", *search, *training, *OFFLINE, "name=search")
    assert result.returncode == 0, result.stderr
    finished, pruned = (run for run in offline_runs(tmp_path) if run["type"] == "train")
    assert [run["summary"]["state"] for run in (finished, pruned)] == ["finished", "pruned"]
    assert pruned["exit_code"] == 0 and pruned["group"] == "search"
    folder = tmp_path / "multirun" / "search" / "trial-0001"
    assert pruned["config"]["swept/optim.lr"] == record(folder)["settings"]["optim"]["lr"]
    assert pruned["summary"]["parameters/trainable"] == record(folder)["parameters"]["trainable"]
    last = [row for row in pruned["history"] if "val/loss" in row][-1]
    assert last["val/loss"] == pytest.approx(record(folder)["objective"])


def begun(folder):
    """The id in W&B of a run that begins in the folder, or goes on there, and is left."""
    settings = LoggerSettings(wandb=WandbSettings(mode="offline"))
    with Run(folder, "train", {"seed": 1}, {"seed": 1}) as run, open_loggers(settings, run):
        pass
    return record(folder)["wandb"]["id"]


def test_a_run_begun_afresh_is_another_run_and_what_a_record_says_goes_on(tmp_path):
    first = begun(tmp_path / "run")
    assert begun(tmp_path / "run") == first
    shutil.rmtree(tmp_path / "run")
    again = begun(tmp_path / "run")
    assert again != first
    old = record(tmp_path / "run")
    del old["wandb"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(old))
    assert begun(tmp_path / "run") not in (first, again)


def test_a_sweeps_report_takes_the_place_of_its_last_and_of_no_other_sweeps(tmp_path):
    sweep = tmp_path / "sweep"

    def logged():
        log_report(WandbSettings(mode="offline"), "sweep", sweep / "report")
        ids = [run["id"] for run in offline_runs(sweep)]
        shutil.rmtree(sweep / "wandb")
        return ids

    (sweep / "report").mkdir(parents=True)
    (sweep / "report" / "report.html").write_text("page")
    (first,) = logged()
    assert logged() == [first]
    (sweep / "wandb-report.json").unlink()
    assert logged() != [first]
    (sweep / "wandb-report.json").write_text("{")
    with pytest.raises(UserError, match=r"wandb-report\.json is damaged"):
        logged()


def test_two_workers_that_report_on_one_sweep_make_one_report_of_it(tmp_path, monkeypatch):
    file = tmp_path / "wandb-report.json"

    def id_while_another_worker_writes_its_own():
        file.write_text('{"id": "the other\'s"}')
        return "own"

    monkeypatch.setattr(loggers, "_new_id", id_while_another_worker_writes_its_own)
    assert loggers._report_id(file) == "the other's"


def test_without_an_account_the_way_out_is_named(command, training, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    result = command("train", *training, "logger=wandb", "name=run")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("medsql: W&B: ") and last.endswith("logger.wandb.mode=offline needs no account")


def test_without_its_logger_wandb_is_not_imported(tmp_path, training):
    script = "import sys; from medsql.train import main\nmain()\nprint('wandb' in sys.modules)"
    command = [sys.executable, "-c", script, *training, "optim.max_steps=1"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "False", result.stdout + result.stderr
