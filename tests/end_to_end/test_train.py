"""`python -m medsql.train`: one run, and what it leaves in its folder."""

import csv
import json
import os
import signal
import subprocess
import sys
from functools import partial

import pytest
from end_to_end_tools import adapter_difference, kill_when_training, record, run_command, wait_for
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM

from medsql.config import VALIDATION_METRICS
from medsql.metrics.estimate import Estimate


@pytest.fixture(scope="module")
def finished(training, tmp_path_factory):
    """An undisturbed run, its folder and what it printed."""
    cwd = tmp_path_factory.mktemp("finished")
    result = run_command("train", *training, "name=run", cwd=cwd)
    assert result.returncode == 0, result.stdout + result.stderr
    return cwd / "outputs" / "run", result


def test_a_run_is_a_folder_that_says_everything_about_it(finished, checkpoint):
    folder, result = finished
    run = record(folder)
    assert run["state"] == "finished"
    assert run["steps"] == run["passes"] == 40
    assert run["parameters"]["trainable"] < run["parameters"]["total"]
    assert run["data"]["rows"] == {"train": 38, "validation": 10, "test": 12}
    assert run["objective"] == run["validation"]["val/loss"]
    assert run["model"] == {"checkpoint": str(checkpoint), "failures": {}, "reused": False}
    assert run["settings"]["lora"]["alpha"] == 2 * run["settings"]["lora"]["r"]

    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    validated = [int(row["step"]) for row in rows if row["val/loss"]]
    assert validated == list(range(5, 45, 5))
    unjudged = {"val/execution", "val/valid"}  # gold itself does not run on MIMICSQL's tables
    filled = {metric for row in rows if row["val/loss"] for metric in VALIDATION_METRICS if row[metric]}
    assert filled == set(VALIDATION_METRICS) - unjudged

    predictions = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [row["index"] for row in predictions] == list(range(12))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["n"] == 12
    for score in ("exact_match", "logical_form", "token_f1", "token_precision", "token_recall"):
        assert metrics[score]["low"] <= metrics[score]["value"] <= metrics[score]["high"]
    assert metrics["exact_match"]["value"] == sum(row["exact_match"] for row in predictions) / 12

    base = AutoModelForSeq2SeqLM.from_pretrained(checkpoint)
    assert PeftModel.from_pretrained(base, folder / "adapter").peft_config["default"].r == 16
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert len(kept) <= 4 and "step-000040.ckpt" in kept
    assert "predicted:" in result.stdout  # a few predictions as text
    shown = ", ".join(
        f"{name} {Estimate(**metrics[name.replace(' ', '_')])}" for name in ("exact match", "logical form")
    )
    assert f"test, 12 rows: {shown}, token F1 " in result.stdout


def test_a_finished_run_is_not_run_again_and_another_is_refused_its_folder(finished, training):
    folder, _ = finished
    run = record(folder)
    command = partial(run_command, cwd=folder.parent.parent)
    before = {path: path.read_bytes() for path in folder.rglob("*.safetensors")}
    again = command("train", *training, "name=run")
    assert again.returncode == 0
    assert "finished already" in again.stdout
    assert {path: path.read_bytes() for path in folder.rglob("*.safetensors")} == before
    assert record(folder) == run

    everything = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other = command("train", *training, "name=run", "lora.r=4")
    assert other.returncode == 1
    assert "lora.r: 16 there, 4 here" in other.stderr and other.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == everything


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_stopped_and_typed_again_ends_with_the_same_weights(
    finished, start, command, training, tmp_path, signum
):
    undisturbed, _ = finished
    stopped = tmp_path / "outputs" / "stopped"
    own_hashes = {"env": os.environ}  # forks have one seed of them, which must not be what makes ends meet
    process = start("train", *training, "name=stopped", **own_hashes)
    kill_when_training(process, stopped, signum)
    assert process.returncode == (143 if signum == signal.SIGTERM else -9)
    assert record(stopped)["state"] == ("interrupted" if signum == signal.SIGTERM else "running")
    result = command("train", *training, "name=stopped")
    assert result.returncode == 0, result.stderr
    assert "going on from outputs/stopped/checkpoints/" in result.stdout
    assert record(stopped)["resumed"] == 1
    assert adapter_difference(undisturbed, stopped) < 1e-6
    assert record(stopped)["validation"] == pytest.approx(record(undisturbed)["validation"])
    assert (stopped / "predictions.jsonl").read_text() == (undisturbed / "predictions.jsonl").read_text()
    logs = [list(csv.DictReader((folder / "metrics.csv").open())) for folder in (stopped, undisturbed)]
    assert [row["step"] for row in logs[0]] == [row["step"] for row in logs[1]]


def test_the_hospitals_rows_come_first_and_a_run_stopped_among_them_goes_on_there(
    start, command, training, tmp_path
):
    besides = ["data.pairs=100", "data.hospital_epochs=1", "data.hospital_weight=0.5", "data.augment=1"]
    outputs = tmp_path / "outputs"
    whole = command("train", *training, *besides, "name=whole")
    assert whole.returncode == 0, whole.stderr
    run = record(outputs / "whole")
    versions = run["data"]["further"]["augmented"]["rows"]
    assert versions > 10 and run["data"]["further"]["hospital"]["rows"] == 80
    assert run["data"]["rows"] == {"train": 38 + versions + 80, "validation": 10, "test": 12}
    assert (run["first_steps"], run["steps"]) == (20, 40)
    kill_when_training(process := start("train", *training, *besides, "name=stopped"), outputs / "stopped")
    assert process.returncode == -9
    result = command("train", *training, *besides, "name=stopped")
    assert result.returncode == 0, result.stderr
    assert "going on from" in result.stdout
    assert adapter_difference(outputs / "whole", outputs / "stopped") < 1e-6


def test_a_second_terminal_is_told_that_the_run_is_running(start, command, training, tmp_path):
    first = start("train", *training, "name=run", "optim.max_steps=100000", "optim.epochs=100000")
    wait_for((tmp_path / "outputs" / "run" / "checkpoints").exists, first)
    second = command("train", *training, "name=run", "optim.max_steps=100000", "optim.epochs=100000")
    assert second.returncode == 75
    assert "running elsewhere" in second.stderr
    assert first.poll() is None


@pytest.mark.slow
def test_a_run_stopped_while_it_is_scored_goes_on_there(finished, start, command, training, tmp_path):
    undisturbed, _ = finished
    folder = tmp_path / "outputs" / "late"
    process = start("train", *training, "name=late")
    wait_for((folder / "adapter" / "adapter_config.json").exists, process)
    process.terminate()
    process.communicate(timeout=60)
    if record(folder)["state"] == "finished":
        pytest.skip("it was done before the signal came")
    assert process.returncode == 143
    assert record(folder)["state"] == "interrupted"
    result = command("train", *training, "name=late")
    assert result.returncode == 0, result.stderr
    assert adapter_difference(undisturbed, folder) == 0
    assert (folder / "metrics.csv").read_text() == (undisturbed / "metrics.csv").read_text()


def test_full_fine_tuning_saves_a_whole_model(command, training, tmp_path):
    result = command("train", *training, "optim.max_steps=5", "lora=none", "name=full")
    assert result.returncode == 0, result.stderr
    run = record(tmp_path / "outputs" / "full")
    assert run["parameters"]["trainable"] == run["parameters"]["total"]
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "outputs" / "full" / "model")
    scored = command(
        "evaluate", "run=outputs/full", "decode=greedy", "decode.max_new_tokens=6", "name=scored"
    )
    assert scored.returncode == 0, scored.stderr
    one, other = (tmp_path / "outputs" / name / "predictions.jsonl" for name in ("full", "scored"))
    assert one.read_text() == other.read_text()


def test_a_step_that_exceeds_the_tokens_at_once_is_accumulated_and_that_is_said(command, training, tmp_path):
    result = command("train", *training, "name=run", "optim.max_steps=2", "trainer.tokens_at_once=0")
    assert result.returncode == 0, result.stderr
    assert record(tmp_path / "outputs" / "run")["passes"] == 4
    assert "2 steps took 4 passes through the model" in result.stdout + result.stderr


def test_an_unnamed_run_is_named_by_what_it_is(command, training, tmp_path):
    result = command("train", *training, "optim.max_steps=2")
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "outputs").iterdir()
    assert folder.name == f"mini-jsonl-{record(folder)['fingerprint'][:8]}"


def test_a_loss_that_is_not_finite_ends_the_run_and_is_recorded(command, training, tmp_path):
    result = command("train", *training, "optim.lr=1e38", "optim.max_grad_norm=null", "name=wild")
    assert result.returncode == 1
    assert "medsql: the loss became" in result.stderr and result.stderr.count("\n") == 1
    run = record(tmp_path / "outputs" / "wild")
    assert run["state"] == "failed" and "the loss became" in run["error"]
    assert "Traceback" in (tmp_path / "outputs" / "wild" / "train.log").read_text()


def test_a_full_disk_is_said_in_one_line_and_nothing_is_lost(command, training, tmp_path):
    def small_files_only():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    result = command("train", *training, "name=full", preexec_fn=small_files_only)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "File too large" in result.stderr
    assert record(tmp_path / "outputs" / "full")["state"] == "failed"
    again = command("train", *training, "name=full")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["data.path=/nowhere.jsonl"], "data.path=/nowhere.jsonl: no such file or folder"),
        (["logger=null"], "[] is none"),
        (["model.checkpoint=/nowhere", "model.fallbacks=[/nor/here]"], "/nor/here"),
        (["lora.targets=[nonsense]"], "nonsense"),
        (["trainer=gpu"], "GPU"),
        (["checkpoint.monitor=val/valid"], "runs on MIMICSQL's tables (unknown table W)"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(command, training, overrides, says):
    import torch

    if overrides == ["trainer=gpu"] and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    result = command("train", *training, *overrides)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("medsql: ") and says in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("override", ["lora.rr=8", "lora.r=abc", "lora.r=0", "validation.generate_rows=0"])
def test_a_wrong_setting_is_answered_before_anything_is_touched(command, tmp_path, override):
    result = command("train", override)
    assert result.returncode == 1
    assert result.stderr.startswith("medsql: ") and result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_answer_to_a_wrong_setting_waits_for_no_heavy_import(command, tmp_path):
    script = (
        "import sys; sys.argv = ['train', 'lora.rr=8']\n"
        "heavy = ('torch', 'transformers', 'datasets', 'optuna', 'wandb', 'scipy')\n"
        "from medsql.train import main\n"
        "try: main()\n"
        "except SystemExit: print([m for m in heavy if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout
