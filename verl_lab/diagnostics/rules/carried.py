"""Statistics of what came before, worked out now and then and kept in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from verl_lab.diagnostics.statistics import Baseline, is_due, is_due_at, theil_sen, trailing_baseline

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from verl_lab.diagnostics.statistics import Trend
    from verl_lab.diagnostics.watch import Watch


def carried_baseline(
    watch: Watch,
    start: int,
    values_from: Callable[[int], NDArray[np.float64]],
    *,
    window: int,
    every: int,
    minimum: int,
    with_deviation: bool = False,
) -> Baseline:
    """Return the baseline of each point from ``start`` on; see ``trailing_baseline``.

    Parameters
    ----------
    values_from
        Gives the values from a position on, to be asked only where the baseline has to move.
    """
    carry, size = watch.carry, watch.series.size
    block = (size - 1) // every
    if start // every == block and carry.get("block") == block:
        return Baseline(np.full(size - start, carry["median"]), np.full(size - start, carry["deviation"]))
    # A whole number of blocks back, so that the blocks fall alike wherever the values begin.
    first = max(0, (start // every - -(-window // every)) * every)
    baseline = trailing_baseline(
        values_from(first), start - first, window=window, every=every, minimum=minimum, with_deviation=with_deviation
    )
    carry["block"] = block
    carry["median"], carry["deviation"] = float(baseline.median[-1]), float(baseline.deviation[-1])
    return baseline


def carried_trend(
    watch: Watch,
    start: int,
    judge: Callable[[Trend, NDArray[np.int64]], NDArray[np.float64]],
    *,
    window_steps: float,
    window_share: float,
    least_values: int,
) -> NDArray[np.float64]:
    """Return a judgement on the trend up to each point from ``start`` on, shape ``(size - start,)``.

    The window reaches back ``window_steps`` steps, or ``window_share`` of the steps so far where that
    is longer; before there are so many, or with fewer values than ``least_values``, it is NaN.
    ``judge`` gets the trends and the positions of the windows' ends. Trends are computed at some
    32 points in each doubling of the series, and hold until the next.
    """
    series, carry = watch.series, watch.carry
    judged = np.full(series.size - start, np.nan)
    if series.size - start == 1 and not is_due_at(series.size):
        judged[0] = carry.get("trend", np.nan)
        return judged
    due = np.flatnonzero(is_due(np.arange(start + 1, series.size + 1))) + start
    held = carry.get("trend", np.nan)
    if len(due) == 0:
        judged[:] = held
        return judged
    steps = series.steps
    so_far: NDArray[np.int64] = steps[due] - steps[0]
    window: NDArray[np.float64] = np.maximum(window_steps, so_far * window_share)
    first: NDArray[np.intp] = np.searchsorted(steps, steps[due] - window, side="right")
    fit = (so_far >= window) & (due - first + 1 >= least_values)
    verdict = np.full(len(due), np.nan)
    if fit.any():
        verdict[fit] = judge(theil_sen(steps, series.values, first[fit], due[fit]), due[fit])
    carry["trend"] = float(verdict[-1])
    newest = np.searchsorted(due, np.arange(start, series.size), side="right")
    return np.append(held, verdict)[newest]
