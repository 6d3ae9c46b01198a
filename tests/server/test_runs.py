"""Runs over HTTP, on run folders as the trainer writes them."""

from __future__ import annotations

import math

import pytest


async def test_list_has_state_course_and_health_of_runs_nobody_has_looked_at(ask, write_run, eventually) -> None:
    write_run("old", recipe="sft-cpu").scores(1, 80, lambda step: step / 100).end(step=80)
    write_run("new").scores(1, 30, lambda step: math.nan if step > 5 else 1.0)
    first = await ask("GET", "runs")
    assert first.code == 200
    assert [row["name"] for row in first.body["rows"]] == ["new", "old"]
    assert first.body["total"] == 2

    def is_judged(found) -> bool:
        return all(row["health"] is not None and row["spark"] for row in found.body["rows"])

    rows = (await eventually(lambda: ask("GET", "runs"), is_judged)).body["rows"]
    new, old = rows
    assert (new["state"], new["phase"], new["step"], new["total"]) == ("running", "training", 30, 100)
    assert new["can_stop"]
    assert not new["can_resume"]
    assert new["worst"] == "critical"
    assert new["alerts"] >= 1
    assert new["health"] < old["health"]
    assert new["remaining_s"] == pytest.approx(70 * 10)
    assert new["project"] == "my-project"
    assert new["spark"]["values"][-1] is None
    assert (old["state"], old["step"], old["can_stop"]) == ("completed", 80, False)
    assert len(old["spark"]["values"]) == 60
    assert old["spark"]["metric"] == "critic/score/mean"
    assert old["elapsed_s"] == pytest.approx(1000)
    found = [(await ask("GET", "runs", **query)).body for query in ({"recipe": "sft-cpu"}, {"search": "NEW grpo"})]
    assert [one["rows"][0]["name"] for one in found] == ["old", "new"]
    assert (await ask("GET", "runs", state="failed")).body == {"rows": [], "total": 0}
    part = (await ask("GET", "runs", limit=1, offset=1)).body
    assert [row["name"] for row in part["rows"]] == ["old"]
    assert part["total"] == 2


async def test_one_run_can_be_looked_into(ask, write_run) -> None:
    run = write_run("one").scores(1, 3000, lambda step: math.inf if step == 1500 else float(step))
    run.event("checkpoint_saved", step=10, path="somewhere")
    (run.files.folder / "train.log").write_text("".join(f"line {k}\n" for k in range(1000)))
    found = (await ask("GET", f"runs/{run.id}")).body
    assert found["metrics"] == ["critic/score/mean"]
    assert found["command"].startswith("python -m")
    assert found["overrides"] == ["trainer.seed=1"]
    assert found["config_available"]
    series = (await ask("GET", f"runs/{run.id}/metrics", points=100)).body["series"]["critic/score/mean"]
    assert len(series["steps"]) <= 100
    assert (series["steps"][0], series["steps"][-1]) == (1, 3000)
    assert series["values"][series["steps"].index(1500)] == "Infinity"
    part = (await ask("GET", f"runs/{run.id}/metrics", names="critic/score/mean", start=10, end=12)).body["series"]
    assert part == {"critic/score/mean": {"steps": [10, 11, 12], "values": [10.0, 11.0, 12.0]}}
    missing = await ask("GET", f"runs/{run.id}/metrics", names="critic/score/maen")
    assert missing.code == 404
    assert "critic/score/mean" in missing.body["hint"]
    kinds = [event["kind"] for event in (await ask("GET", f"runs/{run.id}/events")).body["rows"]]
    assert kinds == ["train_begin", "checkpoint_saved"]
    assert (await ask("GET", f"runs/{run.id}/events", after=1)).body["rows"][0]["data"] == {"path": "somewhere"}
    assert (await ask("GET", f"runs/{run.id}/log", tail=2)).body["text"] == "line 998\nline 999\n"
    assert (await ask("GET", f"runs/{run.id}/config")).body["config"]["trainer"]["test_freq"] == 10
    assert (await ask("GET", f"runs/{run.id}/health")).body["score"] is not None


async def test_past_of_a_run_knows_nothing_of_what_came_later(ask, write_run) -> None:
    run = write_run("past").scores(1, 50, lambda step: 1.0 if step < 40 else math.nan).end("failed", step=50)
    then = (await ask("GET", f"runs/{run.id}/replay", step=20)).body
    now = (await ask("GET", f"runs/{run.id}/findings")).body["findings"]
    assert then["header"]["step"] == 20
    assert then["values"] == {"critic/score/mean": 1.0}
    assert not [one for one in then["findings"] if one["severity"] == "critical"]
    assert {one["severity"] for one in now} >= {"critical"}
    grave = next(one for one in now if one["severity"] == "critical")
    assert set(grave) >= {"key", "rule", "title", "evidence", "cause", "suggestion", "set", "source", "active"}
    assert (await ask("GET", f"runs/{run.id}/health", step=20)).body["score"] > then["health"]["score"] - 1
    judged = (await ask("POST", f"runs/{run.id}/diagnose")).body
    assert [one["key"] for one in judged["findings"]] == [one["key"] for one in now]
    assert (await ask("POST", "diagnose")).body == {"reports": []}


async def test_stop_is_asked_of_a_live_run_only(ask, write_run) -> None:
    over = write_run("over").scores(1, 3, float).end(step=3)
    for answer in (await ask("POST", f"runs/{over.id}/stop"), await ask("POST", f"runs/{over.id}/resume")):
        assert answer.code == 409
        assert "completed" in answer.body["message"]
    assert not over.files.stop_request.exists()
    assert (await ask("POST", f"runs/{over.id}/sync")).body["state"] == "completed"


@pytest.mark.parametrize("path", ["", "/metrics", "/findings", "/health", "/config", "/log", "/samples", "/events"])
async def test_unknown_run_is_not_found_wherever_it_is_asked_about(ask, path: str) -> None:
    found = await ask("GET", f"runs/20260101-000000-nothing-0000{path}")
    assert found.code == 404
    assert "20260101-000000-nothing-0000" in found.body["message"]


async def test_log_of_something_else_is_listed_as_one(ask, home, recordings) -> None:
    from verl_lab import Lab

    with Lab(home) as lab:
        run = lab.attach(recordings / "grpo-30-steps.jsonl")
    row = (await ask("GET", "runs")).body["rows"][0]
    assert (row["id"], row["kind"], row["can_stop"], row["state"]) == (run.id, "log", False, "attached")
    assert (await ask("POST", f"runs/{run.id}/stop")).code == 409
    assert (await ask("GET", f"runs/{run.id}/config")).body == {"config": {}}
    assert (await ask("GET", f"runs/{run.id}/samples")).code == 404
