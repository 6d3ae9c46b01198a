"""What the server says of its own environment."""

from __future__ import annotations


async def test_environment_is_the_verify_report(ask) -> None:
    found = await ask("GET", "system/env")
    assert found.code == 200
    assert found.headers["Verl-Lab-Api"] == "1"
    assert {check["name"] for check in found.body["checks"]} >= {"python", "packages", "sqlite"}
    assert found.body["versions"]["verl-lab"]
