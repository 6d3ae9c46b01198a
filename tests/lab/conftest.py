"""A lab, and run folders written as the trainer and the supervisor write them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from verl_lab import Lab
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
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from verl_lab import Run
    from verl_lab.domain.recipe import Recipe


@dataclass
class Written:
    """A run folder below a lab's runs, growing as a test asks."""

    lab: Lab
    layout: RunLayout[Path]
    begun: float
    seconds_a_step: float = 10.0
    attempt: int = 0
    _seq: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def run(self) -> Run:
        return self.lab.run(self.layout.folder.name)

    @property
    def files(self) -> AttemptLayout[Path]:
        return self.layout.attempt(self.attempt)

    def begin(self, *, total: int = 100, resumed_from: int = 0) -> Written:
        self.attempt += 1
        self._seq = {}
        self.files.folder.mkdir(parents=True)
        header = encode_header(Header(self.layout.folder.name, self.attempt, 1, 1, "boot"))
        self.files.metrics.write_bytes(header)
        self.files.events.write_bytes(header)
        self.event("train_begin", step=resumed_from, total_steps=total, resumed_from=resumed_from, platform="cpu")
        self.status("running", total=total)
        return self

    def step(self, step: int, data: Mapping[str, float]) -> None:
        line = encode_metrics(self._next("m"), step, self.begun + step * self.seconds_a_step, data)
        with self.files.metrics.open("ab") as file:
            file.write(line)

    def steps(self, first: int, last: int, metric: str, value: Callable[[int], float]) -> Written:
        for step in range(first, last + 1):
            self.step(step, {metric: value(step)})
        return self

    def event(self, kind: str, *, step: int | None = None, at_step: int = 0, **data: Any) -> None:
        """Record an event; one without a step of its own has the time of ``at_step``."""
        time = self.begun + self.seconds_a_step * (at_step if step is None else step)
        event = EventRecord(self._next("e"), time, kind, step, "trainer", data)
        with self.files.events.open("ab") as file:
            file.write(encode_event(event))

    def status(self, state: str, **fields: Any) -> Written:
        record = {"version": 1, "run": self.layout.folder.name, "attempt": self.attempt, "state": state}
        record |= {"updated": time.time() + 3600, "started": self.begun, "total": 100, **fields}
        partial = self.files.status.with_suffix(".partial")
        partial.write_text(json.dumps(record))
        partial.replace(self.files.status)
        return self

    def _next(self, file: str) -> int:
        self._seq[file] = self._seq.get(file, -1) + 1
        return self._seq[file]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Return a lab with a home of its own."""
    with Lab(tmp_path / "home") as made:
        yield made


@pytest.fixture
def write_run(lab: Lab) -> Callable[..., Written]:
    """Return what makes a run folder, with verl's configuration and the recipe's checks."""

    def write(
        name: str,
        *,
        config: Mapping[str, Any] | None = None,
        thresholds: Mapping[str, Any] | None = None,
        begun: float | None = None,
    ) -> Written:
        folder = lab.settings.runs_root / f"20260101-000000-{name}-0000"
        folder.mkdir()
        shown = {"trainer": {"test_freq": 10, "save_freq": 10, "n_gpus_per_node": 4, "nnodes": 2}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config or shown))
        record: dict[str, Any] = {"version": 1, "run": folder.name, "name": name, "created": 1.0}
        record["recipe"] = {"name": name, "checks": {"on_critical": "mark", "thresholds": thresholds or {}}}
        (folder / "run.json").write_text(json.dumps(record))
        return Written(lab, RunLayout(folder), time.time() - 1100 if begun is None else begun)

    return write


@pytest.fixture
def write_launch(lab: Lab) -> Callable[..., Written]:
    """Return what makes the folder of a run that was launched on a recipe, as ``lab.train`` leaves it."""

    def write(
        name: str,
        recipe: Recipe,
        *,
        overrides: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        argv: Sequence[str] = (),
        datasets: Sequence[Mapping[str, Any]] = (),
        lineage: Mapping[str, Any] | None = None,
        verl: str = "0.9.1",
    ) -> Written:
        folder = lab.settings.runs_root / f"20260101-000000-{name}-0000"
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump(dict(config or {})))
        record: dict[str, Any] = {"version": 1, "run": folder.name, "name": name, "created": 1.0}
        record |= {"recipe": recipe.model_dump(mode="json"), "algorithm": recipe.algorithm}
        record |= {"overrides": list(overrides), "versions": {"verl": verl}, "launch": {"argv": list(argv)}}
        record |= {"datasets": list(datasets)} if datasets else {}
        record |= {"lineage": dict(lineage)} if lineage is not None else {}
        (folder / "run.json").write_text(json.dumps(record))
        return Written(lab, RunLayout(folder), time.time() - 1100)

    return write
