"""Putting one metric together from blocks and rows of several attempts: arrays in, arrays out."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from verl_lab.store import packing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from verl_lab.store.attempts import Attempt

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Piece:
    """Consecutive records of one attempt that hold the metric, in the order they were written.

    ``seqs`` and ``times`` are functions, because most readings need neither.
    """

    attempt: int
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    seqs: Callable[[], NDArray[np.int64]]
    times: Callable[[], NDArray[np.float64]]


class Room:
    """Columns with free places at their end: a long series that grows by a point is not copied for it.

    Series that share them share what they have in common; only the longest can grow.
    """

    def __init__(self, columns: Sequence[NDArray[Any]], places: int) -> None:
        self._columns = [np.empty(places, column.dtype) for column in columns]
        self._used = 0
        self._growing = threading.Lock()
        self.append(0, columns)

    def append(self, size: int, more: Sequence[NDArray[Any]]) -> bool:
        """Write behind the first ``size`` places; False if they are not free, or too few."""
        end = size + len(more[0])
        with self._growing:
            if size != self._used or end > len(self._columns[0]):
                return False
            for column, values in zip(self._columns, more, strict=True):
                column[size:end] = values
            self._used = end
        return True

    def first(self, size: int) -> list[NDArray[Any]]:
        """Return the first so many places of each column."""
        return [column[:size] for column in self._columns]


@dataclass(frozen=True)
class Series:
    """One metric of a run. The arrays are read-only, because later readings may share them.

    Attributes
    ----------
    steps
        int64, shape ``(n,)``, strictly increasing.
    values
        float64, shape ``(n,)``.
    times
        Unix time of each in seconds, float64, shape ``(n,)``; NaN where the log has none.
    attempts
        Which attempt each comes from, int64, shape ``(n,)``.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    times: NDArray[np.float64]
    attempts: NDArray[np.int64]
    room: Room | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for part in (self.steps, self.values, self.times, self.attempts):
            part.flags.writeable = False

    @classmethod
    def empty(cls) -> Series:
        """Return a series of no points."""
        return cls(np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0, np.int64))

    @property
    def size_bytes(self) -> int:
        """How much memory the arrays take."""
        return self.steps.nbytes + self.values.nbytes + self.times.nbytes + self.attempts.nbytes

    def between(self, first: int, last: int) -> Series:
        """Return the points from step ``first`` to step ``last``, both included."""
        begin, end = 0, len(self.steps)
        if end and self.steps[0] < first:
            begin = int(np.searchsorted(self.steps, first))
        if end and self.steps[-1] > last:
            end = int(np.searchsorted(self.steps, last, side="right"))
        if end - begin == len(self.steps):
            return self
        cut = slice(begin, end)
        return Series(self.steps[cut], self.values[cut], self.times[cut], self.attempts[cut])


def extended(series: Series, piece: Piece, *, with_times: bool) -> Series | None:
    """Return a series with newer records after it; None where their steps do not go on upwards."""
    if not bool((np.diff(piece.steps, prepend=series.steps[-1:]) > 0).all()):
        return None
    old: list[NDArray[Any]] = [series.steps, series.values]
    more: list[NDArray[Any]] = [piece.steps, piece.values]
    if with_times:
        old += [series.times, series.attempts]
        more += [piece.times(), np.full(len(piece.steps), piece.attempt)]
    size, room = len(series.steps), series.room
    end = size + len(piece.steps)
    if room is None or not room.append(size, more):
        room = Room(old, end + end // 4)
        room.append(size, more)
    steps, values, *others = room.first(end)
    times, attempts = others or (series.times, series.attempts)
    return Series(steps, values, times, attempts, room)


def of_blocks(attempt: int, rows: Sequence[Any]) -> Piece:
    """Return what blocks hold: rows of (attempt, generation, present, values, rows, steps, seqs[, times])."""
    _, _, present, values, counts, steps, seqs, *times = zip(*rows, strict=True)
    places: NDArray[np.intp] | None = None
    if any(part is not None for part in present):
        starts = np.cumsum([0, *counts[:-1]])
        some = [packing.unpack_rows(part, count) for part, count in zip(present, counts, strict=True)]
        places = np.concatenate([start + where for start, where in zip(starts, some, strict=True)])

    def picked(whole: NDArray[Scalar]) -> NDArray[Scalar]:
        return whole if places is None else whole[places]

    return Piece(
        attempt=attempt,
        steps=picked(packing.unpack_ints(steps, counts)),
        values=packing.join_floats(values),
        seqs=lambda: picked(packing.unpack_ints(seqs, counts)),
        times=lambda: picked(
            np.concatenate([packing.unpack_times(part, count) for part, count in zip(times[0], counts, strict=True)])
        ),
    )


def of_rows(attempt: int, rows: Sequence[Any], places: dict[int, int]) -> Piece | None:
    """Return what packed rows hold: (attempt, generation, shape, step, seq, time, values).

    Parameters
    ----------
    places
        Where in the values of a shape the metric is, for the shapes that hold it.
    """
    kept = [row for row in rows if row[2] in places]
    if not kept:
        return None
    return Piece(
        attempt=attempt,
        steps=np.array([row[3] for row in kept], np.int64),
        values=packing.join_floats([row[6][8 * places[row[2]] : 8 * places[row[2]] + 8] for row in kept]),
        seqs=lambda: np.array([row[4] for row in kept], np.int64),
        times=lambda: np.array([np.nan if row[5] is None else row[5] for row in kept], np.float64),
    )


def join(pieces: list[Piece], shown: dict[int, Attempt], first: int, last: int, *, with_times: bool) -> Series:
    """Put pieces together, in the order of attempts: masked steps left out, the last of equal steps kept.

    Parameters
    ----------
    first, last
        The range of steps wanted, both included.
    with_times
        Whether times and attempts are wanted; they are empty else.
    """
    if not pieces:
        return Series.empty()
    keep = [_kept(piece, shown[piece.attempt].last_step, first, last) for piece in pieces]

    def put(parts: list[NDArray[Scalar]]) -> NDArray[Scalar]:
        cut = [part if mask is None else part[mask] for part, mask in zip(parts, keep, strict=True)]
        return cut[0] if len(cut) == 1 else np.concatenate(cut)

    steps = put([piece.steps for piece in pieces])
    values = put([piece.values for piece in pieces])
    order: NDArray[np.intp] | None = None
    numbers = np.empty(0, np.int64)
    is_sorted = bool((steps[1:] > steps[:-1]).all())
    if with_times or not is_sorted:
        numbers = put([np.full(len(piece.steps), piece.attempt) for piece in pieces])
    if not is_sorted:
        seqs = put([piece.seqs() for piece in pieces])
        order = np.lexsort((seqs, numbers, steps))  # the last key counts first; equals stay as they were written
        increasing = steps[order]
        order = order[np.append(increasing[1:] != increasing[:-1], [True])]
        steps, values = increasing[np.append(increasing[1:] != increasing[:-1], [True])], values[order]
    if not with_times:
        return Series(steps, values, np.empty(0), np.empty(0, np.int64))
    times = put([piece.times() for piece in pieces])
    return Series(steps, values, *((times, numbers) if order is None else (times[order], numbers[order])))


def _kept(piece: Piece, last_step: int | None, first: int, last: int) -> NDArray[np.bool_] | None:
    """Say which records are neither masked nor outside the range; None for all."""
    last = last if last_step is None else min(last, last_step)
    if len(piece.steps) == 0 or (piece.steps.min() >= first and piece.steps.max() <= last):
        return None
    return (piece.steps >= first) & (piece.steps <= last)
