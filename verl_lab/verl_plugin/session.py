"""One trainer's link to its run folder, to the user's callbacks and to whoever asks it to stop."""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verl_lab.verl_plugin.attempt import CALLBACKS_VARIABLE, Attempt
from verl_lab.verl_plugin.callbacks import (
    CallbackList,
    describe_error,
    format_traceback,
    is_worth_recording,
    load_callbacks,
)
from verl_lab.verl_plugin.judge import Judge
from verl_lab.verl_plugin.platform_callback import PlatformCallback, TrainingPlan
from verl_lab.verl_plugin.progress import Progress, graceful_stop_requested
from verl_lab.verl_plugin.writer import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from verl_lab.verl_plugin.callbacks import TrainerCallback

_PACKAGES = ("verl-lab", "verl", "torch", "transformers", "ray", "vllm")


class TrainingSession:
    """What a trainer reports to; without an attempt, only the user's callbacks hear of it.

    Parameters
    ----------
    attempt
        Where the run folder is; None outside a verl-lab run.
    callback_names
        Dotted names of the user's callbacks, separated by commas.
    """

    def __init__(self, attempt: Attempt | None, callback_names: str = "") -> None:
        self._attempt = attempt
        self._events = EventLog(attempt, "trainer")
        self._progress = Progress(attempt.layout.progress if attempt else None)
        self._users = load_callbacks(callback_names)
        self._callbacks = CallbackList(self._users, self._events)
        self._judge: Judge | None = None
        self._derived: dict[str, float] = {}
        self._noted: Counter[str] = Counter()
        self._has_begun = False
        self._has_failed = False

    @classmethod
    @cache
    def current(cls) -> TrainingSession:
        """Return the session of this process, which is the one that trains."""
        return cls(Attempt.from_environment(), os.environ.get(CALLBACKS_VARIABLE, ""))

    def enter(self, phase: str) -> None:
        """Say what the trainer does now."""
        self._progress.enter(phase)

    def data_read(self, counts: Mapping[str, Any]) -> None:
        """Report what became of the rows of one part of the data."""
        self._events.emit("data_read", **counts)

    def begin(self, *, total_steps: int, resumed_from: int, platform: str) -> None:
        """Say that model and data are loaded."""
        if self._attempt is not None:
            self._has_begun = True
            plan = TrainingPlan(total_steps, resumed_from, platform, installed_versions())
            own: list[TrainerCallback] = [PlatformCallback(self._attempt, self._events, self._progress, plan)]
            self._judge = self._make_judge(self._attempt, plan)
            if self._judge is not None:
                own.append(self._judge)
            self._callbacks = CallbackList([*own, *self._users], self._events)
        self._callbacks.call("on_train_begin")

    def derive(self, compute: Callable[[], Mapping[str, float]]) -> None:
        """Add metrics that verl does not log to the step that ends next; one that fails is recorded."""
        try:
            self._derived.update(compute())
        except Exception as error:  # noqa: BLE001  whatever is wrong with an addition, training goes on
            self.note("derivation_failed", error)

    def step_ended(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Report a finished step with all that is logged for it."""
        derived, self._derived = self._derived, {}
        self._callbacks.call("on_step_end", step, {**metrics, **derived} if derived else metrics)

    def validation_ended(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Report a validation."""
        self._callbacks.call("on_validation_end", step, metrics)

    def checkpoint_saved(self, step: int, folder: str | os.PathLike[str]) -> None:
        """Report a complete checkpoint."""
        self._callbacks.call("on_checkpoint_saved", step, Path(folder))

    def note(self, kind: str, error: Exception) -> None:
        """Record an error that does not end training as an event: the 1st of its kind, the 2nd, 4th and so on."""
        self._noted[kind] += 1
        count = self._noted[kind]
        if is_worth_recording(count):
            self._events.emit(kind, error=describe_error(error), traceback=format_traceback(error), count=count)

    def checkpoint_refused(self, step: int) -> None:
        """Report that a checkpoint was not written because the model holds values that are not finite."""
        self._events.emit("checkpoint_skipped", step=step, reason="The model's weights are not finite.")

    def end(self, *, is_stopped: bool) -> None:
        """Report that training is over without an error."""
        self._callbacks.call("on_train_end", "stopped" if is_stopped else "completed")

    def fail(self, error: Exception) -> None:
        """Report the error that ends training; the same one passing several places is reported once."""
        if self._has_failed:
            return
        self._has_failed = True
        if not self._has_begun:
            # Nobody writes the run folder before the plan is known.
            self._events.emit("exception", error=describe_error(error), traceback=format_traceback(error))
        self._callbacks.call("on_exception", error)

    def stop_requested(self) -> bool:
        """Return whether to save a checkpoint and end: someone asked, or a critical finding does."""
        if self._judge is not None and self._judge.wants_stop:
            return True
        return self._attempt is not None and graceful_stop_requested(self._attempt.layout.stop_request)

    def _make_judge(self, attempt: Attempt, plan: TrainingPlan) -> Judge | None:
        try:
            return Judge(attempt, self._events, self._progress, plan)
        except Exception as error:  # noqa: BLE001  a run that cannot be judged is still trained
            self.note("diagnosis_failed", error)
            return None


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages a training depends on, of those that are installed."""
    found: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
