"""A lab whose index another version of verl-lab has made: older ones are brought up to date, newer ones refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from index_recordings import RUN, make_index, make_newer

from verl_lab.store.migrations import NEWEST

if TYPE_CHECKING:
    from pathlib import Path

    from server_pages import LivePage, PanelPage


@pytest.mark.parametrize("version", range(1, NEWEST))
async def test_runs_of_an_older_index_are_listed(ask, home: Path, version: int) -> None:
    make_index(home / "verl-lab.db", version)
    rows = {row["id"]: row for row in (await ask("GET", "runs")).body["rows"]}
    assert (rows[RUN]["name"], rows[RUN]["state"], rows[RUN]["step"]) == ("old", "completed", 1020)
    assert (await ask("POST", "hosts", {"name": "box", "address": "192.0.2.1"})).code == 201


async def test_newer_index_is_refused_with_what_to_do(ask, home: Path, live_page, panel_page) -> None:
    file = make_newer(home / "verl-lab.db")
    before = file.read_bytes()
    for method, path in (("GET", "runs"), ("POST", "runs/20260101-000000-old-0000/stop"), ("GET", "hosts")):
        found = await ask(method, path)
        assert found.code == 503
        assert f"schema version {NEWEST + 1}" in found.body["message"]
        assert "Upgrade verl-lab" in found.body["hint"]
        assert "Retry-After" not in found.headers  # it does not pass by itself
        assert str(home) not in json.dumps(found.body)
    page: LivePage = await live_page()
    await page.hear(lambda page: page.problem)
    assert f"schema version {NEWEST + 1}" in str(page.problem)
    assert await page.closed() == 1013
    panel: PanelPage = await panel_page("panel", run=RUN)
    assert "Upgrade verl-lab" in (await panel.hear("problem"))[0]["text"]
    assert await panel.closed() == 1013
    assert file.read_bytes() == before
    file.unlink()  # the folders are the truth: an index is made anew
    assert (await ask("GET", "runs")).code == 200
