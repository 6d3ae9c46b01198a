"""Reducing a series keeps what a person would look for in it."""

from __future__ import annotations

import numpy as np
import pytest

from verl_lab.widgets.reduce import reduce


def _steps(n: int) -> np.ndarray:
    return np.arange(1, n + 1, dtype=np.int64)


def test_a_short_series_is_kept_as_it_is() -> None:
    values = np.array([3.0, 1.0, 2.0])
    trace = reduce(_steps(3), values, points=100)
    assert trace.steps.tolist() == [1, 2, 3]
    assert trace.values.tolist() == [3.0, 1.0, 2.0]
    assert (trace.last, trace.count, trace.nan, trace.infinite) == (2.0, 3, 0, 0)


def test_an_empty_series_has_no_last_value() -> None:
    trace = reduce(_steps(0), np.empty(0), points=100)
    assert (trace.last, trace.count, trace.steps.size, trace.mark_steps.size) == (None, 0, 0, 0)


@pytest.mark.parametrize("size", [1_501, 10_000, 131_072, 1_000_000])
@pytest.mark.parametrize("points", [8, 300, 1_500])
def test_extremes_ends_and_limit_hold_at_every_size(size: int, points: int) -> None:
    values = np.random.default_rng(size).normal(size=size)
    values[size // 3], values[size // 2] = 50.0, -50.0
    trace = reduce(_steps(size), values, points=points)
    assert trace.steps.size <= points
    assert (trace.values.max(), trace.values.min()) == (50.0, -50.0)
    assert (trace.steps[0], trace.steps[-1]) == (1, size)
    assert np.all(np.diff(trace.steps) > 0)
    assert np.array_equal(trace.values, values[np.asarray(trace.steps, np.int64) - 1])


def test_a_gap_of_one_step_stays_a_gap() -> None:
    values = np.sin(np.arange(100_000) / 1e3)
    values[54_321] = np.nan
    trace = reduce(_steps(100_000), values, points=1_000)
    assert trace.steps.size <= 1_000
    assert trace.steps[np.isnan(trace.values)].tolist() == [54_322]
    assert trace.nan == 1


def test_infinities_are_counted_and_marked_and_leave_the_axis_alone() -> None:
    values = np.ones(5_000)
    values[[10, 20, 4_999]] = np.inf, -np.inf, np.nan
    trace = reduce(_steps(5_000), values, points=500)
    assert np.nanmax(trace.values) == np.nanmin(trace.values) == 1.0
    assert (trace.nan, trace.infinite) == (1, 2)
    assert trace.mark_steps.tolist() == [11, 21, 5_000]
    assert trace.mark_kinds.tolist() == [1, -1, 0]
    assert np.isnan(trace.last or 0.0)


def test_many_gaps_are_thinned_to_marks_that_span_them() -> None:
    trace = reduce(_steps(9_000), np.full(9_000, np.nan), points=500)
    assert trace.nan == 9_000
    assert trace.mark_steps.size <= 60
    assert (trace.mark_steps[0], trace.mark_steps[-1]) == (1, 9_000)


def test_appending_leaves_the_drawn_part_where_it_was() -> None:
    values = np.random.default_rng(0).normal(size=60_000)
    before = reduce(_steps(50_000), values[:50_000], points=1_500)
    after = reduce(_steps(50_700), values[:50_700], points=1_500)
    # All but the last bin, which was not full yet.
    settled = before.steps[before.steps < 49_800]
    assert settled.size > 500
    assert np.array_equal(after.steps[after.steps < 49_800], settled)
