"""A run folder as the supervisor and the trainer write it, for what reads it in a browser."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from verl_lab.domain.wire import EventRecord, Header, RunLayout, encode_event, encode_header, encode_metrics

if TYPE_CHECKING:
    from pathlib import Path

TOTAL = 60


class RunFolder:
    """A run that takes the steps of a recording, as a test asks."""

    def __init__(self, home: Path, run: str, recording: Path, *, name: str, recipe: str = "grpo-cpu") -> None:
        self.id, self.name = run, name
        self._lines = [json.loads(line) for line in recording.read_text().splitlines()]
        self._begun = time.time() - 600
        self._seq = 0
        layout = RunLayout(home / "runs" / run)
        self._files = layout.attempt(1)
        self._files.folder.mkdir(parents=True)
        header = encode_header(Header(run, 1, 1, 1, "boot"))
        begun = EventRecord(0, self._begun, "train_begin", 0, "trainer", {"total_steps": TOTAL, "resumed_from": 0})
        self._files.metrics.write_bytes(header)
        self._files.events.write_bytes(header + encode_event(begun))
        layout.config.write_text("{}\n")
        layout.command.write_text("python -m verl_lab.verl_plugin.train_ppo\n")
        self.take_steps(1)  # what was validated before the first step
        self.say("running")
        record: dict[str, Any] = {"version": 1, "run": run, "name": name, "created": time.time(), "overrides": []}
        record |= {"recipe": {"name": recipe, "algorithm": "grpo"}, "algorithm": "grpo"}
        layout.record.write_text(json.dumps(record | {"launch": {"argv": [], "env": {}, "cwd": "/"}}))

    def take_steps(self, count: int, **values: float) -> None:
        """Log the next steps of the recording; ``values`` replace what it has, with ``__`` for ``/``."""
        for _ in range(count):
            line = self._lines.pop(0)
            data = line["data"] | {key.replace("__", "/"): value for key, value in values.items()}
            with self._files.metrics.open("ab") as file:
                file.write(encode_metrics(self._seq, line["step"], self._begun + 10 * line["step"], data))
            self._seq += 1

    def say(self, state: str) -> None:
        """Say in which state it is; its supervisor beats for as long as any test lasts."""
        record = {"version": 1, "run": self.id, "attempt": 1, "state": state, "step": None, "total": TOTAL}
        record |= {"phase": "training", "started": self._begun, "updated": time.time() + 3600}
        part = self._files.status.with_suffix(".part")
        part.write_text(json.dumps(record))
        part.replace(self._files.status)
