"""A run folder: what starting a run there again means, and what its record says."""

import json
import multiprocessing
import signal

import pytest

from medsql.errors import UserError
from medsql.runs.fingerprint import difference, fingerprint, identity
from medsql.runs.folder import Run, RunBusy, RunConflict, check_folder, is_locked, read_record
from medsql.runs.recorded import differing_settings, recorded


def start(folder, identity=None):
    return Run(folder, "train", identity or {"seed": 42}, {"seed": 42})


def test_a_finished_run_is_not_run_again(tmp_path):
    with start(tmp_path) as run:
        run.finish(objective=0.5)
    with start(tmp_path) as run:
        assert run.finished
        assert run.objective == 0.5


def test_a_failed_run_says_why_and_is_run_again(tmp_path):
    with pytest.raises(ValueError), start(tmp_path):
        raise ValueError("no\nluck")
    record = read_record(tmp_path)
    assert record["state"] == "failed"
    assert record["error"] == "ValueError: no luck"
    with start(tmp_path) as run:
        assert not run.finished
        assert run.record["resumed"] == 1
        assert run.record["started"] == record["started"]
        run.finish(objective=1.0)
    assert "error" not in read_record(tmp_path)


def test_a_stopped_run_is_recorded_as_interrupted(tmp_path):
    with pytest.raises(SystemExit), start(tmp_path):
        raise SystemExit(143)
    assert read_record(tmp_path)["state"] == "interrupted"


def test_another_configuration_is_refused_with_the_keys(tmp_path):
    with start(tmp_path, {"seed": 42, "lora.r": 8}):
        pass
    with (
        pytest.raises(RunConflict, match=r"lora.r: 8 there, 16 here"),
        start(tmp_path, {"seed": 42, "lora.r": 16}),
    ):
        pass
    assert read_record(tmp_path)["identity"]["lora.r"] == 8
    with pytest.raises(RunConflict):
        check_folder(tmp_path, "train", {"seed": 1})


def test_places_under_the_working_folder_are_shown_as_one_would_type_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "a"
    with start(folder), pytest.raises(RunBusy, match=r"^outputs/a: this run"), start(folder):
        pass
    with pytest.raises(RunConflict, match=r"^outputs/a holds a run of another kind"):
        check_folder(folder, "evaluate", {})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(RunConflict, match=rf"^{tmp_path}/outputs/a holds"):
        check_folder(folder, "evaluate", {})


def test_a_run_of_another_kind_keeps_its_folder(tmp_path):
    with start(tmp_path):
        pass
    with pytest.raises(RunConflict, match=r"another kind \(train\)"):
        check_folder(tmp_path, "evaluate", {"seed": 42})


def test_what_a_run_was_started_with_must_be_there_when_it_goes_on(tmp_path):
    with start(tmp_path) as run:
        run.pin(checkpoint="a", rows={"train": "1"})
    with start(tmp_path) as run:
        run.pin(checkpoint="a", rows={"train": "1"})
    with pytest.raises(RunConflict, match="checkpoint: a there, b here"), start(tmp_path) as run:
        run.pin(checkpoint="b", rows={"train": "1"})


def hold(folder, entered):
    with start(folder):
        entered.set()
        signal.pause()


def test_a_run_that_runs_elsewhere_is_left_alone_until_its_process_is_gone(tmp_path):
    context = multiprocessing.get_context("spawn")
    entered = context.Event()
    other = context.Process(target=hold, args=(tmp_path, entered))
    other.start()
    assert entered.wait(60)
    assert is_locked(tmp_path)
    with pytest.raises(RunBusy, match="running elsewhere"), start(tmp_path):
        pass
    other.kill()
    other.join()
    assert not is_locked(tmp_path)
    with start(tmp_path) as run:
        assert run.record["resumed"] == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_record_is_said_in_one_line_and_kept(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json") as error, start(tmp_path):
        pass
    assert "\n" not in str(error.value)
    assert (tmp_path / "run.json").read_text() == content


def test_the_record_says_what_a_run_ran_on(tmp_path):
    with start(tmp_path) as run:
        run.note(parameters={"trainable": 3})
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["environment"]["packages"]["torch"]
    assert record["parameters"] == {"trainable": 3}
    assert record["fingerprint"] == fingerprint({"seed": 42})


def test_what_changes_no_result_does_not_change_the_fingerprint(settings):
    base = fingerprint(identity(settings("train")))
    same = [
        "trainer=cpu",
        "logger=[csv,wandb]",
        "name=x",
        "data.cache_dir=/tmp/x",
        "validation.show=0",
        "trainer.threads=1",
    ]
    other = ["seed=1", "lora.r=8", "optim.lr=1", "data.pairs=50", "decode.num_beams=2", "objective=val/loss"]
    assert {fingerprint(identity(settings("train", change))) for change in same} == {base}
    other += ["model.lacks=x", "data.lossless=false"]
    assert (
        len({fingerprint(identity(settings("train", change))) for change in other} | {base}) == len(other) + 1
    )


def test_settings_of_later_times_change_no_run_that_does_without_them(settings):
    plain = identity(settings("train"))
    assert not [key for key in plain if key in ("data.augment", "data.templates", "data.hospital_epochs")]
    changed = [identity(settings("train", f"data.augment={rate}")) for rate in (0, 1, 2)]
    assert changed[0] == plain
    assert difference(plain, changed[1]) == ["data.augment: 0 there, 1.0 here"]
    assert difference(changed[1], changed[2]) == ["data.augment: 1.0 there, 2.0 here"]


def test_a_setting_that_an_identity_leaves_out_is_compared_by_its_value(tmp_path):
    for name, other in (("without", {}), ("with", {"data.augment": 1.0})):
        with Run(tmp_path / name, "train", other, {"data": {"augment": 1.0 if other else 0.0}}):
            pass
    runs = [recorded(tmp_path / name) for name in ("without", "with")]
    assert differing_settings(runs) == {"data.augment": [0.0, 1.0]}


DATA = (
    "admissions max_input_tokens max_target_tokens pairs path prompt seed source split test_rows train_rows"
)
DECODE = "length_penalty margin_tokens max_new_tokens num_beams"
OPTIM = (
    "accumulate batch_size beta2 epochs group_by_length label_smoothing lr lr_scale max_grad_norm max_steps "
    "name scale_by_size schedule warmup_ratio weight_decay"
)
MODEL = "checkpoint dtype fallbacks name"
ROWS = {"data": f"{DATA} validation_rows", "decode": DECODE, "": "meaning"}
TRAINED = {
    "optim": OPTIM,
    "checkpoint": "keep monitor",
    "validation": "batch_size every_steps generate_rows",
    "": "meaning objective seed",
}
BASE = "copying d_ff d_kv d_model likeness merges num_heads num_layers seldom tokenizer_pairs"


@pytest.mark.parametrize(
    ("door", "groups"),
    [
        ("train", {"model": MODEL, "lora": "alpha dropout r targets use_dora use_rslora", **ROWS, **TRAINED}),
        (
            "evaluate",
            {**ROWS, "model": MODEL, "eval": "database mutated seconds", "": "meaning adapter rows split"},
        ),
        ("pretrain", {"base": BASE, **ROWS, **TRAINED}),
    ],
)
def test_what_came_later_leaves_the_identity_of_before_key_by_key(settings, door, groups):
    before = {f"{group}.{key}".lstrip(".") for group, keys in groups.items() for key in keys.split()}
    assert identity(settings(door, "data.lossless=false")).keys() == before


def test_a_difference_from_runs_of_before_says_what_they_had(settings):
    as_before = identity(settings("train", "data.lossless=false"))
    assert difference(as_before, identity(settings("train"))) == ["data.lossless: False there, True here"]


def test_guidance_counts_where_it_is_on_and_runs_from_before_it_are_still_the_same(settings, tmp_path):
    off = identity(settings("train"))
    known = {"decode.margin_tokens", "decode.max_new_tokens", "decode.length_penalty", "decode.num_beams"}
    assert {key for key in off if key.startswith("decode.")} == known
    assert fingerprint(identity(settings("train", "decode.repair_threshold=90"))) == fingerprint(off)
    (tmp_path / "own.db").write_text("one")
    own = f"decode.database={tmp_path / 'own.db'}"
    on = [
        ["decode=beam"],
        ["decode=guided"],
        ["decode=repaired"],
        ["decode=repaired", "decode.repair_threshold=90"],
        ["decode=repaired", "decode.known_values=[lists]"],
        ["decode=repaired", own],
    ]
    assert len({fingerprint(identity(settings("train", *changes))) for changes in on}) == len(on)
    first = identity(settings("train", "decode=guided", own))
    (tmp_path / "own.db").write_text("two")
    second = identity(settings("train", "decode=guided", own))
    assert [line.split(":")[0] for line in difference(first, second)] == ["decode.database"]


def test_constrained_decoding_is_part_of_the_identity_and_its_absence_is_not(settings, tmp_path):
    values = tmp_path / "values.json"
    values.write_text("{}")
    free = identity(settings("train"))
    held = identity(settings("train", "decode=constrained", f"decode.values={values}"))
    assert not {"decode.constrained", "decode.schema", "decode.values"} & free.keys(), "as in older records"
    assert held["decode.constrained"] and held["decode.values"].startswith("content ")


@pytest.mark.parametrize(
    ("key", "beside"),
    [
        ("data.templates", ["data=mimicsql", "data.path=FOLDER"]),
        ("decode.schema", ["decode=constrained"]),
        ("decode.values", ["decode=constrained"]),
        ("decode.database", ["decode=guided"]),
    ],
)
def test_a_file_with_other_content_makes_another_run(settings, tmp_path, key, beside):
    def of(name, content):
        (tmp_path / name).write_text(content)
        return identity(settings("train", *beside, f"{key}={tmp_path / name}"))

    first = of("a", "one")
    assert fingerprint(of("b", "one")) == fingerprint(first)
    assert [line.split(":")[0] for line in difference(first, of("b", "two"))] == [key]


def test_the_values_of_training_rows_are_no_file_of_that_name(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = identity(settings("train", "decode=constrained", "decode.values=train"))
    (tmp_path / "train").mkdir()
    assert identity(settings("train", "decode=constrained", "decode.values=train")) == before
    assert before["decode.values"] == "train"


def test_data_counts_by_its_content_and_not_by_its_path(settings, tmp_path):
    def of(name, text):
        file = tmp_path / name
        file.write_text(text)
        return identity(settings("train", "data=jsonl", f"data.path={file}"))

    first = of("a.jsonl", "one")
    assert fingerprint(of("b.jsonl", "one")) == fingerprint(first)
    assert any(line.startswith("data.path") for line in difference(first, of("b.jsonl", "two")))
