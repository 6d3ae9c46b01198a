"""What the live panel shows of a run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from verl_lab.diagnostics.samples import group_of
from verl_lab.domain.run import RunState
from verl_lab.domain.wire import SYSTEM
from verl_lab.errors import NotFoundError
from verl_lab.lab import files
from verl_lab.lab.summary import remaining_s
from verl_lab.widgets.source import PanelHeader, Sample, SampleGroup, SampleSheet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from verl_lab.domain.finding import Finding, Health
    from verl_lab.domain.run import Status
    from verl_lab.lab.lab import Lab
    from verl_lab.lab.run import Run
    from verl_lab.stream import RunUpdate
    from verl_lab.widgets.source import Curves

    Points = tuple[NDArray[np.int64], NDArray[np.float64]]
    Moments = tuple[NDArray[np.float64], NDArray[np.float64]]

_ATTEMPT = "attempt "
# verl logs these at every step; validation comes at steps of its own, before the first one too.
_EVERY_STEP = ("training/global_step", "train/loss", "critic/score/mean", "actor/grad_norm")
_VALIDATION = ("val-core/", "val/", "val-aux/")


class RunCurves:
    """A run's metrics, read from the index."""

    def __init__(self, lab: Lab, run_id: str) -> None:
        self._metrics = lab.store.metrics
        self._id = run_id

    def metric_names(self) -> list[str]:
        """Return the names of all metrics there are now, and of what was measured of the host."""
        return self._metrics.names(self._id) + self._metrics.system_names(self._id)

    def series(self, name: str) -> Points:
        """Return one metric; empty if it is not logged yet."""
        return self._metrics.read(self._id, name)

    def pulse(self) -> Points:
        """Return the steps that were logged and their times in seconds, NaN where the log has none."""
        names = self._metrics.names(self._id)
        found = [name for name in _EVERY_STEP if name in names][:1] or names[:1]
        found += [name for name in names if name.startswith(_VALIDATION)][:1]
        read = [self._metrics.series(self._id, name) for name in found]
        if not read:
            return np.empty(0, np.int64), np.empty(0)
        if len(read) == 1:
            return read[0].steps, read[0].times
        steps, places = np.unique(np.concatenate([one.steps for one in read]), return_index=True)
        return steps, np.concatenate([one.times for one in read])[places]

    def moments(self, name: str) -> Moments | None:
        """Return when each sample of the host was taken, and its value; None for a metric that has steps."""
        if not name.startswith(SYSTEM):
            return None
        found = self._metrics.samples(self._id, name)
        return found.times, found.values

    def clock(self) -> Points:
        """Return the steps whose time is known, and their times."""
        steps, times = self.pulse()
        known = np.isfinite(times)
        return steps[known], times[known]


class AttemptCurves:
    """One attempt's metrics as it logged them, those that a later attempt masks included."""

    def __init__(self, lab: Lab, run_id: str, attempt: int) -> None:
        self._metrics = lab.store.metrics
        self._id = run_id
        self._attempt = attempt

    def metric_names(self) -> list[str]:
        """Return the names of the run's metrics, and of what was measured of the host."""
        return self._metrics.names(self._id) + self._metrics.system_names(self._id)

    def series(self, name: str) -> Points:
        """Return one metric of this attempt."""
        found = self._metrics.of_attempt(self._id, name, self._attempt)
        return found.steps, found.values

    def moments(self, name: str) -> Moments | None:
        """Return when each sample of the host was taken in this attempt, and its value; None for other metrics."""
        if not name.startswith(SYSTEM):
            return None
        found = self._metrics.samples(self._id, name, self._attempt)
        return found.times, found.values

    def clock(self) -> Points:
        """Return the steps whose time is known, and their times."""
        names = self._metrics.names(self._id)
        name = next((name for name in _EVERY_STEP if name in names), names[0] if names else "")
        found = self._metrics.of_attempt(self._id, name, self._attempt)
        known = np.isfinite(found.times)
        return found.steps[known], found.times[known]


class RunView(RunCurves):
    """A run as the panel's source: everything it shows, and word of every change."""

    def __init__(self, lab: Lab, run: Run) -> None:
        super().__init__(lab, run.id)
        self._lab = lab
        self._run = run
        self._beside: dict[str, Curves] = {}
        row = run.row
        self._name = row.name
        self._recipe = row.recipe
        self._host = row.host
        self._notice: str | None = run.catch_up()

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
            remaining_s=self._remaining_s(status) if status.state is RunState.RUNNING else None,
            host=self._host,
            recipe=self._recipe,
            can_stop=ours and status.state.is_live,
            can_resume=ours and status.state.can_resume,
            notice=self._notice,
        )

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` after each change, from the reader's thread; returns what ends it."""

        def heard(update: RunUpdate) -> None:
            self._notice = update.error
            changed()

        return self._lab.feed.subscribe(heard, self._run.id).close

    def findings(self, step: int | None = None) -> Sequence[Finding]:
        """Return what is wrong with the run, as of ``step``."""
        return self._run.findings(step)

    def health(self, step: int | None = None) -> Health:
        """Return the health score, as of ``step``."""
        return self._run.health(step)

    def not_applicable(self) -> Mapping[str, str]:
        """Return the rules that say nothing about this run, and why."""
        return self._run.not_applicable()

    def samples(self, step: int | None, kind: str) -> SampleSheet:
        """Return the samples verl dumped at one step, those of one prompt together."""
        if self._run.is_attached:
            raise NotFoundError("This is a log that something else writes.", "Samples are found for runs started here.")
        attempts = files.attempts(self._run.host, self._run.layout)
        steps = {name: list(files.sample_files(self._run.host, attempts, name)) for name in ("validation", "rollout")}
        rows = self._run.samples(step, kind)
        wanted = max(steps[kind]) if step is None else step
        return SampleSheet(kind, wanted, steps, _grouped(rows))

    def log(self, tail: int) -> str:
        """Return the last lines that training printed."""
        return self._run.logs(tail)

    def config(self) -> Mapping[str, Any]:
        """Return verl's resolved configuration; empty for an attached log."""
        return self._run.config

    def others(self) -> Mapping[str, str]:
        """Return this run's attempts, if there are several, and all other runs, newest first."""
        found: dict[str, str] = {}
        if not self._run.is_attached:
            attempts = files.attempts(self._run.host, self._run.layout)
            if len(attempts) > 1:
                found = {f"{_ATTEMPT}{a.folder.name}": f"attempt {a.folder.name} of this run" for a in attempts}
        rows = [row for row in self._lab.store.runs.list() if row.id != self._run.id]
        return found | {row.id: f"{row.name} · {row.id}" for row in rows}

    def other(self, other_id: str) -> Curves:
        """Return the curves of another run, kept up to date from now on, or of an attempt."""
        if other_id not in self._beside:
            if other_id.startswith(_ATTEMPT):
                number = int(other_id.removeprefix(_ATTEMPT))
                self._beside[other_id] = AttemptCurves(self._lab, self._run.id, number)
            else:
                other = self._lab.run(other_id)
                other.catch_up()
                self._beside[other_id] = RunCurves(self._lab, other.id)
        return self._beside[other_id]

    def sync(self) -> None:
        """Read everything the run has written up to now."""
        self._run.sync()

    def diagnose(self) -> None:
        """Judge the run anew, from its beginning."""
        self._lab.diagnoses.forget(self._run.id)

    def stop(self) -> None:
        """Stop the run; asked again, at once."""
        self._run.stop()

    def resume(self) -> None:
        """Go on from the last checkpoint."""
        self._run.resume()

    def _remaining_s(self, status: Status) -> float | None:
        return remaining_s(self._lab.store, self._run.id, status.step, status.total)


def _grouped(rows: Sequence[Mapping[str, Any]]) -> tuple[SampleGroup, ...]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(group_of(row), []).append(row)
    return tuple(
        SampleGroup(str(members[0].get("input", "")), tuple(_sample(row) for row in members))
        for members in groups.values()
    )


def _sample(row: Mapping[str, Any]) -> Sample:
    score, expected = row.get("score"), row.get("gts")
    is_number = isinstance(score, int | float) and np.isfinite(score)
    return Sample(
        response=str(row.get("output", "")),
        score=float(score) if is_number and score is not None else None,
        expected=None if expected is None else str(expected),
    )
