"""A report's charts: curves, health over time, and what the host did."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from verl_lab.domain.metric import BoundedChart, Chart, describe, first_charts, system_charts
from verl_lab.domain.wire import SYSTEM
from verl_lab.lab.reports.parts import said, shown
from verl_lab.lab.table import Table
from verl_lab.reports.charts import charts
from verl_lab.widgets.axis import Line
from verl_lab.widgets.gather import gather
from verl_lab.widgets.judgement import judge
from verl_lab.widgets.picture import Heading
from verl_lab.widgets.selection import CHARTS_MOST, OVERLAYS_MOST, Selection
from verl_lab.widgets.wording import number, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from verl_lab.diagnostics import Diagnosis
    from verl_lab.domain.finding import Finding
    from verl_lab.lab.lab import Lab
    from verl_lab.lab.reports.parts import Part
    from verl_lab.lab.run import Run
    from verl_lab.lab.view import RunView

_HEALTH = BoundedChart("verl-lab/health", "Health", "of 100", bounds=(0.0, 102.0))
_OPEN = Chart("verl-lab/open_findings", "Open findings", "number")
_POINTS = 240
_REASONS = ("not_measured", "sampling_failed")


class JudgedCurves:
    """A run's health, and how many findings were open, over the steps.

    Parameters
    ----------
    lab, run
        The run; it is judged at 240 steps at most, as it stood then.
    steps
        Its logged steps, increasing.
    """

    def __init__(self, lab: Lab, run: Run, steps: NDArray[np.int64]) -> None:
        at = np.unique(np.linspace(0, steps.size - 1, min(steps.size, _POINTS)).astype(np.intp))
        self._steps = steps[at]
        judged = lab.diagnoses.of(run).ask(
            lambda diagnosis: [_judged(diagnosis, step) for step in self._steps.tolist()]
        )
        self._health = np.array([score for score, _ in judged], dtype=np.float64)  # None becomes NaN
        self._open = np.array([count for _, count in judged], dtype=np.float64)

    def metric_names(self) -> list[str]:
        """Return what there is."""
        return [_HEALTH.metric, _OPEN.metric]

    def series(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return steps and values."""
        return self._steps, self._health if name == _HEALTH.metric else self._open

    def moments(self, name: str) -> None:
        """Say that these have steps."""
        del name

    def clock(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return no times."""
        return np.empty(0, np.int64), np.empty(0)


def _judged(diagnosis: Diagnosis, step: int) -> tuple[int | None, int]:
    return diagnosis.health(step).score, sum(one.is_active for one in diagnosis.findings(step))


def curves(views: Sequence[RunView], *, title: str, flagged: bool = True) -> list[Part]:
    """Return the charts that say most, the runs over each other; findings are marked on the first."""
    names = dict.fromkeys(name for view in views for name in view.metric_names())
    wanted = [chart for chart in first_charts(names) if not chart.metric.startswith(SYSTEM)]
    if not wanted:
        return [said("Nothing was logged.")]
    findings = judge(views[0]).findings if flagged else ()
    return [_drawn(views, _lines(views), wanted, title, findings=findings)]


def health(lab: Lab, views: Sequence[RunView], runs: Sequence[Run]) -> list[Part]:
    """Return health and open findings over the steps; findings are marked where they begin."""
    lines: list[Line] = []
    for line, view, run in zip(_lines(views), views, runs, strict=True):
        steps, _ = view.pulse()
        if steps.size:
            lines.append(Line(line.name, JudgedCurves(lab, run, steps)))
    if not lines:
        return [said("Nothing was logged, so there is nothing to judge.")]
    marked = [replace(one, metric=_HEALTH.metric, threshold=None) for one in judge(views[0]).findings]
    return [_drawn(views, lines, [_HEALTH, _OPEN], "Health over time", findings=marked)]


def system(view: RunView, run: Run) -> list[Part]:
    """Return what was measured of the training host, over time and in figures; in a sentence why there is nothing."""
    names = [name for name in view.metric_names() if name.startswith(SYSTEM)]
    wanted = system_charts(names) or [describe(name) for name in names]
    if not wanted:
        return [said(_why_unmeasured(run))]
    line = Line(view.header().name, view)
    sheet = gather([line], wanted, Selection(axis="time"))
    header = view.header()
    heading = Heading(f"{header.name} · the host", progress(header))
    rows: list[tuple[str, ...]] = []
    for chart in wanted:
        measured = view.moments(chart.metric)
        values = np.empty(0) if measured is None else measured[1][np.isfinite(measured[1])]
        if values.size:
            rows.append((f"{chart.label} ({chart.unit})", number(float(values.mean())), number(float(values.max()))))
    table = Table(("", "mean", "most"), tuple(rows), "Nothing was measured.")
    return [charts(heading, sheet), shown(table)]


def _drawn(
    views: Sequence[RunView], lines: Sequence[Line], wanted: Sequence[Chart], title: str, findings: Sequence[Finding]
) -> Part:
    header = views[0].header()
    # What the picture can tell apart.
    sheet = gather(lines[: OVERLAYS_MOST + 1], wanted[:CHARTS_MOST], Selection(), findings)
    name = header.name if len(views) == 1 else f"{len(views)} runs"
    return charts(Heading(f"{name} · {title}", progress(header) if len(views) == 1 else ""), sheet)


def _lines(views: Sequence[RunView]) -> list[Line]:
    headers = [view.header() for view in views]
    names = [header.name for header in headers]
    return [
        Line(header.run_id if names.count(header.name) > 1 else header.name, view)
        for header, view in zip(headers, views, strict=True)
    ]


def _why_unmeasured(run: Run) -> str:
    if run.is_attached:
        return "This is a log that something else writes: its host was not measured."
    for event in run.events():
        if event.kind in _REASONS:
            told: Any = event.data.get("reasons") or event.data.get("reason") or ""
            return f"The host was not measured: {told if isinstance(told, str) else '; '.join(map(str, told))}"
    return "The host was not measured."
