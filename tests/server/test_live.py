"""The ``live`` socket: the list as it changes."""

from __future__ import annotations

import asyncio
import json
import math
import threading

import pytest
from tornado.httpclient import HTTPClientError


async def test_all_come_first_and_then_what_changes(live_page, write_run) -> None:
    run = write_run("first").scores(1, 3, float)
    page = await live_page()
    await page.hear(lambda page: page.rows)
    assert page.last["all"]
    await page.hear(lambda page: page.rows[run.id]["step"] == 3 and page.rows[run.id]["health"] is not None)
    run.scores(4, 9, float)
    await page.hear(lambda page: page.rows[run.id]["step"] == 9)
    assert not page.last["all"]
    second = write_run("second").scores(1, 2, float)
    await page.hear(lambda page: second.id in page.rows)
    run.end(step=9)
    await page.hear(lambda page: page.rows[run.id]["state"] == "completed")
    await page.socket.write_message(json.dumps({"type": "ping"}))
    await page.hear(lambda page: page.last == {"type": "pong"})


async def test_findings_that_were_there_are_not_told_and_later_ones_are_once(live_page, write_run) -> None:
    bad = write_run("bad").scores(1, 9, lambda _: math.nan)
    good = write_run("good").scores(1, 9, lambda _: 1.0)
    page, other = await live_page(), await live_page()
    await page.hear(lambda page: page.rows and all(row["health"] is not None for row in page.rows.values()))
    assert page.rows[bad.id]["worst"] == "critical"
    good.scores(10, 14, lambda _: math.nan)
    for one in (page, other):
        await one.hear(lambda page: any(told["finding"]["severity"] == "critical" for told in page.findings))
        assert {told["run"] for told in one.findings} == {good.id}
        assert one.findings[-1]["name"] == "good"
    good.scores(15, 18, lambda _: math.nan)
    await page.hear(lambda page: page.rows[good.id]["step"] == 18)
    good.end("failed", step=18)  # what is told of step 18 comes before this
    await page.hear(lambda page: page.rows[good.id]["state"] == "failed")
    assert len({told["finding"]["key"] for told in page.findings}) == len(page.findings)


async def test_what_is_no_ping_ends_the_socket(live_page) -> None:
    for message in ("", "[]", "null", '{"type": "stop"}', '{"type": "ping", "more": 1}', "x" * 100_000):
        page = await live_page()
        await page.socket.write_message(message)
        with pytest.raises(AssertionError, match="closed"):
            await page.hear(lambda _: False)
        assert page.socket.close_code == 1008


@pytest.mark.parametrize("server_options", [{"most_sockets": 2}])
async def test_too_many_sockets_are_refused_until_one_closes(live_page, server_options) -> None:
    pages = [await live_page(), await live_page()]
    with pytest.raises(HTTPClientError, match="429"):
        await live_page()
    pages[0].socket.close()
    while True:  # until the server has seen it
        try:
            await live_page()
        except HTTPClientError:
            await asyncio.sleep(0.05)
        else:
            break


async def test_nothing_is_left_when_the_server_stops(live_page, ask, jp_serverapp, write_run) -> None:
    before = set(threading.enumerate())
    write_run("left").scores(1, 5, float)
    page = await live_page()
    await page.hear(lambda page: page.rows)
    await ask("GET", "runs")
    assert any(thread.name.startswith("verl-lab") for thread in threading.enumerate())
    await jp_serverapp.extension_manager.stop_all_extensions()
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert not [name for name in left if name.startswith("verl-lab")]
    refused = await ask("GET", "runs")
    assert refused.code == 503
    assert "closing" in refused.body["message"]
