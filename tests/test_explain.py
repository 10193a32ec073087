"""Mistakes that Hydra finds are answered in one line, with what was probably meant."""

import pytest
from hydra.core.plugins import Plugins

from medsql.composition import SETTINGS
from medsql.explain import explain, unknown_key


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("lora.rr", "lora.r"), ("lr", "optim.lr"), ("modle", "model"), ("optim.batchsize", "optim.batch_size"),
     ("experimnt", "experiment"), ("hydra.sweep.dri", "hydra.sweep.dir")],
)  # fmt: skip
def test_the_closest_key_is_named(typed, meant):
    assert unknown_key(typed, SETTINGS["train"]).endswith(f"did you mean {meant}?")


def test_the_plus_sign_of_sweeps_is_asked_for() -> None:
    assert unknown_key("sweeps", SETTINGS["train"]).endswith("+sweeps=NAME")


def test_what_belongs_to_another_sweeper_or_launcher_is_answered_with_it() -> None:
    assert unknown_key("hydra/sweeper/pruner", SETTINGS["train"]).endswith("add hydra/sweeper=study")
    Plugins.instance()  # which makes their options known, as the command does
    for wrong, right in (("sweeper.n_trial", "sweeper.n_trials"), ("launcher.n_job", "launcher.n_jobs")):
        said = unknown_key(f"hydra.{wrong}", SETTINGS["train"])
        assert f"did you mean hydra.{right} of hydra/" in said
    assert "leave it out" in unknown_key("hydra.sweeper.zzz", SETTINGS["train"])


def test_an_unknown_option_is_answered_with_the_closest_one(composed):
    with pytest.raises(Exception, match="atention") as error:
        composed("train", "lora=atention")
    assert "did you mean attention?" in explain(error.value, SETTINGS["train"])
