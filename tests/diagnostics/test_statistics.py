"""Windowed statistics against their definitions, worked out the slow way."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from verl_lab.diagnostics.series import Series, masked
from verl_lab.diagnostics.statistics import is_due, is_due_at, mann_kendall, theil_sen, trailing_baseline, trailing_sum


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(1).normal(size=200).round(1)  # rounded: with ties


def test_mann_kendall_is_its_definition(values: Any):
    window = 12
    z = mann_kendall(values, 0, window)

    assert np.isnan(z[: window - 1]).all()
    for end in range(window - 1, len(values)):
        inside = values[end - window + 1 : end + 1]
        score = sum(np.sign(b - a) for a, b in itertools.combinations(inside, 2))
        expected = (score - np.sign(score)) / math.sqrt(window * (window - 1) * (2 * window + 5) / 18)
        assert z[end] == pytest.approx(expected)


def test_theil_sen_is_the_median_of_all_slopes_with_sens_interval(values: Any):
    steps = np.cumsum(np.random.default_rng(2).integers(1, 5, len(values)))
    first, last = np.array([10, 100]), np.array([30, 119])
    trend = theil_sen(steps, values, first, last)

    for k in range(2):
        xs, ys = steps[first[k] : last[k] + 1], values[first[k] : last[k] + 1]
        slopes = sorted((ys[j] - ys[i]) / (xs[j] - xs[i]) for i, j in itertools.combinations(range(len(xs)), 2))
        n = len(xs)
        rank = int((len(slopes) - 1.959964 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)) / 2)
        assert trend.slope[k] == pytest.approx(np.median(slopes))
        assert (trend.low[k], trend.high[k]) == pytest.approx((slopes[rank], slopes[-1 - rank]))


def test_theil_sen_finds_a_slope_under_noise_in_a_long_window():
    steps = np.arange(5000)
    noisy = 0.01 * steps + np.random.default_rng(0).normal(0, 5, 5000)
    trend = theil_sen(steps, noisy, np.array([0]), np.array([4999]))

    assert trend.low[0] < 0.01 < trend.high[0]
    assert trend.low[0] > 0.008


def test_trailing_baseline_is_of_the_values_before_the_block(values: Any):
    baseline = trailing_baseline(values, 0, window=20, every=10, minimum=10, with_deviation=True)

    assert np.isnan(baseline.median[:10]).all()
    for at in range(10, len(values)):
        end = at // 10 * 10
        before = values[max(0, end - 20) : end]
        assert baseline.median[at] == np.median(before)
        assert baseline.deviation[at] == np.median(np.abs(before - np.median(before)))


@pytest.mark.parametrize("start", [0, 1, 7, 30, 31, 99, 199])
def test_a_point_has_the_same_numbers_wherever_one_begins(start: int, values: Any):
    for whole, part in (
        (mann_kendall(values, 0, 20), mann_kendall(values, start, 20)),
        (trailing_sum(values, 0, 5), trailing_sum(values, start, 5)),
        (
            trailing_baseline(values, 0, window=50, every=10, minimum=10).median,
            trailing_baseline(values, start, window=50, every=10, minimum=10).median,
        ),
    ):
        np.testing.assert_array_equal(whole[start:], part)


def test_trend_is_due_at_every_value_first_and_ever_more_seldom():
    due = is_due(np.arange(1, 100_001))

    assert due[:63].all()
    assert 300 < due.sum() < 500
    assert [is_due_at(n) for n in range(1, 5001)] == due[:5000].tolist()


def test_masked_keeps_the_later_of_two_attempts():
    steps, values = masked(np.array([1, 2, 3, 4, 2, 3, 4, 4]), np.arange(8.0))

    assert steps.tolist() == [1, 2, 3, 4]
    assert values.tolist() == [0.0, 4.0, 5.0, 7.0]


def test_appended_nan_is_not_among_the_finite_points():
    series = Series()
    for step, value in enumerate([1.0, math.nan, 3.0]):
        series.append(step, value)

    assert series.finite.steps.tolist() == [0, 2]
    assert series.values[[0, 2]].tolist() == series.finite.values.tolist()


def test_series_parts_from_its_finite_points_at_the_first_nan():
    series = Series()
    series.append(1, 1.0)
    assert series.finite is series
    series.extend(np.array([2, 3, 4]), np.array([2.0, math.nan, 4.0]))
    series.append(5, math.inf)
    series.append(9, 9.0)

    assert series.bad == [2, 4]
    assert series.finite.steps.tolist() == [1, 2, 4, 9]
    assert series.finite.values.tolist() == [1.0, 2.0, 4.0, 9.0]
    assert [series.count_at(step) for step in (0, 1, 4, 8, 9, None)] == [0, 1, 4, 5, 6, 6]
