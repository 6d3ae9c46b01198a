"""Writes metric and event records so that a kill loses none and a full disk stops nothing.

A record is one ``write`` on a descriptor opened with ``O_APPEND``: once the call has returned, the
record is in the kernel's hands and outlives this process. Nothing here raises into training.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from verl_lab.domain.wire import EventRecord, encode_event, encode_header, encode_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from verl_lab.verl_plugin.attempt import Attempt


class RecordFile:
    """A file of lines that is only ever appended to.

    Parameters
    ----------
    path
        The file; it is opened at the first record, and again as long as opening fails.
    header
        Its first line, written if this process creates the file.
    is_shared
        Whether other processes append too. One of them may have died inside a line, so the end of
        the file is looked at before each record.
    """

    def __init__(self, path: Path, header: bytes, *, is_shared: bool = False) -> None:
        self._path = path
        self._header = header
        self._is_shared = is_shared
        self._fd = -1
        self._owed = b""

    def append(self, record: bytes) -> OSError | None:
        """Append one line; return what went wrong, and None when all of it is written."""
        done = 0
        data = record
        try:
            if self._fd < 0:
                self._open()
            if self._is_shared and not self._owed and not self._ends_with_newline():
                self._owed = b"\n"
            if self._owed:
                data = self._owed + record
            done = os.write(self._fd, data)
            while done < len(data):
                done += os.write(self._fd, memoryview(data)[done:])
        except OSError as error:
            self._after_failure(done)
            return error
        self._owed = b""
        return None

    def close(self) -> None:
        """Give the descriptor back; a later ``append`` opens the file again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        try:
            self._fd = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, 0o644)
            self._owed = self._header
        except FileExistsError:
            self._fd = os.open(self._path, flags)
            self._owed = b"" if self._ends_with_newline() else b"\n"

    def _ends_with_newline(self) -> bool:
        size = os.fstat(self._fd).st_size
        return size == 0 or os.pread(self._fd, 1, size - 1) == b"\n"

    def _after_failure(self, done: int) -> None:
        """End a line that was cut short, so that the next record begins on a line of its own."""
        if done == 0:
            return
        if self._owed == self._header and done < len(self._header):
            # Nothing but a part of the header is there: without a whole one the file is unreadable.
            os.ftruncate(self._fd, 0)
        else:
            self._owed = b"\n"


class EventLog:
    """The part of ``events.jsonl`` that one process writes.

    Parameters
    ----------
    attempt
        Where the file lies; None writes nothing.
    source
        Name of this process in the records; ``seq`` counts up within it.
    """

    def __init__(self, attempt: Attempt | None, source: str) -> None:
        self._source = source
        self._seq = 0
        self._lock = threading.Lock()
        self._file = (
            RecordFile(attempt.layout.events, encode_header(attempt.header()), is_shared=True) if attempt else None
        )

    def emit(self, kind: str, *, step: int | None = None, **data: Any) -> bool:
        """Record that something happened; return whether it is on disk."""
        if self._file is None:
            return False
        # Log handlers call from any thread.
        with self._lock:
            record = EventRecord(self._seq, time.time(), kind, step, self._source, data)
            error = self._file.append(encode_event(record))
            self._seq += 1
        return error is None


class MetricsWriter:
    """The one writer of ``metrics.jsonl``.

    While the disk is full, records are dropped and counted; once one can be written again, an event
    ``metrics_gap`` says how many were lost, and which steps.
    """

    def __init__(self, attempt: Attempt, events: EventLog) -> None:
        self._file = RecordFile(attempt.layout.metrics, encode_header(attempt.header()))
        self._events = events
        self._seq = 0
        self._lost: dict[str, Any] | None = None

    def write(self, step: int, metrics: Mapping[Any, object]) -> None:
        """Append what was logged at ``step``."""
        error = self._file.append(encode_metrics(self._seq, step, time.time(), metrics))
        self._seq += 1
        if error is not None:
            self._note_loss(step, error)
        elif self._lost is not None:
            self.report_gap()

    def report_gap(self) -> None:
        """Record what was lost, if that can be written by now."""
        if self._lost is not None and self._events.emit("metrics_gap", **self._lost):
            self._lost = None

    def close(self) -> None:
        """Report what was lost and close the file."""
        self.report_gap()
        self._file.close()

    def _note_loss(self, step: int, error: OSError) -> None:
        lost = self._lost or {"lost": 0, "first_step": step}
        self._lost = {**lost, "lost": lost["lost"] + 1, "last_step": step, "error": str(error)}
