"""What a person has chosen to see in a panel, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from verl_lab.domain.metric import describe, first_charts, is_shown_first, system_charts
from verl_lab.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from verl_lab.domain.metric import Chart

CHARTS_MOST = 24
OVERLAYS_MOST = 6
SMOOTH_MOST = 0.99
AXES = ("step", "time")


@dataclass(frozen=True)
class Choice:
    """A metric that is offered as a chip, and whether its chart is shown."""

    chart: Chart
    shown: bool


@dataclass(frozen=True)
class Selection:
    """What is shown; every page that shows the panel shows the same.

    Attributes
    ----------
    only
        What to begin with in place of the charts that say most.
    wanted
        What a person switched on or off, by metric.
    over
        Ids of what is laid over the run's curves.
    smooth
        Weight of the moving average; 0 for none.
    is_log
        Whether the values' axis is logarithmic.
    axis
        ``step``, or ``time`` since the run began.
    span
        First and last point of the axis shown, in steps or seconds; None follows the run.
    """

    only: tuple[str, ...] = ()
    wanted: Mapping[str, bool] = field(default_factory=dict[str, bool])
    over: tuple[str, ...] = ()
    smooth: float = 0.0
    is_log: bool = False
    axis: str = "step"
    span: tuple[float, float] | None = None

    def choices(self, names: Collection[str]) -> list[Choice]:
        """Return the charts a run starts with and those a person added, in a stable order."""
        logged = set(names)
        if self.only:
            first = [describe(name) for name in self.only if name in logged]
            choices = [Choice(chart, self.wanted.get(chart.metric, True)) for chart in first]
        else:
            first = [*first_charts(names), *system_charts(names)]
            choices = [Choice(c, self.wanted.get(c.metric, is_shown_first(c.metric))) for c in first]
        known = {choice.chart.metric for choice in choices}
        added = [describe(n) for n, on in self.wanted.items() if on and n in logged and n not in known]
        return [*choices, *(Choice(chart, shown=True) for chart in added)]

    def shown(self, names: Collection[str]) -> list[Chart]:
        """Return the charts to draw."""
        return [choice.chart for choice in self.choices(names) if choice.shown][:CHARTS_MOST]

    def with_metric(self, metric: object, *, shown: bool, names: list[str]) -> Selection:
        """Switch one metric on or off.

        Raises
        ------
        NotFoundError
            The run logs no such metric.
        InvalidInputError
            There are as many charts as there can be.
        """
        if not isinstance(metric, str) or metric not in names:
            raise NotFoundError.of("metric", str(metric)[:200], names)
        if shown and len(self.shown(names)) >= CHARTS_MOST:
            raise InvalidInputError(f"A panel shows {CHARTS_MOST} charts at most.", "Switch one off first.")
        return replace(self, wanted={**self.wanted, metric: shown})

    def with_overlay(self, other: object, *, shown: bool, known: Collection[str]) -> Selection:
        """Lay another run over this one, or take it away.

        Raises
        ------
        NotFoundError
            There is no such run or attempt.
        InvalidInputError
            As many are laid over it as can be told apart.
        """
        if not isinstance(other, str) or (shown and other not in known):
            raise NotFoundError.of("run", str(other)[:200], known)
        rest = tuple(one for one in self.over if one != other)
        if shown and len(rest) >= OVERLAYS_MOST:
            raise InvalidInputError(f"{OVERLAYS_MOST} curves at most are laid over a run's.", "Take one away first.")
        return replace(self, over=(*rest, other) if shown else rest)

    def with_view(self, asked: Mapping[str, Any]) -> Selection:
        """Change how the charts are drawn, by what a page sent: ``smooth``, ``log``, ``axis``, ``span``.

        Raises
        ------
        InvalidInputError
            A value makes no sense; the field is named.
        """
        changed = self
        if "smooth" in asked:
            changed = replace(changed, smooth=_number(asked["smooth"], "smooth", least=0, most=SMOOTH_MOST))
        if "log" in asked:
            changed = replace(changed, is_log=asked["log"] is True)
        if "axis" in asked:
            if asked["axis"] not in AXES:
                raise InvalidInputError(f"axis: {str(asked['axis'])[:50]!r} is none.", f"It is {' or '.join(AXES)}.")
            changed = replace(changed, axis=asked["axis"], span=None)
        if "span" in asked:
            changed = replace(changed, span=_span(asked["span"]))
        return changed


def _number(value: object, name: str, *, least: float = -math.inf, most: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInputError(f"{name}: {str(value)[:50]!r} is no number.", "Give a finite number.")
    if not least <= value <= most:
        raise InvalidInputError(f"{name}: {value:g} is out of range.", f"It lies between {least:g} and {most:g}.")
    return float(value)


def _span(value: object) -> tuple[float, float] | None:
    if value is None:
        return None
    ends = cast("list[object]", value) if isinstance(value, list) else []
    if len(ends) != 2:  # noqa: PLR2004  the first and the last
        raise InvalidInputError("span: it is the first and the last point shown.", "Give two numbers.")
    low, high = sorted((_number(ends[0], "first"), _number(ends[1], "last")))
    return (low, high) if high > low else (low - 0.5, high + 0.5)
