"""How much of the objective's variance each swept parameter explains, as Optuna computes it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from medsql.runs.recorded import Recorded, lower_is_better
from medsql.runs.swept import Parameter

FEWEST = 10
"""Finished runs below which a forest's importances are mere noise, and are not given."""

METHOD = (
    "Optuna's mean decrease in impurity: a random forest learns the objective of the finished runs from "
    "their parameters, and a parameter's importance is its share of what the forest's splits explain. "
    "Shares add up to 1 whether or not the parameters matter at all, and few runs make them unreliable."
)


def importances(runs: Sequence[Recorded], parameters: Sequence[Parameter]) -> dict[str, float]:
    """Each parameter's share of what finished runs' parameters explain of their objective, largest first.

    `parameters` are of these runs. Empty for fewer than `FEWEST` finished runs, and for fewer than two
    parameters that differ among them.
    """
    done = [i for i, run in enumerate(runs) if run.state == "finished" and run.standing is not None]
    if len(done) < FEWEST:
        return {}
    varied = [each for parameter in parameters if len((each := parameter.of(done)).levels) > 1]
    if len(varied) < 2:
        return {}
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


def _distribution(parameter: Parameter) -> object:
    from optuna.distributions import CategoricalDistribution, UniformDistribution

    levels = parameter.levels
    if parameter.numeric:
        return UniformDistribution(float(levels[0]), float(levels[-1]))
    return CategoricalDistribution(levels)
