"""A run from its launch to its end over HTTP, with a real supervisor; a program that only pretends trains for verl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postgres_server import Server
    from recipe_inputs import Inputs

TRAINER = Path(__file__).parents[1] / "launch" / "programs" / "trainer.py"
# Python imports this at its start: the module that trains is then another file.
STAND_IN = f"""
import importlib.util, sys

class Stage:
    def find_spec(self, name, path=None, target=None):
        if name == "verl_lab.verl_plugin.train_sft":
            return importlib.util.spec_from_file_location(name, {str(TRAINER)!r})

if "verl_lab.verl_plugin.train_sft" in sys.orig_argv:
    sys.meta_path.insert(0, Stage())
    sys.argv += ["steps=10000", "step_s=0.05"]
"""


@pytest.fixture
def stage(tmp_path: Path, jp_root_dir: Path, jp_environ: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is launched be cheap."""
    del jp_environ  # it sets the same variable, and has to come first
    folder = tmp_path / "stage"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("VERL_LAB_SAMPLE_S", "0")
    monkeypatch.chdir(jp_root_dir)


@pytest.fixture
def database(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server | None]:
    """Return the PostgreSQL server that the server's lab uses; None where it has an SQLite file. Ask for it first."""
    if request.param == "sqlite":
        yield None
        return
    server: Server = request.getfixturevalue("stoppable_postgres")
    monkeypatch.setenv("VERL_LAB_HOME", str(home))
    monkeypatch.setenv("VERL_LAB_DATABASE", server.new_database())
    request.getfixturevalue("server_options")["home"] = None
    yield server


@pytest.fixture
def ended(ask: Any, home: Path) -> Iterator[None]:
    """End what a test has left running."""
    yield
    from verl_lab import Lab

    with Lab() if not (home / "verl-lab.db").exists() else Lab(home) as lab:
        for run in lab.runs():
            if run.state.is_live:
                run.stop(now=True)
                run.wait(60)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
async def test_run_is_launched_stopped_and_goes_on_over_http(
    database, stage, ask, ended, home, inputs: Inputs, eventually
) -> None:
    del stage, ended
    wanted = {"recipe": "sft-cpu", "overrides": inputs.sft, "name": "over-http"}
    checked = (await ask("POST", "recipes/sft-cpu/validate", {"overrides": inputs.sft})).body
    assert not [one for one in checked["problems"] if one["severity"] == "error"]
    assert "verl_lab.verl_plugin.train_sft" in checked["command"]
    launched = await ask("POST", "runs", wanted)
    assert launched.code == 201, launched.body
    row = launched.body
    assert (row["name"], row["recipe"], row["host"], row["kind"]) == ("over-http", "sft-cpu", "local", "run")
    run = row["id"]

    async def until(state: str) -> Any:
        found = await eventually(lambda: ask("GET", f"runs/{run}"), lambda found: found.body["state"] == state)
        return found.body

    running = await until("running")
    assert running["can_stop"]
    assert running["overrides"] == inputs.sft
    assert (await ask("POST", "runs", {**wanted, "name": run})).body["id"] == run  # as retried: nothing else starts
    assert [one["id"] for one in (await ask("GET", "runs")).body["rows"]] == [run]
    record = json.loads((home / "runs" / run / "run.json").read_text())
    assert record["total_steps"] == 16
    assert (await ask("POST", f"runs/{run}/resume")).code == 409
    assert (await ask("POST", f"runs/{run}/stop")).code == 200
    assert (await until("stopped"))["can_resume"]
    assert (await ask("POST", f"runs/{run}/stop")).code == 409
    assert (await ask("POST", f"runs/{run}/resume")).code == 200
    await until("running")
    assert (home / "verl-lab.db").exists() == (database is None)
    assert sorted(path.name for path in (home / "runs" / run / "attempts").iterdir()) == ["1", "2"]
    assert (await ask("POST", f"runs/{run}/stop", {"now": True})).code == 200
    await until("stopped")
    kinds = [event["kind"] for event in (await ask("GET", f"runs/{run}/events")).body["rows"]]
    assert kinds.count("attempt_started") == 2
    assert "step 1" in (await ask("GET", f"runs/{run}/log")).body["text"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_database_server_that_goes_and_comes_back(database: Server, ask, home, live_page, write_run) -> None:
    run = write_run("far-index").scores(1, 30, float)
    page = await live_page()
    await page.hear(lambda page: run.id in page.rows)
    asked = ("GET", f"runs/{run.id}/metrics")
    series = (await ask(*asked)).body["series"]["critic/score/mean"]
    assert series == {"steps": list(range(1, 31)), "values": [float(step) for step in range(1, 31)]}
    assert not (home / "verl-lab.db").exists()
    database.stop()
    run.scores(31, 40, float)
    for method, path in (asked, ("GET", "datasets"), ("GET", "hosts")):
        found = await ask(method, path)
        assert found.code == 503, (path, found)
        assert int(found.headers["Retry-After"]) > 0
        assert "Is its server running?" in found.body["hint"]
        assert str(database.folder) not in json.dumps(found.body)
    await page.hear(lambda page: page.problem)
    database.start()
    await page.hear(lambda page: page.problem is None and page.rows[run.id]["step"] == 40)
    series = (await ask(*asked)).body["series"]["critic/score/mean"]
    assert series["steps"] == list(range(1, 41))
