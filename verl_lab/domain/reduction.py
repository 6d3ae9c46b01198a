"""Which points of a long series to keep, so that extremes and gaps stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST_POINTS = 8


def kept_points(values: NDArray[np.float64], finite: NDArray[np.bool_], *, points: int) -> NDArray[np.intp]:
    """Return the indices of about ``points`` points: of every bin its minimum, its maximum and its first gap.

    Parameters
    ----------
    values
        Shape ``(n_steps,)``.
    finite
        Which of them are finite, shape ``(n_steps,)``; the others are gaps.
    points
        The most points to keep, at least 8.

    Returns
    -------
    intp array, shape (n_kept,)
        Increasing; the first and the last point are always among them.
    """
    size = values.size
    if size <= points:
        return np.arange(size)
    gaps = not finite.all()
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
