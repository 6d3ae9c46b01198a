"""The live panel: a widget that shows one run while it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl_lab.widgets.live import STYLE, LiveWidget, front_end, show
from verl_lab.widgets.output import told_panel
from verl_lab.widgets.panel_session import PanelSession
from verl_lab.widgets.still import still, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        self._shown = PanelSession(source, self._say, self._settle_once, metrics=metrics, player=player)
        self._begin(self._shown)

    def _still(self) -> dict[str, Any]:
        return still(self._shown.source, self._shown.selection)

    def _summary(self) -> str:
        return summary(self._shown.source, self._shown.selection)

    def _told(self) -> dict[str, Any]:
        header, metrics = self._shown.source.header(), self._shown.selection.only
        playback = header.playback
        if playback is None:
            return told_panel("run", [header.run_id], metrics)
        return told_panel(
            "replay", [header.run_id], metrics, start=playback.first, end=playback.last, speed=playback.speed
        )
