"""What the live panel shows of a run."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from verl_lab.domain.run import RunState
from verl_lab.widgets.source import PanelHeader

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from verl_lab.lab.lab import Lab
    from verl_lab.lab.run import Run
    from verl_lab.stream import RunUpdate

_PACE_STEPS = 20


class RunView:
    """A run as the panel's source: its header, its series, and word of every change."""

    def __init__(self, lab: Lab, run: Run) -> None:
        self._lab = lab
        self._run = run
        self._notice: str | None = None
        row = run.row
        self._name = row.name
        self._recipe = row.recipe
        self._host = row.host
        run.sync()

    def header(self) -> PanelHeader:
        """Return what the run is and where it stands now."""
        status = self._run.status()
        ours = not self._run.is_attached
        end = status.ended if status.state.is_over else time.time()
        elapsed = end - status.started if status.started is not None and end is not None else None
        return PanelHeader(
            run_id=self._run.id,
            name=self._name,
            state=status.state.value,
            reason=status.reason,
            phase=status.phase,
            step=status.step,
            total=status.total,
            elapsed_s=elapsed,
            remaining_s=self._remaining_s(status.step, status.total) if status.state is RunState.RUNNING else None,
            host=self._host,
            recipe=self._recipe,
            can_stop=ours and status.state.is_live,
            can_resume=ours and status.state.is_over and status.state is not RunState.COMPLETED,
            notice=self._notice,
        )

    def metric_names(self) -> list[str]:
        """Return the names of all metrics there are now."""
        return self._lab.store.metrics.names(self._run.id)

    def series(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return one metric; empty if it is not logged yet."""
        if name not in self.metric_names():
            return np.empty(0, np.int64), np.empty(0, np.float64)
        return self._lab.store.metrics.read(self._run.id, name)

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` after each change, from the reader's thread; returns what ends it."""

        def heard(update: RunUpdate) -> None:
            self._notice = update.error
            changed()

        return self._lab.feed.subscribe(heard, self._run.id).close

    def stop(self) -> None:
        """Stop the run; asked again, at once."""
        self._run.stop()

    def resume(self) -> None:
        """Go on from the last checkpoint."""
        self._run.resume()

    def _remaining_s(self, step: int | None, total: int | None) -> float | None:
        """Estimate from the median time of the last steps; None until two steps are done."""
        if not step or not total:
            return None
        times = self._lab.store.metrics.times(self._run.id, last=_PACE_STEPS)
        gaps = [b - a for a, b in pairwise(times) if b > a]
        return statistics.median(gaps) * max(0, total - step) if gaps else None
