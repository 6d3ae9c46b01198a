"""What the kernel sends a panel: where the run stands and the charts shown, complete each time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from verl_lab.domain.metric import describe, first_charts
from verl_lab.widgets.reduce import Trace, reduce
from verl_lab.widgets.wording import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from verl_lab.domain.metric import Chart
    from verl_lab.widgets.source import PanelHeader, PanelSource

POINTS_MOST = 1_500
CHARTS_MOST = 24
_BYTES_MOST = 92_000
_FLOAT32_WHOLE = 2**24
# Of a chart's height: less than a tenth of a pixel.
_VISIBLE = 5e-4


@dataclass(frozen=True)
class Choice:
    """A metric that is offered as a chip, and whether its chart is shown."""

    chart: Chart
    shown: bool


def choices(names: list[str], wanted: Mapping[str, bool], only: Sequence[str] = ()) -> list[Choice]:
    """Return the charts a run starts with and those a person added, in a stable order.

    Parameters
    ----------
    names
        The metrics the run logs.
    wanted
        What a person switched on or off, by metric.
    only
        What to begin with in place of the charts that say most.
    """
    logged = set(names)
    first = [describe(name) for name in only if name in logged] if only else first_charts(names)
    known = {chart.metric for chart in first}
    added = [describe(name) for name, on in wanted.items() if on and name in logged and name not in known]
    return [Choice(chart, wanted.get(chart.metric, True)) for chart in [*first, *added]]


def snapshot(
    source: PanelSource, header: PanelHeader, wanted: Mapping[str, bool], only: Sequence[str] = ()
) -> tuple[dict[str, Any], list[bytes]]:
    """Return one message and its buffers: steps and values of each chart, in the charts' order.

    A panel that gets a snapshot needs no earlier one.
    """
    names = source.metric_names()
    offered = choices(names, wanted, only)
    shown = [choice.chart for choice in offered if choice.shown][:CHARTS_MOST]
    charts: list[dict[str, Any]] = []
    buffers: list[bytes] = []
    for chart in shown:
        steps, values = source.series(chart.metric)
        told, packed = _pack(chart, steps, values, size_bytes=_BYTES_MOST // len(shown))
        charts.append(told)
        buffers += packed
    message = {
        "type": "snapshot",
        "header": {**asdict(header), "live": header.is_live, "over": header.is_over},
        "chips": [{**asdict(choice.chart), "shown": choice.shown} for choice in offered],
        "charts": charts,
        "names": names,
    }
    return message, buffers


def _pack(
    chart: Chart, steps: NDArray[np.int64], values: NDArray[np.float64], *, size_bytes: int
) -> tuple[dict[str, Any], list[bytes]]:
    points = min(POINTS_MOST, size_bytes // 8)
    trace = reduce(steps, values, points=points)
    step_type = "f8" if trace.steps.size and int(np.abs(trace.steps).max()) > _FLOAT32_WHOLE else "f4"
    value_type = "f8" if _rounding_shows(trace.values) else "f4"
    if "f8" in (step_type, value_type):
        trace = reduce(steps, values, points=min(POINTS_MOST, size_bytes // 16))
    return (
        {
            **asdict(chart),
            "types": [step_type, value_type],
            "last": number(trace.last),
            "count": trace.count,
            "odd": _odd(trace),
            "marks": [trace.mark_steps.tolist(), trace.mark_kinds.tolist()],
        },
        [trace.steps.astype("<" + step_type).tobytes(), trace.values.astype("<" + value_type).tobytes()],
    )


def _odd(trace: Trace) -> str:
    """Say how many values are not finite; empty if all are."""
    return ", ".join(f"{n} {word}" for n, word in ((trace.nan, "NaN"), (trace.infinite, "infinite")) if n)


def _rounding_shows(values: NDArray[np.float64]) -> bool:
    """Whether a line drawn from float32 would differ visibly from the true one."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return False
    with np.errstate(over="ignore", under="ignore"):
        error = np.abs(finite.astype(np.float32) - finite).max()
        spread = finite.max() - finite.min()
    return bool(error > _VISIBLE * spread) and bool(spread > 0 or not np.isfinite(error))
