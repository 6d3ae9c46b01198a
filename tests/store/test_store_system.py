"""Samples put together by the step that was in work, against the plainest way to do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from verl_lab.store import Series
from verl_lab.store.system import by_step

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

USE, HEAT, FREE = "system/gpu/use_percent", "system/gpu/temperature_c", "system/disk_free_gb"


def series(times: list[int], values: list[float], attempts: list[int]) -> Series:
    at = np.array(times, np.int64)
    return Series(at, np.array(values, np.float64), at / 1000, np.array(attempts, np.int64))


def plainly(name: str, samples: list[tuple[int, int, int, float]]) -> dict[int, float]:
    """Put (time, attempt, step, value) together one by one."""
    first = min(attempt for _, attempt, _, _ in samples)
    kept: dict[int, list[float]] = {}
    for _, attempt, step, value in samples:
        later = [s for _, a, s, _ in samples if a > attempt and s > 0]
        if (step > 0 or attempt == first) and all(step < one for one in later):
            kept.setdefault(step, []).append(value)
    put = {USE: lambda values: sum(values) / len(values), HEAT: max, FREE: min}[name]
    return {step: put(values) for step, values in sorted(kept.items())}


@pytest.mark.parametrize("name", [USE, HEAT, FREE])
def test_samples_come_together_as_the_plainest_way_has_it(name: str, dice: random.Random, rounds: Callable[[int], int]):
    for _ in range(rounds(1000)):
        samples: list[tuple[int, int, int, float]] = []
        time = 0
        for attempt in range(dice.randint(1, 2), dice.randint(3, 5)):
            step = 0
            begin = dice.randint(1, 8)
            for _ in range(dice.randint(1, 12)):
                time += dice.randint(1, 9)
                samples.append((time, attempt, step, dice.uniform(0, 100)))
                step = max(begin, step) + dice.randint(0, 1) if dice.random() < 0.7 else step
        held = [one for one in samples if dice.random() < 0.8]
        if not held:
            continue
        times, attempts, _, values = (list(one) for one in zip(*held, strict=True))
        in_work = series([s[0] for s in samples], [s[2] for s in samples], [s[1] for s in samples])
        found = by_step(name, series(times, values, attempts), in_work)
        assert dict(zip(found.steps.tolist(), found.values.tolist(), strict=True)) == pytest.approx(plainly(name, held))
        assert np.all(np.diff(found.steps) > 0)


def test_a_sample_whose_step_is_not_known_is_left_out():
    found = by_step(USE, series([1, 2, 3], [5, 6, 7], [1, 1, 1]), series([1, 3], [4, 4], [1, 1]))
    assert (found.steps.tolist(), found.values.tolist()) == ([4], [6])


def test_nothing_comes_of_nothing():
    assert len(by_step(USE, Series.empty(), Series.empty()).steps) == 0
    assert len(by_step(USE, series([1], [1], [1]), Series.empty()).steps) == 0
