"""Fine-tunes a model and scores it: `python -m medsql.train`, or with `-m` a sweep of such runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from medsql.composition import trial_reporter
from medsql.config import SettingsError, TrainSettings
from medsql.data.pairs import Pair
from medsql.door import door
from medsql.evaluate import score_baseline
from medsql.metrics.estimate import Estimate
from medsql.runs.fingerprint import by_content, identity
from medsql.runs.folder import Run
from medsql.runs.labels import SHOWN, score_label, short
from medsql.runs.predictions import values_of, write_predictions
from medsql.wording import counted

log = logging.getLogger(__name__)


@door("train")
def main(settings: TrainSettings, folder: Path) -> float | tuple[float, int] | None:
    """One run in its folder; returns the objective, at once where the folder holds it already.

    With `cost=parameters`, returns the number of trained weights beside it.
    """
    hydra = HydraConfig.get()
    with Run(folder, "train", identity(settings), asdict(settings)) as run:
        if settings.baseline:
            score_baseline(settings, folder.parent)
        if not run.finished:
            run.note(trial=hydra.sweeper.get("trial"))
            train(settings, run, trial_reporter(hydra, objectives=1 if settings.cost is None else 2))
        assert run.objective is not None
        return (
            run.objective if settings.cost is None else (run.objective, run.record["parameters"]["trainable"])
        )


def train(settings: TrainSettings, run: Run, report: Callable[[int, float], bool] | None = None) -> None:
    """Data → model → training → best checkpoint → test → run folder.

    `report` is told each validation's step and objective, and says whether to stop there. Raises
    `RunPruned` where it does, and `UserError` for data or a model that cannot be used and for training
    that cannot go on.
    """
    # Imported here, so that a mistake in the configuration is answered before these seconds are spent.
    import torch

    from medsql.data.module import PairsModule
    from medsql.data.order import Mixture
    from medsql.loggers import log_results, open_loggers
    from medsql.materials import shared_backbone, shared_splits, shared_tokens
    from medsql.model.checkpoints import Checkpoints
    from medsql.model.decoder import load_decoder
    from medsql.model.generation import predict
    from medsql.model.hardware import autocast, prepare_device
    from medsql.model.lora import add_lora, count_parameters, save_model
    from medsql.model.module import FineTuner
    from medsql.model.reports import Reports
    from medsql.model.training import build_trainer, fit, hardware_record
    from medsql.runs.trained_on import trained_on, write_trained_on

    splits = shared_splits(settings.data)
    _check_judged(settings, splits.validation)
    backbone = shared_backbone(settings.model, trained=settings.lora.targets is None)
    tokenizer = backbone.tokenizer
    tokenized = shared_tokens(splits, backbone, settings.data)
    run.pin(checkpoint=by_content(backbone.checkpoint), rows=splits.record["sha256"])
    run.note(data=splits.record, tokenized=tokenized.record, model=backbone.record())
    write_trained_on(run.folder, splits.train)

    torch.manual_seed(settings.seed)  # of the adapters' first weights
    model = add_lora(backbone.model, settings.lora)
    parameters = count_parameters(model)
    log.info("parameters: %s trainable of %s", f"{parameters.trainable:,}", f"{parameters.total:,}")
    data = PairsModule(
        tokenized,
        tokenizer.pad_token_id,
        settings.optim,
        settings.validation,
        settings.decode.batch_size,
        settings.seed,
        Mixture(splits.hospital, settings.data.hospital_epochs, settings.data.hospital_weight),
        settings.trainer.tokens_at_once,
    )
    decoder, decoding = load_decoder(
        settings.decode, tokenizer, tokenized.longest_target, tokenized.spelling, splits.own_training
    )
    run.note(parameters=asdict(parameters), steps=data.total_steps, **decoding)
    if splits.hospital:
        log.info(
            "the first %s of %s see the hospital's rows alone",
            f"{data.first_steps:,}",
            counted(data.total_steps, "step"),
        )
        if data.first_steps == data.total_steps:
            log.warning("optim.max_steps=%s: no step is left for other rows", settings.optim.max_steps)
        run.note(first_steps=data.first_steps)
    module = FineTuner(
        model,
        settings.optim,
        decoder,
        validation_pairs=splits.validation,
        total_steps=data.total_steps,
        seed=settings.seed,
        show=settings.validation.show,
        cuda_graphs=settings.trainer.cuda_graphs,
    )

    checkpoints = Checkpoints(run.folder / "checkpoints", settings.checkpoint)
    with open_loggers(settings.logger, run) as loggers:
        callbacks = [] if report is None else [Reports(report, settings.objective, run)]
        trainer = build_trainer(
            settings.trainer, settings.optim, settings.validation, checkpoints, loggers, callbacks
        )
        run.note(hardware=hardware_record(trainer, settings.optim))
        started = time.perf_counter()
        fit(trainer, module, data, checkpoints)
        trained = time.perf_counter()
        if module.passes > data.total_steps:
            log.info(
                "%s took %s through the model: more than trainer.tokens_at_once=%d tokens were in some",
                counted(data.total_steps, "step"),
                counted(module.passes, "pass", "passes"),
                settings.trainer.tokens_at_once,
            )
        run.note(passes=module.passes)
        if module.cuda_graphs_used is not None:
            run.note(cuda_graphs=module.cuda_graphs_used)
            log.info(
                "CUDA graphs: %(captured)d, batches without one: %(batches_without)d", module.cuda_graphs_used
            )

        validation = checkpoints.restore_best(module)
        saved = "model" if settings.lora.targets is None else "adapter"
        save_model(module.model, tokenizer, run.folder / saved)

        log.info("generating SQL for %s", counted(len(splits.test), "test row"))
        with autocast(settings.trainer, prepare_device(settings.trainer)):
            questions = [pair.question for pair in splits.test]
            predictions = predict(module.model, data.test_dataloader(), decoder, questions)
        generated = time.perf_counter()
        facts = {"split": "test", "rows_in_split": len(splits.test), "max_new_tokens": decoder.max_new_tokens}
        facts |= {"decode": asdict(settings.decode)}
        known = trained_on(run.folder, splits.test)
        test = write_predictions(run.folder, splits.test, predictions, facts, trained_on=known)
        times = {"training": trained - started, "test": generated - trained}
        times |= {"scoring": time.perf_counter() - generated}
        log_results(loggers, settings.logger, run, saved, validation | values_of(test))
        run.finish(
            objective=validation[settings.objective],
            validation=validation,
            best_step=checkpoints.best_step,
            saved=saved,
            test=test,
            seconds_since_last_start={name: round(spent, 1) for name, spent in times.items()},
        )
    if test["n"]:
        log.info("test, %s: %s", counted(test["n"], "row"), _in_words(test))
    log.info("finished: %s %.4f; %s", settings.objective, validation[settings.objective], short(run.folder))


def _in_words(metrics: dict[str, Any]) -> str:
    """`exact match 33.0 (25.0–43.0), logical form …`: what could be scored, with its 95 % intervals."""
    scores = {score_label(name): Estimate(**metrics[name]) for name in SHOWN if name in metrics}
    return ", ".join(f"{label} {score}" for label, score in scores.items()) + " %"


def _check_judged(settings: TrainSettings, pairs: Sequence[Pair]) -> None:
    """Raises `SettingsError` where a score is asked for that no gold query in `pairs` can judge."""
    from medsql.metrics.execution import verdict

    for key, metric in (
        ("objective", settings.objective),
        ("checkpoint.monitor", settings.checkpoint.monitor),
    ):
        if metric in ("val/execution", "val/valid"):
            verdicts = {verdict(pair.sql) for pair in pairs[: settings.validation.generate_rows]}
            if "ok" not in verdicts:
                raise SettingsError(
                    f"{key}={metric}: no gold query of the validation rows runs on MIMICSQL's tables "
                    f"({min(verdicts)}), so it cannot be judged; choose another"
                )


if __name__ == "__main__":
    main()
