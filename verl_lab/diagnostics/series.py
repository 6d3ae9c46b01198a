"""Growing arrays: a metric's steps and values, appended to without copying what is there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIRST_CAPACITY = 64


class Series:
    """One metric over the steps, growing at its end.

    Attributes
    ----------
    size
        Number of points.
    bad
        Positions of the points that are NaN or infinite, increasing.
    """

    __slots__ = ("_finite", "_steps", "_values", "bad", "size")

    def __init__(self) -> None:
        self._steps: NDArray[np.int64] = np.empty(0, np.int64)
        self._values: NDArray[np.float64] = np.empty(0, np.float64)
        self._finite: Series = self
        self.size = 0
        self.bad: list[int] = []

    @property
    def steps(self) -> NDArray[np.int64]:
        """Steps, shape ``(size,)``, strictly increasing."""
        return self._steps[: self.size]

    @property
    def values(self) -> NDArray[np.float64]:
        """Values, shape ``(size,)``."""
        return self._values[: self.size]

    @property
    def finite(self) -> Series:
        """The same without the points that are NaN or infinite; this very object where there are none."""
        return self._finite

    @property
    def last_step(self) -> int | None:
        """The newest step; None while empty."""
        return int(self._steps[self.size - 1]) if self.size else None

    def append(self, step: int, value: float) -> None:
        """Add one point; its step must lie after the last one."""
        if not math.isfinite(value):
            self._part_from_finite()
            self.bad.append(self.size)
        elif self._finite is not self:
            self._finite.append(step, value)
        if self.size == len(self._steps):
            self._grow(1)
        self._steps[self.size] = step
        self._values[self.size] = value
        self.size += 1

    def extend(self, steps: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Add points; the arrays are kept, not copied, by an empty series: do not change them afterwards."""
        if len(steps) == 0:
            return
        good = np.isfinite(values)
        is_clean = bool(good.all())
        if not is_clean:
            self._part_from_finite()
            self.bad.extend((np.flatnonzero(~good) + self.size).tolist())
        if self.size == 0:
            self._steps, self._values = steps, values
        else:
            if self.size + len(steps) > len(self._steps):
                self._grow(len(steps))
            self._steps[self.size : self.size + len(steps)] = steps
            self._values[self.size : self.size + len(steps)] = values
        self.size += len(steps)
        if self._finite is not self:
            self._finite.extend(*((steps, values) if is_clean else (steps[good], values[good])))

    def make_room(self) -> None:
        """Copy what was taken over by ``extend`` now, rather than when the next point comes."""
        if self.size and self.size == len(self._steps):
            self._grow(1)
        if self._finite is not self:
            self._finite.make_room()

    def count_at(self, step: int | None) -> int:
        """Return how many points there are up to and at ``step``; all of them for None."""
        if step is None or self.size == 0 or step >= self._steps[self.size - 1]:
            return self.size
        return count_up_to(self.steps, step)

    def _part_from_finite(self) -> None:
        if self._finite is self:
            self._finite = Series()
            # Copies: the finite series will grow on its own.
            self._finite.extend(self.steps.copy(), self.values.copy())

    def _grow(self, by: int) -> None:
        capacity = max(_FIRST_CAPACITY, 2 * len(self._steps), self.size + by)
        for name in ("_steps", "_values"):
            old = getattr(self, name)
            new = np.empty(capacity, old.dtype)
            new[: self.size] = old[: self.size]
            setattr(self, name, new)


def count_up_to(steps: NDArray[np.int64], step: int) -> int:
    """Return how many of the increasing ``steps`` lie at or before ``step``."""
    return int(np.searchsorted(steps, step, side="right"))


def masked(steps: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the points whose steps increase: where the steps go back, what was later is left out.

    A log with a resume in it counts up, goes back to the checkpoint and counts up again; the second
    time is the one that led to what the run is now.
    """
    steps = np.ascontiguousarray(steps, dtype=np.int64)
    values = np.ascontiguousarray(values, dtype=np.float64)
    if len(steps) <= 1 or bool((steps[1:] > steps[:-1]).all()):
        return steps, values
    least_later = np.minimum.accumulate(steps[::-1])[::-1]
    keep = np.append(steps[:-1] < least_later[1:], True)
    return steps[keep], values[keep]
