"""The callback that judges the run as it trains, so that one with nobody watching is judged too."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from verl_lab.diagnostics import Diagnosis
from verl_lab.domain.finding import Severity
from verl_lab.domain.run import RunState, Status
from verl_lab.verl_plugin.alerts import Alerts
from verl_lab.verl_plugin.callbacks import TrainerCallback
from verl_lab.verl_plugin.checks import read_checks, read_config
from verl_lab.verl_plugin.history import EventTail, earlier_attempts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from verl_lab.domain.finding import Finding
    from verl_lab.verl_plugin.attempt import Attempt
    from verl_lab.verl_plugin.platform_callback import TrainingPlan
    from verl_lab.verl_plugin.progress import Progress
    from verl_lab.verl_plugin.writer import EventLog

_LOOK_S = 10.0  # how often to see whether training stands still
_STALL = "stall"
_STALL_GRACE_S = 60.0


class Judge(TrainerCallback):
    """Records findings as events ``finding``; a critical one marks the run and, if so asked, ends it.

    Parameters
    ----------
    attempt
        Whose files say how to judge, and hold what earlier attempts logged.
    events, progress
        Where findings are recorded, and where the supervisor reads that the run has failed.
    plan
        What is known when training begins.

    Raises
    ------
    FormatError, InvalidInputError
        The run folder's checks are not what they should be.
    """

    def __init__(self, attempt: Attempt, events: EventLog, progress: Progress, plan: TrainingPlan) -> None:
        self._checks = read_checks(attempt)
        self._attempt = attempt
        self._events = events
        self._progress = progress
        self._plan = plan
        self._alerts = Alerts(attempt, self._checks, events)
        self._diagnosis = Diagnosis(config=read_config(attempt), thresholds=self._checks.thresholds)
        self._tail = EventTail(attempt.layout.events)
        self._lock = threading.Lock()  # the diagnosis is asked by the thread that trains and by the one that looks
        self._over = threading.Event()
        self._step = plan.resumed_from
        self._is_carried_over = plan.resumed_from > 0
        self._marked_by: str | None = None
        self.wants_stop = False

    def on_train_begin(self) -> None:
        """Take in what earlier attempts logged, and begin to look for a standstill."""
        if self._plan.resumed_from:
            history = earlier_attempts(self._attempt, self._plan.resumed_from)
            with self._lock:
                self._diagnosis.extend(history.series, times=history.times)
        threading.Thread(target=self._look, name="verl-lab-judge", daemon=True).start()

    def on_step_end(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Judge a step."""
        self._judge(step, metrics)

    def on_validation_end(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Judge the validation before training; later ones are part of their step."""
        if step == 0:
            self._judge(step, metrics)

    def on_train_end(self, state: str) -> None:
        """Judge the end, and see that everyone has been told."""
        self._over.set()
        status = Status(
            run=self._attempt.run,
            attempt=self._attempt.number,
            state=RunState(state),
            step=self._step,
            total=self._plan.total_steps,
            exit_code=0,
        )
        with self._lock:
            found = self._diagnosis.end(status)
        self._report(found)
        self._alerts.close()

    def on_exception(self, error: BaseException) -> None:
        """See that everyone has been told."""
        self._over.set()
        self._alerts.close()

    def _judge(self, step: int, metrics: Mapping[str, Any]) -> None:
        with self._lock:
            self._step = step
            found = self._diagnosis.add(step, _numbers(metrics), time=time.time(), events=self._tail.read())
            if self._is_carried_over:
                # What was wrong before the checkpoint and still is would not be told as new.
                self._is_carried_over = False
                known = {(finding.rule, finding.metric) for finding in found}
                found += tuple(
                    finding
                    for finding in self._diagnosis.findings()
                    if finding.is_active and finding.last_step == step and (finding.rule, finding.metric) not in known
                )
        if self._marked_by == _STALL and not self.wants_stop:
            self._marked_by = None
            self._progress.mark(None)
        self._report(found)

    def _look(self) -> None:
        """Until the end, see whether training stands still: nobody else is there to notice."""
        is_told = False
        while not self._over.wait(_LOOK_S):
            with self._lock:
                found = self._diagnosis.tick(time.time())
            if found and not is_told:
                self._report(found)
            is_told = bool(found)

    def _report(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self._events.emit("finding", step=self._step, **asdict(finding))
            if finding.severity >= Severity.ERROR:
                self._alerts.send(finding)
            if finding.severity is Severity.CRITICAL and self._checks.on_critical != "ignore":
                self._mark(finding)

    def _mark(self, finding: Finding) -> None:
        """Say that the run has failed; the first reason stands."""
        if self._marked_by is None:
            self._marked_by = finding.rule
            self._progress.mark(f"Critical: {finding.rule} at step {finding.first_step}: {finding.evidence}.")
        if self._checks.on_critical == "stop" and not self.wants_stop and not self._over.is_set():
            self.wants_stop = True
            self._events.emit("stop_decided", step=self._step, rule=finding.rule)
            if finding.rule == _STALL:
                self._call_supervisor()

    def _call_supervisor(self) -> None:
        """Have the run ended by signals if it does not end by itself: a step that never ends cannot be asked."""
        path = self._attempt.layout.stop_request
        written = path.with_name(f".{path.name}.{os.getpid()}")
        written.write_bytes(orjson.dumps({"mode": "graceful", "time": time.time(), "grace_s": _STALL_GRACE_S}))
        with contextlib.suppress(FileExistsError):  # someone has asked already
            path.hardlink_to(written)
        written.unlink()


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return what is a number, as the metrics file holds it."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if type(value) is float:
            found[name] = value
        elif value is not None and not isinstance(value, (str, bytes)):
            try:
                found[name] = float(value)
            except Exception:  # noqa: BLE001, S112  a foreign object's __float__ may raise anything
                continue
    return found
