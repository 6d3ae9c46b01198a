"""Who may ask: every route and socket there is, as a stranger and as a page of another site."""

from __future__ import annotations

import json
import re
from http.cookies import SimpleCookie

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from verl_lab.server.extension import BASE
from verl_lab.server.handler import LabHandler
from verl_lab.server.routes import ROUTES
from verl_lab.server.websocket import LabSocket

SOCKETS = ("live", "panel", "compare")
PARTS = {"run": "20260101-000000-x-0000", "recipe": "grpo-cpu", "host": "local", "data": "abcdef", "task": "0" * 16}
CALLS = [(route.method, re.sub(r"\{(\w+)\}", lambda m: PARTS.get(m[1], "x"), route.path)) for route in ROUTES]
ELSEWHERE = "https://elsewhere.example"


@pytest.fixture
def status(jp_serverapp, http_server_client, jp_base_url):
    """Return what asks with these headers alone, and returns the status."""

    async def ask(method: str, path: str, headers: dict[str, str], base: str = f"{BASE}/") -> int:
        body = None if method in ("GET", "DELETE") else "{}"
        try:
            found = await http_server_client.fetch(
                f"{jp_base_url}{base}{path}", method=method, headers=headers, body=body, request_timeout=60
            )
        except HTTPClientError as error:
            return error.code
        return found.code

    return ask


@pytest.fixture
def log_in(http_server_client, jp_auth_header, jp_base_url):
    """Return what gives the cookies of a browser that is logged in, and its XSRF token."""

    async def session() -> tuple[str, str]:
        found = await http_server_client.fetch(f"{jp_base_url}api/me", headers=jp_auth_header)
        cookies: SimpleCookie = SimpleCookie()
        for line in found.headers.get_list("Set-Cookie"):
            cookies.load(line)
        token = "2|01020304|aabbccdd|1700000000"  # noqa: S105  any will do: it is compared with the cookie
        parts = [f"{name}={morsel.coded_value}" for name, morsel in cookies.items()]
        return "; ".join([*parts, f"_xsrf={token}"]), token

    return session


def test_every_handler_of_ours_is_one_that_checks(jp_serverapp) -> None:
    handlers = [
        (rule.matcher.regex.pattern, rule.target)
        for group in jp_serverapp.web_app.default_router.rules
        for rule in getattr(group.target, "rules", ())
        if BASE in getattr(getattr(rule.matcher, "regex", None), "pattern", "")
    ]
    shapes = (re.sub(r"\(\?P<(\w+)>\[\^/\]\+\)", r"{\1}", pattern) for pattern, _ in handlers)
    paths = {shape.partition(f"{BASE}/")[2].rstrip("$").replace("\\", "") for shape in shapes}
    assert paths == {route.path for route in ROUTES} | {*SOCKETS, "library", ".*"}
    assert all(issubclass(handler, (LabHandler, LabSocket)) for _, handler in handlers)


async def test_strangers_are_refused_on_every_route(status) -> None:
    found = {call: await status(*call, {}) for call in CALLS}
    assert {call: code for call, code in found.items() if code not in (401, 403)} == {}
    wrong = {call: await status(*call, {"Authorization": "token 0123456789abcdef"}) for call in CALLS}
    assert set(wrong.values()) == {403}
    assert [await status("GET", path, {"Connection": "Upgrade", "Upgrade": "websocket"}) for path in SOCKETS] == [
        403
    ] * 3


async def test_the_drawing_library_is_kept_by_browsers_and_sent_to_nobody_else(
    status, log_in, http_server_client, jp_base_url
) -> None:
    cookies = (await log_in())[0]
    assert await status("GET", "library", {}) == 403
    assert await status("GET", "library", {"Cookie": cookies, "Sec-Fetch-Site": "cross-site"}) == 403
    for headers in ({}, {"Accept-Encoding": "gzip"}):
        found = await http_server_client.fetch(f"{jp_base_url}{BASE}/library", headers={"Cookie": cookies, **headers})
        assert found.headers["Content-Type"].startswith("text/javascript")
        assert "max-age" in found.headers["Cache-Control"]
        assert found.body.endswith(b"export default module.exports;\n")


async def test_pages_of_other_sites_are_refused_on_every_route(status, log_in) -> None:
    cookies, token = await log_in()
    for headers in (
        {"Cookie": cookies, "Origin": ELSEWHERE, "X-XSRFToken": token},
        {"Cookie": cookies, "Sec-Fetch-Site": "cross-site", "Referer": f"{ELSEWHERE}/page"},
    ):
        found = {call: await status(*call, headers) for call in CALLS}
        assert {call: code for call, code in found.items() if code != 403} == {}


async def test_changes_need_the_token_that_only_a_page_of_this_server_can_read(status, log_in) -> None:
    cookies, token = await log_in()
    changes = [call for call in CALLS if call[0] != "GET"]
    found = {call: await status(*call, {"Cookie": cookies}) for call in changes}
    assert {call: code for call, code in found.items() if code != 403} == {}
    assert await status("GET", "recipes", {"Cookie": cookies}) == 200
    assert await status("POST", "diagnose", {"Cookie": cookies, "X-XSRFToken": token}) == 200


@pytest.mark.parametrize("path", SOCKETS)
async def test_sockets_are_opened_by_pages_of_this_server_alone(
    jp_serverapp, jp_http_port, jp_base_url, log_in, path: str
) -> None:
    url = f"ws://127.0.0.1:{jp_http_port}{jp_base_url}{BASE}/{path}"
    cookies = (await log_in())[0]
    for headers in ({}, {"Cookie": cookies, "Origin": ELSEWHERE}, {"Authorization": "token wrong"}):
        with pytest.raises(HTTPClientError) as refused:
            await websocket_connect(HTTPRequest(url, headers=headers))
        assert refused.value.code == 403
    opened = await websocket_connect(HTTPRequest(url, headers={"Cookie": cookies}))
    opened.close()


async def test_page_may_be_framed_and_read_by_nobody_else(jp_fetch) -> None:
    found = await jp_fetch(*BASE.split("/"), "recipes")
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in found.headers["Content-Security-Policy"]
    assert found.headers["Cache-Control"] == "no-store"
    assert json.loads(found.body)["rows"]
