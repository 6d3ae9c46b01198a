"""The live panel: a widget that shows one run while it trains."""

from __future__ import annotations

import logging
import re
import threading
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import anywidget
from IPython.display import DisplayHandle, display  # pyright: ignore[reportUnknownVariableType]

from verl_lab.errors import InvalidInputError, NotFoundError, VerlLabError
from verl_lab.widgets.library import plotly_js_gz
from verl_lab.widgets.picture import still, summary
from verl_lab.widgets.snapshot import CHARTS_MOST, choices, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from verl_lab.widgets.source import PanelHeader, PanelSource

REDRAW_INTERVAL_S = 0.2
_LIBRARY_AGAIN_S = 5.0
_VIEW = "application/vnd.jupyter.widget-view+json"
_HERE = Path(__file__).parent
_log = logging.getLogger(__name__)


def _joined_modules() -> str:
    """Return the front end's modules as the one module that a widget may have."""
    parts = [(_HERE / name).read_text("utf-8") for name in ("charts.js", "panel.js")]
    return re.sub(r"(?m)^import .*\n", "", "\n".join(parts))


class Panel(anywidget.AnyWidget):
    """Shows a run live, with buttons to stop and resume it.

    A thread of the panel's own sends what is to be drawn: only when something changed, at most five
    times a second, and complete each time, so that a page that reconnects misses nothing. It ends
    when the run is over and begins again if the run does.

    Parameters
    ----------
    source
        The run to show.
    metrics
        What to draw at first; by default the charts that say most about the run.
    """

    _esm = _joined_modules()
    _css = (_HERE / "panel.css").read_text("utf-8")

    def __init__(self, source: PanelSource, *, metrics: Sequence[str] = ()) -> None:
        super().__init__()
        self._source = source
        self._only = tuple(metrics)
        self._turn = threading.Condition()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._changed = False
        self._over = False
        self._settled = False
        self._problem: str | None = None
        self._wanted: dict[str, bool] = {}
        self._stills: list[DisplayHandle] = []
        self._library_sent: dict[str, float] = {}
        self.on_msg(self._heard)  # pyright: ignore[reportUnknownMemberType]
        self._unsubscribe: Callable[[], None] = source.subscribe(self._wake)

    def close(self) -> None:
        """End the thread and the subscription, and remove the panel from every page."""
        self.end()
        super().close()

    def end(self) -> None:
        """End the thread and the subscription; pages keep what they show."""
        if hasattr(self, "_unsubscribe") and not self._ended.is_set():
            self._unsubscribe()
            with self._turn:
                self._ended.set()
                self._turn.notify_all()
                thread = self._thread
            if thread is not None and thread is not threading.current_thread():
                thread.join()

    def settle(self) -> None:
        """Replace the still picture in the notebook by one of this moment.

        It is done by itself when the run ends. Call it where a cell is about to return, so that a
        notebook that is executed without a browser has the picture too.
        """
        for shown in list(self._stills):
            shown.update(still(self._source, self._choices()), raw=True)  # pyright: ignore[reportUnknownMemberType]

    def _ipython_display_(self) -> None:
        was_over = self._source.header().is_over
        bundle, _ = self._repr_mimebundle_()
        display(bundle, raw=True)  # pyright: ignore[reportUnknownArgumentType]
        handle = DisplayHandle()
        handle.display(still(self._source, self._choices()), raw=True)  # pyright: ignore[reportUnknownMemberType]
        self._stills.append(handle)
        if not was_over:
            # The run may have ended while the picture was drawn: then it is due once more.
            with self._turn:
                self._settled = False
            self._wake()

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {_VIEW: view, "text/plain": summary(self._source, self._choices())}, {}

    def _choices(self) -> list[Any]:
        return choices(self._source.metric_names(), self._wanted, self._only)

    def _wake(self) -> None:
        with self._turn:
            self._changed = True
            if self._thread is None and not self._ended.is_set():
                self._thread = threading.Thread(target=self._redraw, name="verl-lab panel", daemon=True)
                self._thread.start()
            self._turn.notify_all()

    def _redraw(self) -> None:
        while True:
            with self._turn:
                while not self._changed and not self._ended.is_set():
                    if self._over:
                        self._thread = None
                        return
                    self._turn.wait()
                if self._ended.is_set():
                    return
                self._changed = False
            self._over = self._send_snapshot()
            self._ended.wait(REDRAW_INTERVAL_S)

    def _send_snapshot(self) -> bool:
        """Send the run as it is now; return whether it is over."""
        try:
            header = self._source.header()
            message, buffers = snapshot(self._source, header, dict(self._wanted), self._only)
            self.send({**message, "problem": self._problem}, buffers)
            self._settle_once(header)
        except VerlLabError as error:
            self.send({"type": "problem", "text": str(error)})
            return False
        except Exception as error:  # noqa: BLE001  a panel gone silent would look like a run that stands still
            _log.exception("The panel could not be redrawn.")
            self.send({"type": "problem", "text": f"The panel could not be redrawn: {error!r}"})
            return False
        return header.is_over

    def _settle_once(self, header: PanelHeader) -> None:
        with self._turn:
            due = header.is_over and not self._settled
            self._settled = header.is_over
        if due:
            self.settle()

    def _heard(self, _: object, content: object, __: object) -> None:
        """Do what a page asks for; may run beside a busy cell, in any thread."""
        asked = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
        try:
            match asked.get("type"):
                case "ready":
                    pass
                case "library":
                    self._send_library(str(asked.get("page")))
                    return
                case "show":
                    self._show_metric(asked.get("metric"), shown=asked.get("shown") is True)
                case "stop":
                    self._source.stop()
                    self._problem = None
                case "resume":
                    self._source.resume()
                    self._problem = None
                case other:
                    raise InvalidInputError(f"type: a panel cannot do {other!r}.")
        except VerlLabError as error:
            self._problem = str(error)
        self._wake()

    def _show_metric(self, metric: object, *, shown: bool) -> None:
        names = self._source.metric_names()
        if not isinstance(metric, str) or metric not in names:
            raise NotFoundError.of("metric", str(metric)[:200], names)
        on = sum(choice.shown for choice in choices(names, self._wanted, self._only))
        if shown and on >= CHARTS_MOST:
            raise InvalidInputError(f"A panel shows {CHARTS_MOST} charts at most.", "Switch one off first.")
        self._wanted[metric] = shown
        self._problem = None

    def _send_library(self, page: str) -> None:
        """Send the drawing library, though not again while a page that keeps asking still gets it."""
        now = monotonic()
        if now - self._library_sent.get(page, -_LIBRARY_AGAIN_S) >= _LIBRARY_AGAIN_S:
            self._library_sent[page] = now
            self.send({"type": "library"}, [plotly_js_gz()])


def show(panel: Panel) -> None:
    """Display a panel and, under it, its still picture.

    A page with a kernel shows the live panel and hides the picture; a notebook that is opened
    without its kernel shows the picture. The picture is made anew when the run ends.
    """
    panel._ipython_display_()  # pyright: ignore[reportPrivateUsage]
