"""Makes `sweeps/` a config group, from any working folder: `python -m medsql.train +sweeps=lora_rank`."""

from pathlib import Path

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.search_path_plugin import SearchPathPlugin

ROOT = Path(__file__).parent.parent
GROUP = "sweeps"


class SweepsSource(FileConfigSource):
    """The folder above `sweeps/`, of which Hydra sees nothing else: it would take each for a group."""

    @staticmethod
    def scheme() -> str:
        """What stands before `://` in the search path."""
        return "medsql-sweeps"

    def is_group(self, config_path: str) -> bool:
        """Only the group itself, and the root that it lies in."""
        return config_path in ("", GROUP)

    def is_config(self, config_path: str) -> bool:
        """Only what lies in the group."""
        return config_path.startswith(f"{GROUP}/") and super().is_config(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The group's name at the root, and its options inside."""
        if config_path == "":
            return [] if results_filter == ObjectType.CONFIG else [GROUP]
        return super().list(config_path, results_filter) if self.is_group(config_path) else []


class SweepsSearchPath(SearchPathPlugin):
    """Adds the group behind everything in `conf/`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Hydra calls this once a command."""
        search_path.append("medsql", f"{SweepsSource.scheme()}://{ROOT}")
