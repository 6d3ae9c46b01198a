"""What the rules may know of a run besides the metric they look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from verl_lab.diagnostics.series import Series, count_up_to

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from verl_lab.domain.run import Status


RECORD_TIME = "record time"  # the clock's name among the series; no metric of verl's has a space in it


class RunFacts:
    """The run's metrics, its configuration, and how far it should go.

    Attributes
    ----------
    config
        verl's resolved configuration as nested mappings; None where it is not known.
    series
        Every metric logged so far, and the clock.
    clock
        Every step logged so far, with the time of its record (seconds; NaN where unknown).
    planned_steps
        The last step planned, as the trainer said when it began; None until then.
    platform
        verl's name for the kind of device, from the same; None until then.
    now
        The present, in the record times' seconds; None where nobody said.
    last_event
        Time of the newest event; None without one.
    ended
        How the run ended; None while it has not.
    """

    def __init__(self, config: Mapping[str, Any] | None) -> None:
        self.config = config
        self.clock = Series()
        self.series: dict[str, Series] = {RECORD_TIME: self.clock}
        self.planned_steps: int | None = None
        self.platform: str | None = None
        self.now: float | None = None
        self.last_event: float | None = None
        self.ended: Status | None = None

    @property
    def total_steps(self) -> int | None:
        """The last step planned: from the trainer, else from the configuration; None if neither says."""
        if self.planned_steps is not None:
            return self.planned_steps
        total = self.setting("trainer.total_training_steps")
        return int(total) if isinstance(total, int | float) and total > 0 else None

    def setting(self, key: str) -> Any:
        """Return the value of a dotted key of verl's configuration; None if it is unset or unknown."""
        found: Any = self.config
        for part in key.split("."):
            if not isinstance(found, Mapping):
                return None
            found = cast("Mapping[str, Any]", found).get(part)
        return found

    def number(self, key: str) -> float | None:
        """Return a setting that is a number; None if it is anything else."""
        value = self.setting(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def has_setting(self, key: str) -> bool:
        """Return whether the configuration has this key, whatever its value."""
        parent, _, leaf = key.rpartition(".")
        found = self.setting(parent) if parent else self.config
        return isinstance(found, Mapping) and leaf in found

    def finite(self, metric: str) -> Series | None:
        """Return a metric without its NaN and infinite points; None if the run has not logged it."""
        series = self.series.get(metric)
        return None if series is None else series.finite

    def at(self, metric: str, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the newest value of a metric at or before each of ``steps``; NaN where there is none."""
        series = self.finite(metric)
        if series is None or series.size == 0:
            return np.full(len(steps), np.nan)
        position = self.positions(metric, steps)
        return np.where(position >= 0, series.values[position], np.nan)

    def positions(self, metric: str, steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the position of a metric's newest value at or before each of ``steps``; -1 for none."""
        series = self.finite(metric)
        if series is None or series.size == 0 or len(steps) == 0:
            return np.full(len(steps), -1)
        first = count_up_to(series.steps, int(steps[0]) - 1)
        if np.array_equal(series.steps[first : first + len(steps)], steps):  # the usual case, and much faster
            return np.arange(first, first + len(steps))
        return np.searchsorted(series.steps, steps, side="right") - 1
