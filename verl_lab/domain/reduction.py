"""Which points of a long series to keep, so that extremes and gaps stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

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
    low, high = values, values
    if gaps:
        low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
    picks = [_first_of_bins(np.argmin, low, width), _first_of_bins(np.argmax, high, width), np.array([0, size - 1])]
    if gaps:
        holes = _first_of_bins(np.argmax, ~finite, width)
        picks.append(holes[~finite[holes]])
    return np.unique(np.concatenate(picks))


def _first_of_bins(pick: Callable[..., Any], array: NDArray[np.generic], width: int) -> NDArray[np.intp]:
    """Return where ``pick`` finds its element in each stretch of ``width``, the last of which may be shorter."""
    whole = array.size // width
    found = np.arange(whole) * width + pick(array[: whole * width].reshape(whole, width), axis=1)
    return found if whole * width == array.size else np.append(found, whole * width + pick(array[whole * width :]))
