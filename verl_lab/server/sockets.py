"""The WebSockets of live outputs: the panel's and the comparison's own protocol, as their widgets speak it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import threading
from typing import TYPE_CHECKING, Any, cast

import orjson
from tornado.websocket import WebSocketClosedError

from verl_lab.domain.run import check_run_id
from verl_lab.errors import InvalidInputError, NotFoundError, VerlLabError
from verl_lab.inputs import shown, whole_number
from verl_lab.server.faults import without_paths
from verl_lab.server.websocket import TRY_AGAIN_LATER, LabSocket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tornado.web import RequestHandler

    from verl_lab.lab import Lab, Run
    from verl_lab.widgets.session import LiveSession

_LONGEST_QUESTION_BYTES = 64 * 1024
_METRICS_MOST = 24
_UNREAD_MOST = 100
_STEP_MOST = 10**12
# What lies in the system's own buffers is sent however old it is: a few snapshots at most.
_SEND_BUFFER_BYTES = 256 * 1024
# Each of these is complete: a page that has not read the one before needs the newest only.
_COMPLETE = frozenset({"snapshot", "names", "findings", "problem"})


def framed(content: dict[str, Any], buffers: Sequence[bytes]) -> bytes:
    """Return a message as one binary frame.

    It is the length of a JSON text (four bytes, little-endian), that text, which is ``{"content", "buffers"}`` with
    the buffers' lengths in bytes, and the buffers one after the other.
    """
    text = orjson.dumps({"content": content, "buffers": [len(buffer) for buffer in buffers]})
    return b"".join((len(text).to_bytes(4, "little"), text, *buffers))


class Outbox:
    """What waits for a page to read it: of everything that is complete in itself, the newest only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[object, bytes] = {}

    def put(self, content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        """Add a message; from any thread."""
        kind = content.get("type")
        frame = framed(content, buffers)
        with self._lock:
            key = kind if kind in _COMPLETE else object()
            self._waiting.pop(key, None)
            self._waiting[key] = frame

    def take(self) -> bytes | None:
        """Return the oldest message and forget it; None if there is none."""
        with self._lock:
            key = next(iter(self._waiting), None)
            return None if key is None else self._waiting.pop(key)

    def __len__(self) -> int:
        return len(self._waiting)


class SessionSocket(LabSocket):
    """Gives one page a live session that ends with the socket."""

    def initialize(self) -> None:
        """Begin with nothing to say."""
        self._outbox = Outbox()
        self._loop = asyncio.get_running_loop()
        self._session: LiveSession | None = None
        self._sending: asyncio.Task[None] | None = None
        self._is_gone = False

    @property
    def max_message_size(self) -> int:
        """How many bytes a page may send at once."""
        return _LONGEST_QUESTION_BYTES

    def make(self, lab: Lab) -> LiveSession:
        """Return the session that the page asks for; called in a thread.

        Raises
        ------
        NotFoundError
            A run is not known here.
        InvalidInputError
            A parameter makes no sense.
        """
        raise NotImplementedError

    async def opened(self) -> None:
        """Make the session; say so where there can be none."""
        stream = self.ws_connection.stream if self.ws_connection is not None else None
        if stream is not None and stream.socket is not None:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        try:
            # What a run has written is read first, wherever it lies.
            session = await self.service.ask(self._made, is_slow=True)
        except (NotFoundError, InvalidInputError) as error:
            self._say({"type": "gone", "message": without_paths(str(error), self.request.uri or "")}, ())
            return
        except VerlLabError as error:  # too much to do, the index busy, or about to close: the page comes again
            self._outbox.put({"type": "problem", "text": without_paths(str(error), "")}, ())
            await self._send_all()
            self.close(TRY_AGAIN_LATER)
            return
        self._session = session
        if self._is_gone:
            self._end()

    async def on_message(self, message: str | bytes) -> None:
        """Hand a question to the session; the next one is read after that."""
        try:
            asked: object = orjson.loads(message) if isinstance(message, str) else None
        except orjson.JSONDecodeError:
            asked = None
        if not isinstance(asked, dict):
            self.refuse("A message is a JSON object.")
            return
        question = cast("dict[str, Any]", asked)
        if question.get("type") == "ping":
            self._say({"type": "pong"}, ())
        elif self._session is not None:
            await self._loop.run_in_executor(None, self._session.hear, question)

    def closed(self) -> None:
        """End the session."""
        self._is_gone = True
        self._end()

    def _end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            # It waits for what it is doing.
            self._loop.run_in_executor(None, session.end)

    def _made(self, lab: Lab) -> LiveSession:
        session = self.make(lab)
        lab.panels.add(session)
        return session

    def say(self, content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        """Send a message, from any thread, as soon as the page reads; lost once it is gone."""
        self._outbox.put(content, buffers)
        with contextlib.suppress(RuntimeError):  # the loop ended with the server
            self._loop.call_soon_threadsafe(self._go_on_sending)

    def _say(self, content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        self._outbox.put(content, buffers)
        self._go_on_sending()

    def _go_on_sending(self) -> None:
        if len(self._outbox) > _UNREAD_MOST:
            self.refuse("More was asked than is read.")
        elif not self._is_gone and (self._sending is None or self._sending.done()):
            self._sending = asyncio.ensure_future(self._send_all())

    async def _send_all(self) -> None:
        with contextlib.suppress(WebSocketClosedError):
            while (frame := self._outbox.take()) is not None:
                await self.write_message(frame, binary=True)

    def _metrics(self) -> list[str]:
        """Return the metrics the page wants drawn at first; those that are not logged are left out later."""
        found = [name for text in self.get_query_arguments("metrics") for name in text.split(",") if name]
        if len(found) > _METRICS_MOST:
            raise InvalidInputError(f"metrics: {len(found)} are too many.", f"A panel draws {_METRICS_MOST} at most.")
        return found


class PanelSocket(SessionSocket):
    """One run, live or replayed."""

    def make(self, lab: Lab) -> LiveSession:
        """Return the session of a run."""
        from verl_lab.lab.diagnosis.replay import Replay
        from verl_lab.lab.view import RunView
        from verl_lab.widgets.panel_session import PanelSession

        view = RunView(lab, _run(lab, self.get_query_argument("run", "")))
        if self.get_query_argument("replay", "") != "1":
            return PanelSession(view, self.say, metrics=self._metrics())
        replay = Replay(view, speed=self._speed(), start=self._step("start"), end=self._step("end"))
        session = PanelSession(replay, self.say, metrics=self._metrics(), player=replay)
        replay.play()
        return session

    def _step(self, name: str) -> int | None:
        text = self.get_query_argument(name, "")
        return whole_number(name, text, low=-1, high=_STEP_MOST) if text else None

    def _speed(self) -> float:
        text = self.get_query_argument("speed", "1")
        try:
            speed = float(text)
        except ValueError:
            speed = math.nan
        if not math.isfinite(speed):
            raise InvalidInputError(f"speed: {shown(text)} is no number.", "Give one from 0.1 to 100.")
        return speed


class ComparisonSocket(SessionSocket):
    """Several runs side by side."""

    def make(self, lab: Lab) -> LiveSession:
        """Return the session of the runs."""
        from verl_lab.lab.view import RunView
        from verl_lab.widgets.comparison_session import ComparisonSession, check_count

        ids = self.get_query_argument("runs", "").split(",")
        check_count(len(set(ids)))
        return ComparisonSession(
            [RunView(lab, _run(lab, one)) for one in dict.fromkeys(ids)], self.say, metrics=self._metrics()
        )


def _run(lab: Lab, run_id: str) -> Run:
    """Return the run of exactly this id: an output of long ago must not show another that begins like it."""
    run = lab.run(check_run_id(run_id))
    if run.id != run_id:
        raise NotFoundError(f"There is no run {run_id} on this server.")
    return run


SOCKETS: list[tuple[str, type[RequestHandler]]] = [("panel", PanelSocket), ("compare", ComparisonSocket)]
"""Path below the API's base, and its handler: a subclass of ``websocket.LabSocket``."""
