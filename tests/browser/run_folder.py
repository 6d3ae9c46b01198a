"""A run in training, for what reads it in a browser."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from run_writer import RunWriter

from verl_lab.domain.wire import RunLayout

if TYPE_CHECKING:
    from pathlib import Path


class RunFolder(RunWriter):
    """A run that takes the steps of a recording, as a test asks."""

    def __init__(self, home: Path, run: str, recording: Path, *, name: str, recipe: str = "grpo-cpu") -> None:
        super().__init__(RunLayout(home / "runs" / run), time.time() - 600)
        self.name = name
        self._lines = [json.loads(line) for line in recording.read_text().splitlines()]
        self.launch(
            name,
            created=time.time(),
            recipe={"name": recipe, "algorithm": "grpo"},
            algorithm="grpo",
            overrides=[],
            launch={"argv": [], "env": {}, "cwd": "/"},
        ).begin(total=60)
        self.take_steps(1)  # what was validated before the first step

    def take_steps(self, count: int, **values: float) -> None:
        """Log the next steps of the recording; ``values`` replace what it has, with ``__`` for ``/``."""
        for _ in range(count):
            line = self._lines.pop(0)
            self.step(line["step"], line["data"] | {key.replace("__", "/"): value for key, value in values.items()})
