"""The moving average against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from verl_lab.widgets.smoothing import smoothed


def _by_definition(values: np.ndarray, weight: float) -> np.ndarray:
    above = below = 0.0
    out = np.full(values.shape, np.nan)
    for place, value in enumerate(values):
        if np.isfinite(value):
            above, below = weight * above + value, weight * below + 1.0
            out[place] = above / below
    return out


@pytest.mark.parametrize("weight", [0.01, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("size", [1, 2, 700, 5_000])
def test_average_is_what_its_definition_says(size: int, weight: float) -> None:
    values = np.random.default_rng(size).normal(size=size) * 1e3
    np.testing.assert_allclose(smoothed(values, weight), _by_definition(values, weight), rtol=1e-9, atol=1e-9)


def test_gaps_stay_gaps_and_count_for_nothing() -> None:
    values = np.array([1.0, np.nan, 3.0, np.inf, 5.0])
    found = smoothed(values, 0.5)
    np.testing.assert_allclose(found, _by_definition(values, 0.5))
    assert np.isnan(found[[1, 3]]).all()


def test_no_weight_gives_the_values_and_nothing_gives_nothing() -> None:
    values = np.array([1.0, 2.0])
    assert smoothed(values, 0.0) is values
    assert smoothed(np.empty(0), 0.9).size == 0
    assert np.isnan(smoothed(np.full(3, np.nan), 0.9)).all()


@pytest.mark.parametrize("factor", [1e300, 1e-300])
def test_huge_and_tiny_values_do_not_overflow(factor: float) -> None:
    found = smoothed(np.full(3_000, factor), 0.9)
    np.testing.assert_allclose(found, factor, rtol=1e-9)
