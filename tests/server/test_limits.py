"""What is too much, and what goes wrong: refused in a line, and nothing of the server's insides told."""

from __future__ import annotations

import json

import pytest
from tornado.httpclient import HTTPClientError


@pytest.mark.parametrize("server_options", [{"largest_body_bytes": 2000}])
async def test_bodies_that_are_too_large_are_refused_and_not_read(
    ask, jp_fetch, http_server_client, jp_base_url, jp_auth_header, server_options
) -> None:
    found = await ask("POST", "recipes", {"name": "x", "text": "y" * 3000})
    assert found.code == 413
    assert "2,000" in found.body["message"]

    async def pieces(write) -> None:
        for _ in range(10):
            await write(b"x" * 1000)

    with pytest.raises(HTTPClientError) as refused:
        await http_server_client.fetch(
            f"{jp_base_url}verl-lab/api/recipes", method="POST", headers=jp_auth_header, body_producer=pieces
        )
    assert refused.value.code == 413
    assert (await ask("GET", "recipes")).code == 200


@pytest.mark.parametrize("server_options", [{"burst": 3, "requests_per_s": 0.1}])
async def test_too_many_requests_are_told_when_to_ask_again(ask, server_options) -> None:
    codes = [(await ask("GET", "recipes/none-such")).code for _ in range(3)]
    assert codes == [404] * 3
    refused = await ask("GET", "recipes/none-such")
    assert refused.code == 429
    assert int(refused.headers["Retry-After"]) >= 1


async def test_inputs_that_are_not_as_they_should_be_name_the_field(ask) -> None:
    for method, path, body, field in (
        ("POST", "runs", {"recipe": 5}, "recipe"),
        ("POST", "runs", {"recipe": "grpo-cpu", "extra": 1}, "extra"),
        ("POST", "runs", {}, "recipe"),
        ("POST", "runs/20260101-000000-x-0000/stop", {"now": "perhaps"}, "now"),
        ("POST", "hosts", {"name": "x", "address": "y", "port": 70000}, "port"),
        ("POST", "recipes", {"name": "../x", "text": ""}, "name"),
        ("GET", "runs?limit=0", None, "limit"),
        ("GET", "runs/../../x", None, None),
        ("GET", "runs/UPPER", None, None),
    ):
        where, _, query = path.partition("?")
        found = await ask(method, where, body, **dict(part.split("=") for part in query.split("&") if part))
        assert found.code in (400, 404), (path, found)
        if field:
            assert found.body["field"] == field
            assert field in found.body["message"]


async def test_a_password_is_repeated_nowhere(ask, caplog) -> None:
    secret = "hunter2-and-more"  # noqa: S105  it is none
    for body in ({"name": "h", "address": "bad address", "password": secret}, {"name": "h", "password": [secret]}):
        found = await ask("POST", "hosts", body)
        assert found.code == 400
        assert secret not in json.dumps(found.body)
    assert secret not in caplog.text


async def test_body_that_is_no_json_and_method_that_is_none(jp_fetch, ask) -> None:
    for body in (b"{", b"\xff\xfe", b"[]", b"null", b'{"a":' * 5000):
        with pytest.raises(HTTPClientError) as refused:
            await jp_fetch("verl-lab", "api", "recipes", method="POST", body=body)
        assert refused.value.code == 400
        assert refused.value.response is not None
        assert json.loads(refused.value.response.body)["field"]
    found = await ask("PATCH", "recipes")
    assert found.code == 405
    assert set(found.headers["Allow"].split(", ")) == {"GET", "POST"}
    assert (await ask("GET", "nothing/here")).code == 404


async def test_broken_index_is_told_without_a_path_and_works_once_it_is_mended(ask, home) -> None:
    home.mkdir(exist_ok=True)
    (home / "verl-lab.db").write_bytes(b"this is no database" * 1000)
    found = await ask("GET", "runs")
    assert found.code == 503
    assert str(home) not in json.dumps(found.body)
    (home / "verl-lab.db").unlink()
    assert (await ask("GET", "runs")).code == 200


async def test_what_breaks_is_told_under_a_number_that_the_log_has(ask, caplog, jp_serverapp) -> None:
    service = jp_serverapp.web_app.settings["verl_lab_service"]
    (await ask("GET", "runs"))
    service.lab().uses.by_hash = None
    found = await ask("GET", "datasets")
    assert found.code == 500
    number = found.body["message"].split()[-1].rstrip(".")
    assert f"verl-lab {number}" in caplog.text
    assert "Traceback" not in json.dumps(found.body)
    assert "NoneType" not in json.dumps(found.body)
