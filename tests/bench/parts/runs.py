"""Runs to measure with: 40 scalars a step, with all their digits."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np

from verl_lab.domain.wire import Header, MetricRecord, RunLayout, encode_header, encode_metrics
from verl_lab.store import Batch, FilePosition

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from verl_lab.store import Store

_AT_ONCE = 10_000
NAMES = [f"actor/metric_{i:02d}/mean" for i in range(40)]


def values(steps: int) -> Iterator[dict[str, float]]:
    """Give what is logged at each step."""
    dice = np.random.default_rng(0)
    for start in range(0, steps, 1000):
        for row in dice.normal(size=(min(1000, steps - start), len(NAMES))).tolist():
            yield dict(zip(NAMES, row, strict=True))


def write_run(folder: Path, steps: int) -> Path:
    """Write a run folder, as of a run that is over, and return its metrics file."""
    metrics = write_attempt(folder, 1)
    with metrics.open("ab") as file:
        for step, data in enumerate(values(steps), 1):
            file.write(encode_metrics(step, step, 1.7e9 + step, data))
    RunLayout(folder).record.write_text(
        json.dumps({"version": 1, "run": folder.name, "name": folder.name, "created": 1.0})
    )
    status = {"version": 1, "run": folder.name, "attempt": 1, "state": "completed", "step": steps, "total": steps}
    RunLayout(folder).attempt(1).status.write_text(json.dumps(status))
    RunLayout(folder).config.write_text("{}\n")
    return metrics


def write_attempt(folder: Path, number: int) -> Path:
    """Begin the metrics file of an attempt, and return it."""
    attempt = RunLayout(folder).attempt(number)
    attempt.folder.mkdir(parents=True)
    attempt.metrics.write_bytes(encode_header(Header(folder.name, number, os.getpid(), 1, "boot")))
    return attempt.metrics


def fill(store: Store, run_id: str, steps: int) -> None:
    """Put steps after the first into the index, up to ``steps``, as if another file of the run had held them."""
    at: FilePosition | None = None
    records: list[tuple[int, MetricRecord]] = []
    for step, data in enumerate(values(steps - 1), 2):
        place = 10**12 + step
        records.append((place, MetricRecord(place, step, 1.7e9 + step, data)))
        if len(records) == _AT_ONCE or step == steps:
            end = FilePosition(place, 0, b"")
            assert store.commit(Batch(run_id, 1, "filled", at, end, records=records))
            at, records = end, []
