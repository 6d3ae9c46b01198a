"""What is to be drawn, read from the runs: for every chart its lines, markers and thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from verl_lab.widgets.axis import Axis, unit_of
from verl_lab.widgets.flags import flags_of
from verl_lab.widgets.smoothing import smoothed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from verl_lab.domain.finding import Finding
    from verl_lab.domain.metric import Chart
    from verl_lab.widgets.axis import Line
    from verl_lab.widgets.reduce import Places
    from verl_lab.widgets.selection import Selection


@dataclass(frozen=True)
class Curve:
    """One curve of one chart.

    Attributes
    ----------
    line
        Which of the sheet's lines it belongs to.
    places, values
        Shape ``(n_points,)``.
    is_raw
        Whether it stands behind its own moving average.
    """

    line: int
    places: Places
    values: NDArray[np.float64]
    is_raw: bool = False


@dataclass(frozen=True)
class Plot:
    """One chart with everything in it.

    Attributes
    ----------
    last
        The last value of the first line in the part that is shown; None without one.
    flags, limits
        Where findings begin, and the thresholds they passed; see ``flags_of``.
    """

    chart: Chart
    curves: list[Curve]
    last: float | None
    flags: list[dict[str, Any]]
    limits: list[dict[str, Any]]


@dataclass(frozen=True)
class Sheet:
    """The charts of one picture, and the axis they share.

    Attributes
    ----------
    names
        What each line stands for; the first is the run itself.
    is_drawn
        Whether each line could be drawn on this axis.
    kind
        ``step`` or ``time``.
    extent
        First and last place of the axis, in steps or seconds.
    scale, suffix
        By what places are divided to be shown, and what is written behind them.
    is_log
        Whether the values' axis is logarithmic.
    """

    plots: list[Plot]
    names: list[str]
    is_drawn: list[bool]
    kind: str
    extent: tuple[float, float]
    scale: float
    suffix: str
    is_log: bool


def gather(
    lines: Sequence[Line], charts: Sequence[Chart], selection: Selection, findings: Sequence[Finding] = ()
) -> Sheet:
    """Read what is to be drawn.

    Parameters
    ----------
    lines
        What is drawn in every chart; the first is the run itself.
    charts, selection
        What is drawn, and how.
    findings
        What is marked on the first line.
    """
    axis = Axis(lines, selection)
    plots = [_plot(chart, lines, axis, selection, findings) for chart in charts]
    extent = axis.span or _extent([curve for plot in plots for curve in plot.curves])
    scale, suffix = unit_of(axis.kind, extent)
    return Sheet(
        plots=plots,
        names=[line.name for line in lines],
        is_drawn=[axis.has(k) for k in range(len(lines))],
        kind=axis.kind,
        extent=extent,
        scale=scale,
        suffix=suffix,
        is_log=selection.is_log,
    )


def _plot(chart: Chart, lines: Sequence[Line], axis: Axis, selection: Selection, findings: Sequence[Finding]) -> Plot:
    curves: list[Curve] = []
    flags: list[dict[str, Any]] = []
    limits: list[dict[str, Any]] = []
    last: float | None = None
    for k, line in enumerate(lines):
        if not axis.has(k):
            continue
        measured = line.curves.moments(chart.metric) if axis.kind == "time" else None
        if measured is not None:
            # What has no steps of its own is drawn whole, where it was measured.
            places, values = axis.moments(k, *measured)
        else:
            steps, values = line.curves.series(chart.metric)
            places = axis.places(k, steps)
            if k == 0:
                flags, limits = flags_of(findings, chart.metric, steps, places, values)
        shown, cut, end = axis.cut(places, values)
        if k == 0:
            last = float(cut[end - 1]) if end else None
        if selection.smooth:
            # The average is taken over all values, so that it does not begin anew where the part shown begins.
            average = axis.cut(places, smoothed(values, selection.smooth))[1]
            curves += [Curve(k, shown, cut, is_raw=True)] if k == 0 else []
            curves.append(Curve(k, shown, average))
        else:
            curves.append(Curve(k, shown, cut))
    return Plot(chart, curves, last, flags, limits)


def _extent(curves: Sequence[Curve]) -> tuple[float, float]:
    ends = [(float(curve.places[0]), float(curve.places[-1])) for curve in curves if curve.places.size]
    return (min(first for first, _ in ends), max(last for _, last in ends)) if ends else (0.0, 1.0)
