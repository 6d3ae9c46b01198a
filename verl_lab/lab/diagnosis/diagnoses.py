"""The diagnoses of a lab's runs, kept up to date from the index and the feed."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from verl_lab.diagnostics import Diagnosis, SampleSummary, summarise_samples
from verl_lab.domain.finding import Health
from verl_lab.errors import FormatError, NotFoundError, TransportError, VerlLabError
from verl_lab.lab import files
from verl_lab.lab.diagnosis.expected import outcomes
from verl_lab.lab.diagnosis.report import RunReport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from verl_lab.domain.wire import MetricRecord
    from verl_lab.lab.lab import Lab
    from verl_lab.lab.run import Run
    from verl_lab.store.events import RunEvent
    from verl_lab.stream import RunUpdate

    Points = tuple[NDArray[np.int64], NDArray[np.float64]]

T = TypeVar("T")

_LATELY_S = 600.0
_MOST_KEPT = 32  # runs whose diagnosis stays in memory
_MOST_PENDING = 20_000  # records that nobody asked about; beyond that, the index is read again


def report(lab: Lab, run: Run, step: int | None, thresholds: Mapping[str, Any] | None) -> RunReport:
    """Put into a report what there is to say about a run; one that cannot be read says why."""
    row = run.row
    own = None if thresholds is None else RunDiagnosis(lab, run, thresholds)
    try:
        health, findings, left_out = (own or lab.diagnoses.of(run)).ask(
            lambda diagnosis: (diagnosis.health(step), diagnosis.findings(step), diagnosis.not_applicable())
        )
        return RunReport(run.id, row.name, run.state.value, step, health, findings, left_out, outcomes(lab, run, step))
    except (TransportError, FormatError, NotFoundError) as error:
        return RunReport(run.id, row.name, row.state, step, Health(None, reason=error.message))
    finally:
        if own is not None:
            own.close()


def live(lab: Lab) -> list[Run]:
    """Return the runs that go on, newest first; a log of something else's does if it was written to lately."""
    found: list[Run] = []
    for run in lab.runs():
        try:
            is_live = _is_written_to(run) if run.is_attached else run.state.is_live
        except VerlLabError:  # its status is damaged, or its host away: the others are judged all the same
            continue
        if is_live:
            found.append(run)
    return found


def _is_written_to(run: Run) -> bool:
    stat = run.host.stat(run.folder)
    return stat is not None and time.time() - stat.mtime_ns / 1e9 < _LATELY_S


class Diagnoses:
    """One diagnosis for each run that was asked about lately."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._changing = threading.Lock()
        self._kept: OrderedDict[str, RunDiagnosis] = OrderedDict()

    def of(self, run: Run) -> RunDiagnosis:
        """Return the diagnosis of a run by its own thresholds, made when first asked for."""
        with self._changing:
            found = self._kept.get(run.id)
            if found is None:
                found = self._kept[run.id] = RunDiagnosis(self._lab, run)
            self._kept.move_to_end(run.id)
            dropped = self._kept.popitem(last=False)[1] if len(self._kept) > _MOST_KEPT else None
        if dropped is not None:
            dropped.close()
        return found

    def forget(self, run_id: str) -> None:
        """Judge a run anew, from its beginning, when it is next asked about."""
        with self._changing:
            found = self._kept.pop(run_id, None)
        if found is not None:
            found.close()

    def close(self) -> None:
        """Forget them all."""
        with self._changing:
            kept, self._kept = list(self._kept.values()), OrderedDict()
        for diagnosis in kept:
            diagnosis.close()


class RunDiagnosis:
    """One run's diagnosis. The first question reads all of the run; later ones take in what is new.

    Parameters
    ----------
    thresholds
        Changes to the rules' parameters; None takes those of the run's recipe.

    Any thread may ask; one at a time is answered.
    """

    def __init__(self, lab: Lab, run: Run, thresholds: Mapping[str, Any] | None = None) -> None:
        self._lab = lab
        self._run = run
        self._thresholds = thresholds
        self._asking = threading.Lock()
        self._diagnosis: Diagnosis | None = None
        self._attempt = 0
        self._last_step = -math.inf
        # What came since it was last asked, until it says that the index must be read again.
        self._pending: list[RunUpdate] = []
        self._pending_count = 0
        self._subscription = lab.feed.subscribe(self._hear, run.id)

    def ask(self, question: Callable[[Diagnosis], T]) -> T:
        """Bring the diagnosis up to date and put a question to it.

        Raises
        ------
        InvalidInputError
            The thresholds are not acceptable.
        VerlLabError
            The run cannot be read.
        """
        self._run.catch_up()
        status = self._run.status()
        with self._asking:
            diagnosis = self._up_to_date()
            if status.state.is_over:
                diagnosis.end(status)
            elif status.state.is_live:
                diagnosis.tick(time.time())
            return question(diagnosis)

    def close(self) -> None:
        """Hear no more of the run."""
        self._subscription.close()

    def _hear(self, update: RunUpdate) -> None:
        count = self._pending_count + len(update.records) + len(update.events)
        if count <= _MOST_PENDING:
            self._pending.append(update)
        self._pending_count = count

    def _up_to_date(self) -> Diagnosis:
        pending, self._pending = self._pending, []
        count, self._pending_count = self._pending_count, 0
        if self._diagnosis is None or count > _MOST_PENDING or not self._take_in(self._diagnosis, pending):
            # Anew: a resume has masked steps, a log went back, or it was another file.
            self._diagnosis = self._read_whole()
        return self._diagnosis

    def _take_in(self, diagnosis: Diagnosis, pending: list[RunUpdate]) -> bool:
        """Feed what the reader published; False if it does not go on from what is known."""
        records: list[MetricRecord] = []
        events: list[Any] = []
        for update in pending:
            if (update.records or update.events) and update.attempt != self._attempt:
                return False
            records += update.records
            events += update.events
        for record in records:
            if record.step < self._last_step:
                return False
            due = [event for event in events if event.step is None or event.step <= record.step]
            events = [event for event in events if event.step is not None and event.step > record.step]
            diagnosis.add(record.step, record.data, time=record.time, events=due)
            self._last_step = record.step
        if events:
            diagnosis.extend({}, events=events)
        return True

    def _read_whole(self) -> Diagnosis:
        run = self._run
        thresholds = self._recipes_thresholds() if self._thresholds is None else self._thresholds
        diagnosis = Diagnosis(config=run.config or None, thresholds=thresholds)
        read, longest = self._lab.store.metrics.whole(run.id)
        # What was told of by now, up to the last step read, was read with it and is not to be taken in again.
        told = len(self._pending)
        series = {name: (one.steps, one.values) for name, one in read.items()}
        events = _unmasked(self._lab.store.events.read(run.id), (longest.steps, longest.times))
        diagnosis.extend(series, times=(longest.steps, longest.times), samples=self._samples(series), events=events)
        attempts = [event.attempt for event in events]
        if len(longest.attempts):
            attempts.append(int(longest.attempts.max()))
        self._attempt = max(attempts, default=1)
        self._last_step = max((int(one.steps[-1]) for one in read.values() if len(one.steps)), default=-math.inf)
        if not run.state.is_over:
            diagnosis.make_room()
        self._pending[:told] = [self._unread(update) for update in self._pending[:told]]
        return diagnosis

    def _unread(self, update: RunUpdate) -> RunUpdate:
        """Leave out of an update what the index was read with."""
        is_older = update.attempt < self._attempt
        records = tuple(one for one in update.records if update.attempt > self._attempt or one.step > self._last_step)
        return replace(update, records=() if is_older else records, events=())

    def _samples(self, series: Mapping[str, Points]) -> dict[int, SampleSummary]:
        """Summarise the sample files of a run whose trainer did not."""
        if self._run.is_attached or any(name.startswith("samples/") for name in series):
            return {}
        host = self._run.host
        summaries: dict[int, SampleSummary] = {}
        for step, path in files.sample_files(host, files.attempts(host, self._run.layout), "rollout").items():
            try:
                summaries[step] = summarise_samples(files.read_sample_file(host, path))
            except (TransportError, ValueError):  # cut, gone, or being written: this step has no summary
                continue
        return summaries

    def _recipes_thresholds(self) -> Mapping[str, Any] | None:
        if self._run.is_attached:
            return None
        recipe: dict[str, Any] = self._run.launcher.read_record(self._run.folder).get("recipe") or {}
        checks: dict[str, Any] = recipe.get("checks") or {}
        return checks.get("thresholds")


def _unmasked(events: list[RunEvent], times: Points) -> list[RunEvent]:
    """Leave out what older attempts saw in steps that a resume has undone."""
    kept: list[RunEvent] = []
    limit: float = math.inf
    begun: dict[int, float] = {}
    for event in events:
        origin = event.data.get("resumed_from") if event.kind == "train_begin" else None
        if isinstance(origin, int):
            begun[event.attempt] = origin
    for attempt in sorted({event.attempt for event in events}, reverse=True):
        until = _time_of(limit, times)
        kept += [
            event
            for event in events
            if event.attempt == attempt
            and (event.step <= limit if event.step is not None else event.time is None or event.time <= until)
        ]
        limit = min(limit, begun.get(attempt, math.inf))
    return sorted(kept, key=lambda event: event.attempt)


def _time_of(step: float, times: Points) -> float:
    """Return when a step was recorded; infinity where nobody knows."""
    if math.isinf(step):
        return math.inf
    known = times[1][(times[0] <= step) & np.isfinite(times[1])]
    return float(known[-1]) if len(known) else -math.inf
