"""The live panel: a widget that shows one run while it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl_lab.errors import InvalidInputError
from verl_lab.widgets import answers
from verl_lab.widgets.judgement import Judgement, Judging, judge
from verl_lab.widgets.live import STYLE, LiveWidget, front_end, show
from verl_lab.widgets.selection import Selection
from verl_lab.widgets.snapshot import lines_of, snapshot, told_names, told_others
from verl_lab.widgets.still import drawn, still, summary
from verl_lab.widgets.told import key_of, told_findings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verl_lab.widgets.source import PanelSource, Player

__all__ = ["Panel", "show"]

_FRONT = (
    *("dom", "library", "menu", "plots", "charts", "header", "health", "findings"),
    *("picker", "toolbar", "samples", "tables", "player", "tabs", "panel"),
)


class Panel(LiveWidget):
    """Shows a run live, with what is wrong with it, and buttons to act on it.

    Parameters
    ----------
    source
        The run to show.
    metrics
        What to draw at first; by default the charts that say most about the run.
    player
        What moves the run, if it is a replay.
    """

    _esm = front_end(*_FRONT)
    _css = STYLE

    def __init__(self, source: PanelSource, *, metrics: Sequence[str] = (), player: Player | None = None) -> None:
        super().__init__()
        self._source = source
        self._player = player
        self._selection = Selection(only=tuple(metrics))
        self._acknowledged: set[str] = set()
        self._judgement = Judgement()
        self._judging = Judging(source, self._wake)
        self._ends_hearing: Callable[[], None] = source.subscribe(self._wake)

    def _unsubscribe(self) -> None:
        self._ends_hearing()
        self._judging.end()

    def _is_over(self) -> bool:
        return self._source.header().is_over

    def _still(self) -> dict[str, Any]:
        return still(self._source, self._selection)

    def _summary(self) -> str:
        return summary(self._source, self._selection)

    def _snapshot(self) -> tuple[dict[str, Any], list[bytes]]:
        source = self._source
        # A replay shows curves and judgement of one step, whatever that takes.
        self._judgement = judgement = self._judging.latest() if self._player is None else judge(source)
        return snapshot(
            source,
            source.header(),
            self._selection,
            findings=judgement.findings,
            health=judgement.health,
            acknowledged=self._acknowledged,
        )

    def _lists(self) -> Sequence[dict[str, Any]]:
        judgement = self._judgement
        return (
            told_names(self._source.metric_names()),
            told_findings(judgement.findings, judgement.not_applicable, self._acknowledged),
        )

    def _do(self, kind: str, asked: Mapping[str, Any]) -> bool:
        source = self._source
        match kind:
            case "ready":
                pass
            case "show":
                names = source.metric_names()
                shown = asked.get("shown") is True
                self._selection = self._selection.with_metric(asked.get("metric"), shown=shown, names=names)
            case "view":
                self._selection = self._selection.with_view(asked)
            case "overlay":
                shown = asked.get("shown") is True
                self._selection = self._selection.with_overlay(asked.get("id"), shown=shown, known=source.others())
            case "acknowledge":
                self._acknowledge(asked.get("key"))
            case "stop" | "resume" | "sync" | "diagnose":
                acts = {"stop": source.stop, "resume": source.resume, "sync": source.sync, "diagnose": source.diagnose}
                acts[kind]()
            case "play" | "pause" | "seek" | "advance" | "speed":
                self._move(kind, asked)
            case _:
                return self._tell(kind, asked)
        return True

    def _tell(self, kind: str, asked: Mapping[str, Any]) -> bool:
        """Answer a question; that changes nothing."""
        source = self._source
        buffers: list[bytes] = []
        match kind:
            case "samples":
                step = asked.get("step")
                start = max(0, _whole(asked, "start"))
                answer = answers.told_samples(
                    source, None if step is None else _whole(asked, "step"), str(asked.get("kind")), start
                )
            case "sample":
                place = None if asked.get("place") is None else _whole(asked, "place")
                answer = answers.told_sample(
                    source, _whole(asked, "step"), str(asked.get("kind")), _whole(asked, "group"), place
                )
            case "log":
                answer = answers.told_log(source)
            case "config":
                answer = answers.told_config(source)
            case "others":
                answer = told_others(source.others())
            case "download":
                answer, buffers = self._download(asked.get("what"))
            case other:
                raise InvalidInputError(f"type: a panel cannot do {other[:50]!r}.")
        self.send({**answer, "to": str(asked.get("to"))[:100]}, buffers)
        return False

    def _download(self, what: object) -> tuple[dict[str, Any], list[bytes]]:
        source, selection = self._source, self._selection
        header = source.header()
        if what == "picture":
            return {"type": "download", "name": f"{header.run_id}.png"}, [drawn(source, selection)]
        if what != "data":
            raise InvalidInputError(f"what: {str(what)[:50]!r} cannot be downloaded.", "It is data or picture.")
        metrics = [chart.metric for chart in selection.shown(source.metric_names())]
        lines = lines_of(source, header, selection)
        span = selection.span if selection.axis == "step" else None
        return {"type": "download", "name": f"{header.run_id}.csv"}, [answers.table(lines, metrics, span)]

    def _acknowledge(self, key: object) -> None:
        if key not in {key_of(finding) for finding in self._source.findings()}:
            raise InvalidInputError("key: there is no such finding any more.", "Look at the list of findings.")
        self._acknowledged.add(str(key))

    def _move(self, kind: str, asked: Mapping[str, Any]) -> None:
        player = self._player
        if player is None:
            raise InvalidInputError("Only a replay can be moved.", "%verl_watch RUN --replay opens one.")
        match kind:
            case "play":
                player.play()
            case "pause":
                player.pause()
            case "seek":
                player.seek(_whole(asked, "step"))
            case "advance":
                player.advance(_whole(asked, "by"))
            case _:
                speed = asked.get("speed")
                if isinstance(speed, bool) or not isinstance(speed, int | float):
                    raise InvalidInputError(f"speed: {str(speed)[:50]!r} is no number.", "Give one from 0.1 to 100.")
                player.set_speed(speed)


def _whole(asked: Mapping[str, Any], name: str) -> int:
    value = asked.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"{name}: {str(value)[:50]!r} is no whole number.", "Give one.")
    return value
