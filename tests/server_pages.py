"""The pages at the other end of the server's WebSockets."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

WAIT_S = 60


class LivePage:
    """What a page that listens to ``live`` has been told."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.rows: dict[str, dict[str, Any]] = {}
        self.findings: list[dict[str, Any]] = []
        self.problem: str | None = None
        self.last: Any = None

    async def hear(self, until: Callable[[LivePage], Any]) -> None:
        """Take in what comes, until something holds."""
        async with asyncio.timeout(WAIT_S):
            while not until(self):
                text = await self.socket.read_message()
                assert text is not None, "the socket was closed"
                self.last = json.loads(text)
                if self.last["type"] == "runs":
                    self.rows |= {row["id"]: row for row in self.last["rows"]}
                    for gone in self.last.get("removed", ()):
                        del self.rows[gone]
                elif self.last["type"] == "finding":
                    self.findings.append(self.last)
                elif self.last["type"] == "problem":
                    self.problem = self.last["message"]

    async def closed(self) -> int:
        """Read until the server has closed; return its code."""
        return await _closed(self.socket)


class PanelPage:
    """A page that draws a panel or a comparison."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def say(self, **content: Any) -> None:
        await self.connection.write_message(json.dumps(content))

    async def hear(self, kind: str, holds: Callable[[Any], bool] = lambda _: True) -> tuple[Any, list[bytes]]:
        """Return the next message of a kind for which something holds, and its buffers."""
        while True:
            frame = await asyncio.wait_for(self.connection.read_message(), WAIT_S)
            assert frame is not None, (self.connection.close_code, self.connection.close_reason)
            content, buffers = opened(frame)
            if content["type"] == kind and holds(content):
                return content, buffers

    async def closed(self) -> int:
        """Read until the server has closed; return its code."""
        return await _closed(self.connection)


def opened(frame: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Return what a frame of a panel holds."""
    size = int.from_bytes(frame[:4], "little")
    told = json.loads(frame[4 : 4 + size])
    buffers, at = [], 4 + size
    for length in told["buffers"]:
        buffers.append(frame[at : at + length])
        at += length
    assert at == len(frame)
    return told["content"], buffers


@pytest.fixture
def live_page(jp_ws_fetch: Any) -> Iterator[Callable[[], Awaitable[LivePage]]]:
    """Return what opens the ``live`` socket."""
    pages: list[LivePage] = []

    async def begin() -> LivePage:
        pages.append(LivePage(await jp_ws_fetch("verl-lab", "api", "live")))
        return pages[-1]

    yield begin
    for page in pages:
        page.socket.close()


@pytest.fixture
def panel_page(jp_ws_fetch: Any) -> Iterator[Callable[..., Awaitable[PanelPage]]]:
    """Return what opens the socket of a panel or a comparison, and says that the page is ready."""
    pages: list[PanelPage] = []

    async def begin(path: str, **params: str) -> PanelPage:
        page = PanelPage(await jp_ws_fetch("verl-lab", "api", path, params=params))
        pages.append(page)
        await page.say(type="ready", to="p")
        return page

    yield begin
    for page in pages:
        page.connection.close()


async def _closed(socket: Any) -> int:
    while await asyncio.wait_for(socket.read_message(), WAIT_S) is not None:
        pass
    return socket.close_code
