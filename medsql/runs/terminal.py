"""Log lines on a terminal that may show a progress bar, or be shared by several jobs."""

import logging
import os
import sys
import textwrap
from pathlib import Path
from typing import TextIO

SHARED = "MEDSQL_SHARED_TERMINAL"
"""Set in the environment of jobs that run side by side and write to one terminal."""


def shared() -> bool:
    """Whether other jobs write to this terminal too: then lines are labelled, and nobody draws a bar."""
    return SHARED in os.environ


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stdout` is at the moment; on a shared terminal, says whose each line is.

    A progress bar puts itself there while it is drawn, and then prints lines above itself; a handler
    that kept the stream of before would write across the bar.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.label = f"{Path(folder).name}  " if shared() else ""

    def format(self, record: logging.LogRecord) -> str:
        """The record's lines, each behind the name of the run's folder where others write too."""
        return textwrap.indent(super().format(record), self.label)

    @property
    def stream(self) -> TextIO:
        """Today's standard output."""
        return sys.stdout

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """`StreamHandler` sets one when it is made; it is not kept."""
