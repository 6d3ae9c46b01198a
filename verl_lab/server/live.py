"""The ``live`` socket: the list of runs as it changes, and each finding when it comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
from tornado.websocket import WebSocketClosedError

from verl_lab.errors import VerlLabError
from verl_lab.server.encoding import encode
from verl_lab.server.told import told_finding
from verl_lab.server.websocket import LabSocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.lab import Lab
    from verl_lab.lab.overview import News

_PING = {"type": "ping"}
_LONGEST = 1000
_MOST_WAITING = 200


class LiveSocket(LabSocket):
    """Sends all runs at the beginning, then what is new, at most twice a second."""

    _end: Callable[[], None] | None = None
    _sending: asyncio.Task[None] | None = None

    def opened(self) -> None:
        """Begin to send."""
        self._sending = asyncio.ensure_future(self._send())

    def on_message(self, message: str | bytes) -> None:
        """Answer a ping; refuse anything else."""
        try:
            is_ping = len(message) <= _LONGEST and orjson.loads(message) == _PING
        except orjson.JSONDecodeError:
            is_ping = False
        if is_ping:
            self.write_message({"type": "pong"})
        else:
            self.refuse("Only pings are heard here.")

    def closed(self) -> None:
        """Stop sending."""
        if self._sending is not None:
            self._sending.cancel()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[list[bytes]] = asyncio.Queue()

        def hear(news: News) -> None:  # in the overview's thread
            loop.call_soon_threadsafe(waiting.put_nowait, list(_messages(news)))

        end: Callable[[], None] | None = None
        try:
            # What changes while all are listed comes twice rather than never.
            end, first = await self.service.ask(lambda lab: _begin(lab, hear))
            await self.write_message(first)
            while True:
                for content in await waiting.get():
                    await self.write_message(content)
                if waiting.qsize() > _MOST_WAITING:
                    self.refuse("The page does not keep up.")
                    return
        except VerlLabError as error:
            self.close(1013, error.message[:100])  # the page tries again
        except WebSocketClosedError:
            return
        finally:
            if end is not None:
                end()


def _begin(lab: Lab, hear: Callable[[News], None]) -> tuple[Callable[[], None], bytes]:
    end = lab.overview.subscribe(hear)
    try:
        return end, encode({"type": "runs", "rows": lab.overview.rows(), "all": True})
    except BaseException:
        end()
        raise


def _messages(news: News) -> list[bytes]:
    found: list[dict[str, Any]] = []
    if news.rows or news.removed:
        found.append({"type": "runs", "rows": news.rows, "all": False, "removed": news.removed})
    found += [
        {"type": "finding", "run": row.id, "name": row.name, "finding": told_finding(finding)}
        for row, finding in news.findings
    ]
    return [encode(one) for one in found]
