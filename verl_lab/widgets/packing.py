"""Charts as they are sent to a page: a description and binary traces, small and as exact as the eye can tell."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from verl_lab.widgets.reduce import Trace, reduce
from verl_lab.widgets.wording import number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from verl_lab.widgets.gather import Curve, Plot, Sheet

POINTS_MOST = 1_500
_BYTES_MOST = 86_000
_DESCRIPTION_BYTES = 1_000
_POINTS_LEAST = 8
_FLOAT32_WHOLE = 2**24
# Of a chart's height: less than a tenth of a pixel.
_VISIBLE = 5e-4


def pack(sheet: Sheet) -> tuple[dict[str, Any], list[bytes]]:
    """Return the charts' part of a message, and its buffers: places and values of each curve, in order."""
    count = sum(len(plot.curves) for plot in sheet.plots)
    room = max(0, _BYTES_MOST - _DESCRIPTION_BYTES * len(sheet.plots)) // max(1, count)
    buffers: list[bytes] = []
    charts: list[dict[str, Any]] = []
    for plot in sheet.plots:
        told, packed = _packed(plot, sheet, room)
        charts.append(told)
        buffers += packed
    first, last = sheet.extent
    return {
        "charts": charts,
        "lines": [
            {"name": name[:200], "drawn": drawn} for name, drawn in zip(sheet.names, sheet.is_drawn, strict=True)
        ],
        "axis": {
            "kind": sheet.kind,
            "scale": sheet.scale,
            "suffix": sheet.suffix,
            "extent": [first / sheet.scale, last / sheet.scale],
        },
    }, buffers


def odd(trace: Trace, *, is_log: bool, values: NDArray[np.float64]) -> str:
    """Say how many values cannot be drawn; empty if all can."""
    below = int(np.count_nonzero((values <= 0) & np.isfinite(values))) if is_log else 0
    counts = ((trace.nan, "NaN"), (trace.infinite, "infinite"), (below, "not above 0"))
    return ", ".join(f"{n} {word}" for n, word in counts if n)


def _packed(plot: Plot, sheet: Sheet, size_bytes: int) -> tuple[dict[str, Any], list[bytes]]:
    buffers: list[bytes] = []
    traces: list[dict[str, Any]] = []
    main: Trace | None = None
    for curve in plot.curves:
        trace, types = _fitted(curve, sheet.scale, size_bytes)
        # The first curve holds the run's own values, not their average: gaps are told of these.
        main = main or trace
        traces.append({"line": curve.line, "raw": curve.is_raw, "types": types})
        places = trace.steps / sheet.scale if sheet.scale != 1 else trace.steps
        buffers += [places.astype("<" + types[0]).tobytes(), trace.values.astype("<" + types[1]).tobytes()]
    none: list[list[float]] = [[], []]
    told: dict[str, Any] = {
        **asdict(plot.chart),
        "last": number(plot.last),
        "count": main.count if main else 0,
        "odd": odd(main, is_log=sheet.is_log, values=plot.curves[0].values) if main else "",
        "marks": [(main.mark_steps / sheet.scale).tolist(), main.mark_kinds.tolist()] if main else none,
        "flags": [{**flag, "x": flag["x"] / sheet.scale} for flag in plot.flags],
        "limits": plot.limits,
        "traces": traces,
    }
    return told, buffers


def _fitted(curve: Curve, scale: float, size_bytes: int) -> tuple[Trace, list[str]]:
    """Reduce a curve to what fits, and say in which types it travels."""
    places, values = curve.places, curve.values
    trace = reduce(places, values, points=max(_POINTS_LEAST, min(POINTS_MOST, size_bytes // 8)))
    step_type = "f8" if trace.steps.size and float(np.abs(trace.steps).max()) / scale > _FLOAT32_WHOLE else "f4"
    value_type = "f8" if _rounding_shows(trace.values) else "f4"
    if "f8" in (step_type, value_type):
        trace = reduce(places, values, points=max(_POINTS_LEAST, min(POINTS_MOST, size_bytes // 16)))
    return trace, [step_type, value_type]


def _rounding_shows(values: NDArray[np.float64]) -> bool:
    """Whether a line drawn from float32 would differ visibly from the true one."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return False
    with np.errstate(over="ignore", under="ignore"):
        error = np.abs(finite.astype(np.float32) - finite).max()
        spread = finite.max() - finite.min()
    return bool(error > _VISIBLE * spread) and bool(spread > 0 or not np.isfinite(error))
