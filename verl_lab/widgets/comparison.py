"""Runs side by side: a widget with their curves, their values, and what differs in their configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl_lab.widgets.comparison_session import ComparisonSession, check_count
from verl_lab.widgets.judgement import judge
from verl_lab.widgets.live import STYLE, LiveWidget, front_end
from verl_lab.widgets.output import told_panel
from verl_lab.widgets.still import bundle
from verl_lab.widgets.told import clipped
from verl_lab.widgets.wording import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.widgets.contrast import Difference, Value
    from verl_lab.widgets.source import PanelSource

_TEXT_DIFFERENCES_MOST = 30
_FRONT = ("dom", "library", "menu", "plots", "charts", "picker", "toolbar", "tabs", "compare")


class Comparison(LiveWidget):
    """Shows two to seven runs in the same charts, live while one of them is.

    Parameters
    ----------
    sources
        The runs, in the order of their letters.
    metrics
        What to draw at first; by default the charts that say most about the first run.

    Raises
    ------
    InvalidInputError
        There are too few runs, or more than can be told apart.
    """

    _esm = front_end(*_FRONT)
    _css = STYLE

    def __init__(self, sources: Sequence[PanelSource], *, metrics: Sequence[str] = ()) -> None:
        check_count(len(sources))
        super().__init__()
        self._shown = ComparisonSession(sources, self._say, self._settle_once, metrics=metrics)
        self._begin(self._shown)

    def values(self, metric: str) -> list[Value]:
        """Return the last and the best value of a metric in each run."""
        return self._shown.values(metric)

    def differences(self) -> list[Difference]:
        """Return what differs in the runs' configurations."""
        return self._shown.differences()

    def _still(self) -> dict[str, Any]:
        live = self._shown
        charts = live.selection.shown(live.names())
        has_values = any(value.last is not None for chart in charts for value in live.values(chart.metric))
        return bundle(self._summary(), live.picture() if has_values else None)

    def _summary(self) -> str:
        live = self._shown
        headers = [source.header() for source in live.sources]
        lines = [f"Comparison of {len(headers)} runs"]
        for k, (header, source) in enumerate(zip(headers, live.sources, strict=True)):
            health = judge(source).health
            score = f"health {health.score}" if health.score is not None else "no health score"
            lines.append(f"  {'ABCDEFGH'[k]}  {header.name} ({header.run_id}): {header.state}, {score}")
        letters = "".join(f"{'ABCDEFGH'[k]:>24}" for k in range(len(headers)))
        lines += ["", f"{'last (best at step)':<28}{letters}"]
        for chart in live.selection.shown(live.names()):
            cells = "".join(f"{_cell(value):>24}" for value in live.values(chart.metric))
            lines.append(f"{chart.label[:27]:<28}{cells}")
        found = [one for one in live.differences() if not one.is_noise]
        lines += ["", "Configuration that differs" if found else "No difference in the configuration is known."]
        for one in found[:_TEXT_DIFFERENCES_MOST]:
            lines.append(f"  {one.key}: " + " | ".join("–" if v is None else clipped(v, 60) for v in one.values))
        if len(found) > _TEXT_DIFFERENCES_MOST:
            lines.append(f"  and {len(found) - _TEXT_DIFFERENCES_MOST} more")
        return "\n".join(lines)

    def _told(self) -> dict[str, Any]:
        runs = [source.header().run_id for source in self._shown.sources]
        return told_panel("compare", runs, self._shown.selection.only)


def _cell(value: Value) -> str:
    best = "" if value.best is None else f" ({number(value.best)} at {value.best_step})"
    return f"{number(value.last)}{best}"
