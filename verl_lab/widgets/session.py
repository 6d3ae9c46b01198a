"""What keeps one page up to date with runs and does what it asks for, whatever carries the messages."""

from __future__ import annotations

import logging
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

import orjson

from verl_lab.errors import VerlLabError
from verl_lab.widgets.library import plotly_js_gz

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Send = Callable[[dict[str, Any], Sequence[bytes]], None]

REDRAW_INTERVAL_S = 0.15
_LIBRARY_AGAIN_S = 5.0
# A page that asks faster than it is answered loses its oldest questions.
_WAITING_MOST = 1_000
_log = logging.getLogger(__name__)


class LiveSession:
    """Sends snapshots from a thread: only when something changed, and at most seven times a second.

    Each is complete, so that a page that reconnects misses nothing. The thread ends when nothing more
    is to come, and begins again when something does.

    Parameters
    ----------
    send
        Takes a message and its buffers to the page; called from any thread.
    after
        Called after each snapshot, with whether nothing more will come.
    """

    def __init__(self, send: Send, after: Callable[[bool], None] | None = None) -> None:
        self._send = send
        self._after = after
        self._turn = threading.Condition()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._changed = False
        self._over = False
        self._problem: str | None = None
        self._asked: deque[Mapping[str, Any]] = deque(maxlen=_WAITING_MOST)
        self._known: dict[str, bytes] = {}
        self._library_sent: dict[str, float] = {}

    def is_over(self) -> bool:
        """Say whether nothing more will come."""
        raise NotImplementedError

    def snapshot(self) -> tuple[dict[str, Any], list[bytes]]:
        """Return the message that draws everything as it is now, and its buffers."""
        raise NotImplementedError

    def _lists(self) -> Sequence[dict[str, Any]]:
        """Return the messages that are sent only when they differ from the last time."""
        raise NotImplementedError

    def _do(self, kind: str, asked: Mapping[str, Any]) -> bool:
        """Do what a page asks for; return whether that may have changed what is drawn."""
        raise NotImplementedError

    def _unsubscribe(self) -> None:
        """Hear nothing more of the runs."""
        raise NotImplementedError

    def end(self) -> None:
        """End the thread and the subscription; what is sent after that is lost."""
        if not self._ended.is_set():
            self._unsubscribe()
            with self._turn:
                self._ended.set()
                self._turn.notify_all()
                thread = self._thread
            if thread is not None and thread is not threading.current_thread():
                thread.join()

    def wake(self, *, redraw: bool = True) -> None:
        """See to what is asked and, with ``redraw``, send a snapshot; from any thread."""
        with self._turn:
            self._changed |= redraw
            if self._thread is None and not self._ended.is_set():
                self._thread = threading.Thread(target=self._work, name="verl-lab panel", daemon=True)
                self._thread.start()
            self._turn.notify_all()

    def hear(self, asked: Mapping[str, Any]) -> None:
        """Take in what a page asks for, from any thread; the drawing library is sent before this returns."""
        match asked.get("type"):
            case "library":
                self._send_library(str(asked.get("page")))
                return
            case "ready":
                self._known.clear()
            case _:
                pass
        self._asked.append(asked)
        self.wake(redraw=False)

    def _reply(self, asked: Mapping[str, Any], answer: dict[str, Any], buffers: Sequence[bytes]) -> None:
        """Answer the page that asked."""
        self._send({**answer, "to": str(asked.get("to"))[:100]}, buffers)

    def _work(self) -> None:
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
            # Counted from the beginning, so that steps at this pace are drawn as they come; others get their share.
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
            over = self.is_over()
            message, buffers = self.snapshot()
            self._send({**message, "problem": self._problem}, buffers)
            for listed in self._lists():
                packed = orjson.dumps(listed)
                if self._known.get(listed["type"]) != packed:
                    self._known[listed["type"]] = packed
                    self._send(listed, ())
            if self._after is not None:
                self._after(over)
        except VerlLabError as error:
            self._send({"type": "problem", "text": str(error)}, ())
            return False
        except Exception as error:  # noqa: BLE001  a panel gone silent would look like a run that stands still
            _log.exception("The panel could not be redrawn.")
            self._send({"type": "problem", "text": f"The panel could not be redrawn: {error!r}"}, ())
            return False
        return over

    def _send_library(self, page: str) -> None:
        """Send the drawing library, though not again while a page that keeps asking still gets it."""
        now = monotonic()
        if now - self._library_sent.get(page, -_LIBRARY_AGAIN_S) >= _LIBRARY_AGAIN_S:
            self._library_sent[page] = now
            try:
                self._send({"type": "library"}, [plotly_js_gz()])
            except VerlLabError as error:
                self._problem = str(error)
                self.wake()
