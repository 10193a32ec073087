"""Every option of every group composes into valid settings, and what cannot be is refused."""

import itertools
import string
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest
from omegaconf import DictConfig

from hydra_plugins.medsql_grid_sweeper import _name_of_one
from medsql import composition
from medsql.composition import SETTINGS, folder_name, sweep_folder, with_paths
from medsql.config import CONF, SettingsError
from medsql.door import name_runs, quote_paths
from medsql.runs.fingerprint import flatten

NEEDS = {option: ["data.path=somewhere"] for option in ("mimicsql", "jsonl", "mixture")}
OPTIONS = [
    (group.name, option.stem)
    for group in sorted(CONF.iterdir())
    if group.is_dir() and group.name != "hydra"
    for option in sorted(group.glob("*.yaml"))
]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_for_training(settings, group, option):
    assert settings("train", f"{group}={option}", *NEEDS.get(option, []))


@pytest.mark.parametrize(
    ("group", "option"), [o for o in OPTIONS if o[0] in ("model", "data", "decode", "trainer")]
)
def test_every_option_composes_for_what_scores_and_asks(settings, group, option):
    for door in ("evaluate", "predict", "demo"):
        assert settings(door, f"{group}={option}", *NEEDS.get(option, []))


@pytest.mark.parametrize("door", SETTINGS)
def test_help_says_what_a_door_does_with_its_own_keys_and_groups_and_no_others(composed, door):
    config = composed(door)
    said = config.hydra.help.template
    string.Template(said).substitute()  # as Hydra does: a `$` would be taken for a variable
    assert config.hydra.help.header in said and f"  python -m medsql.{door}" in said
    own = [key for key, value in config.items() if not isinstance(value, DictConfig)]
    assert own and all(f"\n{key}: " in said for key in own if key not in ("hydra", "logger"))
    groups = {name for name, _ in OPTIONS} & set(config)
    told = {line.split(":")[0] for line in said.rpartition("Its groups")[2].splitlines() if ": " in line}
    assert told - {"experiment", "+sweeps"} == groups if groups else "Its groups" not in said


def test_help_marks_what_is_chosen_and_lists_what_lies_deeper(composed):
    said = composed("train", "lora=qv", "logger=[csv]").hydra.help.template
    assert "lora: all_linear, attention, none, qv (chosen), self_attention" in said
    assert "csv (chosen)" in said and "ladder/report" in said and "+sweeps: " in said


def test_every_door_composes_with_nothing_overridden(settings):
    assert all(settings(door) for door in SETTINGS)


def test_every_experiment_composes_with_every_lora_and_optimiser(settings):
    groups = [[o for g, o in OPTIONS if g == group] for group in ("experiment", "lora", "optim")]
    for experiment, lora, optim in itertools.product(*groups):
        chosen = settings("train", f"experiment={experiment}", f"lora={lora}", f"optim={optim}")
        assert chosen.optim.name == optim


def test_defaults_tuned_for_the_bundled_model_leave_the_experiments_as_published(settings):
    assert settings("train").optim.name == "muon"
    for experiment in ("conservative", "optimized", "aggressive"):
        optim = settings("train", f"experiment={experiment}").optim
        assert (optim.name, optim.beta2, optim.group_by_length) == ("adamw", 0.999, False)


def test_loggers_are_a_list(settings):
    both = settings("train", "logger=[csv,wandb]").logger
    assert both.csv is not None and both.wandb is not None
    assert settings("train", "logger=wandb").logger.csv is None


def test_table_2_of_the_report_is_what_optimized_composes_to(settings):
    run = settings("train", "experiment=optimized")
    assert run.optim.lr == 2e-4
    assert run.lora.r == 16
    assert run.lora.alpha == 32
    assert run.lora.dropout == 0.05
    assert run.lora.targets == ["q", "k", "v", "o"]
    assert run.optim.batch_size == 2
    assert run.validation.batch_size == 4
    assert run.optim.accumulate == 2
    assert run.optim.batch_size * run.optim.accumulate == 4
    assert run.optim.epochs == 5
    assert run.optim.warmup_ratio == 0.1
    assert run.optim.weight_decay == 0.01
    assert run.optim.max_grad_norm == 0.5
    assert run.optim.label_smoothing == 0.05
    assert run.validation.every_steps == 200  # evaluated and, after each evaluation, saved
    assert run.checkpoint.keep == 3
    assert run.seed == 42
    # Beyond the table, from the report's text: what chooses the checkpoint, the optimiser and schedule.
    assert (run.checkpoint.monitor, run.optim.name, run.optim.schedule) == ("val/loss", "adamw", "linear")


def test_half_precision_in_which_t5_overflows_cannot_be_chosen(settings):
    for key in ("trainer.precision", "model.dtype"):
        with pytest.raises(SettingsError, match=key):
            settings("train", f"{key}=float16")


@pytest.mark.parametrize(
    ("experiment", "stated"),
    [
        (
            "conservative",
            {"optim.lr": 1e-4, "lora.r": 8, "lora.alpha": 16, "optim.epochs": 3, "optim.accumulate": 1},
        ),
        (
            "aggressive",
            {
                "optim.lr": 5e-4,
                "lora.r": 32,
                "lora.alpha": 64,
                "optim.epochs": 7,
                "optim.accumulate": 1,
                "optim.batch_size": 8,
            },
        ),
    ],
)
def test_the_other_experiments_differ_from_optimized_as_the_report_says(settings, experiment, stated):
    optimized = flatten(asdict(settings("train", "experiment=optimized")))
    other = flatten(asdict(settings("train", f"experiment={experiment}")))
    assert {key: value for key, value in other.items() if value != optimized[key]} == stated


def test_each_rung_of_the_ladder_with_adapters_adds_one_thing(settings):
    def rung(name):
        return flatten(
            asdict(settings("train", "+sweeps=ladder", "data.path=somewhere", f"experiment=ladder/{name}"))
        )

    names = ("report", "columns", "question", "lossless", "augmented", "staged", "full")
    rungs = [rung(name) for name in names]
    added = [
        {key: upper[key] for key in upper if upper[key] != lower[key]} for lower, upper in pairwise(rungs)
    ]
    full = added.pop()  # all weights have rates of their own
    assert {key for key in full if not key.startswith("optim.")} == {
        "lora.targets",
        "data.augment",
        "data.pairs",
        "data.hospital_epochs",
    }
    assert added == [
        {"data.prompt": "schema"},
        {"data.prompt": "question"},
        {"data.lossless": True},
        {"data.augment": 4, "optim.epochs": 4},
        {"data.hospital_epochs": 2},
    ]
    assert (1 + 4) * rung("augmented")["optim.epochs"] == rung("lossless")["optim.epochs"], "as many steps"


def test_lr_scale_leaves_the_ratios_of_the_experiments_as_they_are(settings):
    rates = [
        (run.optim.lr, run.optim.lr_scale)
        for run in (
            settings("train", f"experiment={name}", "optim.lr_scale=10")
            for name in ("conservative", "optimized", "aggressive")
        )
    ]
    assert rates == [(1e-4, 10), (2e-4, 10), (5e-4, 10)]


@pytest.mark.parametrize(
    "overrides", [["lora.r=8"], ["experiment=optimized", "lora.r=8"], ["lora=qv", "lora.r=8"]]
)
def test_alpha_follows_r(settings, overrides):
    assert settings("train", *overrides).lora.alpha == 16


def test_alpha_stays_where_it_is_set(settings):
    assert settings("train", "experiment=aggressive", "lora.alpha=5").lora.alpha == 5


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("lora.r=0", "lora.r=0: must be at least 1"),
        ("lora.dropout=1", "lora.dropout=1: "),
        ("+lora.rank=8", "no setting lora.rank; did you mean lora"),
        ("optim.lr=-1", "optim.lr=-1: must be greater than 0"),
        ("optim.beta2=1", "optim.beta2=1: "),
        ("optim.lr_scale=0", "optim.lr_scale=0: must be greater than 0"),
        ("optim.schedule=linaer", "choose one of linear"),
        ("optim.warmup_ratio=1.5", "optim.warmup_ratio=1.5: must be from 0 to 1"),
        ("data.prompt=reprot", "choose one of report"),
        ("data.fold=0", "data.fold=0 contradicts data.split=source"),
        ("data.refit=true", "data.refit=true contradicts checkpoint.monitor=val/loss"),
        ("data=mimicsql", "needs data.path"),
        ("data.augment=-1", "data.augment=-1.0: must be from 0 to 100"),
        ("data.augment=nan", "data.augment=nan: must be from 0 to 100"),
        ("data.templates=x", "data.templates=x contradicts data.source=synthetic: it goes with mimicsql"),
        (
            "data.hospital_weight=1",
            "data.hospital_weight=1.0 contradicts data.source=synthetic: it goes with ",
        ),
        ("validation.generate_rows=0", "contradicts validation.generate_rows=0"),
        ("decode.length_penalty=0.5", "contradicts decode.num_beams=1"),
        ("decode.guided=true", "decode.guided=true contradicts decode.num_beams=1"),
        ("decode.grounded=true", "decode.grounded=true needs decode.guided=true"),
        ("decode.repair_threshold=101", "decode.repair_threshold=101.0: must be from 0 to 100"),
        ("decode.known_values=[test]", "decode.known_values=test: choose one of train, lists"),
        ("decode.database=mine.db", "of use with decode.guided=true or decode.repair=true only"),
        ("name=..", "name=..: must be a folder's name"),
        ("name=../up", "name=../up: must be a folder's name"),
        ("objective=test/exact_match", "objective=test/exact_match: choose one of val/loss"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(settings, override, says):
    with pytest.raises(SettingsError, match=says) as refusal:
        settings("train", override)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("lora.r=abc", "lora.r=abc: must be a whole number"),
        ("hydra.mode=FOO", "hydra.mode=FOO: must be one of RUN, MULTIRUN or null"),
        ("optim.lr=[1]", "optim.lr=[1]: must be a number"),
        ("optim.max_steps=ten", "optim.max_steps=ten: must be a whole number or null"),
        ("lora.targets=q", "lora.targets=q: must be a list, as [a,b] or null"),
        ("lora.use_dora=maybe", "lora.use_dora=maybe: must be true or false"),
        ("seed=null", "seed=null: must be a whole number"),
        ("data.path=[a,b]", "data.path=[a, b]: must be text or null"),
        ("logger.csv=3", "logger.csv=3: must be a group of settings or null"),
        (
            "hydra.sweeper.max_batch_size=abc",
            "hydra.sweeper.max_batch_size=abc: must be a whole number or null",
        ),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_in_plain_words(override, says):
    with pytest.raises(SettingsError) as refusal:
        composition.composed("train", override)
    assert str(refusal.value) == says
    assert refusal.value.__cause__ is not refusal.value, "or who looks for causes never ends"


def test_pretraining_composes_to_its_own_values_and_not_the_groups(settings):
    run = settings("pretrain")
    assert (run.data.pairs, run.data.prompt, run.data.source) == (160_000, "none", "corpus")
    assert (run.optim.name, run.optim.lr, run.optim.scale_by_size) == ("muon", 6e-2, True)
    assert (run.optim.epochs, run.optim.batch_size, run.optim.beta2) == (1, 32, 0.98)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data=synthetic", "a base is pretrained on data=corpus"),
        ("data.prompt=schema", "data.prompt=schema contradicts data=corpus"),
        ("data.split=report", "data.split=report contradicts data=corpus"),
        ("data.lossless=true", "data.lossless=True contradicts data=corpus"),
        ("objective=val/exact_mach", "objective=val/exact_mach: choose one of"),
        ("validation.generate_rows=0", "contradicts validation.generate_rows=0"),
        ("optim=adafactor", "optim.beta2=0.98 contradicts optim=adafactor"),
        ("base.likeness=2", "base.likeness=2.0: must be from 0 to 1"),
    ],
)
def test_a_pretraining_that_cannot_be_is_refused(settings, override, says):
    with pytest.raises(SettingsError, match=says):
        settings("pretrain", override)


def test_values_of_the_rows_that_are_scored_cannot_be_known(settings):
    with pytest.raises(SettingsError, match=r"split=train contradicts decode\.repair"):
        settings("evaluate", "decode=repaired", "split=train")
    assert settings("evaluate", "decode=repaired", "split=train", "decode.known_values=[lists]")
    assert settings("evaluate", "decode=repaired", "split=validation")
    with pytest.raises(SettingsError, match=r"split=validation contradicts decode\.repair"):
        settings("evaluate", "decode=repaired", "split=validation", "data.refit=true")
    assert settings("evaluate", "decode=repaired", "split=test", "data.refit=true")
    listed = ("decode=constrained", "decode.values=train")
    with pytest.raises(SettingsError, match=r"split=train contradicts decode\.values=train"):
        settings("evaluate", *listed, "split=train")
    assert settings("evaluate", *listed, "split=validation")


@pytest.mark.parametrize("key", ["guided", "repair"])
def test_another_schema_contradicts_what_judges_by_mimicsqls(settings, key):
    with pytest.raises(SettingsError, match=rf"decode\.schema=s\.sql contradicts decode\.{key}=true"):
        settings("evaluate", f"decode.{key}=true", "decode.constrained=true", "decode.schema=s.sql")


def test_answering_does_without_the_rows_that_its_model_was_trained_on(settings, tmp_path):
    gone = ["data=mimicsql", f"data.path={tmp_path / 'rows'}", f"data.templates={tmp_path / 'templates'}"]
    assert with_paths(settings("predict", *gone)).data.templates == str(tmp_path / "templates")
    (tmp_path / "rows").mkdir()
    with pytest.raises(SettingsError, match=r"data\.templates=.*templates: no such file or folder"):
        with_paths(settings("train", *gone))


def test_settings_that_contradict_each_other_are_refused(settings):
    with pytest.raises(SettingsError, match="contradict lora=none"):
        settings("train", "lora=none", "lora.use_dora=true")


def test_values_of_the_training_rows_are_no_path(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    held = settings("train", "decode=constrained", "decode.values=train")
    assert with_paths(held).decode.values == "train"
    (tmp_path / "train").touch()
    assert with_paths(held).decode.values == "train"


def test_long_folder_names_are_cut_and_stay_different():
    one, other = (folder_name("lora.r=8," + "x" * 300 + end) for end in "ab")
    assert one != other and len(one) == len(other) == 120
    assert folder_name("data.path=/a b/c") == "data.path=_a_b_c"


@pytest.mark.parametrize(
    "path",
    ["multirun/lora.r=8,16/lora.r=8", "a/lora.targets=[q,v],seed=1", "it's,so", r"a\b, \'c\\", "plain"],
)
def test_folders_named_by_overrides_can_be_typed_as_values(composed, path):
    (override,) = quote_paths([f"run={path}"])
    assert composed("evaluate", override).run == path
    assert quote_paths([override]) == [override]


def test_folders_to_compare_may_be_typed_as_they_are():
    assert name_runs(["a", "b,c"]) == ["runs=['a','b,c']"]
    assert name_runs(["--cfg", "job"]) == ["--cfg", "job"]
    assert name_runs(["runs=[a]", "report=false"]) == ["runs=[a]", "report=false"]
    assert name_runs(["multirun/lora.r=8"]) == ["runs=['multirun/lora.r=8']"], "also where none lies there"


def test_in_a_sweep_commas_stay_what_they_are():
    assert quote_paths(["-m", "run=a,b"]) == ["-m", "run=a,b"]


def test_a_sweep_is_named_by_what_its_results_depend_on(composed, tmp_path):
    def folder(*overrides):
        config = composed("train", *overrides)
        # The grammar of Hydra composes no sweep here: what was asked for is put in its place.
        config.hydra.overrides.task = ["lora.r=8,16", *overrides]
        return Path(sweep_folder(str(tmp_path), config)).name

    here = ["logger.csv={}", "trainer=cpu", "trainer.threads=2", "data.cache_dir=/some/where"]
    assert folder("optim.epochs=3", *here) == folder("optim.epochs=3") == "lora.r=8,16,optim.epochs=3"
    assert folder("cost=parameters") == "cost=parameters,lora.r=8,16", "another search than without"
    assert folder("name=mine", *here) == "mine"
    swept = composed("train")
    swept.hydra.overrides.task = ["trainer.threads=1,2"]
    assert Path(sweep_folder("m", swept)) == Path("m", "trainer.threads=1,2"), "what is swept names it"


def test_a_sweep_that_was_named_by_all_that_was_asked_for_is_found_again(composed, tmp_path):
    config = composed("train", "trainer.threads=2")
    config.hydra.overrides.task = ["lora.r=8,16", "trainer.threads=2"]
    assert sweep_folder(str(tmp_path), config) == str(tmp_path / "lora.r=8,16")
    (tmp_path / "lora.r=8,16,trainer.threads=2").mkdir()
    assert sweep_folder(str(tmp_path), config) == str(tmp_path / "lora.r=8,16,trainer.threads=2")


def test_a_job_alone_is_named_by_what_its_result_depends_on_or_found_by_its_old_name(tmp_path):
    asked = ["lora.r=8", "trainer.threads=2"]
    assert _name_of_one(asked, tmp_path) == "lora.r=8"
    assert _name_of_one(["trainer.threads=2"], tmp_path) == "defaults"
    (tmp_path / "lora.r=8,trainer.threads=2").mkdir()
    assert _name_of_one(asked, tmp_path) == "lora.r=8,trainer.threads=2"


def test_a_search_and_a_grid_over_the_same_values_have_folders_of_their_own(composed, tmp_path):
    def folder(*overrides):
        config = composed("train", *overrides)
        config.hydra.overrides.task = ["lora.r=8,16"]
        return sweep_folder(str(tmp_path), config)

    grid, search = tmp_path / "lora.r=8,16", ["hydra/sweeper=study"]
    assert (folder(), folder(*search)) == (str(grid), str(tmp_path / "lora.r=8,16,study"))
    grid.mkdir()
    assert folder(*search) == str(tmp_path / "lora.r=8,16,study")
    (grid / "study.db").touch()
    assert folder(*search) == str(grid), "a search of before goes on"


def test_a_runs_folder_in_the_place_of_an_adapters_is_answered_with_the_key(settings, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    for door in ("evaluate", "predict"):
        asked = settings(door, f"adapter={tmp_path}", "run=null")
        with pytest.raises(SettingsError, match=f"that is a run's folder: run={tmp_path}$"):
            with_paths(asked)


@pytest.mark.parametrize(
    ("data", "split", "files", "says"),
    [
        ("mimicsql", "source", [], "holds none of train.json, dev.json, test.json"),
        (
            "mimicsql",
            "source",
            ["dev.json"],
            "no file of training rows, only of validation; ",
        ),
        ("mimicsql", "report", ["dev.json", "test.json"], "only of validation and test; add one"),
        ("mixture", "source", ["test.json"], "only of test; data.split=report"),
        ("jsonl", "source", ["test.jsonl"], "only of test; data.split=report"),
        ("mimicsql", "report", ["dev.json"], None),
        ("jsonl", "source", ["train.jsonl"], None),
    ],
)
def test_files_that_splits_need_are_looked_for_before_anything_is_loaded(
    settings, tmp_path, data, split, files, says
):
    for name in files:
        (tmp_path / name).touch()
    asked = settings("train", f"data={data}", f"data.path={tmp_path}", f"data.split={split}")
    if says is None:
        assert with_paths(asked).data.path == str(tmp_path)
    else:
        with pytest.raises(SettingsError, match=says):
            with_paths(asked)
