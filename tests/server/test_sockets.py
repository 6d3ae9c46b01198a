"""The sockets of live outputs: the sessions of the widgets, fed to a page by the server."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from server_pages import opened
from tornado.httpclient import HTTPClientError

from verl_lab.lab import Lab
from verl_lab.server.sockets import Outbox

if TYPE_CHECKING:
    from pathlib import Path

RECORDED = "grpo-30-steps.jsonl"


@pytest.fixture
def log(tmp_path: Path, recordings: Path) -> Path:
    """Return a log of 20 recorded steps, which a test may make longer."""
    path = tmp_path / "grpo.jsonl"
    path.write_bytes(b"".join((recordings / RECORDED).read_bytes().splitlines(keepends=True)[:20]))
    return path


@pytest.fixture
def run_id(home: Path, log: Path) -> str:
    """Return the id of a run that a notebook has attached."""
    with Lab(home) as lab:
        return lab.attach(log).id


def rewards(content: dict[str, Any]) -> int:
    return next(chart["count"] for chart in content["charts"] if chart["label"] == "Reward")


async def test_panel_is_drawn_and_follows_the_run(panel_page: Any, run_id: str, log: Path, recordings: Path) -> None:
    page = await panel_page("panel", run=run_id)
    content, buffers = await page.hear("snapshot")
    assert content["header"]["run_id"] == run_id
    before = rewards(content)
    assert len(buffers) == 2 * sum(len(chart["traces"]) for chart in content["charts"])
    assert "critic/score/mean" in (await page.hear("names"))[0]["names"]
    await asyncio.to_thread(log.write_bytes, await asyncio.to_thread((recordings / RECORDED).read_bytes))
    await page.hear("snapshot", lambda told: rewards(told) > before + 5)
    await page.say(type="ping")
    await page.hear("pong")


async def test_questions_are_answered_to_who_asks_and_choices_hold(panel_page: Any, run_id: str) -> None:
    page = await panel_page("panel", run=run_id, metrics="actor/entropy,no/such")
    content, _ = await page.hear("snapshot")
    assert [chart["metric"] for chart in content["charts"]] == ["actor/entropy"]
    await page.say(type="download", what="data", to="p7")
    content, (table,) = await page.hear("download")
    assert (content["to"], content["name"]) == ("p7", f"{run_id}.csv")
    assert table.startswith(b"step,actor/entropy\n")
    await page.say(type="stop")
    await page.hear("snapshot", lambda told: told["problem"] is not None)
    await page.say(type="library", page="q")
    await page.say(type="library", page="q")
    assert (await page.hear("library"))[1][0][:2] == b"\x1f\x8b"
    await page.say(type="log", to="p7")
    content, _ = await page.hear("log")
    assert "critic/score/mean" in content["text"]


async def test_each_replay_has_a_player_of_its_own(panel_page: Any, run_id: str) -> None:
    one = await panel_page("panel", run=run_id, replay="1", start="3", end="15", speed="0.1")
    other = await panel_page("panel", run=run_id, replay="1")
    await one.say(type="seek", step=12)
    content, _ = await one.hear("snapshot", lambda told: told["header"]["step"] >= 12)
    assert (content["header"]["playback"]["first"], content["header"]["playback"]["speed"]) == (3, 0.1)
    await other.say(type="pause")
    content, _ = await other.hear("snapshot", lambda told: not told["header"]["playback"]["is_playing"])
    assert content["header"]["step"] < 12


async def test_comparison_tells_values_and_differences(
    panel_page: Any, run_id: str, home: Path, recordings: Path
) -> None:
    with Lab(home) as lab:
        second = lab.attach(recordings / "grpo-kl-loss-30-steps.jsonl").id
    page = await panel_page("compare", runs=f"{run_id},{second}")
    content, _ = await page.hear("snapshot")
    assert [run["run_id"] for run in content["runs"]] == [run_id, second]
    await page.say(type="differences", to="p")
    content, _ = await page.hear("differences")
    assert content["unknown"] == [0, 1]


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("panel", {"run": "20260101-000000-nothing-0000"}),
        ("panel", {"run": "attached"}),  # the beginning of an id is none
        ("panel", {"run": "../../etc/passwd"}),
        ("panel", {}),
        ("panel", {"run": "RUN", "replay": "1", "speed": "fast"}),
        ("panel", {"run": "RUN", "replay": "1", "start": "500"}),
        ("compare", {"runs": "RUN"}),
        ("compare", {"runs": "RUN,20260101-000000-nothing-0000"}),
        ("panel", {"run": "RUN", "metrics": ",".join("abcdefghijklmnopqrstuvwxyz")}),
    ],
)
async def test_what_cannot_be_shown_is_gone(panel_page: Any, run_id: str, path: str, params: dict[str, str]) -> None:
    page = await panel_page(path, **{name: text.replace("RUN", run_id) for name, text in params.items()})
    content, _ = await page.hear("gone")
    assert content["message"]
    assert "/etc" not in content["message"].replace("../../etc/passwd", "")


@pytest.mark.parametrize("path", ["panel", "compare"])
async def test_strangers_and_pages_of_other_sites_are_refused(
    jp_fetch: Any, jp_ws_fetch: Any, jp_auth_header: dict[str, str], jp_http_port: int, run_id: str, path: str
) -> None:
    token = jp_auth_header["Authorization"].split()[-1]
    login = {"Authorization": "", "Host": f"localhost:{jp_http_port}"}
    answer = await jp_fetch("api", "status", params={"token": token}, headers=login)
    cookies = "; ".join(cookie.partition(";")[0] for cookie in answer.headers.get_list("Set-Cookie"))
    as_browser = {"Authorization": "", "Cookie": cookies}
    for headers, is_welcome in (
        ({"Authorization": "token wrong"}, False),
        ({**as_browser, "Origin": "http://evil.example"}, False),
        (as_browser, True),
    ):
        opening = jp_ws_fetch("verl-lab", "api", path, params={"run": run_id}, headers=dict(headers))
        if is_welcome:
            (await opening).close()
            continue
        with pytest.raises(HTTPClientError) as refused:
            await opening
        assert refused.value.code == 403, headers


@pytest.mark.parametrize("message", ["[]", "no json", "", b"\x00\x01", '{"a": "' + 70_000 * "x" + '"}'])
async def test_nonsense_ends_the_socket_and_nothing_else(panel_page: Any, run_id: str, message: str | bytes) -> None:
    page = await panel_page("panel", run=run_id)
    await page.connection.write_message(message, binary=isinstance(message, bytes))
    assert await page.closed() in (1008, 1009)
    await (await panel_page("panel", run=run_id)).hear("snapshot")


async def test_session_ends_with_its_socket(panel_page: Any, run_id: str, jp_serverapp: Any) -> None:
    pages = [await panel_page("panel", run=run_id) for _ in range(3)]
    for page in pages:
        await page.hear("snapshot")
    lab = jp_serverapp.web_app.settings["verl_lab_service"].lab()
    assert len(lab.panels) == 3
    for page in pages:
        page.connection.close()
    for _ in range(500):
        if not any(thread.name.startswith("verl-lab panel") for thread in threading.enumerate()):
            break
        await asyncio.sleep(0.02)
    else:
        pytest.fail("A session goes on without its page.")


async def test_page_that_does_not_read_gets_the_newest_snapshot(
    panel_page: Any, run_id: str, jp_serverapp: Any
) -> None:
    page = await panel_page("panel", run=run_id)
    await page.hear("snapshot")
    lab = jp_serverapp.web_app.settings["verl_lab_service"].lab()
    (session,) = lab.panels
    sent = 0
    for number in range(400):
        session._send({"type": "snapshot", "number": number}, [bytes(80_000)])
        sent += 1
        await asyncio.sleep(0)
    read = 0
    while True:
        content, _ = await page.hear("snapshot")
        read += 1
        if content.get("number") == sent - 1:
            break
    assert read < sent / 4


def test_outbox_keeps_every_answer_and_the_newest_of_the_rest() -> None:
    box = Outbox()
    for number in range(3):
        box.put({"type": "snapshot", "number": number}, [])
        box.put({"type": "log", "number": number}, [])
    taken = [opened(frame)[0] for frame in iter(box.take, None)]
    assert [(told["type"], told["number"]) for told in taken] == [("log", 0), ("log", 1), ("snapshot", 2), ("log", 2)]
