"""A source for panels that plays a recorded run step by step; used inside kernels too."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import orjson

from verl_lab.diagnostics import Diagnosis, diagnose
from verl_lab.domain.wire import numbers_of
from verl_lab.errors import LaunchError, NotFoundError
from verl_lab.widgets.source import PanelHeader, SampleGroup, SampleSheet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from verl_lab.domain.finding import Finding, Health
    from verl_lab.widgets.source import Curves

_SECONDS_A_STEP = 2.0


class Replay:
    """A run whose steps are added by hand.

    Parameters
    ----------
    recording
        A file of verl's own ``file`` logger; None for a run that has logged nothing.
    steps
        How many of its lines are there from the start.
    """

    def __init__(self, recording: Path | None = None, steps: int = 0, **header: object) -> None:
        self._lock = threading.Lock()
        self._lines = [orjson.loads(line) for line in recording.read_bytes().splitlines()] if recording else []
        self._data: dict[str, tuple[list[int], list[float]]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._header = PanelHeader("20251122-074100-grpo-arithmetic-1a2b", "grpo-arithmetic · 1122-0741", "running")
        self._judged: Diagnosis | None = None
        self._changes = 0
        self.asked: list[str] = []
        self.raised: list[Finding] | None = None
        self.groups: dict[int, list[SampleGroup]] = {}
        self.printed = ""
        self.settings: dict[str, Any] = {}
        self.besides: dict[str, Replay] = {}
        self.is_timed = True
        self.measured: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        self.refuses: str | None = None
        self.now(**({"phase": "training", "total": len(self._lines) - 1, "can_stop": True} | header))
        self.play(steps)

    def header(self) -> PanelHeader:
        return self._header

    def metric_names(self) -> list[str]:
        return sorted(self._data)

    def series(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        with self._lock:
            steps, values = self._data.get(name, ([], []))
            return np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)

    def moments(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        return self.measured.get(name)

    def clock(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        with self._lock:
            steps = sorted({step for steps, _ in self._data.values() for step in steps} if self.is_timed else ())
        return np.array(steps, np.int64), 1.7e9 + _SECONDS_A_STEP * np.array(steps, np.float64)

    def findings(self, step: int | None = None) -> tuple[Finding, ...]:
        return self._diagnosis().findings(step) if self.raised is None else tuple(self.raised)

    def health(self, step: int | None = None) -> Health:
        return self._diagnosis().health(step)

    def not_applicable(self) -> dict[str, str]:
        return self._diagnosis().not_applicable()

    def _diagnosis(self) -> Diagnosis:
        judged, changes = self._judged, self._changes
        if judged is None:
            with self._lock:
                every = {n: (np.array(s, np.int64), np.array(v, np.float64)) for n, (s, v) in self._data.items()}
            judged = diagnose(every, config=self.settings)
            # What was logged meanwhile is not in it: then it is not kept.
            if changes == self._changes:
                self._judged = judged
        return judged

    def samples(self, step: int | None, kind: str) -> SampleSheet:
        if not self.groups or kind != "validation":
            raise NotFoundError(f"The run has dumped no {kind} samples.")
        wanted = max(self.groups) if step is None else step
        return SampleSheet(kind, wanted, {kind: sorted(self.groups)}, tuple(self.groups[wanted]))

    def log(self, tail: int) -> str:
        return "".join(self.printed.splitlines(keepends=True)[-tail:])

    def config(self) -> Mapping[str, Any]:
        return self.settings

    def others(self) -> dict[str, str]:
        return {key: other.header().name for key, other in self.besides.items()}

    def other(self, other_id: str) -> Curves:
        return self.besides[other_id]

    def sync(self) -> None:
        self._act("sync")

    def diagnose(self) -> None:
        self._act("diagnose")

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(changed)
        return lambda: self._listeners.remove(changed)

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def stop(self) -> None:
        self._act("stop", state="stopping")

    def resume(self) -> None:
        self._act("resume", state="running", can_stop=True, can_resume=False)

    def _act(self, what: str, **header: object) -> None:
        self.asked.append(what)
        if self.refuses:
            raise LaunchError(self.refuses, "Try again later.")
        self.now(**header)

    def now(self, **header: object) -> None:
        """Change what the header says."""
        self._header = replace(self._header, **header)
        self._tell()

    def play(self, steps: int) -> None:
        """Log the next lines of the recording."""
        for _ in range(steps):
            line = self._lines.pop(0)
            self.record(int(line["step"]), numbers_of(line["data"])[0])

    def record(self, step: int, data: dict[str, float]) -> None:
        """Log one step."""
        with self._lock:
            for name, value in data.items():
                steps, values = self._data.setdefault(name, ([], []))
                steps.append(step)
                values.append(value)
        self.now(step=step)

    def fill(self, name: str, values: NDArray[np.float64], first_step: int = 1) -> None:
        """Log a whole series at once."""
        with self._lock:
            self._data[name] = (list(range(first_step, first_step + len(values))), values.tolist())
        self._tell()

    def _tell(self) -> None:
        self._changes += 1
        self._judged = None
        for changed in list(self._listeners):
            changed()
