"""A run folder as the trainer and the supervisor write it, growing as a test asks."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from verl_lab.domain.wire import (
    AttemptLayout,
    EventRecord,
    Header,
    RunLayout,
    encode_event,
    encode_header,
    encode_metrics,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from typing_extensions import Self


@dataclass
class RunWriter:
    """Writes the attempts of one run; its supervisor beats for as long as any test lasts."""

    layout: RunLayout[Path]
    begun: float
    seconds_a_step: float = 10.0
    total: int = 100
    attempt: int = 0
    _seq: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def id(self) -> str:
        return self.layout.folder.name

    @property
    def files(self) -> AttemptLayout[Path]:
        return self.layout.attempt(self.attempt)

    def launch(self, name: str, *, created: float = 1.0, config: Mapping[str, Any] | None = None, **said: Any) -> Self:
        """Write what is there before the first attempt; ``said`` is what the launch record tells beside the name."""
        self.layout.folder.mkdir(parents=True)
        self.layout.config.write_text(yaml.safe_dump(dict(config or {})))
        self.layout.command.write_text("python -m verl_lab.verl_plugin.train_ppo\n")
        record = {"version": 1, "run": self.id, "name": name, "created": created, **said}
        self.layout.record.write_text(json.dumps(record))
        return self

    def begin(self, *, total: int = 100, resumed_from: int = 0) -> Self:
        """Begin an attempt."""
        self.attempt += 1
        self.total = total
        self._seq = {}
        self.files.folder.mkdir(parents=True)
        header = encode_header(Header(self.id, self.attempt, 1, 1, "boot"))
        self.files.metrics.write_bytes(header)
        self.files.events.write_bytes(header)
        self.event("train_begin", step=resumed_from, total_steps=total, resumed_from=resumed_from, platform="cpu")
        return self.status("running", phase="training")

    def step(self, step: int, data: Mapping[str, float]) -> Self:
        """Log a step."""
        line = encode_metrics(self._next("m"), step, self.begun + step * self.seconds_a_step, data)
        with self.files.metrics.open("ab") as file:
            file.write(line)
        return self

    def steps(self, first: int, last: int, metric: str, value: Callable[[int], float]) -> Self:
        """Log one metric over some steps."""
        for step in range(first, last + 1):
            self.step(step, {metric: value(step)})
        return self

    def event(self, kind: str, *, step: int | None = None, at_step: int = 0, **data: Any) -> None:
        """Record an event; one without a step of its own has the time of ``at_step``."""
        at = self.begun + self.seconds_a_step * (at_step if step is None else step)
        event = EventRecord(self._next("e"), at, kind, step, "trainer", data)
        with self.files.events.open("ab") as file:
            file.write(encode_event(event))

    def status(self, state: str, **fields: Any) -> Self:
        """Say where it stands."""
        record = {"version": 1, "run": self.id, "attempt": self.attempt, "state": state}
        record |= {"updated": time.time() + 3600, "started": self.begun, "total": self.total, **fields}
        partial = self.files.status.with_suffix(".partial")
        partial.write_text(json.dumps(record))
        partial.replace(self.files.status)
        return self

    def _next(self, file: str) -> int:
        self._seq[file] = self._seq.get(file, -1) + 1
        return self._seq[file]
