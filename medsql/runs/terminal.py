"""Log lines on a terminal that may show a progress bar."""

import logging
import sys
from typing import TextIO


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stdout` is at the moment.

    A progress bar puts itself there while it is drawn, and then prints lines above itself; a handler
    that kept the stream of before would write across the bar.
    """

    @property
    def stream(self) -> TextIO:
        """Today's standard output."""
        return sys.stdout

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """`StreamHandler` sets one when it is made; it is not kept."""
