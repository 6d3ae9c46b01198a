"""A widget with a thread of its own that sends what is to be drawn, and does what a page asks for."""

from __future__ import annotations

import logging
import threading
from collections import deque
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import anywidget
import orjson
from IPython.display import DisplayHandle, display  # pyright: ignore[reportUnknownVariableType]

from verl_lab.errors import VerlLabError
from verl_lab.widgets.library import plotly_js_gz

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REDRAW_INTERVAL_S = 0.15
_LIBRARY_AGAIN_S = 5.0
_VIEW = "application/vnd.jupyter.widget-view+json"
_HERE = Path(__file__).parent
_log = logging.getLogger(__name__)


def own_style(name: str) -> str:
    """Return one of the sheets in ``style/``."""
    return (_HERE / "style" / f"{name}.css").read_text("utf-8")


STYLE = "\n".join(map(own_style, ("panel", "panes")))


def front_end(*modules: str) -> str:
    """Return modules of ``front/``, in the order they depend on each other, as the one module a widget may have.

    It goes to the page with every widget: indentation and comments stay here.
    """
    text = "\n".join((_HERE / "front" / f"{name}.js").read_text("utf-8") for name in modules)
    lines = [line.strip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line and not line.startswith(("import ", "//", "/**", "*")))


def _shell_named(_said: object, named: str | None) -> str | None:
    return named


class LiveWidget(anywidget.AnyWidget):
    """Sends snapshots from a thread: only when something changed, and at most five times a second.

    Each is complete, so that a page that reconnects misses nothing. The thread ends when nothing more
    is to come, and begins again when something does.
    """

    def __init__(self) -> None:
        super().__init__()
        # ipykernel 7.4 hands what a page says to the shell that last spoke to it, where it waits for the running cell;
        # a page names the shell itself, one that is free.
        if hasattr(self.comm, "_reply_subshell_for"):
            setattr(self.comm, "_reply_subshell_for", _shell_named)  # noqa: B010  nothing public says so
        self._turn = threading.Condition()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._changed = False
        self._over = False
        self._settled = False
        self._settling = threading.Lock()
        self._problem: str | None = None
        self._asked: deque[Mapping[str, Any]] = deque()
        self._known: dict[str, bytes] = {}
        self._stills: list[DisplayHandle] = []
        self._library_sent: dict[str, float] = {}
        self.on_msg(self._heard)  # pyright: ignore[reportUnknownMemberType]

    def _is_over(self) -> bool:
        """Say whether nothing more will come."""
        raise NotImplementedError

    def _snapshot(self) -> tuple[dict[str, Any], list[bytes]]:
        """Return the message that draws everything as it is now, and its buffers."""
        raise NotImplementedError

    def _lists(self) -> Sequence[dict[str, Any]]:
        """Return the messages that are sent only when they differ from the last time."""
        raise NotImplementedError

    def _do(self, kind: str, asked: Mapping[str, Any]) -> bool:
        """Do what a page asks for; return whether that may have changed what is drawn."""
        raise NotImplementedError

    def _still(self) -> dict[str, Any]:
        """Return the still picture as a MIME bundle."""
        raise NotImplementedError

    def _summary(self) -> str:
        """Return it all as text."""
        raise NotImplementedError

    def _unsubscribe(self) -> None:
        """Hear nothing more of the runs."""
        raise NotImplementedError

    def close(self) -> None:
        """End the thread and the subscription, and remove the widget from every page."""
        self.end()
        super().close()

    def end(self) -> None:
        """End the thread and the subscription; pages keep what they show."""
        if hasattr(self, "_ended") and not self._ended.is_set():
            self._unsubscribe()
            with self._turn:
                self._ended.set()
                self._turn.notify_all()
                thread = self._thread
            if thread is not None and thread is not threading.current_thread():
                thread.join()

    def settle(self) -> None:
        """See to it that the still picture of a run that is over is in the notebook.

        It is done by itself when the run ends. Call it where a cell is about to return: a notebook that is executed
        without a browser may be at its end by then, and its kernel with it.
        """
        self._settle_once(over=self._is_over())

    def _draw_still(self) -> None:
        for shown in list(self._stills):
            shown.update(self._still(), raw=True)  # pyright: ignore[reportUnknownMemberType]

    def _ipython_display_(self) -> None:
        was_over = self._is_over()
        bundle, _ = self._repr_mimebundle_()
        display(bundle, raw=True)  # pyright: ignore[reportUnknownArgumentType]
        handle = DisplayHandle()
        handle.display(self._still(), raw=True)  # pyright: ignore[reportUnknownMemberType]
        self._stills.append(handle)
        if not was_over:
            # The run may have ended while the picture was drawn: then it is due once more.
            with self._turn:
                self._settled = False
            self._wake()

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {_VIEW: view, "text/plain": self._summary()}, {}

    def _wake(self, *, redraw: bool = True) -> None:
        with self._turn:
            self._changed |= redraw
            if self._thread is None and not self._ended.is_set():
                self._thread = threading.Thread(target=self._redraw, name="verl-lab panel", daemon=True)
                self._thread.start()
            self._turn.notify_all()

    def _redraw(self) -> None:
        while True:
            with self._turn:
                while not self._changed and not self._asked and not self._ended.is_set():
                    if self._over:
                        self._thread = None
                        return
                    self._turn.wait()
                if self._ended.is_set():
                    return
                is_due, self._changed = self._changed, False
            while self._asked and not self._ended.is_set():
                is_due |= self._answer(self._asked.popleft())
            begun = monotonic()
            if is_due:
                self._over = self._send_snapshot()
            took = monotonic() - begun
            # Counted from the beginning, so that steps at this pace are drawn as they come; the kernel gets its share.
            self._ended.wait(max(REDRAW_INTERVAL_S - took, took / 2))

    def _answer(self, asked: Mapping[str, Any]) -> bool:
        """Do what a page asks for; return whether a snapshot is due."""
        before = self._problem
        try:
            is_due = self._do(str(asked.get("type")), asked)
            self._problem = None if is_due else before
        except VerlLabError as error:
            self._problem = str(error)
        except Exception as error:  # noqa: BLE001  as below
            _log.exception("The panel could not do what a page asked for.")
            self._problem = f"That could not be done: {error!r}"
        else:
            return is_due
        return True

    def _send_snapshot(self) -> bool:
        """Send everything as it is now; return whether nothing more will come."""
        try:
            over = self._is_over()
            message, buffers = self._snapshot()
            self.send({**message, "problem": self._problem}, buffers)
            for listed in self._lists():
                packed = orjson.dumps(listed)
                if self._known.get(listed["type"]) != packed:
                    self._known[listed["type"]] = packed
                    self.send(listed)
            self._settle_once(over=over)
        except VerlLabError as error:
            self.send({"type": "problem", "text": str(error)})
            return False
        except Exception as error:  # noqa: BLE001  a panel gone silent would look like a run that stands still
            _log.exception("The panel could not be redrawn.")
            self.send({"type": "problem", "text": f"The panel could not be redrawn: {error!r}"})
            return False
        return over

    def _settle_once(self, *, over: bool) -> None:
        with self._settling:
            with self._turn:
                due = over and not self._settled
                self._settled = over
            if due:
                self._draw_still()

    def _heard(self, _: object, content: object, __: object) -> None:
        """Take in what a page asks for; may run beside a busy cell, in any thread."""
        asked = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
        match asked.get("type"):
            case "library":
                self._send_library(str(asked.get("page")))
                return
            case "ready":
                self._known.clear()
            case _:
                pass
        self._asked.append(asked)
        self._wake(redraw=False)

    def _send_library(self, page: str) -> None:
        """Send the drawing library, though not again while a page that keeps asking still gets it."""
        now = monotonic()
        if now - self._library_sent.get(page, -_LIBRARY_AGAIN_S) >= _LIBRARY_AGAIN_S:
            self._library_sent[page] = now
            try:
                self.send({"type": "library"}, [plotly_js_gz()])
            except VerlLabError as error:
                self._problem = str(error)
                self._wake()


def show(widget: LiveWidget) -> None:
    """Display a widget and, under it, its still picture.

    A page with a kernel shows the live one and hides the picture; a notebook that is opened without
    its kernel shows the picture. The picture is made anew when the run ends.
    """
    widget._ipython_display_()  # pyright: ignore[reportPrivateUsage]
