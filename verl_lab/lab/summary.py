"""One line of the list of runs: where a run stands, how healthy it is, and how it goes."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from verl_lab.domain.finding import Severity
from verl_lab.domain.metric import first_charts
from verl_lab.domain.run import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.domain.finding import Finding
    from verl_lab.domain.run import Status
    from verl_lab.store import RunRow, Store

_PACE_STEPS = 20
_SPARK_POINTS = 60


@dataclass(frozen=True)
class Spark:
    """One metric's whole course in up to 60 values; None where it was no number."""

    metric: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class RunSummary:
    """One run in the list of runs.

    Attributes
    ----------
    phase
        What the trainer does now, in words; None where it is over or not known.
    elapsed_s, remaining_s
        Seconds since training was started, and until it should end; None while unknown.
    kind
        ``run``, or ``log`` for one that something else writes.
    health
        From 0 to 100; None while it is not judged, or where there is nothing to judge.
    worst
        The severity of the gravest finding that is active.
    alerts
        How many findings of severity ``warning`` and above are active.
    project
        The name of the folder it was launched from; None where that is not recorded.
    """

    id: str
    name: str
    state: str
    reason: str | None
    phase: str | None
    step: int | None
    total: int | None
    elapsed_s: float | None
    remaining_s: float | None
    host: str
    recipe: str | None
    algorithm: str | None
    kind: Literal["run", "log"]
    created: float
    health: int | None = None
    worst: Literal["critical", "error", "warning", "info"] | None = None
    alerts: int = 0
    spark: Spark | None = None
    can_stop: bool = False
    can_resume: bool = False
    project: str | None = None

    def differs_from(self, other: RunSummary | None) -> bool:
        """Whether there is more new than that time has passed."""
        return other is None or replace(self, elapsed_s=None) != replace(other, elapsed_s=None)


def summarise(row: RunRow, status: Status | None, now: float) -> RunSummary:
    """Return what the index, and the status where it is known better, say of a run."""
    state = RunState(row.state) if status is None else status.state
    ours = row.kind != "attached"
    started = row.started if status is None else status.started
    ended = row.ended if status is None else status.ended
    until = ended if state.is_over else now
    return RunSummary(
        id=row.id,
        name=row.name,
        state=state.value,
        reason=row.reason if status is None else status.reason,
        phase=None if status is None or state.is_over else status.phase,
        step=_later(row.step, None if status is None or status.attempt != row.attempt else status.step),
        total=row.total if status is None or status.total is None else status.total,
        elapsed_s=None if started is None or until is None else max(0.0, until - started),
        remaining_s=None,
        host=row.host,
        recipe=row.recipe,
        algorithm=row.algorithm,
        kind="run" if ours else "log",
        created=row.created,
        can_stop=ours and state.is_live,
        can_resume=ours and state.can_resume,
    )


def judged(summary: RunSummary, health: int | None, findings: Sequence[Finding]) -> RunSummary:
    """Return a summary with what a diagnosis said."""
    active = [finding.severity for finding in findings if finding.is_active]
    worst = max(active, default=None)
    alerts = sum(severity >= Severity.WARNING for severity in active)
    return replace(summary, health=health, worst=None if worst is None else worst.value, alerts=alerts)


def spark(store: Store, row: RunRow) -> Spark | None:
    """Return the course of the metric that a panel shows first; None where nothing was logged."""
    charts = first_charts(row.last)
    if not charts:
        return None
    metric = charts[0].metric
    values = store.metrics.read(row.id, metric)[1]
    if values.size > _SPARK_POINTS:
        edges = np.linspace(0, values.size, _SPARK_POINTS + 1).astype(np.intp)
        with np.errstate(invalid="ignore"):
            values = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
    return Spark(metric, tuple(float(one) if np.isfinite(one) else None for one in values))


def remaining_s(store: Store, run_id: str, step: int | None, total: int | None) -> float | None:
    """Estimate from the median time of the last steps; None until two steps are done."""
    if not step or not total:
        return None
    times = store.metrics.times(run_id, last=_PACE_STEPS)
    gaps = [b - a for a, b in pairwise(times) if b > a]
    return float(statistics.median(gaps)) * max(0, total - step) if gaps else None


def _later(one: int | None, other: int | None) -> int | None:
    return max((step for step in (one, other) if step is not None), default=None)
