"""Lines that stay, and one line at the bottom that changes."""

from __future__ import annotations

import time
from typing import TextIO

_CLEAR_LINE = "\r\x1b[K"
_LOG_EVERY_S = 15.0


class Terminal:
    """Tells progress to a person at a terminal, and sparingly to a log file."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_live = stream.isatty()
        self._current = ""
        self._logged_at = 0.0

    def say(self, text: str) -> None:
        """Print lines that stay."""
        self._settle()
        print(text, file=self._stream, flush=True)

    def update(self, text: str) -> None:
        """Replace the bottom line; a log file gets one every fifteen seconds."""
        self._current = text
        if self._is_live:
            self._stream.write(f"{_CLEAR_LINE}{text}")
            self._stream.flush()
        elif time.monotonic() - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = time.monotonic()
            print(text, file=self._stream, flush=True)
            self._current = ""

    def _settle(self) -> None:
        """Let the bottom line stay as it is now."""
        if self._current:
            print(f"{_CLEAR_LINE if self._is_live else ''}{self._current}", file=self._stream, flush=True)
            self._current = ""
