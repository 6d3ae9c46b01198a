"""Statistics over windows of a series, for many points at once.

Each function gives the same numbers for a point whether it is asked for that point alone or for a
whole run: diagnosing step by step and diagnosing at once must agree to the last bit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEW = 32  # below so many windows, all pairs at once are faster than lag by lag
_Z_TWO_SIDED_95 = 1.959964


class Baseline(NamedTuple):
    """What a series was like just before each point.

    Attributes
    ----------
    median, deviation
        Median, and median absolute deviation from it; NaN where there were too few values, and the
        deviation also where it was not asked for.
    """

    median: NDArray[np.float64]
    deviation: NDArray[np.float64]


class Trend(NamedTuple):
    """Theil-Sen slopes, one for each window.

    Attributes
    ----------
    slope, low, high
        Median of the pairwise slopes and their 95 % confidence interval (Sen 1968), per step.
    span
        Steps from the first bin's centre to the last's.
    level
        Median of the bins.
    """

    slope: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    span: NDArray[np.float64]
    level: NDArray[np.float64]


def trailing_baseline(
    values: NDArray[np.float64], start: int, *, window: int, every: int, minimum: int, with_deviation: bool = False
) -> Baseline:
    """Return median and deviation of the ``window`` values before each point from ``start`` on.

    To be cheap over long runs the baseline moves on at every ``every``-th point: the one of point i
    is of the values before ``i // every * every``.
    """
    first, last = start // every, (len(values) - 1) // every
    ends = np.arange(first, last + 1) * every
    median = np.full(len(ends), np.nan)
    deviation = np.full(len(ends), np.nan)
    short = int(np.searchsorted(ends, window))
    for k in range(short):
        if ends[k] >= minimum:
            rows = values[None, : ends[k]]
            median[k : k + 1] = middle = _median(rows)
            if with_deviation:
                deviation[k : k + 1] = _median(np.abs(rows - middle[:, None]))
    if short < len(ends):
        rows = sliding_window_view(values, window)[ends[short:] - window]
        median[short:] = middle = _median(rows)
        if with_deviation:
            deviation[short:] = _median(np.abs(rows - middle[:, None]))
    block = np.arange(start, len(values)) // every - first
    return Baseline(median[block], deviation[block])


def trailing_sum(values: NDArray[np.float64], start: int, window: int) -> NDArray[np.float64]:
    """Return the sum of the ``window`` values up to each point from ``start`` on; NaN where there are fewer."""
    total = np.full(len(values) - start, np.nan)
    first = max(start, window - 1)
    if first < len(values):
        # Added in the same order for every point: a cumulative sum would depend on where it began.
        acc = values[first - window + 1 : len(values) - window + 1].copy()
        for lag in range(window - 2, -1, -1):
            acc += values[first - lag : len(values) - lag]
        total[first - start :] = acc
    return total


def mann_kendall(values: NDArray[np.float64], start: int, window: int) -> NDArray[np.float64]:
    """Return the Mann-Kendall z of the ``window`` values up to each point from ``start`` on.

    Positive where the values rise. Ties count as neither up nor down, and the variance is the one
    without ties, which errs towards no trend. NaN where there are fewer values.
    """
    z = np.full(len(values) - start, np.nan)
    first = max(start, window - 1)
    n_windows = len(values) - first
    if n_windows <= 0:
        return z
    tail = values[first - window + 1 :]
    if n_windows < _FEW:
        rows = sliding_window_view(tail, window)
        older, newer = _pairs(window)
        score = np.sign(rows[:, newer] - rows[:, older]).sum(axis=1)
    else:
        score = np.zeros(n_windows)
        for lag in range(1, window):
            newer, older = tail[lag:], tail[:-lag]
            sign = (newer > older).view(np.int8) - (newer < older).view(np.int8)
            ups = np.cumsum(sign, dtype=np.int64)
            score += ups[window - 1 - lag :]
            score[1:] -= ups[: n_windows - 1]
    z[first - start :] = kendall_z(score, window)
    return z


def kendall_z(score: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the normal deviate of a Mann-Kendall score over ``count`` values."""
    return (score - np.sign(score)) / np.sqrt(count * (count - 1) * (2 * count + 5) / 18)


def is_due_at(count: int) -> bool:
    """Return ``is_due`` for one number of points."""
    return count % (1 << max(0, count.bit_length() - 6)) == 0


def is_due(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return at which numbers of points a trend is worth computing anew: some 32 times each doubling."""
    exponent = np.frexp(counts.astype(np.float64))[1]
    return counts % (1 << np.maximum(0, exponent - 6)) == 0


def theil_sen(
    steps: NDArray[np.int64],
    values: NDArray[np.float64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    *,
    bins: int = 24,
) -> Trend:
    """Return the trend in each window ``first[k] … last[k]`` (positions, both included).

    A window with more values than ``bins`` is first averaged into so many of equal count.
    """
    result = Trend(*(np.full(len(first), np.nan) for _ in range(5)))
    sizes = np.minimum(last - first + 1, bins)
    for size in np.unique(sizes):
        if size <= 1:
            continue
        chosen = np.flatnonzero(sizes == size)
        one = _theil_sen_of_size(steps, values, first[chosen], last[chosen], int(size))
        for whole, part in zip(result, one, strict=True):
            whole[chosen] = part
    return result


def _theil_sen_of_size(
    steps: NDArray[np.int64], values: NDArray[np.float64], first: NDArray[np.int64], last: NDArray[np.int64], size: int
) -> Trend:
    low, high = int(first.min()), int(last.max())
    counts = (last - first + 1)[:, None]
    edges = (first - low)[:, None] + np.arange(size + 1) * counts // size
    widths = np.diff(edges, axis=1)
    x = _bin_sums(steps[low : high + 1].astype(np.float64), edges) / widths
    y = _bin_sums(values[low : high + 1], edges) / widths
    older, newer = _pairs(size)
    slopes = np.sort((y[:, newer] - y[:, older]) / (x[:, newer] - x[:, older]), axis=1)
    n_pairs = slopes.shape[1]
    spread = _Z_TWO_SIDED_95 * np.sqrt(size * (size - 1) * (2 * size + 5) / 18)
    lower = max(0, int((n_pairs - spread) / 2))
    middle = (slopes[:, (n_pairs - 1) // 2] + slopes[:, n_pairs // 2]) / 2
    return Trend(middle, slopes[:, lower], slopes[:, n_pairs - 1 - lower], x[:, -1] - x[:, 0], _median(y))


def _bin_sums(values: NDArray[np.float64], edges: NDArray[np.int64]) -> NDArray[np.float64]:
    padded = np.append(values, 0.0)  # an edge may lie one past the end
    sums = np.add.reduceat(padded, edges.ravel()).reshape(edges.shape)
    return sums[:, :-1]


@lru_cache(maxsize=64)
def _pairs(size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    older, newer = np.triu_indices(size, 1)
    return older, newer


def _median(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = np.sort(rows, axis=1)
    n = rows.shape[1]
    return (ordered[:, (n - 1) // 2] + ordered[:, n // 2]) / 2
