"""What the run's files hold already: earlier attempts' metrics, and events as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from verl_lab.domain.wire import EventRecord, decode_event, decode_metrics
from verl_lab.errors import FormatError
from verl_lab.verl_plugin.checks import run_layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from verl_lab.verl_plugin.attempt import Attempt

    Points = tuple[NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True)
class History:
    """The metrics of earlier attempts in the order they were written, and the times of their records."""

    series: dict[str, Points]
    times: Points


def earlier_attempts(attempt: Attempt, up_to: int) -> History:
    """Return what the attempts before this one logged, up to the step it goes on from."""
    steps: list[int] = []
    times: list[float] = []
    points: dict[str, tuple[list[int], list[float]]] = {}
    for number in range(1, attempt.number):
        for line in _lines(run_layout(attempt).attempt(number).metrics):
            try:
                record = decode_metrics(line)
            except FormatError:  # the header, or what a kill or a full disk left of a line
                continue
            if record.step > up_to:
                continue
            steps.append(record.step)
            times.append(np.nan if record.time is None else record.time)
            for name, value in record.data.items():
                known = points.setdefault(name, ([], []))
                known[0].append(record.step)
                known[1].append(value)
    return History({name: _arrays(*known) for name, known in points.items()}, _arrays(steps, times))


class EventTail:
    """Reads the events of all processes of an attempt as they are written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> tuple[EventRecord, ...]:
        """Return the events that are new; a torn or foreign line is passed over."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return ()
        data = data[: data.rfind(b"\n") + 1]
        self._offset += len(data)
        return tuple(_events(data))


def _events(data: bytes) -> Iterator[EventRecord]:
    for line in data.splitlines():
        try:
            yield decode_event(line)
        except FormatError:
            continue


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError:  # an attempt that ended before its first step has none
        return


def _arrays(steps: list[int], values: list[float]) -> Points:
    return np.array(steps, np.int64), np.array(values, np.float64)
