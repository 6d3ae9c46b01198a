"""The ``live`` socket: the list as it changes."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tornado.httpclient import HTTPClientError

if TYPE_CHECKING:
    from collections.abc import Callable


class Page:
    """What a page that listens has been told."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.rows: dict[str, dict[str, Any]] = {}
        self.findings: list[dict[str, Any]] = []
        self.last: Any = None

    async def hear(self, until: Callable[[Page], Any]) -> None:
        """Take in what comes, until something holds."""
        async with asyncio.timeout(60):
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


@pytest.fixture
def listen(jp_ws_fetch):
    """Return what opens the socket."""

    opened: list[Page] = []

    async def begin() -> Page:
        opened.append(Page(await jp_ws_fetch("verl-lab", "api", "live")))
        return opened[-1]

    yield begin
    for page in opened:
        page.socket.close()


async def test_all_come_first_and_then_what_changes(listen, write_run) -> None:
    run = write_run("first").steps(1, 3, float)
    page = await listen()
    await page.hear(lambda page: page.rows)
    assert page.last["all"]
    await page.hear(lambda page: page.rows[run.id]["step"] == 3 and page.rows[run.id]["health"] is not None)
    run.steps(4, 9, float)
    await page.hear(lambda page: page.rows[run.id]["step"] == 9)
    assert not page.last["all"]
    second = write_run("second").steps(1, 2, float)
    await page.hear(lambda page: second.id in page.rows)
    run.end(step=9)
    await page.hear(lambda page: page.rows[run.id]["state"] == "completed")
    await page.socket.write_message(json.dumps({"type": "ping"}))
    await page.hear(lambda page: page.last == {"type": "pong"})


async def test_findings_that_were_there_are_not_told_and_later_ones_are_once(listen, write_run) -> None:
    bad = write_run("bad").steps(1, 9, lambda _: math.nan)
    good = write_run("good").steps(1, 9, lambda _: 1.0)
    page, other = await listen(), await listen()
    await page.hear(lambda page: page.rows and all(row["health"] is not None for row in page.rows.values()))
    assert page.rows[bad.id]["worst"] == "critical"
    good.steps(10, 14, lambda _: math.nan)
    for one in (page, other):
        await one.hear(lambda page: any(told["finding"]["severity"] == "critical" for told in page.findings))
        assert {told["run"] for told in one.findings} == {good.id}
        assert one.findings[-1]["name"] == "good"
    good.steps(15, 18, lambda _: math.nan)
    await page.hear(lambda page: page.rows[good.id]["step"] == 18)
    good.end("failed", step=18)  # what is told of step 18 comes before this
    await page.hear(lambda page: page.rows[good.id]["state"] == "failed")
    assert len({told["finding"]["key"] for told in page.findings}) == len(page.findings)


async def test_what_is_no_ping_ends_the_socket(listen) -> None:
    for message in ("", "[]", "null", '{"type": "stop"}', '{"type": "ping", "more": 1}', "x" * 100_000):
        page = await listen()
        await page.socket.write_message(message)
        with pytest.raises(AssertionError, match="closed"):
            await page.hear(lambda _: False)
        assert page.socket.close_code == 1008


@pytest.mark.parametrize("server_options", [{"most_sockets": 2}])
async def test_too_many_sockets_are_refused_until_one_closes(listen, server_options) -> None:
    pages = [await listen(), await listen()]
    with pytest.raises(HTTPClientError, match="429"):
        await listen()
    pages[0].socket.close()
    while True:  # until the server has seen it
        try:
            await listen()
        except HTTPClientError:
            await asyncio.sleep(0.05)
        else:
            break


async def test_nothing_is_left_when_the_server_stops(listen, ask, jp_serverapp, write_run) -> None:
    before = set(threading.enumerate())
    write_run("left").steps(1, 5, float)
    page = await listen()
    await page.hear(lambda page: page.rows)
    await ask("GET", "runs")
    assert any(thread.name.startswith("verl-lab") for thread in threading.enumerate())
    await jp_serverapp.extension_manager.stop_all_extensions()
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert not [name for name in left if name.startswith("verl-lab")]
    refused = await ask("GET", "runs")
    assert refused.code == 503
    assert "closing" in refused.body["message"]
