"""Hosts over HTTP, with a real SSH server."""

from __future__ import annotations

import json


async def test_host_is_added_tested_accepted_looked_at_and_removed(ask, sshd) -> None:
    entry = sshd.entry()
    asked = {"name": "gpu1", "address": entry.hostname, "port": entry.port, "user": entry.user, "key": entry.identity}
    added = await ask("POST", "hosts", asked)
    assert added.code == 201
    assert added.body["state"] == "unknown"
    assert (await ask("POST", "hosts", asked)).code == 409
    tested = (await ask("POST", "hosts/gpu1/test")).body
    assert not tested["ok"]
    assert [step["ok"] for step in tested["steps"]][:3] == [True, False, None]
    assert tested["fingerprint"].startswith("SHA256:")
    wrong = await ask("POST", "hosts/gpu1/accept", {"fingerprint": "SHA256:" + "A" * 43})
    assert wrong.code == 502
    assert (await ask("POST", "hosts/gpu1/accept", {"fingerprint": tested["fingerprint"]})).body == {"accepted": True}
    tested = (await ask("POST", "hosts/gpu1/test")).body
    assert tested["ok"], tested
    assert tested["fingerprint"] is None
    looked = (await ask("GET", "hosts/gpu1/look")).body
    assert looked["memory"]["total_mb"] > 0
    row = next(row for row in (await ask("GET", "hosts")).body["rows"] if row["name"] == "gpu1")
    assert (row["state"], row["memory"]) == ("reachable", looked["memory"])
    assert (await ask("PATCH", "hosts/gpu1", {"python": "/usr/bin/python3"})).code == 200
    assert (await ask("PATCH", "hosts/gpu1", {})).code == 400
    assert (await ask("DELETE", "hosts/gpu1")).body == {"removed": True}
    assert [row["name"] for row in (await ask("GET", "hosts")).body["rows"]] == ["local"]


async def test_this_machine_and_unknown_hosts_are_refused_what_they_cannot(ask) -> None:
    assert (await ask("DELETE", "hosts/local")).code == 409
    assert (await ask("POST", "hosts/local/setup")).code == 409
    assert (await ask("POST", "hosts/local/accept", {"fingerprint": "SHA256:" + "A" * 43})).code == 409
    for method, path in (("GET", "look"), ("POST", "test"), ("POST", "setup"), ("GET", "environment")):
        found = await ask(method, f"hosts/nobody/{path}")
        assert found.code == 404, (path, found)
    assert (await ask("DELETE", "hosts/nobody")).code == 404
    assert (await ask("GET", "tasks/0123456789abcdef")).code == 404


async def test_setup_of_a_host_that_is_away_ends_with_the_reason(ask, eventually) -> None:
    secret = "0nly-in-memory"  # noqa: S105  as it says
    asked = {"name": "away", "address": "127.0.0.1", "port": 9, "user": "me", "password": secret}
    assert (await ask("POST", "hosts", asked)).code == 201
    assert (await ask("GET", "hosts/away/look")).code == 502
    begun = await ask("POST", "hosts/away/setup", {"role": "cpu"})
    assert begun.code == 202
    task = f"tasks/{begun.body['task']}"
    found = (await eventually(lambda: ask("GET", task), lambda answer: answer.body["done"])).body
    assert not found["ok"]
    assert "away" in found["message"] or "127.0.0.1" in found["message"]
    assert secret not in json.dumps([found, (await ask("GET", "hosts")).body])
