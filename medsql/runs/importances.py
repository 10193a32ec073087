"""How much of the objective's variance each swept parameter explains, as Optuna computes it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from medsql.runs.recorded import Recorded, lower_is_better, unlike
from medsql.runs.swept import Parameter
from medsql.wording import counted

FEWEST = 10
"""Finished runs below which a forest's importances are mere noise, and are not given."""

METHOD = (
    "Optuna's mean decrease in impurity: a random forest learns the objective of the finished runs from "
    "their parameters, and a parameter's importance is its share of what the forest's splits explain. "
    "Shares add up to 1 whether or not the parameters matter at all, and few runs make them unreliable."
)


def importances(runs: Sequence[Recorded], parameters: Sequence[Parameter]) -> dict[str, float]:
    """Each parameter's share of what finished runs' parameters explain of their objective, largest first.

    `parameters` are of these runs. Empty where `why_none` says why.
    """
    if why_none(runs, parameters):
        return {}
    done, varied = _done(runs), _varied(runs, parameters)
    import optuna  # takes seconds

    spoken = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            # `UniformDistribution` is the one that old and new releases share; new ones deprecate it.
            warnings.simplefilter("ignore")
            space = {each.key: _distribution(each) for each in varied}
            study = optuna.create_study(
                direction="minimize" if lower_is_better(runs[done[0]]) else "maximize"
            )
            for place, i in enumerate(done):
                params = {each.key: each.values[place] for each in varied}
                trial = optuna.trial.create_trial(params=params, distributions=space, value=runs[i].standing)
                study.add_trial(trial)
            evaluator = optuna.importance.MeanDecreaseImpurityImportanceEvaluator(seed=0)
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(spoken)
    return {key: float(share) for key, share in found.items()}


def why_none(runs: Sequence[Recorded], parameters: Sequence[Parameter]) -> str:
    """What importances cannot be computed of; empty where they can."""
    done = [runs[place] for place in _done(runs)]
    if different := unlike(done):
        return f"the runs do not all have the same {different}"
    if len(done) < FEWEST:
        few = f"{counted(len(done), 'finished run')} {'is' if len(done) == 1 else 'are'} too few"
        return f"{few}, {FEWEST} are needed"
    if len({run.standing for run in done}) == 1:
        return f"all {len(done)} finished runs have the same objective"
    return "" if len(_varied(runs, parameters)) > 1 else "fewer than two differ among the finished runs"


def _done(runs: Sequence[Recorded]) -> list[int]:
    """Where runs stand that finished with an objective."""
    return [i for i, run in enumerate(runs) if run.state == "finished" and run.standing is not None]


def _varied(runs: Sequence[Recorded], parameters: Sequence[Parameter]) -> list[Parameter]:
    """The parameters that differ among finished runs, of these."""
    found = [parameter.of(_done(runs)) for parameter in parameters]
    return [parameter for parameter in found if len(parameter.levels) > 1]


def _distribution(parameter: Parameter) -> object:
    from optuna.distributions import CategoricalDistribution, UniformDistribution

    levels = parameter.levels
    if parameter.numeric:
        return UniformDistribution(float(levels[0]), float(levels[-1]))
    return CategoricalDistribution(levels)
