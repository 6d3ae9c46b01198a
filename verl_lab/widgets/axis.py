"""Where the points of several runs lie on their common axis: at their step, or their time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from verl_lab.widgets.reduce import Places
    from verl_lab.widgets.selection import Selection
    from verl_lab.widgets.source import Curves

# From so many seconds on, the axis counts in this unit.
_UNITS = ((0.0, 1.0, " s"), (180.0, 60.0, " m"), (3 * 3600.0, 3600.0, " h"), (3 * 86_400.0, 86_400.0, " d"))


@dataclass(frozen=True)
class Line:
    """What one colour stands for: a run, or an attempt of it."""

    name: str
    curves: Curves


class Axis:
    """The axis that the charts of one picture share.

    Parameters
    ----------
    lines
        What is drawn on it.
    selection
        Whether it counts steps or time, and which part is shown.
    """

    def __init__(self, lines: Sequence[Line], selection: Selection) -> None:
        self.kind = selection.axis
        self.span = selection.span
        clocks = [_clock(line.curves) for line in lines] if self.kind == "time" else []
        self._begins = [float(times[0]) if times.size else 0.0 for _, times in clocks]
        self._clocks = [(steps, times - begin) for (steps, times), begin in zip(clocks, self._begins, strict=True)]

    def has(self, line: int) -> bool:
        """Whether a line can be drawn: on a time axis its log must say when its steps were."""
        return self.kind == "step" or self._clocks[line][0].size > 0

    def places(self, line: int, steps: NDArray[np.int64]) -> Places:
        """Return where steps of a line lie: the steps, or seconds since the line's first record."""
        if self.kind == "step":
            return steps
        return np.interp(steps, *self._clocks[line])

    def moments(
        self, line: int, times: NDArray[np.float64], values: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return where moments lie on a time axis, and their values; those before the line's first record fall away.

        The axis begins there, and loading a model may take longer than all that a curve has to show.
        """
        places = np.maximum.accumulate(times) - self._begins[line]
        first = int(np.searchsorted(places, 0.0))
        return places[first:], values[first:]

    def cut(self, places: Places, values: NDArray[np.float64]) -> tuple[Places, NDArray[np.float64], int]:
        """Return the part that is shown, with a point beyond either end so that the line goes on to the edge.

        The third is the position after the last point inside, 0 if none is.
        """
        if self.span is None:
            return places, values, places.size
        first = int(np.searchsorted(places, self.span[0], side="left"))
        end = int(np.searchsorted(places, self.span[1], side="right"))
        start = max(0, first - 1)
        return places[start : end + 1], values[start : end + 1], end - start if end > first else 0


def unit_of(kind: str, extent: tuple[float, float]) -> tuple[float, str]:
    """Return by what an axis' numbers are divided, and what is written behind them."""
    if kind == "step":
        return 1.0, ""
    width = max(abs(extent[0]), abs(extent[1]))
    return next((scale, suffix) for least, scale, suffix in reversed(_UNITS) if width >= least)


def _clock(curves: Curves) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    steps, times = curves.clock()
    known = np.isfinite(times)
    # A clock that was set back must not turn the line round.
    return steps[known], np.maximum.accumulate(times[known])
