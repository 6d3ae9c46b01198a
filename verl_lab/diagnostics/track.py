"""Breaches of one rule in one metric, made into episodes: from when they count until they clear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROW = np.dtype(
    [
        ("at", np.int64),  # position of the point in its series
        ("level", np.int8),  # rank of the severity it breaches at
        ("counted", np.int8),  # rank held for as many points in a row as patience asks; 0 below that
        ("episode", np.int64),
        ("criterion", np.int8),
        ("value", np.float64),
        ("bound", np.float64),
    ]
)


@dataclass(frozen=True)
class Breaches:
    """Points that breach: position, rank, which criterion, the value and the bound; each ``(n,)``."""

    at: NDArray[np.int64]
    level: NDArray[np.int8]
    criterion: NDArray[np.int8]
    value: NDArray[np.float64]
    bound: NDArray[np.float64]


@dataclass(frozen=True)
class Episode:
    """One stretch of breaches that counted.

    Attributes
    ----------
    level
        Rank of the gravest severity it reached.
    first, last
        Positions at which it began to count, and of the last breach.
    cleared
        Position at which it was seen to be over; None while it goes on.
    began
        Position of the first breach.
    count
        Breaching points.
    worst
        Position of the worst value of the criterion that made it this grave.
    criterion, value, bound
        That criterion, value, and its bound.
    """

    level: int
    first: int
    last: int
    cleared: int | None
    began: int
    count: int
    worst: int
    criterion: int
    value: float
    bound: float


class Track:
    """Remembers every breach, and tells the episodes as they stood at any length of the series.

    Only breaching points are kept, so that a healthy metric costs nothing.

    Parameters
    ----------
    patience
        Points in a row that must breach before it counts.
    clears_after
        Points in a row without breach after which an episode is over.
    above
        For each criterion, whether larger is worse.
    """

    __slots__ = ("_above", "_clears_after", "_episode", "_patience", "_peak", "_rows", "_size")

    def __init__(self, *, patience: int, clears_after: int, above: tuple[bool, ...]) -> None:
        self._patience = patience
        self._clears_after = clears_after
        self._above = above
        self._rows = np.empty(0, _ROW)
        self._size = 0
        self._episode = 0
        self._peak = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing has ever breached."""
        return self._size == 0

    @property
    def last(self) -> int:
        """Position of the newest breach; -1 without one."""
        return int(self._rows["at"][self._size - 1]) if self._size else -1

    def extend(self, new: Breaches) -> bool:
        """Take in breaches that come after all earlier ones; return whether one now counts, or counts as graver."""
        count = len(new.at)
        before = min(self._size, self._patience - 1)
        context = self._rows[self._size - before : self._size]
        at = np.concatenate([context["at"], new.at])
        level = np.concatenate([context["level"], new.level])
        counted = _held(at, level, self._patience)[before:]
        is_apart = np.empty(count, np.bool_)
        is_apart[0] = self._size > 0 and new.at[0] - self.last > self._clears_after
        is_apart[1:] = new.at[1:] - new.at[:-1] > self._clears_after
        episode = self._episode + np.cumsum(is_apart)

        self._reserve(count)
        rows = self._rows[self._size : self._size + count]
        rows["at"], rows["level"], rows["counted"], rows["episode"] = new.at, new.level, counted, episode
        rows["criterion"], rows["value"], rows["bound"] = new.criterion, new.value, new.bound
        self._size += count

        newest = int(episode[-1])
        old_peak = self._peak if newest == self._episode else 0
        self._peak = max(old_peak, int(counted[episode == newest].max()))
        self._episode = newest
        return self._peak > old_peak

    def aggravate(self, again: Breaches) -> bool:
        """Take in the newest breach once more, if it is graver now; return as ``extend``."""
        if again.level[0] <= self._rows["level"][self._size - 1]:
            return False
        self._size -= 1
        return self.extend(again)

    def episodes(self, length: int, since: int = 0) -> list[Episode]:
        """Return the episodes that count as they stood when the series had ``length`` points, oldest first.

        Those whose last breach lies before the position ``since`` are left out.
        """
        rows = self._rows[: self._size]
        rows = rows[: int(np.searchsorted(rows["at"], length))]
        if since and len(rows) and (recent := int(np.searchsorted(rows["at"], since))):
            newest: np.int64 = rows["episode"][recent] if recent < len(rows) else rows["episode"][-1] + 1
            rows = rows[int(np.searchsorted(rows["episode"], newest)) :]
        if len(rows) == 0:
            return []
        starts = np.concatenate([[0], np.flatnonzero(np.diff(rows["episode"])) + 1])
        peaks = np.maximum.reduceat(rows["counted"], starts)
        ends = np.append(starts[1:], len(rows))
        return [self._describe(rows[starts[k] : ends[k]], length) for k in np.flatnonzero(peaks)]

    def newest(self, length: int) -> Episode:
        """Return the last episode, which must count."""
        rows = self._rows[: self._size]
        start = int(np.searchsorted(rows["episode"], self._episode))
        return self._describe(rows[start:], length)

    def _describe(self, rows: NDArray[np.void], length: int) -> Episode:
        counted = rows["counted"]
        level = int(counted.max())
        criterion = int(rows["criterion"][int(np.argmax(counted))])
        grave = np.flatnonzero((rows["level"] >= level) & (rows["criterion"] == criterion))
        values = rows["value"][grave]
        worst = rows[grave[int(np.argmax(values) if self._above[criterion] else np.argmin(values))]]
        last = int(rows["at"][-1])
        over = last + self._clears_after
        return Episode(
            level=level,
            first=int(rows["at"][int(np.argmax(counted > 0))]),
            last=last,
            cleared=over if over < length else None,
            began=int(rows["at"][0]),
            count=len(rows),
            worst=int(worst["at"]),
            criterion=criterion,
            value=float(worst["value"]),
            bound=float(worst["bound"]),
        )

    def _reserve(self, count: int) -> None:
        if self._size + count > len(self._rows):
            rows = np.empty(max(16, 2 * len(self._rows), self._size + count), _ROW)
            rows[: self._size] = self._rows[: self._size]
            self._rows = rows


def _held(at: NDArray[np.int64], level: NDArray[np.int8], patience: int) -> NDArray[np.int8]:
    """Return the rank that each point and the ``patience - 1`` before it, without a gap, all reach."""
    held = np.zeros(len(at), np.int8)
    if len(at) < patience:
        return held
    least = level[patience - 1 :].copy()
    for lag in range(1, patience):
        np.minimum(least, level[patience - 1 - lag : len(level) - lag], out=least)
    unbroken = at[patience - 1 :] - at[: len(at) - patience + 1] == patience - 1
    held[patience - 1 :] = np.where(unbroken, least, 0)
    return held
