"""Runs side by side: a widget with their curves, their values, and what differs in their configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl_lab.errors import InvalidInputError
from verl_lab.widgets import answers
from verl_lab.widgets.axis import Line
from verl_lab.widgets.contrast import Difference, Value, best_of, differences, value_of
from verl_lab.widgets.gather import gather
from verl_lab.widgets.judgement import judge
from verl_lab.widgets.live import STYLE, LiveWidget, front_end
from verl_lab.widgets.packing import pack
from verl_lab.widgets.picture import Heading, picture
from verl_lab.widgets.selection import OVERLAYS_MOST, Selection
from verl_lab.widgets.snapshot import told_chips, told_header, told_names, told_view
from verl_lab.widgets.still import bundle
from verl_lab.widgets.told import clipped, told_health
from verl_lab.widgets.wording import number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verl_lab.widgets.source import PanelHeader, PanelSource

RUNS_MOST = OVERLAYS_MOST + 1
_ROWS_MOST = 150
_VALUE_LONGEST = 120
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
        if not 1 < len(sources) <= RUNS_MOST:
            raise InvalidInputError(
                f"runs: {len(sources)} cannot be compared.", f"Give 2 to {RUNS_MOST} different runs."
            )
        super().__init__()
        self._sources = tuple(sources)
        self._selection = Selection(only=tuple(metrics))
        self._ends_hearing: list[Callable[[], None]] = [source.subscribe(self._wake) for source in sources]

    def values(self, metric: str) -> list[Value]:
        """Return the last and the best value of a metric in each run."""
        return [value_of(source, metric) for source in self._sources]

    def differences(self) -> list[Difference]:
        """Return what differs in the runs' configurations."""
        return differences([source.config() for source in self._sources])

    def _unsubscribe(self) -> None:
        for end in self._ends_hearing:
            end()

    def _is_over(self) -> bool:
        return all(source.header().is_over for source in self._sources)

    def _names(self) -> list[str]:
        return sorted({name for source in self._sources for name in source.metric_names()})

    def _lines(self, headers: Sequence[PanelHeader]) -> list[Line]:
        names = [header.name for header in headers]
        alike = {name for name in names if names.count(name) > 1}
        told = [header.run_id if header.name in alike else header.name for header in headers]
        return [Line(name, source) for name, source in zip(told, self._sources, strict=True)]

    def _snapshot(self) -> tuple[dict[str, Any], list[bytes]]:
        headers = [source.header() for source in self._sources]
        names, selection = self._names(), self._selection
        charts = selection.shown(names)
        drawn, buffers = pack(gather(self._lines(headers), charts, selection))
        runs = [
            {**told_header(header), "health": told_health(judge(source).health, {})}
            for header, source in zip(headers, self._sources, strict=True)
        ]
        return {
            "type": "snapshot",
            "runs": runs,
            "chips": told_chips(selection, names),
            "view": told_view(selection),
            "count": len(names),
            "live": any(header.is_live for header in headers),
            "values": [self._told_values(chart.metric, chart.label) for chart in charts],
            **drawn,
        }, buffers

    def _told_values(self, metric: str, label: str) -> dict[str, Any]:
        values = self.values(metric)
        return {
            "metric": metric,
            "label": label,
            "best": best_of(values, metric),
            "values": [
                [number(v.last), None if v.best is None else f"{number(v.best)} at step {v.best_step}"] for v in values
            ],
        }

    def _lists(self) -> Sequence[dict[str, Any]]:
        return (told_names(self._names()),)

    def _do(self, kind: str, asked: Mapping[str, Any]) -> bool:
        match kind:
            case "ready":
                pass
            case "show":
                shown = asked.get("shown") is True
                self._selection = self._selection.with_metric(asked.get("metric"), shown=shown, names=self._names())
            case "view":
                self._selection = self._selection.with_view(asked)
            case "differences" | "download":
                answer, buffers = self._differ() if kind == "differences" else self._download(asked.get("what"))
                self.send({**answer, "to": str(asked.get("to"))[:100]}, buffers)
                return False
            case other:
                raise InvalidInputError(f"type: a comparison cannot do {other[:50]!r}.")
        return True

    def _differ(self) -> tuple[dict[str, Any], list[bytes]]:
        found = self.differences()
        rows = [
            [clipped(d.key, 300), d.is_noise, [None if v is None else clipped(v, _VALUE_LONGEST) for v in d.values]]
            for d in sorted(found, key=lambda d: d.is_noise)[:_ROWS_MOST]
        ]
        unknown = [k for k, source in enumerate(self._sources) if not source.config()]
        return {"type": "differences", "rows": rows, "left_out": len(found) - len(rows), "unknown": unknown}, []

    def _download(self, what: object) -> tuple[dict[str, Any], list[bytes]]:
        if what == "picture":
            return {"type": "download", "name": "comparison.png"}, [self._picture()]
        if what != "data":
            raise InvalidInputError(f"what: {str(what)[:50]!r} cannot be downloaded.", "It is data or picture.")
        lines = [Line(source.header().run_id, source) for source in self._sources]
        metrics = [chart.metric for chart in self._selection.shown(self._names())]
        span = self._selection.span if self._selection.axis == "step" else None
        return {"type": "download", "name": "comparison.csv"}, [answers.table(lines, metrics, span)]

    def _picture(self) -> bytes:
        headers = [source.header() for source in self._sources]
        charts = self._selection.shown(self._names())
        sheet = gather(self._lines(headers), charts, self._selection)
        return picture(Heading(f"Comparison of {len(headers)} runs", self._standing(headers)), sheet)

    def _standing(self, headers: Sequence[PanelHeader]) -> str:
        return " · ".join(f"{'ABCDEFGH'[k]} {header.state}" for k, header in enumerate(headers))

    def _still(self) -> dict[str, Any]:
        charts = self._selection.shown(self._names())
        has_values = any(value.last is not None for chart in charts for value in self.values(chart.metric))
        return bundle(self._summary(), self._picture() if has_values else None)

    def _summary(self) -> str:
        headers = [source.header() for source in self._sources]
        lines = [f"Comparison of {len(headers)} runs"]
        for k, (header, source) in enumerate(zip(headers, self._sources, strict=True)):
            health = judge(source).health
            score = f"health {health.score}" if health.score is not None else "no health score"
            lines.append(f"  {'ABCDEFGH'[k]}  {header.name} ({header.run_id}): {header.state}, {score}")
        letters = "".join(f"{'ABCDEFGH'[k]:>24}" for k in range(len(headers)))
        lines += ["", f"{'last (best at step)':<28}{letters}"]
        for chart in self._selection.shown(self._names()):
            cells = "".join(f"{_cell(value):>24}" for value in self.values(chart.metric))
            lines.append(f"{chart.label[:27]:<28}{cells}")
        found = [one for one in self.differences() if not one.is_noise]
        lines += ["", "Configuration that differs" if found else "No difference in the configuration is known."]
        for one in found[:_TEXT_DIFFERENCES_MOST]:
            lines.append(f"  {one.key}: " + " | ".join("–" if v is None else clipped(v, 60) for v in one.values))
        if len(found) > _TEXT_DIFFERENCES_MOST:
            lines.append(f"  and {len(found) - _TEXT_DIFFERENCES_MOST} more")
        return "\n".join(lines)


def _cell(value: Value) -> str:
    best = "" if value.best is None else f" ({number(value.best)} at {value.best_step})"
    return f"{number(value.last)}{best}"
