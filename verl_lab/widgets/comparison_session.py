"""What a comparison sends a page of several runs, and what it does when a page asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl_lab.errors import InvalidInputError
from verl_lab.widgets import answers
from verl_lab.widgets.axis import Line
from verl_lab.widgets.contrast import Difference, Value, best_of, differences, value_of
from verl_lab.widgets.gather import gather
from verl_lab.widgets.judgement import judge
from verl_lab.widgets.packing import pack
from verl_lab.widgets.picture import Heading, picture
from verl_lab.widgets.selection import OVERLAYS_MOST, Selection
from verl_lab.widgets.session import LiveSession
from verl_lab.widgets.snapshot import told_chips, told_header, told_names, told_view
from verl_lab.widgets.told import clipped, told_health
from verl_lab.widgets.wording import number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verl_lab.widgets.session import Send
    from verl_lab.widgets.source import PanelHeader, PanelSource

RUNS_MOST = OVERLAYS_MOST + 1
_ROWS_MOST = 150
_VALUE_LONGEST = 120


def check_count(count: int) -> None:
    """Refuse what cannot be compared.

    Raises
    ------
    InvalidInputError
        There are too few runs, or more than can be told apart.
    """
    if not 1 < count <= RUNS_MOST:
        raise InvalidInputError(f"runs: {count} cannot be compared.", f"Give 2 to {RUNS_MOST} different runs.")


class ComparisonSession(LiveSession):
    """Keeps a page up to date with two to seven runs.

    Parameters
    ----------
    sources
        The runs, in the order of their letters.
    send, after
        As for ``LiveSession``.
    metrics
        What to draw at first; by default the charts that say most about the first run.

    Raises
    ------
    InvalidInputError
        As ``check_count``.
    """

    def __init__(
        self,
        sources: Sequence[PanelSource],
        send: Send,
        after: Callable[[bool], None] | None = None,
        *,
        metrics: Sequence[str] = (),
    ) -> None:
        check_count(len(sources))
        super().__init__(send, after)
        self.sources = tuple(sources)
        self.selection = Selection(only=tuple(metrics))
        self._ends_hearing: list[Callable[[], None]] = [source.subscribe(self.wake) for source in sources]

    def values(self, metric: str) -> list[Value]:
        """Return the last and the best value of a metric in each run."""
        return [value_of(source, metric) for source in self.sources]

    def differences(self) -> list[Difference]:
        """Return what differs in the runs' configurations."""
        return differences([source.config() for source in self.sources])

    def _unsubscribe(self) -> None:
        for end in self._ends_hearing:
            end()

    def is_over(self) -> bool:
        """Say whether all runs are over."""
        return all(source.header().is_over for source in self.sources)

    def names(self) -> list[str]:
        """Return the metrics that any of the runs logs."""
        return sorted({name for source in self.sources for name in source.metric_names()})

    def _lines(self, headers: Sequence[PanelHeader]) -> list[Line]:
        names = [header.name for header in headers]
        alike = {name for name in names if names.count(name) > 1}
        told = [header.run_id if header.name in alike else header.name for header in headers]
        return [Line(name, source) for name, source in zip(told, self.sources, strict=True)]

    def snapshot(self) -> tuple[dict[str, Any], list[bytes]]:
        """Return where the runs stand, and their curves and values side by side."""
        headers = [source.header() for source in self.sources]
        names, selection = self.names(), self.selection
        charts = selection.shown(names)
        drawn, buffers = pack(gather(self._lines(headers), charts, selection))
        runs = [
            {**told_header(header), "health": told_health(judge(source).health, {})}
            for header, source in zip(headers, self.sources, strict=True)
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
        return (told_names(self.names()),)

    def _do(self, kind: str, asked: Mapping[str, Any]) -> bool:
        match kind:
            case "ready":
                pass
            case "show":
                shown = asked.get("shown") is True
                self.selection = self.selection.with_metric(asked.get("metric"), shown=shown, names=self.names())
            case "view":
                self.selection = self.selection.with_view(asked)
            case "differences" | "download":
                answer, buffers = self._differ() if kind == "differences" else self._download(asked.get("what"))
                self._reply(asked, answer, buffers)
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
        unknown = [k for k, source in enumerate(self.sources) if not source.config()]
        return {"type": "differences", "rows": rows, "left_out": len(found) - len(rows), "unknown": unknown}, []

    def _download(self, what: object) -> tuple[dict[str, Any], list[bytes]]:
        if what == "picture":
            return {"type": "download", "name": "comparison.png"}, [self.picture()]
        if what != "data":
            raise InvalidInputError(f"what: {str(what)[:50]!r} cannot be downloaded.", "It is data or picture.")
        lines = [Line(source.header().run_id, source) for source in self.sources]
        metrics = [chart.metric for chart in self.selection.shown(self.names())]
        span = self.selection.span if self.selection.axis == "step" else None
        return {"type": "download", "name": "comparison.csv"}, [answers.table(lines, metrics, span)]

    def picture(self) -> bytes:
        """Return the curves as a PNG."""
        headers = [source.header() for source in self.sources]
        charts = self.selection.shown(self.names())
        sheet = gather(self._lines(headers), charts, self.selection)
        return picture(Heading(f"Comparison of {len(headers)} runs", self._standing(headers)), sheet)

    def _standing(self, headers: Sequence[PanelHeader]) -> str:
        return " · ".join(f"{'ABCDEFGH'[k]} {header.state}" for k, header in enumerate(headers))
