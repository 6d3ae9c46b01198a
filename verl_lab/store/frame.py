"""Metrics and events as a table: arrays, and from them pandas or Arrow, which are imported only then."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from verl_lab.domain.reduction import FEWEST_POINTS, kept_points
from verl_lab.errors import EnvironmentMismatchError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    from numpy.typing import NDArray

    from verl_lab.store.events import RunEvent
    from verl_lab.store.pieces import Series

KINDS = ("pandas", "arrow", "numpy")


@dataclass(frozen=True)
class Frame:
    """A table.

    Attributes
    ----------
    columns
        By name, each of shape ``(n_rows,)``.
    present
        Of the columns that have gaps, which rows hold something. A float column is NaN in the others.
    index
        The column that pandas takes as its index, if one is.
    """

    columns: dict[str, NDArray[Any]]
    present: dict[str, NDArray[np.bool_]] = field(default_factory=dict[str, "NDArray[np.bool_]"])
    index: str | None = None

    def to(self, kind: str) -> Any:
        """Return the table as ``pandas`` (DataFrame), ``arrow`` (pyarrow Table) or ``numpy`` (dict of arrays).

        A metric that is not logged at a step is NaN in pandas and numpy, as one is that was logged
        as NaN; Arrow tells them apart: the former is null.

        Raises
        ------
        InvalidInputError
            The kind is none of these.
        EnvironmentMismatchError
            The package is not installed.
        """
        if kind == "numpy":
            return dict(self.columns)
        if kind == "pandas":
            return self._pandas(_imported("pandas"))
        if kind == "arrow":
            return self._arrow(_imported("pyarrow"))
        raise InvalidInputError(f"kind: {kind!r} is no kind of table.", f"It is one of {', '.join(KINDS)}.")

    def _pandas(self, pandas: ModuleType) -> Any:
        columns: dict[str, Any] = {}
        for name, values in self.columns.items():
            present = self.present.get(name)
            if present is not None and values.dtype.kind == "i":
                columns[name] = pandas.arrays.IntegerArray(values, ~present)
            else:
                columns[name] = values
        frame = pandas.DataFrame(columns)
        return frame if self.index is None else frame.set_index(self.index)

    def _arrow(self, pyarrow: ModuleType) -> Any:
        columns: dict[str, Any] = {}
        for name, values in self.columns.items():
            present = self.present.get(name)
            is_text = values.dtype.kind == "O"
            # from_pandas is off: NaN is a value here, and what is missing is said by the mask.
            columns[name] = pyarrow.array(
                [x if isinstance(x, str) else orjson.dumps(x).decode() for x in values] if is_text else values,
                type=pyarrow.string() if is_text else None,
                mask=None if present is None else ~present,
                from_pandas=False,
            )
        return pyarrow.table(columns)


def of_metrics(series: Mapping[str, Series], points: int | None) -> Frame:
    """Return one row for each step and one column for each metric.

    Parameters
    ----------
    points
        About how many rows to keep: those of every metric's minima, maxima and gaps, at least 8 of
        each. What is kept holds the values of all metrics at its steps. None keeps all.
    """
    if points is not None and points < FEWEST_POINTS:
        raise InvalidInputError(f"points: {points} are too few to draw.", f"Give {FEWEST_POINTS} or more, or None.")
    chosen = [one.steps for one in series.values()]
    if points is not None:
        each = max(FEWEST_POINTS, points // max(1, len(series)))
        chosen = [one.steps[kept_points(one.values, np.isfinite(one.values), points=each)] for one in series.values()]
    steps = _union(chosen)
    columns: dict[str, NDArray[Any]] = {"step": steps}
    present: dict[str, NDArray[np.bool_]] = {}
    for name, one in series.items():
        if np.array_equal(one.steps, steps):
            columns[name] = one.values.copy()
            continue
        columns[name] = np.full(len(steps), np.nan)
        held = np.isin(steps, one.steps, assume_unique=True)
        columns[name][held] = one.values[np.searchsorted(one.steps, steps[held])]
        if not held.all():
            present[name] = held
    return Frame(columns, present, index="step")


def of_events(events: Sequence[RunEvent]) -> Frame:
    """Return one row for each event; ``data`` holds dictionaries, which are JSON text in Arrow."""
    known = np.array([event.step is not None for event in events], bool)
    data = np.empty(len(events), object)
    data[:] = [event.data for event in events]
    return Frame(
        {
            "attempt": np.array([event.attempt for event in events], np.int64),
            "source": np.array([event.source for event in events], object),
            "seq": np.array([event.seq for event in events], np.int64),
            "time": np.array([np.nan if event.time is None else event.time for event in events], np.float64),
            "kind": np.array([event.kind for event in events], object),
            "step": np.array([event.step or 0 for event in events], np.int64),
            "data": data,
        },
        {} if known.all() else {"step": known},
    )


def _union(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    if not parts:
        return np.empty(0, np.int64)
    if all(np.array_equal(part, parts[0]) for part in parts[1:]):
        return parts[0].copy()
    return np.unique(np.concatenate(parts))


def _imported(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise EnvironmentMismatchError(
            f"kind: this needs the package {package}, which is not installed.",
            f"Install it (pip install {package}), or ask for kind='numpy'.",
        ) from error
