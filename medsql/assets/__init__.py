"""What the package brings along: checkpoints that need no download."""

from pathlib import Path

BUNDLED = "bundled:"
"""`model.checkpoint=bundled:mini` is the folder `mini` beside this file, wherever the package lies."""


def checkpoint_folder(checkpoint: str) -> Path:
    """Where a checkpoint of that name lies on this disk, if it is there at all."""
    if checkpoint.startswith(BUNDLED):
        return Path(__file__).parent / checkpoint.removeprefix(BUNDLED)
    return Path(checkpoint).expanduser()
