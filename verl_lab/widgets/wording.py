"""Numbers, durations and the state of a run in words, for pictures, text and the panel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verl_lab.widgets.source import PanelHeader

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_LARGE, _WHOLE, _SMALL = 1e6, 100, 1e-3


def number(value: float | None) -> str:
    """Write a metric's value in the few characters a heading has."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+∞" if value > 0 else "−∞"
    size = abs(value)
    if size == 0:
        return "0"
    if size >= _LARGE or size < _SMALL:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    is_whole = size >= _WHOLE or size == int(size)
    text = f"{value:.0f}" if is_whole else f"{value:.2f}" if size >= 1 else f"{value:#.2g}"
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """Write a duration in its two largest units: ``1 m 04 s``."""
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} m {whole % _MINUTE:02d} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} m"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR:02d} h"


def progress(header: PanelHeader) -> str:
    """Say in one line how far a run is and where it trains."""
    parts: list[str] = []
    if header.step is not None:
        parts.append(f"step {header.step}" + (f" of {header.total}" if header.total is not None else ""))
    if header.phase and header.is_live and header.phase != "training":
        parts.append(header.phase)
    if header.elapsed_s is not None:
        parts.append(duration(header.elapsed_s))
    parts.append(header.host)
    if header.recipe:
        parts.append(f"recipe {header.recipe}")
    return " · ".join(parts)
