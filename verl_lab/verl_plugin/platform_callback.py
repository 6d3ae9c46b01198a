"""The callback that writes the run folder."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, SupportsFloat

from verl_lab.verl_plugin.callbacks import TrainerCallback, describe_error, format_traceback, is_worth_recording
from verl_lab.verl_plugin.writer import MetricsWriter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from verl_lab.verl_plugin.attempt import Attempt
    from verl_lab.verl_plugin.progress import Progress
    from verl_lab.verl_plugin.writer import EventLog

# verl skips an update whose gradient norm is not finite and only prints it; the norm itself is logged
# (verl/workers/engine/fsdp/transformer_impl.py, FSDPEngine.optimizer_step).
_GRADIENT_NORMS = ("actor/grad_norm", "critic/grad_norm", "train/grad_norm")


@dataclass(frozen=True)
class TrainingPlan:
    """What is known when training begins.

    Attributes
    ----------
    total_steps
        The step at which training is over.
    resumed_from
        Step of the checkpoint that was loaded; 0 for a fresh start.
    platform
        verl's device name: ``cpu``, ``cuda``.
    versions
        Version by package.
    """

    total_steps: int
    resumed_from: int
    platform: str
    versions: dict[str, str] = field(default_factory=dict[str, str])


class PlatformCallback(TrainerCallback):
    """Writes ``metrics.jsonl``, ``events.jsonl`` and ``progress.json`` of one attempt."""

    def __init__(self, attempt: Attempt, events: EventLog, progress: Progress, plan: TrainingPlan) -> None:
        self._metrics = MetricsWriter(attempt, events)
        self._events = events
        self._progress = progress
        self._plan = plan
        self._step = plan.resumed_from
        self._non_finite = 0

    def on_train_begin(self) -> None:
        """Record the plan."""
        plan = self._plan
        self._events.emit(
            "train_begin",
            step=plan.resumed_from,
            total_steps=plan.total_steps,
            resumed_from=plan.resumed_from,
            platform=plan.platform,
            versions=plan.versions,
        )
        self._progress.enter("training", step=plan.resumed_from, total=plan.total_steps)

    def on_step_end(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Append the step's metrics."""
        self._metrics.write(step, metrics)
        self._step = step
        self._progress.advance(step)
        for name in _GRADIENT_NORMS:
            if name in metrics and not math.isfinite(metrics[name]):
                self._note_non_finite(step, name, metrics[name])

    def on_validation_end(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Record the validation; the one before training is also the metrics of step 0."""
        self._events.emit("validation_end", step=step, metrics={name: _plain(value) for name, value in metrics.items()})
        # After a resume, the record of this step was written by the attempt that trained it.
        if step == 0:
            self._metrics.write(step, metrics)

    def on_checkpoint_saved(self, step: int, path: Path) -> None:
        """Record where the checkpoint lies."""
        self._events.emit("checkpoint_saved", step=step, path=str(path))

    def on_train_end(self, state: str) -> None:
        """Record the end."""
        self._metrics.close()
        self._events.emit("train_end", step=self._step, state=state)
        self._progress.enter("finishing", step=self._step)

    def on_exception(self, error: BaseException) -> None:
        """Record the error."""
        self._metrics.close()
        self._events.emit("exception", step=self._step, error=describe_error(error), traceback=format_traceback(error))

    def _note_non_finite(self, step: int, name: str, value: float) -> None:
        self._non_finite += 1
        if is_worth_recording(self._non_finite):
            self._events.emit(
                "non_finite_gradient",
                step=step,
                line=f"{name} is {float(value)} at step {step}: verl skipped the update.",
                count=self._non_finite,
            )


def _plain(value: object) -> float | str:
    """Return a number that JSON holds, else its text; validations log numpy's scalars too."""
    if isinstance(value, SupportsFloat) and math.isfinite(number := float(value)):
        return number
    return str(value)
