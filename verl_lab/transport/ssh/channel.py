"""One agent on a host, seen from here: requests and answers, and what it tells by itself."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
import time
from importlib import resources
from typing import TYPE_CHECKING, Any

import paramiko

from verl_lab.errors import TransportError
from verl_lab.transport.ssh.agent.frames import MARK, SIZES, decode_sizes, encode
from verl_lab.transport.ssh.errors import NoCommandsError, NoPythonError, UnreachableError
from verl_lab.transport.ssh.login import close, closed_if_late

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from verl_lab.transport.ssh.agent.frames import Frame, Head
    from verl_lab.transport.ssh.login import Timings

_log = logging.getLogger(__name__)

_MODULES = ("__init__", "frames", "files", "commands", "notify", "known", "follow", "program")
_PACKAGE = "verl_lab.transport.ssh.agent"
_PACKET_BYTES = 2**15
_TAKE_BYTES = 2**24  # as much as there is: what paramiko keeps back, it moves
_NOISE_BYTES = 2**20
_FORGOTTEN_SILENCE_S = 60.0  # the agent ends when it hears nothing for so long

# All that the login shell over there ever sees. Within single quotes, no shell finds anything to expand in it.
_BOOTSTRAP = (
    "import sys,json,types;"
    "f=sys.stdin.buffer;"
    "p=json.loads(f.read(int(f.readline())));"
    '[(sys.modules.__setitem__(n,types.ModuleType(n)),exec(compile(t,n,"exec"),sys.modules[n].__dict__))'
    " for n,t in p[0]];"
    "sys.modules[p[1]].main(p[2])"
)
_NOTICED_S = 0.5


def command_line(python: str) -> str:
    """Return the one line that starts the agent, the same in sh, bash, zsh, fish and csh.

    Raises
    ------
    NoCommandsError
        The path of Python has characters that no quoting carries through all of these.
    """
    if not python.isprintable() or set(python) & set("'!\\"):
        raise NoCommandsError(f"python: {python!r} cannot be started.", "Give a path without quotes and backslashes.")
    return f"exec '{python}' -I -S -X utf8 -c '{_BOOTSTRAP}'"


class Reply:
    """What came for one request: frames, until the last one or the end of the channel."""

    def __init__(self, channel: AgentChannel, number: int) -> None:
        self.number = number
        self._channel = channel
        self._frames: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()

    def put(self, frame: Frame | None) -> None:
        """Hand over a frame, or None if no more can come."""
        self._frames.put(frame)

    def next(self, timeout_s: float) -> Frame:
        """Wait for the next frame.

        Raises
        ------
        TransportError
            The host said what is wrong.
        UnreachableError
            Nothing came in time, or the channel ended.
        """
        try:
            frame = self._frames.get(timeout=timeout_s)
        except queue.Empty:
            self._channel.forget(self.number)
            raise UnreachableError(
                f"{self._channel.host} is unreachable: no answer within {timeout_s:g} s.",
                "It may be busy, or a file system there hangs. The next call tries again.",
            ) from None
        if frame is None:
            raise self._channel.ended()
        if not frame[0].get("more"):
            self._channel.forget(self.number)
        if "error" in frame[0]:
            raise TransportError(str(frame[0]["error"]))
        return frame


class AgentChannel:
    """The agent, started on a connection; ``about`` holds what it said of the host.

    ``lost`` is called once when no more answers come, from any thread.
    """

    def __init__(
        self,
        transport: paramiko.Transport,
        host: str,
        python: str,
        timings: Timings,
        lost: Callable[[AgentChannel], None] | None = None,
    ) -> None:
        self.host = host
        self._lost = lost
        self._transport = transport
        self._timings = timings
        self._sending = threading.Lock()
        self._changing = threading.Lock()
        self._replies: dict[int, Reply] = {}
        self._watches: dict[int, Callable[[Frame | None], None]] = {}
        self._number = 0
        self._why: str | None = None
        with closed_if_late(transport, 2 * timings.connect_s):
            self._channel = _started(transport, command_line(python), host, timings)
            try:
                # Whoever runs no programs may hang up this channel before it has all of it: what it says is read below.
                with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                    self._send_all(memoryview(_program()))
                self._rest = self._past_noise()
                self._frames = self._receive()
                self.about: Head = self._first()
            except BaseException:
                close(self._channel)
                raise
        self._channel.settimeout(timings.keepalive_s)
        self._thread = threading.Thread(target=self._run, name=f"verl-lab-agent-{host}", daemon=True)
        self._thread.start()

    @property
    def patience_s(self) -> float:
        """How long an answer is waited for."""
        return self._timings.request_s

    @property
    def is_closed(self) -> bool:
        """Whether no more answers come."""
        return self._why is not None

    def ask(self, do: str, body: bytes = b"", *, timeout_s: float | None = None, **said: Any) -> Frame:
        """Send a request and return its answer; raises as ``Reply.next``."""
        return self.begin(do, body, **said).next(timeout_s or self._timings.request_s)

    def ask_for_pieces(self, do: str, **said: Any) -> Iterator[Frame]:
        """Send a request, and give the frames of its answer as they come; raises as ``Reply.next``."""
        reply = self.begin(do, **said)
        while True:
            frame = reply.next(self._timings.request_s)
            yield frame
            if not frame[0].get("more"):
                return

    def begin(self, do: str, body: bytes = b"", **said: Any) -> Reply:
        """Send a request whose answer is waited for later."""
        with self._changing:
            if self._why is not None:
                raise self.ended()
            self._number += 1
            reply = self._replies[self._number] = Reply(self, self._number)
        try:
            self.tell(do, body, id=reply.number, **said)
        except BaseException:
            self.forget(reply.number)
            raise
        return reply

    def tell(self, do: str, body: bytes = b"", **said: Any) -> None:
        """Send what has no answer."""
        self._send(encode({"do": do, **said}, len(body)) + body)

    def subscribe(self, watch: int, told: Callable[[Frame | None], None]) -> None:
        """Call ``told`` with what comes about a watch, and with None when the channel ends."""
        with self._changing:
            if self._why is None:
                self._watches[watch] = told
                return
        raise self.ended()

    def unsubscribe(self, watch: int) -> None:
        """Hear no more of a watch."""
        with self._changing:
            found = self._watches.pop(watch, None)
        if found is not None and not self.is_closed:
            self.tell("unwatch", watch=watch)

    def forget(self, number: int) -> None:
        """Wait for an answer no more."""
        with self._changing:
            self._replies.pop(number, None)

    def ended(self) -> UnreachableError:
        """Return the error that says why there are no answers."""
        return UnreachableError(
            f"{self.host} is unreachable: {self._why or 'the connection ended'}.",
            "What runs there goes on. The next call connects again.",
        )

    def close(self) -> None:
        """End the agent and its thread."""
        self._end("the connection was closed here")
        if self._thread is not threading.current_thread():
            self._thread.join(self._timings.connect_s)

    def _send(self, content: bytes) -> None:
        view = memoryview(content)
        try:
            with self._sending:
                self._send_all(view)
        except (OSError, EOFError, paramiko.SSHException) as error:
            # A part of a frame may be out: nothing that follows would be understood.
            if isinstance(error, TimeoutError):
                close(self._transport)
            self._end("it takes nothing any more" if isinstance(error, TimeoutError) else "the connection broke")
            raise self.ended() from error

    def _send_all(self, view: memoryview) -> None:
        start, moved = 0, time.monotonic()
        while start < len(view):
            try:
                start += self._channel.send(bytes(view[start : start + _PACKET_BYTES]))
                moved = time.monotonic()
            except TimeoutError:
                if time.monotonic() - moved >= self._timings.silence_s:
                    raise

    def _past_noise(self) -> bytes:
        """Read past what the host's start files say, and return what came after the agent's mark."""
        noise = b""
        try:
            while MARK not in noise:
                piece = self._channel.recv(_TAKE_BYTES)
                noise += piece
                if not piece or len(noise) > _NOISE_BYTES:
                    raise self._not_started(noise)
        except TimeoutError:
            raise self._not_started(noise) from None
        return noise.partition(MARK)[2]

    def _first(self) -> Head:
        found = next(self._frames, None)
        if found is None:
            raise self._not_started(b"")
        return found[0]

    def _not_started(self, noise: bytes) -> TransportError:
        code = self._channel.recv_exit_status() if self._channel.status_event.wait(1.0) else None
        said = (self._channel.recv_stderr(2000) if self._channel.recv_stderr_ready() else noise[-300:]).decode(
            errors="replace"
        )
        said = " ".join(said.split())[-300:]
        if _has_ended(self._transport):
            return UnreachableError(f"{self.host} is unreachable: it hung up.", "The next call connects again.")
        if code == 127:  # noqa: PLR2004  what every shell says of a command it does not find
            return NoPythonError(f"{self.host} has no such Python: {said}.", "Give the path of one in `python`.")
        return NoCommandsError(
            f"{self.host} runs no commands for us{': ' + said if said else ''}.",
            "Runs there can be read over SFTP, slowly. Sending data and launching needs a login that may run Python.",
        )

    def _receive(self) -> Iterator[Frame]:
        """Give the frames as they come, until the end; asks for a sign of life when it is quiet."""
        held = bytearray(self._rest)
        needed = SIZES.size
        heard = time.monotonic()
        while True:
            while len(held) >= needed:
                head_bytes, body_bytes = decode_sizes(bytes(held[: SIZES.size]))
                needed = SIZES.size + head_bytes + body_bytes
                if len(held) < needed:
                    break
                split = SIZES.size + head_bytes
                frame = json.loads(held[SIZES.size : split]), bytes(memoryview(held)[split:needed])
                del held[:needed]
                needed = SIZES.size
                yield frame
            try:
                piece = self._channel.recv(_TAKE_BYTES)
            except TimeoutError:
                if time.monotonic() - heard >= self._timings.silence_s:
                    raise
                self.tell("ping", id=0)
                continue
            if not piece:
                return
            heard = time.monotonic()
            held += piece

    def _run(self) -> None:
        why = "the connection broke"
        try:
            for head, body in self._frames:
                self._deliver(head, body)
            if self._transport.is_active():
                why = "its agent ended"
        except TimeoutError:
            close(self._transport)
            why = f"nothing was heard from it for {self._timings.silence_s:g} s"
        except (OSError, EOFError, ValueError, TransportError, paramiko.SSHException) as error:
            _log.debug("The channel to %s ended: %s", self.host, error)
        finally:
            self._end(why)

    def _deliver(self, head: Head, body: bytes) -> None:
        with self._changing:
            told = self._watches.get(head["watch"]) if "watch" in head else None
            reply = self._replies.get(head["id"]) if "id" in head else None
        if told is not None:
            told((head, body))
        if reply is not None:
            reply.put((head, body))

    def _end(self, why: str) -> None:
        with self._changing:
            if self._why is not None:
                return
            self._why = why
            replies, self._replies = list(self._replies.values()), {}
            watches, self._watches = list(self._watches.values()), {}
        close(self._channel)
        for reply in replies:
            reply.put(None)
        for told in watches:
            told(None)
        if self._lost is not None:
            self._lost(self)


def _has_ended(transport: paramiko.Transport) -> bool:
    """Whether the connection broke; paramiko's thread may need a moment to notice it."""
    transport.join(_NOTICED_S)
    return not transport.is_active()


def _started(transport: paramiko.Transport, line: str, host: str, timings: Timings) -> paramiko.Channel:
    try:
        channel = transport.open_session(timeout=timings.connect_s)
        channel.settimeout(timings.connect_s)
    except paramiko.ChannelException as error:
        if _has_ended(transport):
            raise UnreachableError(f"{host} is unreachable: it hung up.", "The next call connects again.") from error
        raise NoCommandsError(f"{host} opens no session: {error.text}.", "It may have too many.") from error
    except (OSError, EOFError, paramiko.SSHException) as error:
        close(transport)
        raise UnreachableError(f"{host} is unreachable: {error}.", "The next call connects again.") from error
    try:
        channel.exec_command(line)
    except (OSError, EOFError, paramiko.SSHException) as error:
        if not _has_ended(transport):
            raise NoCommandsError(f"{host} runs no commands for us: {error}.", "Ask its administrator.") from error
        raise UnreachableError(f"{host} is unreachable: {error}.", "The next call connects again.") from error
    return channel


def _program() -> bytes:
    """Return what the bootstrap reads: a size, then modules, which of them to run, and with what."""
    folder = resources.files(_PACKAGE)
    texts = [
        (f"{_PACKAGE}.{name}".removesuffix(".__init__"), (folder / f"{name}.py").read_text("utf-8"))
        for name in _MODULES
    ]
    content = json.dumps([texts, f"{_PACKAGE}.program", _FORGOTTEN_SILENCE_S]).encode("ascii")
    return b"%d\n" % len(content) + content
