"""What the trainer tells the supervisor, and what it asks: ``progress.json`` and ``stop.json``."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from pathlib import Path

# The supervisor looks once a second; writing more often than this would only cost.
_SHORTEST_INTERVAL_S = 0.25


class Progress:
    """The file that says what the trainer does now.

    Parameters
    ----------
    path
        ``progress.json`` of the attempt; None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._phase: str | None = None
        self._step: int | None = None
        self._total: int | None = None
        self._critical: str | None = None
        self._written = -_SHORTEST_INTERVAL_S
        self._writing = threading.Lock()  # the trainer's thread writes, and the one that sees it stand still

    def enter(self, phase: str, *, step: int | None = None, total: int | None = None) -> None:
        """Say that ``phase`` begins; ``step`` and ``total`` are kept when not given."""
        self._phase = phase
        self._step = self._step if step is None else step
        self._total = self._total if total is None else total
        self._write()

    def advance(self, step: int) -> None:
        """Say that ``step`` is done; calls in quick succession are left for a later one to write."""
        self._step = step
        if time.monotonic() - self._written >= _SHORTEST_INTERVAL_S:
            self._write()

    def mark(self, critical: str | None) -> None:
        """Say why the run has failed though it goes on; None takes it back."""
        self._critical = critical
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        if self._path is None:
            return
        record = {
            "phase": self._phase,
            "step": self._step,
            "total": self._total,
            "time": time.time(),
            "critical": self._critical,
        }
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            with self._writing:
                partial.write_bytes(orjson.dumps(record))
                partial.replace(self._path)
        except OSError:
            # A full disk must not end training; the next call tries again.
            return


def graceful_stop_requested(stop_file: Path) -> bool:
    """Return whether someone asked the attempt to save a checkpoint and end.

    ``stop.json`` with the mode ``now`` is the supervisor's business: it does not wait for a step.
    """
    try:
        request = orjson.loads(stop_file.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return False
    return isinstance(request, dict) and request.get("mode") == "graceful"
