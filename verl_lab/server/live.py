"""The ``live`` socket: the list of runs as it changes, and each finding when it comes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import orjson
from tornado.websocket import WebSocketClosedError

from verl_lab.errors import VerlLabError
from verl_lab.server.encoding import encode
from verl_lab.server.faults import without_paths
from verl_lab.server.told import told_finding
from verl_lab.server.websocket import TRY_AGAIN_LATER, LabSocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.lab import Lab
    from verl_lab.lab.overview import News

_PING = {"type": "ping"}
_LONGEST = 1000
_MOST_WAITING = 200


class LiveSocket(LabSocket):
    """Sends all runs at the beginning, then what is new, at most twice a second.

    A message of type ``problem`` says why the list is not up to date; one without a text, that it is again.
    """

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
            for content in first:
                await self.write_message(content)
            while True:
                for content in await waiting.get():
                    await self.write_message(content)
                if waiting.qsize() > _MOST_WAITING:
                    self.refuse("The page does not keep up.")
                    return
        except VerlLabError as error:
            with contextlib.suppress(WebSocketClosedError):
                await self.write_message(_problem(error))
            self.close(TRY_AGAIN_LATER)  # the page tries again
        except WebSocketClosedError:
            return
        finally:
            if end is not None:
                end()


def _begin(lab: Lab, hear: Callable[[News], None]) -> tuple[Callable[[], None], list[bytes]]:
    end = lab.overview.subscribe(hear)
    try:
        first = [encode({"type": "runs", "rows": lab.overview.rows(), "all": True})]
        return end, first if lab.overview.problem is None else [*first, _problem(lab.overview.problem)]
    except BaseException:
        end()
        raise


def _problem(error: VerlLabError | None) -> bytes:
    if error is None:
        return encode({"type": "problem", "message": None, "hint": None})
    hint = None if error.hint is None else without_paths(error.hint, "")
    return encode({"type": "problem", "message": without_paths(error.message, ""), "hint": hint})


def _messages(news: News) -> list[bytes]:
    found: list[dict[str, Any]] = []
    if news.rows or news.removed:
        found.append({"type": "runs", "rows": news.rows, "all": False, "removed": news.removed})
    found += [
        {"type": "finding", "run": row.id, "name": row.name, "finding": told_finding(finding)}
        for row, finding in news.findings
    ]
    return [encode(one) for one in found] + ([_problem(news.problem)] if news.is_problem_new else [])
