"""What every door shares: Hydra composes, settings are checked, mistakes come out as one line."""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig

from medsql.composition import SETTINGS, checked_settings, quoted
from medsql.config import CONF, SettingsError
from medsql.explain import causes, user_error
from medsql.runs.folder import RunBusy, RunConflict, RunPruned

PATHS = (
    *("run", "adapter", "file", "database", "eval.database", "model.checkpoint"),
    *("data.path", "data.templates", "data.cache_dir", "decode.database", "decode.schema", "decode.values"),
)
"""Keys whose value is a path, in whatever door."""

UNREADABLE = re.compile(
    rf"^(\+{{0,2}}(?:{'|'.join(map(re.escape, PATHS))})=)(?!['\"\[$])(.*[^\w./~+-].*)$", re.ASCII
)
"""An override whose value is a path that Hydra reads as its own syntax, or does not read at all."""

Task = Callable[[Any, Path], Any]
"""What it returns is a run's objective, or with its cost beside it, for a sweeper."""


def door(config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Turn `task(settings, folder)` into a command configured by `conf/<config_name>.yaml`.

    A `UserError` ends the command with its one line and its exit code; any other exception is a bug
    and keeps its traceback. Either way the traceback is in the job's own log.
    """

    def decorate(task: Task) -> Callable[[], None]:
        def job(config: DictConfig) -> Any:
            node = HydraConfig.get()
            try:
                return task(checked_settings(config, node), Path(node.runtime.output_dir))
            except Exception as error:
                # The first two would write into another run's log, the third is no failure.
                if not isinstance(error, RunBusy | RunConflict | RunPruned):
                    log_traceback(error)
                if node.mode != RunMode.MULTIRUN:
                    leave(error)
                forget_frames(error)
                raise  # for the sweeper, which goes on with the other jobs
            finally:
                if node.mode == RunMode.MULTIRUN:
                    gc.collect()  # trainer and model hold one another, and the next job needs their memory

        def leave(error: Exception) -> None:
            mistake = user_error(error, SETTINGS[config_name])
            if mistake is None:
                raise error
            print(f"medsql: {mistake}", file=sys.stderr)
            sys.exit(mistake.exit_code)

        def main() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands errors on instead of printing them
            # How long threads spin while they wait for one another, read by OpenMP when PyTorch is first
            # imported. Its default makes a step ten times slower as soon as anything else runs on the
            # machine; none at all costs a quarter of the speed on one that is idle.
            os.environ.setdefault("GOMP_SPINCOUNT", "10000")
            sys.argv[1:] = quote_paths(name_runs(sys.argv[1:]) if config_name == "compare" else sys.argv[1:])
            signal.signal(signal.SIGTERM, _stop)
            try:
                check_options(sys.argv[1:])
                replace_plugins()
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)()
            except KeyboardInterrupt:
                sys.exit(128 + signal.SIGINT)
            except Exception as error:
                leave(error)

        main.__doc__ = task.__doc__
        return main

    return decorate


def check_options(arguments: list[str]) -> None:
    """Raises `SettingsError` for options that Hydra's own parser would refuse with its usage."""

    def refuse(message: str) -> None:
        unknown = message.removeprefix("unrecognized arguments: ").split()
        if unknown and "=" in unknown[0] and not unknown[0].startswith("-"):
            raise SettingsError(
                f"{message}; options such as -m stand before the settings, or behind all of them"
            )
        raise SettingsError(f"{message}; a setting is KEY=VALUE without dashes, and --help lists them")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign, assignment]
    parser.parse_args(arguments)


def replace_plugins() -> None:
    """Put the grid in the place of Hydra's basic sweeper and our joblib launcher in that of its own.

    For this process alone: other programs that use Hydra find the plugins too. An `override
    hydra/sweeper` in `conf/train.yaml` would make the grid the default as well, but one that no file of
    `sweeps/` could override again.
    """
    from hydra_plugins import medsql_grid_sweeper, medsql_joblib_launcher

    Plugins.instance()  # Hydra registers its own now, and not later over ours
    medsql_grid_sweeper.store("basic")
    medsql_joblib_launcher.store("joblib")


def _stop(signum: int, frame: FrameType | None) -> None:
    """SIGTERM ends a run as Ctrl-C does, so that it is recorded as interrupted; training stops by itself."""
    sys.exit(128 + signum)


def name_runs(arguments: list[str]) -> list[str]:
    """`["a", "b"]` → `["runs=['a','b']"]`: folders to compare may be typed as they are.

    A setting is what has a `=` and, before it, no `/`; where a folder of that name lies here, it is that.
    """
    if any(argument.startswith("-") for argument in arguments):
        return arguments
    setting = re.compile(r"[^/=]*=")
    names = [argument for argument in arguments if Path(argument).exists() or not setting.match(argument)]
    others = [argument for argument in arguments if argument not in names]
    return [f"runs=[{','.join(map(quoted, names))}]", *others] if names else arguments


def quote_paths(arguments: list[str]) -> list[str]:
    """Put quotes around paths that Hydra would not take as they are.

    Folders named by overrides hold `=` and `,`. In a sweep a comma separates values, so there nothing
    is quoted.
    """
    if {"-m", "--multirun"} & set(arguments):
        return arguments
    return [UNREADABLE.sub(lambda path: f"{path[1]}{quoted(path[2])}", argument) for argument in arguments]


def log_traceback(error: Exception) -> None:
    """Write the traceback to the job's log file only: the terminal gets the one line."""
    record = logging.LogRecord(
        __name__, logging.ERROR, __file__, 0, "failed", None, (type(error), error, error.__traceback__)
    )
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def forget_frames(error: Exception) -> None:
    """Let go of what the functions that `error` ended still hold, such as a model that filled the GPU.

    Sweepers keep the errors of failed jobs to the end, and these their tracebacks.
    """
    for cause in causes(error):
        traceback.clear_frames(cause.__traceback__)
