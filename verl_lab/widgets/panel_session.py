"""What a live panel sends a page of one run, and what it does when a page asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl_lab.errors import InvalidInputError
from verl_lab.widgets import answers
from verl_lab.widgets.judgement import Judgement, Judging, judge
from verl_lab.widgets.selection import Selection
from verl_lab.widgets.session import LiveSession
from verl_lab.widgets.snapshot import lines_of, snapshot, told_names, told_others
from verl_lab.widgets.still import drawn
from verl_lab.widgets.told import key_of, told_findings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verl_lab.widgets.session import Send
    from verl_lab.widgets.source import PanelSource, Player


class PanelSession(LiveSession):
    """Keeps a page up to date with a run.

    Parameters
    ----------
    source
        The run to show.
    send, after
        As for ``LiveSession``.
    metrics
        What to draw at first; by default the charts that say most about the run.
    player
        What moves the run, if it is a replay.
    """

    def __init__(
        self,
        source: PanelSource,
        send: Send,
        after: Callable[[bool], None] | None = None,
        *,
        metrics: Sequence[str] = (),
        player: Player | None = None,
    ) -> None:
        super().__init__(send, after)
        self.source = source
        self.selection = Selection(only=tuple(metrics))
        self._player = player
        self._acknowledged: set[str] = set()
        self._judgement = Judgement()
        self._judging = Judging(source, self.wake)
        self._ends_hearing: Callable[[], None] = source.subscribe(self.wake)

    def is_over(self) -> bool:
        """Say whether the run is over."""
        return self.source.header().is_over

    def _unsubscribe(self) -> None:
        self._ends_hearing()
        self._judging.end()

    def snapshot(self) -> tuple[dict[str, Any], list[bytes]]:
        """Return where the run stands, what is wrong with it, and the charts shown."""
        source = self.source
        # A replay shows curves and judgement of one step, whatever that takes.
        self._judgement = judgement = self._judging.latest() if self._player is None else judge(source)
        return snapshot(
            source,
            source.header(),
            self.selection,
            findings=judgement.findings,
            health=judgement.health,
            acknowledged=self._acknowledged,
        )

    def _lists(self) -> Sequence[dict[str, Any]]:
        judgement = self._judgement
        return (
            told_names(self.source.metric_names()),
            told_findings(judgement.findings, judgement.not_applicable, self._acknowledged),
        )

    def _do(self, kind: str, asked: Mapping[str, Any]) -> bool:
        source = self.source
        match kind:
            case "ready":
                pass
            case "show":
                names = source.metric_names()
                shown = asked.get("shown") is True
                self.selection = self.selection.with_metric(asked.get("metric"), shown=shown, names=names)
            case "view":
                self.selection = self.selection.with_view(asked)
            case "overlay":
                shown = asked.get("shown") is True
                self.selection = self.selection.with_overlay(asked.get("id"), shown=shown, known=source.others())
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
        source = self.source
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
        self._reply(asked, answer, buffers)
        return False

    def _download(self, what: object) -> tuple[dict[str, Any], list[bytes]]:
        source, selection = self.source, self.selection
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
        if key not in {key_of(finding) for finding in self.source.findings()}:
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
