"""Reduce a long series to what a chart can show, keeping extremes, gaps and infinities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from verl_lab.domain.reduction import kept_points

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places = NDArray[np.int64] | NDArray[np.float64]

_MARKS_MOST = 60


@dataclass(frozen=True)
class Trace:
    """A series as it is drawn.

    Attributes
    ----------
    steps, values
        Shape ``(n_points,)``; a NaN value is a gap in the line. Steps, or times: places on the axis.
    last
        The last value logged, finite or not; None for an empty series.
    count, nan, infinite
        How many values were logged, and how many of them are NaN and plus or minus infinity.
    mark_steps, mark_kinds
        Shape ``(n_marks,)``: where values are not finite, and what they are: 0 for NaN, 1 and -1
        for the infinities. Thinned out evenly when there are many.
    """

    steps: Places
    values: NDArray[np.float64]
    last: float | None
    count: int
    nan: int
    infinite: int
    mark_steps: Places
    mark_kinds: NDArray[np.int8]


def reduce(steps: Places, values: NDArray[np.float64], *, points: int) -> Trace:
    """Keep about ``points`` points: of every bin its minimum, its maximum and its first gap.

    Parameters
    ----------
    steps, values
        Shape ``(n_steps,)``, the steps increasing; times will do as well.
    points
        The most points to keep, at least 8.

    Returns
    -------
    Trace
        The first and the last point of the series are always among its points.
    """
    finite = np.isfinite(values)
    odd = np.flatnonzero(~finite)
    kept = kept_points(values, finite, points=points)
    nan = int(np.count_nonzero(np.isnan(values[odd])))
    marks = odd[np.linspace(0, odd.size - 1, min(odd.size, _MARKS_MOST)).astype(np.intp)]
    return Trace(
        steps=steps[kept],
        values=np.where(finite[kept], values[kept], np.nan),
        last=float(values[-1]) if values.size else None,
        count=int(values.size),
        nan=nan,
        infinite=int(odd.size) - nan,
        mark_steps=steps[marks],
        mark_kinds=np.nan_to_num(np.sign(values[marks]), nan=0.0).astype(np.int8),
    )
