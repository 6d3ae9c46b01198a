"""Recorded runs written as the trainer and the supervisor would have, for reports to be made of."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from run_writer import RunWriter

from verl_lab.domain.wire import RunLayout
from verl_lab.recipes.overrides import flatten
from verl_lab.recipes.schema import schema_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from playwright.sync_api import Page

    from verl_lab import Lab
    from verl_lab.lab.reports.reporting import Report

RECORDING = Path(__file__).parents[1] / "recordings" / "verl-0.9.1" / "grpo-kl-loss-30-steps.jsonl"
PAYLOADS = (Path(__file__).parents[1] / "browser" / "payloads.txt").read_text("utf-8").splitlines()
HOSTILE = '<img src=x onerror="window.pwned = 1">'
LEAP_STEP = 21


@dataclass
class Made:
    """A report, how it was told of, and where its lab is."""

    home: Path
    report: Report
    told: list[str]
    runs: list[str]


@dataclass
class Offline:
    """A page of a browser that reaches nothing, and what was asked for all the same."""

    page: Page
    asked: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])


def write_run(
    lab: Lab,
    name: str,
    *,
    settings: Mapping[str, Any],
    change: Callable[[int, dict[str, float]], None] = lambda _step, _data: None,
    title: str = "",
    data: str = "a" * 64,
) -> str:
    """Write the recorded run as the trainer and the supervisor would have, changed step by step; return its id."""
    recipe = lab.recipes.get("grpo-cpu").model_copy(
        update={
            "name": name,
            "model": "/models/tiny",
            "description": "Adds small numbers.",
            "parameters": dict(settings),
        }
    )
    given = {**dict(flatten(settings)), "data.seed": 7}
    begun = time.time() - 1000
    run = RunWriter(RunLayout(lab.settings.runs_root / f"20260101-000000-{name}-0000"), begun).launch(
        title or name,
        config=_configuration(given),
        recipe=recipe.model_dump(mode="json"),
        algorithm="grpo",
        overrides=["data.seed=7"],
        versions={"verl": "0.9.1"},
        launch={"argv": [f"{key}={value}" for key, value in given.items()]},
        datasets=[{"role": "train", "hash": data, "name": "sums", "paths": ["/data/sums.parquet"]}],
    )
    rows = [orjson.loads(line) for line in RECORDING.read_bytes().splitlines()]
    last = max(row["step"] for row in rows)
    run.begin(total=last)
    for row in rows:
        values = {key: float(value) for key, value in row["data"].items() if isinstance(value, int | float)}
        change(row["step"], values)
        run.step(row["step"], values)
    return run.status("completed", step=last, ended=begun + 300, updated=begun + 300).id


def _configuration(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return verl's configuration with some keys set."""
    nested: dict[str, Any] = {}
    values = {key.name: key.default for key in schema_of("ppo").keys.values() if not key.declared_only}
    for name, value in (values | dict(given)).items():
        *groups, leaf = name.split(".")
        branch = nested
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[leaf] = value
    return nested


def write_samples(lab: Lab, run: str, kind: str, step: int, rows: list[dict[str, Any]]) -> None:
    """Write the samples of one step."""
    folder = RunLayout(lab.settings.runs_root / run).attempt(1).folder / "samples" / kind
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{step}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def leap(step: int, data: dict[str, float]) -> None:
    """Let the policy run away from its reference."""
    if step >= LEAP_STEP:
        data["actor/kl_loss"] = 4.0 + 2.0 * (step - LEAP_STEP)
        data[f"val-core/{HOSTILE}/acc/mean@1"] = 0.5


def fill(lab: Lab) -> tuple[str, str]:
    """Write a run and its baseline."""
    slow = {"actor_rollout_ref": {"actor": {"optim": {"lr": 1e-6}}}}
    fast = {"actor_rollout_ref": {"actor": {"optim": {"lr": 1e-3}}}}
    baseline = write_run(lab, "calm", settings=slow)
    run = write_run(lab, "leap", settings=fast, change=leap, title=f"leap {HOSTILE}", data="b" * 64)
    for step, score in ((0, 0.0), (30, 1.0)):
        rows = [{"input": f"{k} + 1 = {HOSTILE}", "output": f"{k + int(score)}", "gts": f"{k + 1}"} for k in range(6)]
        write_samples(lab, run, "validation", step, [row | {"score": score} for row in rows])
    groups = [
        {"input": f"{g} + 2", "output": f"answer {k} {HOSTILE}", "score": float(k % 2 and g), "uid": f"u{g}_{k}_0"}
        for g in range(3)
        for k in range(4)
    ]
    write_samples(lab, run, "rollout", 30, groups)
    return run, baseline
