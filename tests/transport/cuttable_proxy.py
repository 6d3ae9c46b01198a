"""A network of the test's own between a client and a server: it can be slow, silent or cut."""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Proxy:
    """Passes connections on to a port of this machine.

    ``delay_s`` holds each byte up for that long, one way. While ``is_silent``, nothing is passed on and
    nobody is told. While it ``refuses``, new connections are reset. ``cut_after`` cuts everything once
    so many more bytes have come from the server.
    """

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        self.is_silent = False
        self.refuses = False
        self.cut_after: int | None = None
        self.connections = 0
        self.refused = 0
        self._target = port
        self._is_over = False
        self._open: set[socket.socket] = set()
        self._changing = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def cut(self) -> None:
        """End all connections as a router does that was switched off and on: by resetting them."""
        with self._changing:
            opened, self._open = self._open, set()
        for end in opened:
            _reset(end)

    def close(self) -> None:
        """End everything."""
        self._is_over = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        thread.start()
        with self._changing:
            self._threads = [thread, *(one for one in self._threads if one.is_alive())]

    def _accept(self) -> None:
        while not self._is_over:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                self.refused += 1
                _reset(client)
                continue
            self.connections += 1
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                _reset(client)
                continue
            with self._changing:
                self._open |= {client, server}
            ended: list[socket.socket] = []
            for source, sink, is_from_server in ((client, server, False), (server, client, True)):
                with contextlib.suppress(OSError):  # cut already
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                on_the_way: queue.Queue[tuple[float, bytes]] = queue.Queue(1000)
                self._start(self._leave, source, on_the_way)
                self._start(self._arrive, sink, on_the_way, is_from_server, ended)

    def _leave(self, source: socket.socket, on_the_way: queue.Queue[tuple[float, bytes]]) -> None:
        content = b"x"
        while content:
            try:
                content = source.recv(2**16)
            except OSError:
                content = b""
            on_the_way.put((time.monotonic() + self.delay_s, content))

    def _arrive(
        self,
        sink: socket.socket,
        on_the_way: queue.Queue[tuple[float, bytes]],
        is_from_server: bool,  # noqa: FBT001
        ended: list[socket.socket],
    ) -> None:
        is_open = True
        while True:
            due, content = on_the_way.get()
            while self.is_silent and not self._is_over and sink in self._open:
                time.sleep(0.005)
            pause_s = due - time.monotonic()
            if pause_s > 0:
                time.sleep(pause_s)
            if not content:
                break
            try:
                if is_open:
                    sink.sendall(content)
            except OSError:
                is_open = False  # take what still comes, so that its other end never waits
            if is_from_server and self.cut_after is not None:
                self.cut_after -= len(content)
                if self.cut_after <= 0:
                    self.cut_after = None
                    self.cut()
        with self._changing:
            self._open.discard(sink)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        with self._changing:
            ended.append(sink)
            # One way may go on after the other has ended; then nothing needs the two any more.
            done = ended if len(ended) == len(("there", "back")) else [sink] if not is_open else []
        for one in done:
            one.close()


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it
    end.close()
