"""What training hosts were measured to do, beside the metrics that trainers logged.

A host is measured every few seconds, however long a step takes, so these samples are kept by their time, as a
run of their own that is listed nowhere: nothing of them counts as a step of the training, and every one of them
stays. Where they are wanted by step, those taken while a step was in work are put together.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from verl_lab.domain.wire import SYSTEM
from verl_lab.store.frame import Frame
from verl_lab.store.metrics import Metrics
from verl_lab.store.pieces import Series
from verl_lab.store.rebuild import beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

IN_WORK = "step"  # the value of a sample that says which step was in work

# How the samples of a step are put together, by the last word of their name: memory and heat by the worst of them.
_WORST = {
    "memory_gb": np.maximum,
    "memory_percent": np.maximum,
    "gpu_memory_gb": np.maximum,
    "temperature_c": np.maximum,
    "disk_percent": np.maximum,
    "disk_free_gb": np.minimum,
}


class SystemMetrics(Metrics):
    """The metrics of all runs, and those of the hosts they trained on, whose names begin with ``system/``."""

    def system_names(self, run_id: str) -> list[str]:
        """Return what was measured of a run's host, sorted; ``names`` are those that the trainer logged."""
        return [name for name in self.names(beside(run_id)) if name.startswith(SYSTEM)]

    def samples(self, run_id: str, name: str, attempt: int | None = None) -> Series:
        """Return all samples of one ``system/`` metric by time: ``steps`` are milliseconds since 1970.

        Parameters
        ----------
        attempt
            Those of one attempt only.
        """
        if attempt is None:
            return super()._recall(beside(run_id), name, None, None, with_times=True)
        return super().of_attempt(beside(run_id), name, attempt)

    def sample_frame(self, run_id: str, names: Sequence[str]) -> Frame:
        """Return samples side by side, one row each: ``time``, ``attempt``, ``step`` in work, and the values."""
        found = {name: self.samples(run_id, name) for name in names}
        every = self.samples(run_id, IN_WORK)
        columns = {"time": every.times.copy(), "attempt": every.attempts.copy(), "step": every.values.astype(np.int64)}
        present: dict[str, NDArray[np.bool_]] = {}
        for name, one in found.items():
            held = np.isin(every.steps, one.steps, assume_unique=True)
            columns[name] = np.full(len(every.steps), np.nan)
            columns[name][held] = one.values[np.searchsorted(one.steps, every.steps[held])]
            if not held.all():
                present[name] = held
        return Frame(columns, present, index="time")

    def of_attempt(self, run_id: str, name: str, attempt: int) -> Series:
        """Return one metric of one attempt, with the steps that a later attempt masks."""
        if not name.startswith(SYSTEM):
            return super().of_attempt(run_id, name, attempt)
        return by_step(name, self.samples(run_id, name, attempt), self.samples(run_id, IN_WORK, attempt))

    def _recall(
        self, run_id: str, name: str, start_step: int | None, end_step: int | None, *, with_times: bool
    ) -> Series:
        if not name.startswith(SYSTEM):
            return super()._recall(run_id, name, start_step, end_step, with_times=with_times)
        found = by_step(name, self.samples(run_id, name), self.samples(run_id, IN_WORK))
        return found.between(0 if start_step is None else start_step, sys.maxsize if end_step is None else end_step)


def by_step(name: str, samples: Series, in_work: Series) -> Series:
    """Return samples put together by the step that was in work: their mean, or the worst of memory and heat.

    Parameters
    ----------
    samples, in_work
        By time: the metric, and the step. The latter may be newer.

    Returns
    -------
    Series
        The first attempt's samples before its first step are those of step 0. After a resume, an older attempt's
        samples of steps that were undone are left out. Times are those of each step's last sample.
    """
    if not len(samples.steps) or not len(in_work.steps):
        return Series.empty()
    places = np.minimum(np.searchsorted(in_work.steps, samples.steps), len(in_work.steps) - 1)
    steps = in_work.values[places].astype(np.int64)
    keep = in_work.steps[places] == samples.steps
    first = int(samples.attempts.min())
    keep &= (steps > 0) | (samples.attempts == first)
    for number in np.unique(samples.attempts)[1:]:
        own = steps[(samples.attempts == number) & (steps > 0)]
        if len(own):
            keep &= (samples.attempts >= number) | (steps < own.min())
    order = np.flatnonzero(keep)
    order = order[np.argsort(steps[order], kind="stable")]
    steps = steps[order]
    begins = np.flatnonzero(np.diff(steps, prepend=-1))
    if not len(begins):
        return Series.empty()
    ends = np.append(begins[1:], len(steps)) - 1
    worst = _WORST.get(name.rpartition("/")[2])
    values = samples.values[order]
    together = worst.reduceat(values, begins) if worst else np.add.reduceat(values, begins) / (ends - begins + 1)
    return Series(steps[begins], together, samples.times[order][ends], samples.attempts[order][ends])
