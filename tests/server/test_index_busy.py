"""The index is held by another program, or its server is away: told, nothing half done, and over by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab import Lab
from verl_lab.errors import StoreBusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from recipe_inputs import Inputs
    from server_pages import LivePage, PanelPage

IMPATIENT = [{"busy_s": 0.3}]
HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(home: Path) -> Callable[[], Any]:
    """Return what lets another process hold the database for as long as a block lasts."""

    @contextmanager
    def hold() -> Generator[None]:
        argv = [sys.executable, "-c", HOLD, str(home / "verl-lab.db")]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            try:
                yield
            finally:
                other.kill()

    return hold


def assert_busy(found: Any, home: Path) -> None:
    assert found.code == 503, found
    assert "locked" in found.body["message"]
    assert "Another program" in found.body["hint"]
    assert int(found.headers["Retry-After"]) > 0
    assert str(home) not in json.dumps(found.body)


@pytest.mark.parametrize("server_options", IMPATIENT)
async def test_routes_that_write_say_when_to_ask_again_and_do_nothing_by_halves(
    ask, home, held, write_run, inputs: Inputs, jp_root_dir, monkeypatch, server_options
) -> None:
    first = write_run("first").scores(1, 3, float)
    assert [row["id"] for row in (await ask("GET", "runs")).body["rows"]] == [first.id]
    assert (await ask("GET", f"runs/{first.id}/metrics")).code == 200
    (jp_root_dir / "rows.jsonl").write_text('{"prompt": "q", "answer": 1}\n' * 3)
    launch = {"recipe": "sft-cpu", "overrides": inputs.sft, "name": "refused"}
    host = {"name": "box", "address": "127.0.0.1", "password": "once"}
    calls = (("POST", "datasets", {"path": "rows.jsonl", "name": "rows"}), ("POST", "hosts", host))
    with held():
        for method, path, body in (*calls, ("POST", "runs", launch)):
            assert_busy(await ask(method, path, body), home)
        first.scores(4, 5, float)
        assert_busy(await ask("GET", f"runs/{first.id}/metrics"), home)
        assert (await ask("GET", "hosts")).code == 200
        assert (await ask("GET", "recipes")).code == 200
        # Data are taken into the index before a run is: it may become busy between the two.
        lab = Lab(home, busy_s=0.3)
    begun = []
    monkeypatch.setattr(lab, "register", lambda *given: begun.append(given) or _busy())
    monkeypatch.chdir(jp_root_dir)
    with pytest.raises(StoreBusyError):
        lab.train("sft-cpu", inputs.sft, "between")
    lab.close()
    assert len(begun) == 1
    assert [path.name for path in (home / "runs").iterdir()] == [first.id]
    series = (await ask("GET", f"runs/{first.id}/metrics")).body["series"]["critic/score/mean"]
    assert series["steps"] == [1, 2, 3, 4, 5]
    for method, path, body in calls:
        assert (await ask(method, path, body)).code == 201
    assert [row["id"] for row in (await ask("GET", "runs")).body["rows"]] == [first.id]


def _busy() -> None:
    raise StoreBusyError("The database is locked.")


@pytest.mark.parametrize("server_options", IMPATIENT)
async def test_pages_are_told_and_are_up_to_date_again_by_themselves(
    live_page: Callable[..., Any], panel_page: Callable[..., Any], held, write_run, server_options
) -> None:
    first = write_run("first").scores(1, 3, float)
    page: LivePage = await live_page()
    await page.hear(lambda page: first.id in page.rows)
    panel: PanelPage = await panel_page("panel", run=first.id)
    await panel.hear("snapshot")
    with held():
        first.scores(4, 6, float)
        second = write_run("second").scores(1, 2, float)
        await page.hear(lambda page: page.problem)
        assert "locked" in str(page.problem)
        content, _ = await panel.hear("snapshot", lambda told: told["header"]["notice"] is not None)
        assert "locked" in content["header"]["notice"]
        late: LivePage = await live_page()
        await late.hear(lambda page: page.problem)
        refused: PanelPage = await panel_page("panel", run=first.id)
        assert "locked" in (await refused.hear("problem"))[0]["text"]
        assert await refused.closed() == 1013
    for one in (page, late):
        await one.hear(lambda page: page.problem is None and second.id in page.rows)
    await page.hear(lambda page: page.rows[first.id]["step"] == 6)
    await panel.hear("snapshot", lambda told: told["header"]["notice"] is None and _drawn(told) == 6)


def _drawn(told: dict[str, Any]) -> int:
    return max(chart["count"] for chart in told["charts"])


async def test_lab_is_opened_while_another_program_writes(ask, home, held) -> None:
    with Lab(home):
        pass
    with held():
        assert (await ask("GET", "runs")).body == {"rows": [], "total": 0}
