"""Runs to diagnose: recorded ones, and ones made of lists."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

Series = dict[str, tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def recorded(recordings: Path) -> Callable[[str], Series]:
    """Return a reader of verl's own logs; null is NaN."""

    def read(name: str) -> Series:
        points: dict[str, tuple[list[int], list[float]]] = {}
        for line in (recordings / f"{name}.jsonl").read_text().splitlines():
            record = json.loads(line)
            for metric, value in record["data"].items():
                steps, values = points.setdefault(metric, ([], []))
                steps.append(record["step"])
                values.append(math.nan if value is None else float(value))
        return {m: (np.array(s, np.int64), np.array(v, float)) for m, (s, v) in points.items()}

    return read


@pytest.fixture
def run_of() -> Callable[..., Series]:
    """Return a maker of series: a list of values, at steps 1, 2, 3, … or at ``every``-th steps."""

    def make(metrics: Mapping[str, Sequence[float]], every: int = 1) -> Series:
        return {
            name: (np.arange(1, len(values) + 1, dtype=np.int64) * every, np.array(values, float))
            for name, values in metrics.items()
        }

    return make
