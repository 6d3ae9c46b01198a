"""Findings on the curves: where they begin to count, and the threshold they passed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from verl_lab.domain.finding import Finding
    from verl_lab.widgets.reduce import Places

_FLAGS_MOST = 12
_LIMITS_MOST = 3


def flags_of(
    findings: Sequence[Finding],
    metric: str,
    steps: NDArray[np.int64],
    places: Places,
    values: NDArray[np.float64],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the markers of one metric's findings (``x, y, severity``) and its thresholds (``y, severity``).

    A threshold is drawn where it is one of the metric itself: the value it was compared with is a
    value of the curve, rather than a ratio or a slope made from it.
    """
    flags: list[dict[str, Any]] = []
    limits: dict[float, dict[str, Any]] = {}
    for finding in findings:
        if finding.metric != metric or not steps.size:
            continue
        at = int(np.searchsorted(steps, finding.first_step))
        if at < steps.size and math.isfinite(values[at]) and len(flags) < _FLAGS_MOST:
            flags.append({"x": float(places[at]), "y": float(values[at]), "severity": finding.severity.value})
        bound, worst = finding.threshold, finding.value
        is_known = bound is not None and worst is not None and math.isfinite(bound)
        if is_known and finding.is_active and len(limits) < _LIMITS_MOST and bool(np.any(values == worst)):
            limits.setdefault(float(bound or 0.0), {"y": bound, "severity": finding.severity.value})
    return flags, list(limits.values())
