"""Reduce a long series to what a chart can show, keeping extremes, gaps and infinities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MARKS_MOST = 60


@dataclass(frozen=True)
class Trace:
    """A series as it is drawn.

    Attributes
    ----------
    steps, values
        Shape ``(n_points,)``; a NaN value is a gap in the line.
    last
        The last value logged, finite or not; None for an empty series.
    count, nan, infinite
        How many values were logged, and how many of them are NaN and plus or minus infinity.
    mark_steps, mark_kinds
        Shape ``(n_marks,)``: where values are not finite, and what they are: 0 for NaN, 1 and -1
        for the infinities. Thinned out evenly when there are many.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    last: float | None
    count: int
    nan: int
    infinite: int
    mark_steps: NDArray[np.int64]
    mark_kinds: NDArray[np.int8]


def reduce(steps: NDArray[np.int64], values: NDArray[np.float64], *, points: int) -> Trace:
    """Keep about ``points`` points: of every bin its minimum, its maximum and its first gap.

    Parameters
    ----------
    steps, values
        Shape ``(n_steps,)``.
    points
        The most points to keep, at least 8.

    Returns
    -------
    Trace
        The first and the last point of the series are always among its points.
    """
    finite = np.isfinite(values)
    odd = np.flatnonzero(~finite)
    kept = _kept(values, finite, points, gaps=odd.size > 0)
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


def _kept(values: NDArray[np.float64], finite: NDArray[np.bool_], points: int, *, gaps: bool) -> NDArray[np.intp]:
    """Return the indices to keep, in order."""
    size = values.size
    if size <= points:
        return np.arange(size)
    # The width is a power of two: as points are appended the bins stay where they are, so that the
    # part of a line already drawn does not flicker.
    bins_most = (points - 2) // (3 if gaps else 2)
    width = 1 << int(np.ceil(np.log2(size / bins_most)))
    bins = -(-size // width)
    starts = np.arange(bins) * width
    low, high = values, values
    if gaps:
        low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
    picks = [
        starts + _binned(low, bins, width, fill=np.inf).argmin(axis=1),
        starts + _binned(high, bins, width, fill=-np.inf).argmax(axis=1),
        np.array([0, size - 1]),
    ]
    if gaps:
        holes = _binned(~finite, bins, width, fill=False)
        picks.append((starts + holes.argmax(axis=1))[holes.any(axis=1)])
    return np.unique(np.concatenate(picks))


def _binned(array: NDArray[np.generic], bins: int, width: int, *, fill: float | bool) -> NDArray[np.generic]:
    """Return ``array`` as ``(bins, width)``, the last row filled up."""
    missing = bins * width - array.size
    if missing:
        array = np.concatenate([array, np.full(missing, fill, dtype=array.dtype)])
    return array.reshape(bins, width)
